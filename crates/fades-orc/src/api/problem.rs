//! Refusals and failures as the API tells them (RFC 9457).

use std::error::Error;

use axum::http::{StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse, Response};

use fades_trust::grant::NotGranted;

use super::types::{PROBLEM_TYPE, Problem};
use crate::admission::Refusal;
use crate::driver::NotTaken;
use crate::store::StoreError;
use crate::trust::{NotTrusted, TrustProblem};

/// An error and what lies behind it, in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let text = error.to_string();
        if !words.ends_with(&text) {
            words.push_str(": ");
            words.push_str(&text);
        }
        source = error.source();
    }
    words
}

/// A kind of problem: its word, its title, its status.
type Kind = (&'static str, &'static str, StatusCode);

pub(super) const MALFORMED: Kind = (
    "malformed",
    "The request cannot be read",
    StatusCode::BAD_REQUEST,
);
pub(super) const TOO_LARGE: Kind = (
    "too-large",
    "The request is too large",
    StatusCode::PAYLOAD_TOO_LARGE,
);
pub(super) const TOO_SLOW: Kind = (
    "too-slow",
    "The request did not arrive in time",
    StatusCode::REQUEST_TIMEOUT,
);
pub(super) const UNSIGNED: Kind = (
    "unsigned",
    "A signature by a trusted key is needed",
    StatusCode::UNAUTHORIZED,
);
pub(super) const FORBIDDEN: Kind = (
    "forbidden",
    "The key may not do this",
    StatusCode::FORBIDDEN,
);
pub(super) const NOT_FOUND: Kind = ("not-found", "There is no such thing", StatusCode::NOT_FOUND);
pub(super) const METHOD: Kind = (
    "method",
    "The path does not take this method",
    StatusCode::METHOD_NOT_ALLOWED,
);
pub(super) const CONFLICT: Kind = (
    "conflict",
    "It contradicts what is there",
    StatusCode::CONFLICT,
);
pub(super) const REFUSED: Kind = (
    "refused",
    "This node does not take it",
    StatusCode::UNPROCESSABLE_ENTITY,
);
pub(super) const UNREADABLE: Kind = (
    "unreadable",
    "These readings cannot be had",
    StatusCode::UNPROCESSABLE_ENTITY,
);
pub(super) const BUSY: Kind = (
    "busy",
    "The node cannot do this at the moment",
    StatusCode::SERVICE_UNAVAILABLE,
);
pub(super) const NOT_GRANTED: Kind = (
    "not-granted",
    "No grant of this node allows it",
    StatusCode::FORBIDDEN,
);
pub(super) const OVER_LIMIT: Kind = (
    "over-limit",
    "The service has used what it may",
    StatusCode::TOO_MANY_REQUESTS,
);
pub(super) const NO_ROOM: Kind = (
    "no-room",
    "The node has no room left",
    StatusCode::INSUFFICIENT_STORAGE,
);
pub(super) const FAILED: Kind = (
    "failed",
    "The node failed",
    StatusCode::INTERNAL_SERVER_ERROR,
);

impl Problem {
    pub(super) fn new((word, title, status): Kind, detail: impl Into<String>) -> Self {
        Self {
            r#type: format!("urn:fades:{word}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            retry_after: None,
        }
    }

    /// After so many seconds it is worth trying again.
    fn worth_trying_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(FAILED.2);
        // Texts and a number always have a JSON form.
        let body = serde_json::to_string(&self).unwrap_or_default();
        let kind = [(header::CONTENT_TYPE, PROBLEM_TYPE)];
        let wait = self
            .retry_after
            .map(|s| [(header::RETRY_AFTER, s.to_string())]);
        (status, kind, wait.map(AppendHeaders), body).into_response()
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let kind = match &error {
            e if e.is_full() => NO_ROOM,
            StoreError::OtherTask { .. }
            | StoreError::NothingToReplace { .. }
            | StoreError::NotOpen { .. } => CONFLICT,
            _ => FAILED,
        };
        if let StoreError::OtherTask { id, .. } = &error {
            // Who signed that one may be none of the asker's business.
            let detail = format!("{id} is another task already: choose a new id");
            return Self::new(kind, detail);
        }
        Self::new(kind, chain(&error))
    }
}

impl From<fades_trust::refusal::Refusal> for Problem {
    fn from(refusal: fades_trust::refusal::Refusal) -> Self {
        use fades_trust::envelope::EnvelopeError;
        use fades_trust::refusal::Refusal as R;
        let kind = match &refusal {
            R::Envelope(EnvelopeError::TooLarge { .. }) => TOO_LARGE,
            R::Envelope(_) | R::PayloadType { .. } | R::Payload { .. } | R::Mtw(_) => MALFORMED,
            R::UnknownKey { .. }
            | R::Signature { .. }
            | R::KeyExpired { .. }
            | R::Revoked { .. }
            | R::Development { .. }
            | R::TooFewSignatures { .. } => UNSIGNED,
            R::List(_) | R::Number { .. } => MALFORMED,
            R::OldVersion { .. } | R::OldCounter { .. } | R::Forgets { .. } => CONFLICT,
            R::Role { .. } | R::Service { .. } | R::OtherRequest { .. } => FORBIDDEN,
            R::Audience { .. }
            | R::Expired { .. }
            | R::TooLong { .. }
            | R::Table(_)
            | R::LocksOut { .. }
            | R::NotPinned { .. }
            | R::ImageDigest { .. }
            | R::ImageSize { .. }
            | R::Architecture { .. } => REFUSED,
        };
        Self::new(kind, refusal.to_string())
    }
}

impl From<NotGranted> for Problem {
    fn from(missing: NotGranted) -> Self {
        Self::new(NOT_GRANTED, missing.to_string())
    }
}

impl From<NotTaken> for Problem {
    fn from(reason: NotTaken) -> Self {
        match reason {
            NotTaken::Refused(refusal) => refusal.into(),
            NotTaken::Store(error) => error.into(),
        }
    }
}

impl From<TrustProblem> for Problem {
    fn from(problem: TrustProblem) -> Self {
        Self::new(FAILED, problem.to_string())
    }
}

impl From<NotTrusted> for Problem {
    fn from(reason: NotTrusted) -> Self {
        match reason {
            NotTrusted::Refused(refusal) => refusal.into(),
            NotTrusted::Problem(problem) => problem.into(),
            NotTrusted::Store(error) => error.into(),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Trust(refusal) => refusal.into(),
            Refusal::NotGranted(missing) => missing.into(),
            Refusal::QueueFull | Refusal::TooManyStanding => Self::new(BUSY, refusal.to_string()),
            Refusal::OverLimit(over) => {
                let seconds = over.wait().0.div_ceil(1_000_000_000);
                Self::new(OVER_LIMIT, over.to_string()).worth_trying_after(seconds)
            }
            refusal => Self::new(REFUSED, refusal.to_string()),
        }
    }
}
