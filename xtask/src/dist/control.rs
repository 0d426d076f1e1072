//! What the package says of itself: its control file and its changelog.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::tree::{Fault, output};

const MAINTAINER: &str = "FADES maintainers <maintainers@fades.invalid>";

/// The architecture in Debian's words.
pub(super) const fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    }
}

/// The control file of what is laid out at `root`.
pub(super) fn control(version: &str, root: &Path) -> Result<String, Fault> {
    let mut libc = 0;
    for name in ["fades", "fades-tender"] {
        let program = root.join("usr/bin").join(name);
        let bytes = fs::read(&program).map_err(|e| Fault::File(program, e))?;
        libc = libc.max(libc_of(&bytes));
    }
    let kilobytes = size(&root.join("usr"))?.div_ceil(1024);
    Ok(format!(
        "Package: fades\nVersion: {version}\nArchitecture: {}\n\
         Maintainer: {MAINTAINER}\nInstalled-Size: {kilobytes}\nSection: net\nPriority: optional\n\
         Depends: libc6 (>= 2.{libc}), libgcc-s1 (>= 4.2), passwd, procps, debconf (>= 0.5) | debconf-2.0\n\
         Recommends: ca-certificates, tzdata\n\
         Description: runs signed functions on the data of a site\n \
         A node fetches just the data that a signed task names, runs the task's function\n \
         on it in a microVM of its own, and gives back the small answer, with an account\n \
         of which data stood behind it.\n",
        architecture(),
    ))
}

/// A changelog of one entry: the history is with the source.
pub(super) fn changelog(version: &str, made: Duration) -> Result<String, Fault> {
    let mut date = Command::new("date");
    date.env("LC_ALL", "C").args(["--utc", "-R", "-d"]);
    let date = output(date.arg(format!("@{}", made.as_secs())))?;
    Ok(format!(
        "fades ({version}) unstable; urgency=medium\n\n  * Version {version}; the history is with \
         the source.\n\n -- {MAINTAINER}  {}\n",
        date.trim()
    ))
}

/// Bytes of all files below `path`.
fn size(path: &Path) -> Result<u64, Fault> {
    let failed = |e| Fault::File(path.to_owned(), e);
    if !path.is_dir() {
        return Ok(fs::symlink_metadata(path).map_err(failed)?.len());
    }
    let mut sum = 0;
    for entry in fs::read_dir(path).map_err(failed)? {
        sum += size(&entry.map_err(failed)?.path())?;
    }
    Ok(sum)
}

/// The newest minor version of the C library (2.x) whose symbols a program names.
fn libc_of(program: &[u8]) -> u32 {
    const NAME: &[u8] = b"GLIBC_2.";
    let at =
        (0..program.len().saturating_sub(NAME.len())).filter(|at| program[*at..].starts_with(NAME));
    let minor = at.filter_map(|at| {
        let digits = program[at + NAME.len()..]
            .iter()
            .take_while(|b| b.is_ascii_digit());
        let text: String = digits.map(|b| char::from(*b)).collect();
        text.parse().ok()
    });
    minor.max().unwrap_or(17)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{changelog, libc_of};

    #[test]
    fn the_newest_symbol_decides_which_c_library_is_needed() {
        assert_eq!(libc_of(b"xGLIBC_2.4\0GLIBC_2.34\0GLIBC_2.9\0"), 34);
        assert_eq!(libc_of(b"static"), 17);
        assert_eq!(libc_of(b""), 17);
    }

    #[test]
    fn the_changelog_has_the_time_that_it_is_told() {
        let text = changelog("1.2.3", Duration::from_secs(86_400)).unwrap();
        assert!(text.starts_with("fades (1.2.3) unstable"), "{text}");
        assert!(
            text.ends_with("  Fri, 02 Jan 1970 00:00:00 +0000\n"),
            "{text}"
        );
    }
}
