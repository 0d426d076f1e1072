//! Options of whatever is reached over a network.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::field::FieldError;

/// Name of a file that holds a secret and nothing else; a line break at its end
/// is ignored. Relative names are looked for among systemd's credentials first,
/// then in the folder of the node's configuration. The file is read for each new
/// connection, so that a new secret needs no restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct SecretFile(pub String);

/// How the node says who it is: a user with a password, or a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Auth {
    /// The user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The user's password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<SecretFile>,
    /// A token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<SecretFile>,
}

/// Transport security, for addresses that ask for it (`https://`, `mqtts://`).
/// Without it the certificates of the well-known authorities are trusted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Tls {
    /// PEM file of the authorities that are trusted instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    /// PEM file of the node's own certificate, with those that lead to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_file: Option<String>,
    /// PEM file of its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<SecretFile>,
}

impl Auth {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// When fields do not go together.
    pub fn check(&self) -> Result<(), FieldError> {
        match (&self.user, &self.password_file, &self.token_file) {
            (Some(_), Some(_), None) | (None, None, Some(_)) => Ok(()),
            _ => Err(FieldError::new(
                "auth",
                "write either user and password-file, or token-file",
            )),
        }
    }
}

impl Tls {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// When fields do not go together.
    pub fn check(&self) -> Result<(), FieldError> {
        if self.certificate_file.is_some() != self.key_file.is_some() {
            return Err(FieldError::new(
                "tls",
                "certificate-file and key-file belong together: write both or none",
            ));
        }
        Ok(())
    }
}
