//! Passwords for registries, as other tools keep them: the `auths` of an auth file.
//!
//! ```json
//! {"auths": {"registry.example:5000": {"auth": "<base64 of user:password>"}}}
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use zeroize::Zeroizing;

/// A user and a password; the password is wiped when it is dropped.
#[derive(Clone)]
pub struct Login {
    user: String,
    password: Zeroizing<String>,
}

/// What an auth file says.
#[derive(Debug, Default)]
pub struct Logins(BTreeMap<String, Option<Login>>);

/// Why an auth file cannot be used. Nothing of its text is repeated.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// It cannot be read.
    #[error("the auth file {} cannot be read", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is none.
    #[error("{} is no auth file of a tool for registries: line {line} is not as expected", .path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
    },
    /// The password is elsewhere.
    #[error(
        "{} keeps the password for {host} with a helper program, which is not asked: log in with a tool that writes it into the file, or name another one in REGISTRY_AUTH_FILE", .path.display()
    )]
    Helper {
        /// The file.
        path: PathBuf,
        /// The registry.
        host: String,
    },
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    auth: Option<String>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({})", self.user)
    }
}

impl Login {
    /// A user and a password.
    #[must_use]
    pub fn new(user: String, password: String) -> Self {
        let password = Zeroizing::new(password);
        Self { user, password }
    }

    /// The user.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    pub(super) fn password(&self) -> &str {
        &self.password
    }

    /// `words` without the password.
    pub(super) fn conceal(&self, words: String) -> String {
        match self.password.is_empty() {
            true => words,
            false => words.replace(self.password.as_str(), "[secret]"),
        }
    }

    fn decode(auth: &str) -> Option<Self> {
        let pair = Zeroizing::new(BASE64_STANDARD.decode(auth).ok()?);
        let pair = std::str::from_utf8(&pair).ok()?;
        let (user, password) = pair.split_once(':')?;
        Some(Self::new(
            user.to_owned(),
            password.trim_end_matches('\0').to_owned(),
        ))
    }
}

impl Logins {
    /// Reads an auth file.
    ///
    /// # Errors
    /// When it cannot be read, or is none.
    pub fn read(path: &Path) -> Result<Self, LoginError> {
        let text = std::fs::read(path).map(Zeroizing::new);
        let text = text.map_err(|source| LoginError::Read {
            path: path.to_owned(),
            source,
        })?;
        let form = |line| LoginError::Form {
            path: path.to_owned(),
            line,
        };
        let file: File = serde_json::from_slice(&text).map_err(|e| form(e.line()))?;
        let mut logins = BTreeMap::new();
        for (host, entry) in file.auths {
            let auth = entry.auth.map(Zeroizing::new).filter(|a| !a.is_empty());
            let login = match auth {
                None => None,
                Some(auth) => Some(Login::decode(&auth).ok_or_else(|| form(0))?),
            };
            logins.insert(plain(&host).to_owned(), login);
        }
        Ok(Self(logins))
    }

    /// The login for a registry, given as scheme, host and port.
    ///
    /// # Errors
    /// When it is not in the file at `path` but with a helper.
    pub fn of(&self, origin: &str, path: &Path) -> Result<Option<Login>, LoginError> {
        match self.0.get(plain(origin)) {
            None => Ok(None),
            Some(Some(login)) => Ok(Some(login.clone())),
            Some(None) => Err(LoginError::Helper {
                path: path.to_owned(),
                host: plain(origin).to_owned(),
            }),
        }
    }
}

/// Tools write `https://HOST/v1/` or `HOST`.
fn plain(host: &str) -> &str {
    let host = host.split_once("://").map_or(host, |(_, host)| host);
    host.split('/').next().unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::{LoginError, Logins};

    #[test]
    fn passwords_of_other_tools_are_found_by_the_registry() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth.json");
        let text = r#"{"auths": {"https://registry.example/v1/": {"auth": "Y2l0eTpyb3NlOmJ1ZA=="},
            "helped.example": {}}, "credsStore": "desktop"}"#;
        std::fs::write(&path, text).unwrap();
        let logins = Logins::read(&path).unwrap();
        let login = logins
            .of("https://registry.example", &path)
            .unwrap()
            .unwrap();
        assert_eq!((login.user(), login.password()), ("city", "rose:bud"));
        assert!(logins.of("https://other.example", &path).unwrap().is_none());
        let helped = logins.of("http://helped.example", &path).unwrap_err();
        assert!(matches!(helped, LoginError::Helper { .. }));
        assert_eq!(login.conceal("rose:bud?".to_owned()), "[secret]?");
    }

    #[test]
    fn a_file_that_is_none_is_named_and_nothing_of_it_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth.json");
        for text in [
            "rosebud",
            r#"{"auths":{"a":{"auth":"rosebud"}}}"#,
            r#"{"auths":"rosebud"}"#,
        ] {
            std::fs::write(&path, text).unwrap();
            let error = Logins::read(&path).unwrap_err();
            let whole = format!("{error} {error:?}");
            assert!(
                whole.contains("auth.json") && !whole.contains("rosebud"),
                "{whole}"
            );
        }
        let gone = Logins::read(&folder.path().join("none")).unwrap_err();
        assert!(matches!(gone, LoginError::Read { .. }));
    }
}
