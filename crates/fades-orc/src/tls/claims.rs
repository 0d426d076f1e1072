//! What a client's certificate says of its holder.
//!
//! The names are URIs among the certificate's alternative names, compared
//! byte for byte. Its subject does not count: CAs write there what they like.

use fades_task::identity::Name;
use rustls_pki_types::CertificateDer;
use webpki::EndEntityCert;

/// How all names begin that concern a node.
const PREFIX: &str = "urn:fades:";

/// What the holder may.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Claims {
    /// Everything that the node's own user may.
    pub(crate) operator: bool,
    /// Read everything.
    pub(crate) reader: bool,
    /// The services for which they ask.
    pub(crate) services: Vec<Name>,
}

/// A certificate that does not say what its holder may.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ClaimError {
    /// It names nothing of this node's world.
    #[error(
        "the certificate names nobody that this node knows: have one made with the alternative name URI:urn:fades:service:NAME, URI:urn:fades:reader or URI:urn:fades:operator"
    )]
    Nothing,
    /// It names something that this version does not know.
    #[error(
        "the certificate's name {0:?} means nothing: write urn:fades:service:NAME, urn:fades:reader or urn:fades:operator"
    )]
    Unknown(String),
    /// It cannot be read.
    #[error("the certificate cannot be read: {0}")]
    Unreadable(String),
}

impl Claims {
    /// What `certificate` says.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Result<Self, ClaimError> {
        let read = EndEntityCert::try_from(certificate)
            .map_err(|e| ClaimError::Unreadable(e.to_string()))?;
        Self::parse(read.valid_uri_names())
    }

    fn parse<'a>(uris: impl Iterator<Item = &'a str>) -> Result<Self, ClaimError> {
        let mut claims = Self::default();
        for uri in uris {
            let Some(name) = uri.strip_prefix(PREFIX) else {
                continue;
            };
            let unknown = || ClaimError::Unknown(uri.to_owned());
            match name.split_once(':') {
                None if name == "operator" => claims.operator = true,
                None if name == "reader" => claims.reader = true,
                Some(("service", service)) => {
                    let service: Name = service.parse().map_err(|_| unknown())?;
                    claims.services.push(service);
                }
                _ => return Err(unknown()),
            }
        }
        match claims == Self::default() {
            true => Err(ClaimError::Nothing),
            false => Ok(claims),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ClaimError, Claims};
    use crate::samples::name;

    fn parse(uris: &[&str]) -> Result<Claims, ClaimError> {
        Claims::parse(uris.iter().copied())
    }

    #[test]
    fn a_certificate_means_exactly_what_it_names() {
        let claims = parse(&[
            "https://example.org/",
            "urn:fades:service:city-air",
            "urn:fades:service:noise",
        ]);
        let claims = claims.unwrap();
        assert_eq!(claims.services, [name("city-air"), name("noise")]);
        assert!(!claims.operator && !claims.reader);
        assert!(parse(&["urn:fades:operator"]).unwrap().operator);
        assert!(parse(&["urn:fades:reader"]).unwrap().reader);
    }

    #[test]
    fn what_is_not_understood_gives_nothing() {
        for nothing in [&[][..], &["spiffe://city/air"], &["urn:fade:operator"]] {
            assert_eq!(parse(nothing), Err(ClaimError::Nothing), "{nothing:?}");
        }
        for unknown in [
            "urn:fades:operator:harbour",
            "urn:fades:Operator",
            "urn:fades:operator ",
            "urn:fades:service",
            "urn:fades:service:",
            "urn:fades:service:a/b",
            "urn:fades:service:*",
            "urn:fades:admin",
        ] {
            let uris = ["urn:fades:reader", unknown];
            assert_eq!(
                parse(&uris),
                Err(ClaimError::Unknown(unknown.to_owned())),
                "{unknown}"
            );
        }
    }
}
