#!/usr/bin/env bash
# Makes sure that the programs are there which a target needs: `tools.sh run` or `tools.sh test`.
# As root it installs what is missing; otherwise it prints the one command to type.
set -euo pipefail

declare -A packages=(
  [cc]=gcc [curl]=curl [dig]=bind9-dnsutils [python3]=python3 [pip3]=python3-pip
  [dockerd]=docker.io [iptables]=iptables [setsid]=util-linux [ip]=iproute2 [openssl]=openssl
  [faketime]=faketime
)
case "${1:-}" in
  run) needed=(cc curl setsid) ;;
  test) needed=(cc curl setsid dig python3 pip3 dockerd iptables ip openssl faketime) ;;
  *) echo 'usage: tools.sh run|test' >&2; exit 2 ;;
esac

if ! command -v cargo >/dev/null; then
  echo 'error: cargo is missing; install Rust with rustup (https://rustup.rs), the version is pinned here' >&2
  exit 1
fi
missing=()
for tool in "${needed[@]}"; do
  command -v "$tool" >/dev/null || [ -x "/usr/sbin/$tool" ] || missing+=("${packages[$tool]}")
done
[ ${#missing[@]} -gt 0 ] || exit 0

command="apt-get update && apt-get install -y --no-install-recommends ${missing[*]}"
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "Installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
else
  echo "error: missing: ${missing[*]}; type: sudo sh -c '$command'" >&2
  exit 1
fi
