//! Sums of what was made, signed with a key that ssh-keygen knows: whoever installs has
//! a program that checks such a signature, and none of ours yet.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::archive;
use crate::system;
use crate::tree::{Fault, must, output};

/// What a signature is said to be for: one of something else is not one of a release.
const NAMESPACE: &str = "fades-release";

/// Who signs, in the file of those who may.
const PRINCIPAL: &str = "release";

/// Writes `SHA256SUMS` of `files`, which lie in one folder, in the form that
/// `sha256sum --check` reads.
pub(super) fn sums(files: &[&Path]) -> Result<PathBuf, Fault> {
    let mut text = String::new();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        text += &format!("{}  {name}\n", archive::digest(file)?.0);
    }
    let folder = files.first().and_then(|f| f.parent());
    let path = folder.unwrap_or(Path::new(".")).join("SHA256SUMS");
    fs::write(&path, text).map_err(|e| Fault::File(path.clone(), e))?;
    Ok(path)
}

/// Signs `sums` with the key in the file `key`; gives the signature's file.
pub(super) fn sign(sums: &Path, key: &Path) -> Result<PathBuf, Fault> {
    if !system::exists("ssh-keygen") {
        return Err(Fault::Missing("ssh-keygen", "openssh-client"));
    }
    let made = sums.with_extension("sig");
    match fs::remove_file(&made) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Fault::File(made, e)),
        // ssh-keygen would ask whether it may be replaced.
        _ => {}
    }
    let mut sign = Command::new("ssh-keygen");
    sign.args(["-q", "-Y", "sign", "-n", NAMESPACE, "-f"])
        .arg(key)
        .arg(sums);
    must(&mut sign)?;
    Ok(made)
}

/// Whether `signature` is that of `public` over `sums`, as whoever installs checks it.
pub(super) fn verifies(sums: &Path, signature: &Path, public: &Path) -> Result<bool, Fault> {
    let read = |path: &Path| fs::read_to_string(path).map_err(|e| Fault::File(path.to_owned(), e));
    let allowed = signature.with_extension("allowed");
    let line = format!("{PRINCIPAL} namespaces=\"{NAMESPACE}\" {}", read(public)?);
    fs::write(&allowed, line).map_err(|e| Fault::File(allowed.clone(), e))?;
    let mut verify = Command::new("ssh-keygen");
    verify.args(["-q", "-Y", "verify", "-n", NAMESPACE, "-I", PRINCIPAL, "-f"]);
    verify.arg(&allowed).arg("-s").arg(signature);
    let words = "ssh-keygen -Y verify".to_owned();
    let failed = |e| Fault::Program(words.clone(), e);
    let mut child = verify
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    if let Some(mut input) = child.stdin.take() {
        // One that reads nothing ends with an error of its own.
        let _ = input.write_all(read(sums)?.as_bytes());
    }
    let good = child.wait().map_err(failed)?.success();
    fs::remove_file(&allowed).map_err(|e| Fault::File(allowed.clone(), e))?;
    Ok(good)
}

/// Signs `sums` with a key of the moment and sees to it that the signature is good, and
/// that it is not for other sums; says what could not be tried.
pub(super) fn tried(sums: &Path) -> Result<Option<String>, Fault> {
    if !system::exists("ssh-keygen") {
        return Ok(Some(
            "signing: no ssh-keygen; apt-get install openssh-client".to_owned(),
        ));
    }
    let folder = sums.with_file_name("signing");
    let failed = |e| Fault::File(folder.clone(), e);
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(failed)?;
    }
    fs::create_dir(&folder).map_err(failed)?;
    let key = folder.join("key");
    let mut new = Command::new("ssh-keygen");
    output(new.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key))?;
    let copy = folder.join("SHA256SUMS");
    fs::copy(sums, &copy).map_err(failed)?;
    let signature = sign(&copy, &key)?;
    let public = key.with_extension("pub");
    let good = verifies(&copy, &signature, &public)?;
    let text = fs::read_to_string(&copy).map_err(failed)?;
    fs::write(&copy, text.replacen(['0', '1'], "2", 1)).map_err(failed)?;
    let changed = verifies(&copy, &signature, &public)?;
    fs::remove_dir_all(&folder).map_err(failed)?;
    match (good, changed) {
        (true, false) => Ok(None),
        (false, _) => Err(Fault::Judged(
            "ssh-keygen",
            "the signature of the sums is not good".to_owned(),
        )),
        (_, true) => Err(Fault::Judged(
            "ssh-keygen",
            "changed sums have a good signature".to_owned(),
        )),
    }
}
