//! Packs a folder: the same content makes the same bytes, whoever packs it and when.
//!
//! Names are sorted, owners are root, and no time is later than the one that is told.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::tree::{Fault, must};

/// How a folder is packed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packing {
    /// The time of everything, since 1970.
    pub(super) made: Duration,
    /// As small as possible, however long it takes.
    pub(super) small: bool,
}

/// Packs `root`, with its `DEBIAN`, as a Debian package.
pub(super) fn deb(root: &Path, to: &Path, packing: &Packing) -> Result<(), Fault> {
    let mut pack = Command::new("dpkg-deb");
    pack.env("SOURCE_DATE_EPOCH", packing.made.as_secs().to_string());
    // Blocks that several threads compress may be cut differently on another machine.
    pack.env("DPKG_DEB_THREADS_MAX", "1");
    let how = match packing.small {
        true => ["-Zxz", "-z6"],
        false => ["-Zgzip", "-z1"],
    };
    dated(root, packing.made)?;
    pack.arg("--root-owner-group").args(how).arg("--build");
    quiet(pack.args([root, to]))
}

/// Packs `root` without its `DEBIAN`, below a folder of its name.
pub(super) fn tarball(root: &Path, to: &Path, packing: &Packing) -> Result<(), Fault> {
    let (Some(folder), Some(name)) = (root.parent(), root.file_name()) else {
        return Err(Fault::Output(format!("{} has no name", root.display())));
    };
    let plain = to.with_extension("");
    let mut pack = Command::new("tar");
    pack.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner"]);
    pack.arg(format!("--mtime=@{}", packing.made.as_secs()));
    pack.args(["--format=gnu", "--exclude=DEBIAN", "-C"]);
    must(pack.arg(folder).arg("-cf").arg(&plain).arg(name))?;
    let level = if packing.small { "-9" } else { "-1" };
    must(
        Command::new("gzip")
            .args(["--force", "-n", level])
            .arg(&plain),
    )
}

/// Name, size and SHA-256 of a file, for people.
pub(super) fn described(path: &Path) -> Result<String, Fault> {
    let (digest, bytes) = digest(path)?;
    let megabytes = bytes as f64 / 1e6;
    Ok(format!(
        "{} {megabytes:.1} MB\n  sha256 {digest}",
        path.display()
    ))
}

/// SHA-256 of a file in hexadecimal, and its length in bytes.
pub(super) fn digest(path: &Path) -> Result<(String, u64), Fault> {
    let failed = |e| Fault::File(path.to_owned(), e);
    let mut file = File::open(path).map_err(failed)?;
    let mut hasher = Hasher(Sha256::new());
    let bytes = io::copy(&mut file, &mut hasher).map_err(failed)?;
    let digest = hasher.0.finalize();
    let digest = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((digest, bytes))
}

struct Hasher(Sha256);

impl io::Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Gives everything below `path` one time: dpkg-deb makes only later ones earlier.
fn dated(path: &Path, made: Duration) -> Result<(), Fault> {
    let failed = |e| Fault::File(path.to_owned(), e);
    if path.is_dir() {
        for entry in fs::read_dir(path).map_err(failed)? {
            dated(&entry.map_err(failed)?.path(), made)?;
        }
    }
    let file = File::open(path).map_err(failed)?;
    file.set_modified(std::time::UNIX_EPOCH + made)
        .map_err(failed)
}

/// Runs what says on its standard output only that it worked.
fn quiet(command: &mut Command) -> Result<(), Fault> {
    must(command.stdout(std::process::Stdio::null()))
}

#[cfg(test)]
mod tests;
