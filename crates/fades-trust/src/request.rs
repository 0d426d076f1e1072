//! Requests to a node's API by somebody who is not its operator.
//!
//! The statement names method, path and node, so that a signature serves for
//! one request at one node; it is valid for minutes, and the node remembers
//! the nonces of that time.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fades_task::identity::Name;
use fades_task::quantity::Duration;
use fades_task::time::Time;
use serde::{Deserialize, Serialize};

use crate::envelope::{Envelope, EnvelopeError, PayloadType};
use crate::key::SecretKey;
use crate::refusal::Refusal;
use crate::task::Audience;
use crate::trust::{TrustStore, TrustedKey};

/// Longest time for which a request may be valid.
pub const REQUEST_VALID_MAX: Duration = Duration::from_secs(300);

/// Scheme of the `Authorization` header.
pub const AUTHORIZATION_SCHEME: &str = "FADES";

/// What is signed for one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestStatement {
    /// HTTP method, such as `GET`.
    pub method: String,
    /// Path with query, such as `/v1/tasks?limit=10`.
    pub path: String,
    /// The node's name or one of its labels.
    pub audience: Name,
    /// When the request ceases to be valid; at most [`REQUEST_VALID_MAX`]
    /// ahead.
    pub expires: Time,
    /// A value that the requester never used before.
    pub nonce: Name,
}

/// A request whose signature was checked. Only [`verify_request`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedRequest {
    statement: RequestStatement,
    key: TrustedKey,
}

impl VerifiedRequest {
    /// What was signed.
    #[must_use]
    pub const fn statement(&self) -> &RequestStatement {
        &self.statement
    }

    /// The key that signed it.
    #[must_use]
    pub const fn key(&self) -> &TrustedKey {
        &self.key
    }
}

/// Signs a request.
#[must_use]
pub fn sign_request(statement: &RequestStatement, key: &SecretKey) -> Envelope {
    // The statement is text.
    let payload = serde_json::to_vec(statement).unwrap_or_default();
    Envelope::seal(PayloadType::Request, payload, key)
}

/// The value of the `Authorization` header that carries `envelope`.
#[must_use]
pub fn to_header(envelope: &Envelope) -> String {
    let encoded = URL_SAFE_NO_PAD.encode(envelope.to_json());
    format!("{AUTHORIZATION_SCHEME} {encoded}")
}

/// The envelope in the value of an `Authorization` header.
///
/// # Errors
/// When there is none.
pub fn from_header(value: &str) -> Result<Envelope, EnvelopeError> {
    let bytes = value
        .strip_prefix(AUTHORIZATION_SCHEME)
        .and_then(|v| v.strip_prefix(' '))
        .and_then(|v| URL_SAFE_NO_PAD.decode(v).ok())
        .ok_or(EnvelopeError::Base64("Authorization header"))?;
    Envelope::parse(&bytes)
}

/// The request in `envelope`, if it is for `method` and `path` on this node,
/// now. Whether its key has the role that the path needs is for the caller to
/// ask, and whether its nonce is new.
///
/// # Errors
/// The first reason why not.
pub fn verify_request(
    envelope: &Envelope,
    trust: &TrustStore,
    node: Audience<'_>,
    (method, path): (&str, &str),
    now: Time,
) -> Result<VerifiedRequest, Refusal> {
    let key = trust.signer(envelope, PayloadType::Request, now)?;
    let statement: RequestStatement =
        serde_json::from_slice(&envelope.payload).map_err(|e| Refusal::Payload {
            what: "request",
            reason: e.to_string(),
        })?;
    node.require(std::slice::from_ref(&statement.audience))?;
    let expires = statement.expires;
    if now >= expires {
        return Err(Refusal::Expired { expires, now });
    }
    if expires > now.after(REQUEST_VALID_MAX) {
        let most = REQUEST_VALID_MAX;
        return Err(Refusal::TooLong { expires, now, most });
    }
    if (statement.method.as_str(), statement.path.as_str()) != (method, path) {
        return Err(Refusal::OtherRequest {
            signed: format!("{} {}", statement.method, statement.path),
            received: format!("{method} {path}"),
        });
    }
    Ok(VerifiedRequest {
        statement,
        key: key.clone(),
    })
}

impl VerifiedRequest {
    /// Whether the key has `role`.
    ///
    /// # Errors
    /// [`Refusal::Role`] when it has not.
    pub fn require(&self, role: crate::trust::Role) -> Result<(), Refusal> {
        self.key.require(role)
    }

    /// Whether the key speaks for `service`.
    ///
    /// # Errors
    /// [`Refusal::Service`] when it does not.
    pub fn require_service(&self, service: &Name) -> Result<(), Refusal> {
        self.key.require_service(service)
    }
}

#[cfg(test)]
mod tests {
    use fades_task::quantity::Duration;

    use super::{
        REQUEST_VALID_MAX, RequestStatement, VerifiedRequest, from_header, sign_request, to_header,
        verify_request,
    };
    use crate::refusal::Refusal;
    use crate::samples::{NOW, key, name, time, trust};
    use crate::task::Audience;
    use crate::trust::Role;

    fn statement() -> RequestStatement {
        RequestStatement {
            method: "GET".to_owned(),
            path: "/v1/tasks?limit=10".to_owned(),
            audience: name("harbour-07"),
            expires: time(NOW).after(REQUEST_VALID_MAX),
            nonce: name("n1"),
        }
    }

    fn verify(statement: &RequestStatement) -> Result<VerifiedRequest, Refusal> {
        let header = to_header(&sign_request(statement, &key(3)));
        let envelope = from_header(&header).unwrap();
        let node = Audience {
            name: &name("harbour-07"),
            labels: &[],
        };
        let received = ("GET", "/v1/tasks?limit=10");
        verify_request(&envelope, &trust(), node, received, time(NOW))
    }

    #[test]
    fn a_signed_request_is_taken_with_the_roles_of_its_key() {
        let request = verify(&statement()).unwrap();
        assert_eq!(*request.statement(), statement());
        assert_eq!(request.require(Role::Read), Ok(()));
        assert!(matches!(
            request.require(Role::Submit),
            Err(Refusal::Role { .. })
        ));
        assert!(matches!(
            request.require_service(&name("city-air")),
            Err(Refusal::Service { .. })
        ));
    }

    #[test]
    fn a_request_for_something_else_is_refused() {
        let refused = |change: fn(&mut RequestStatement)| {
            let mut other = statement();
            change(&mut other);
            verify(&other).unwrap_err()
        };
        assert!(matches!(
            refused(|s| s.method = "POST".to_owned()),
            Refusal::OtherRequest { .. }
        ));
        assert!(matches!(
            refused(|s| s.path.push('0')),
            Refusal::OtherRequest { .. }
        ));
        assert!(matches!(
            refused(|s| s.audience = name("other")),
            Refusal::Audience { .. }
        ));
        assert!(matches!(
            refused(|s| s.expires = time(NOW)),
            Refusal::Expired { .. }
        ));
        assert!(matches!(
            refused(|s| s.expires = s.expires.after(Duration(1))),
            Refusal::TooLong { .. }
        ));
    }

    #[test]
    fn a_header_of_another_scheme_is_refused() {
        let header = to_header(&sign_request(&statement(), &key(3)));
        for bad in [
            "",
            "Bearer x",
            "FADES",
            "FADES !",
            &header[..header.len() - 5],
        ] {
            assert!(from_header(bad).is_err(), "{bad}");
        }
    }
}
