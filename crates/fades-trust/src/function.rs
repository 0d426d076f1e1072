//! Functions: what a publisher says of an image, below a signature.

use std::fmt;

use fades_task::identity::{Digest, Name};
use fades_task::time::Time;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::envelope::{Envelope, PayloadType};
use crate::key::SecretKey;
use crate::refusal::Refusal;
use crate::trust::{Role, TrustStore};

/// A kind of processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// AMD64.
    #[serde(rename = "x86-64")]
    X86_64,
    /// 64-bit Arm.
    Aarch64,
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::X86_64 => "x86-64",
            Self::Aarch64 => "aarch64",
        })
    }
}

impl Architecture {
    /// That of this program.
    pub const HERE: Self = if cfg!(target_arch = "aarch64") {
        Self::Aarch64
    } else {
        Self::X86_64
    };
}

/// Format of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageFormat {
    /// A static ELF as `fades build` links it.
    FadesElf,
}

/// What a publisher signs for an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FunctionStatement {
    /// Name of the function.
    pub name: Name,
    /// SHA-256 of the image.
    pub digest: Digest,
    /// Length of the image, bytes.
    pub size: u64,
    /// Major version of the contract that it was built against.
    pub abi_major: u16,
    /// Minor version of the contract that it was built against.
    pub abi_minor: u16,
    /// The processor that it was built for.
    pub architecture: Architecture,
    /// Format of the image.
    pub format: ImageFormat,
    /// When it was signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Time>,
}

/// A function whose signature and image were checked. Only
/// [`verify_function`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedFunction {
    statement: FunctionStatement,
    signer: Name,
}

impl VerifiedFunction {
    /// What was signed.
    #[must_use]
    pub const fn statement(&self) -> &FunctionStatement {
        &self.statement
    }

    /// Name of the trusted key that signed it.
    #[must_use]
    pub const fn signer(&self) -> &Name {
        &self.signer
    }
}

/// SHA-256 of an image.
#[must_use]
pub fn image_digest(image: &[u8]) -> Digest {
    Digest(Sha256::digest(image).into())
}

/// Signs what is said of an image.
#[must_use]
pub fn sign_function(statement: &FunctionStatement, key: &SecretKey) -> Envelope {
    // The statement is text and numbers.
    let payload = serde_json::to_vec(statement).unwrap_or_default();
    Envelope::seal(PayloadType::Function, payload, key)
}

/// The function in `envelope`, if `image` is its image, its signer may
/// publish, and it is built for this kind of processor.
///
/// # Errors
/// The first reason why not.
pub fn verify_function(
    envelope: &Envelope,
    image: &[u8],
    trust: &TrustStore,
    now: Time,
) -> Result<VerifiedFunction, Refusal> {
    let key = trust.signer(envelope, PayloadType::Function, now)?;
    key.require(Role::Publish)?;
    let statement: FunctionStatement =
        serde_json::from_slice(&envelope.payload).map_err(|e| Refusal::Payload {
            what: "function",
            reason: e.to_string(),
        })?;
    if image.len() as u64 != statement.size {
        return Err(Refusal::ImageSize {
            found: image.len() as u64,
            signed: statement.size,
        });
    }
    let found = image_digest(image);
    if found != statement.digest {
        let signed = statement.digest;
        return Err(Refusal::ImageDigest { found, signed });
    }
    if statement.architecture != Architecture::HERE {
        return Err(Refusal::Architecture {
            function: statement.name,
            built: statement.architecture,
            node: Architecture::HERE,
        });
    }
    Ok(VerifiedFunction {
        signer: key.name.clone(),
        statement,
    })
}

#[cfg(test)]
mod tests {
    use super::{
        Architecture, FunctionStatement, ImageFormat, image_digest, sign_function, verify_function,
    };
    use crate::refusal::Refusal;
    use crate::samples::{NOW, key, name, time, trust};
    use crate::trust::Role;

    const IMAGE: &[u8] = b"\x7fELF and so on";

    fn statement() -> FunctionStatement {
        FunctionStatement {
            name: name("summary"),
            digest: image_digest(IMAGE),
            size: IMAGE.len() as u64,
            abi_major: 1,
            abi_minor: 0,
            architecture: Architecture::HERE,
            format: ImageFormat::FadesElf,
            created: None,
        }
    }

    fn refusal(statement: &FunctionStatement, image: &[u8], signer: u8) -> Refusal {
        let envelope = sign_function(statement, &key(signer));
        verify_function(&envelope, image, &trust(), time(NOW)).unwrap_err()
    }

    #[test]
    fn a_signed_image_is_taken() {
        let envelope = sign_function(&statement(), &key(2));
        let function = verify_function(&envelope, IMAGE, &trust(), time(NOW)).unwrap();
        assert_eq!(*function.statement(), statement());
        assert_eq!(function.signer().as_str(), "plant");
    }

    #[test]
    fn an_image_with_a_changed_byte_is_refused() {
        let mut changed = IMAGE.to_vec();
        changed[3] ^= 1;
        assert!(matches!(
            refusal(&statement(), &changed, 2),
            Refusal::ImageDigest { .. }
        ));
        assert!(matches!(
            refusal(&statement(), &IMAGE[1..], 2),
            Refusal::ImageSize { .. }
        ));
    }

    #[test]
    fn a_key_that_may_not_publish_is_refused() {
        assert!(matches!(
            refusal(&statement(), IMAGE, 1),
            Refusal::Role {
                role: Role::Publish,
                ..
            }
        ));
    }

    #[test]
    fn an_image_for_another_processor_is_refused_by_name() {
        let mut other = statement();
        other.architecture = match Architecture::HERE {
            Architecture::X86_64 => Architecture::Aarch64,
            Architecture::Aarch64 => Architecture::X86_64,
        };
        let refused = refusal(&other, IMAGE, 2);
        assert!(matches!(refused, Refusal::Architecture { .. }));
        assert!(refused.to_string().contains("aarch64"), "{refused}");
    }

    #[test]
    fn a_task_is_no_function() {
        let envelope = crate::task::sign_task(&crate::samples::mtw(), &key(2));
        assert!(matches!(
            verify_function(&envelope, IMAGE, &trust(), time(NOW)),
            Err(Refusal::PayloadType { .. })
        ));
    }
}
