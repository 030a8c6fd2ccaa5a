# make run · make stop · make test · make verify · make fix · make bench
#
# Targets install what they need where they may (apt as root) and otherwise say what to type.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

target := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)
cos := $(target)/release/cos
samples := $(target)/x86_64-unknown-linux-gnu/release
# The samples go into images made FROM scratch, so they carry their C library.
static := RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --release \
          --target x86_64-unknown-linux-gnu --package cos-samples

.PHONY: help run stop build test verify fix bench tools-run tools-test

help:
	@sed -n '1s/# //p' Makefile
	@echo 'run    builds, starts 3 servers and 4 clients on this machine, deploys ping-service'
	@echo 'stop   ends them and leaves nothing behind'
	@echo 'test   runs every test, end-to-end ones included'
	@echo 'verify runs what the continuous integration runs besides tests: format, lints, tidy, docs'
	@echo 'fix    formats and applies what the lints can fix themselves'
	@echo 'bench  measures the figures of docs/benchmarks.md'

run: build
	@deploy/local/cluster.sh up $(cos) $(samples)

stop:
	@deploy/local/cluster.sh down $(cos)

build: tools-run
	cargo build --locked --release --package cos
	$(static)

tools-run:
	@deploy/local/tools.sh run

tools-test:
	@deploy/local/tools.sh test

test: tools-test
	$(static)
	COS_SAMPLES=$(abspath $(samples)) cargo test --locked --workspace
	cargo xtask sim --seeds 50
	cargo xtask sim --mutations commit-without-quorum double-vote torn-tail-accepted
	COS_SAMPLES=$(abspath $(samples)) conformance/run

verify:
	cargo fmt --all --check
	cargo xtask tidy
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --document-private-items

fix:
	cargo fmt --all
	cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged

bench: build
	benches/run $(cos) $(samples)
