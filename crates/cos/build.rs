//! Tells the linker how to keep the release binary small: one copy of functions that came out the
//! same (types that are stored alike are read and written by the same code many times over), and
//! relocations in their packed form where the C library understands it.

use std::process::Command;

fn main() {
    let target = |name: &str| std::env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
    let release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    // Only where the linker that comes with the toolchain is used, which knows the options.
    if release && target("ARCH") == "x86_64" && target("OS") == "linux" {
        println!("cargo:rustc-link-arg-bins=-Wl,--icf=all");
        if reads_packed_relocations() {
            println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
        }
    }
    println!("cargo:rerun-if-changed=build.rs");
}

/// Whether this machine's C library is glibc 2.36 or later. The binary would not start elsewhere.
fn reads_packed_relocations() -> bool {
    let answer = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
    let Ok(answer) = answer else { return false };
    let text = String::from_utf8_lossy(&answer.stdout);
    let version = text.trim().strip_prefix("glibc 2.").and_then(|minor| minor.parse::<u32>().ok());
    version.is_some_and(|minor| minor >= 36)
}
