//! Packages of the system that the tests use.

use std::process::Command;

use crate::tree::{Fault, succeeds};

/// A program, and the Debian package that has it.
const PROGRAMS: &[(&str, &str)] = &[
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("cpio", "cpio"),
    ("influxd", "influxdb"),
    ("python3", "python3"),
    ("tar", "tar"),
    ("valgrind", "valgrind"),
    ("coap-client-openssl", "libcoap3-bin"),
    ("mosquitto", "mosquitto"),
    ("mosquitto_sub", "mosquitto-clients"),
    ("xz", "xz-utils"),
];

/// Installs what is missing where this may be done, and otherwise names it.
pub(crate) fn prepare() -> Result<(), Fault> {
    let missing: Vec<&str> = PROGRAMS
        .iter()
        .filter(|(program, _)| !exists(program))
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !exists("apt-get") || !may_install() {
        eprintln!("missing: {list}; install with: apt-get install {list}");
        return Ok(());
    }
    println!("installing {list}");
    // A list of packages that is too old fails the first time.
    if !install(&missing)? {
        succeeds(Command::new("apt-get").args(["update", "-qq"]))?;
        if !install(&missing)? {
            eprintln!("apt-get could not install {list}; the tests that need it say so");
        }
    }
    Ok(())
}

fn install(packages: &[&str]) -> Result<bool, Fault> {
    succeeds(
        Command::new("apt-get")
            .args(["install", "-y", "-qq", "--no-install-recommends"])
            .args(packages)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(std::process::Stdio::null()),
    )
}

/// Whether a program of this name can be started.
pub(crate) fn exists(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn may_install() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|o| o.stdout.trim_ascii() == b"0")
}
