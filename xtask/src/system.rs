//! Packages of the system that the tests use.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::tree::{Fault, succeeds};

/// A program, and the Debian package that has it.
const PROGRAMS: &[(&str, &str)] = &[
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("cpio", "cpio"),
    ("influxd", "influxdb"),
    ("chromium", "chromium"),
    ("debootstrap", "debootstrap"),
    ("dpkg-deb", "dpkg"),
    ("lintian", "lintian"),
    ("strip", "binutils"),
    ("systemd-analyze", "systemd"),
    ("docker-registry", "docker-registry"),
    ("skopeo", "skopeo"),
    ("ssh-keygen", "openssh-client"),
    ("faketime", "faketime"),
    ("python3", "python3"),
    ("tar", "tar"),
    ("valgrind", "valgrind"),
    ("coap-client-openssl", "libcoap3-bin"),
    ("mandoc", "mandoc"),
    ("mosquitto", "mosquitto"),
    ("mosquitto_sub", "mosquitto-clients"),
    ("openssl", "openssl"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("strace", "strace"),
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
            .stdout(Stdio::null()),
    )
}

/// What judges the API, and the versions that are used: the fuzzer of its
/// document, and a parser of its metrics.
const JUDGES: [(&str, &str); 2] = [("schemathesis", "4.32.5"), ("prometheus-client", "0.26.0")];

/// The programs of [`JUDGES`], in an environment of their own in the user's
/// cache: nothing of them comes into the tree or among the system's packages.
pub(crate) fn judges() -> Option<PathBuf> {
    let home = PathBuf::from(std::env::var_os("HOME")?);
    let named = JUDGES.map(|(name, version)| format!("{name}-{version}"));
    let folder = home.join(".cache/fades-tools").join(named.join("-"));
    let programs = folder.join("bin");
    if programs.join(JUDGES[0].0).is_file() {
        return Some(programs);
    }
    let packages = JUDGES.map(|(name, version)| format!("{name}=={version}"));
    println!("installing {}", packages.join(" "));
    let made = run(Command::new("python3").args(["-m", "venv"]).arg(&folder));
    let mut install = Command::new(programs.join("pip"));
    install.args(["install", "--quiet"]).args(&packages);
    if made && run(&mut install) {
        return Some(programs);
    }
    eprintln!(
        "pip could not install {}; the tests that need them say so",
        packages.join(" ")
    );
    None
}

fn run(command: &mut Command) -> bool {
    let ended = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    ended.is_ok_and(|status| status.success())
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
