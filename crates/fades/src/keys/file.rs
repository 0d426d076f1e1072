//! Key files: `NAME.key` that only its owner may read, `NAME.pub` beside it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use fades_task::identity::Name;
use fades_trust::key::{PublicKey, SecretKey};

use crate::problem::{Attempt, Problem};
use crate::session::Session;

/// More than any key file has, bytes.
const KEY_FILE_MAX: u64 = 4096;

/// Folder of the user's keys.
pub(crate) fn user_folder(session: &Session) -> Result<PathBuf, Problem> {
    Ok(session.env.config_folder()?.join("keys"))
}

/// The file of a secret key that was given as a name or as a path.
pub(crate) fn secret_path(given: &str, session: &Session) -> Result<PathBuf, Problem> {
    let is_path = given.contains('/') || given.ends_with(".key");
    if is_path {
        return Ok(PathBuf::from(given));
    }
    Ok(user_folder(session)?.join(format!("{given}.key")))
}

/// Makes a key and writes both files; refuses to replace either.
pub(crate) fn create(folder: &Path, name: &Name) -> Result<PublicKey, Problem> {
    let cannot = || format!("cannot make the key {name} in {}", folder.display());
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .or_problem(cannot)?;
    let secret = SecretKey::generate().or_problem(cannot)?;
    let public = secret.public();
    let public_path = folder.join(format!("{name}.pub"));
    if public_path.exists() {
        return Err(exists(&public_path));
    }
    write_new(
        &folder.join(format!("{name}.key")),
        0o600,
        &secret.to_text(),
    )?;
    write_new(&public_path, 0o644, &format!("{public}\n"))?;
    Ok(public)
}

fn write_new(path: &Path, mode: u32, text: &str) -> Result<(), Problem> {
    let opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path);
    let mut file = match opened {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => return Err(exists(path)),
        opened => opened.or_problem(|| format!("cannot write {}", path.display()))?,
    };
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .or_problem(|| format!("cannot write {}", path.display()))
}

fn exists(path: &Path) -> Problem {
    Problem::new(format!("{} is there already", path.display()))
        .reason("a key that is replaced is lost")
        .remedy("choose another name, or move the old files away")
}

/// Reads a secret key, if nobody but its owner can.
pub(crate) fn read_secret(path: &Path) -> Result<SecretKey, Problem> {
    let cannot = || format!("cannot read the key {}", path.display());
    let mut file = File::open(path).or_problem(cannot).map_err(|p| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        p.remedy(format!("fades key new {name}"))
    })?;
    let mode = file.metadata().or_problem(cannot)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(
            Problem::new(format!("the key {} is not used", path.display()))
                .reason(format!(
                    "others than its owner can read or write it (mode {:04o})",
                    mode & 0o7777
                ))
                .remedy(format!("chmod 600 {}", path.display())),
        );
    }
    let mut text = String::new();
    (&mut file)
        .take(KEY_FILE_MAX)
        .read_to_string(&mut text)
        .or_problem(cannot)?;
    SecretKey::from_text(&text).or_problem(cannot)
}

/// Reads a public key: a file, or the key itself.
pub(crate) fn read_public(given: &str) -> Result<PublicKey, Problem> {
    let cannot = || format!("cannot take {given} as a public key");
    if given.starts_with("fades-key-v1:") {
        return given.parse().or_problem(cannot);
    }
    let text = std::fs::read_to_string(given).or_problem(cannot)?;
    text.trim().parse().or_problem(cannot)
}

/// The user's keys by name, those without a readable public half left out.
pub(crate) fn user_keys(session: &Session) -> Result<Vec<(String, PublicKey)>, Problem> {
    let folder = user_folder(session)?;
    let cannot = || format!("cannot read the folder {}", folder.display());
    let entries = match std::fs::read_dir(&folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.or_problem(cannot)?,
    };
    let mut keys = Vec::new();
    for entry in entries {
        let path = entry.or_problem(cannot)?.path();
        if path.extension().is_some_and(|e| e == "pub")
            && let Ok(key) = read_public(&path.to_string_lossy())
        {
            let name = path.file_stem().unwrap_or_default();
            keys.push((name.to_string_lossy().into_owned(), key));
        }
    }
    keys.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::{create, read_public, read_secret};

    #[test]
    fn a_new_key_is_readable_by_its_owner_only_and_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("keys");
        let name = "alice".parse().unwrap();
        let public = create(&keys, &name).unwrap();
        let secret = keys.join("alice.key");
        assert_eq!(
            secret.metadata().unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(keys.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(read_secret(&secret).unwrap().public(), public);
        let path = keys.join("alice.pub");
        assert_eq!(read_public(path.to_str().unwrap()).unwrap(), public);
        assert!(create(&keys, &name).is_err());
        std::fs::remove_file(&path).unwrap();
        assert!(create(&keys, &name).is_err());
        assert_eq!(read_secret(&secret).unwrap().public(), public);
    }

    #[test]
    fn a_key_that_others_can_read_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        create(folder.path(), &"alice".parse().unwrap()).unwrap();
        let secret = folder.path().join("alice.key");
        for mode in [0o640, 0o604, 0o620] {
            std::fs::set_permissions(&secret, Permissions::from_mode(mode)).unwrap();
            let text = read_secret(&secret).unwrap_err().text(str::to_owned);
            assert!(text.contains("try: chmod 600"), "{text}");
        }
    }
}
