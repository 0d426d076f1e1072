//! Secrets: read from files when they are needed, and shown to nobody.

use std::fmt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::connection::SecretFile;

/// Where secrets are looked for.
#[derive(Debug, Clone)]
pub struct Secrets {
    base: PathBuf,
    credentials: Option<PathBuf>,
}

/// A secret; it is wiped when it is dropped.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

/// A secret that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("the secret file {file} cannot be read: {reason}")]
pub struct SecretError {
    file: String,
    reason: String,
}

impl Secrets {
    /// Relative names are looked for in `credentials`, then in `base`.
    #[must_use]
    pub fn new(base: &Path, credentials: Option<&Path>) -> Self {
        Self {
            base: base.to_owned(),
            credentials: credentials.map(Path::to_owned),
        }
    }

    /// Reads a secret.
    ///
    /// # Errors
    /// When there is none in the file.
    pub fn read(&self, file: &SecretFile) -> Result<Secret, SecretError> {
        let path = self.path(file);
        let failed = |reason: String| SecretError {
            file: path.display().to_string(),
            reason,
        };
        let bytes = std::fs::read(&path).map_err(|e| failed(e.to_string()))?;
        let bytes = Zeroizing::new(bytes);
        // Not the error's own words: they have a piece of the secret in them.
        let text = std::str::from_utf8(&bytes).map_err(|_| failed("it is not text".to_owned()))?;
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.is_empty() {
            return Err(failed("it is empty".to_owned()));
        }
        Ok(Secret(Zeroizing::new(text.to_owned())))
    }

    /// Where a secret is.
    #[must_use]
    pub fn path(&self, file: &SecretFile) -> PathBuf {
        let credential = self.credentials.as_ref().map(|c| c.join(&file.0));
        match credential.filter(|path| path.exists()) {
            Some(path) => path,
            None => self.base.join(&file.0),
        }
    }

    /// Where a file is that is no secret, such as a certificate.
    #[must_use]
    pub fn beside(&self, file: &str) -> PathBuf {
        self.base.join(file)
    }
}

impl Secret {
    /// The secret itself; it must not be shown.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::Secrets;
    use crate::connection::SecretFile;

    #[test]
    fn a_credential_wins_and_a_line_break_is_no_part_of_it() {
        let (base, credentials) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(base.path().join("a"), "one\r\n").unwrap();
        std::fs::write(base.path().join("b"), "two").unwrap();
        std::fs::write(credentials.path().join("b"), "three\n").unwrap();
        let secrets = Secrets::new(base.path(), Some(credentials.path()));
        let read = |name: &str| secrets.read(&SecretFile(name.to_owned()));
        assert_eq!(read("a").unwrap().expose(), "one");
        assert_eq!(read("b").unwrap().expose(), "three");
        assert_eq!(format!("{:?}", read("a").unwrap()), "Secret");
    }

    #[test]
    fn errors_name_the_file_and_not_what_is_in_it() {
        let base = tempfile::tempdir().unwrap();
        std::fs::write(base.path().join("bytes"), b"hunter2\xff").unwrap();
        std::fs::write(base.path().join("empty"), "\n").unwrap();
        let secrets = Secrets::new(base.path(), None);
        let error = |name: &str| {
            let file = SecretFile(name.to_owned());
            secrets.read(&file).unwrap_err().to_string()
        };
        assert!(error("none").contains("No such file"), "{}", error("none"));
        assert!(error("bytes").ends_with("bytes cannot be read: it is not text"));
        assert!(error("empty").contains("it is empty"));
    }
}
