//! Deliveries by HTTP POST: `CloudEvents` 1.0 in structured mode.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use fades_outside::client::{Answer, Client, ClientError, Means, Room};
use fades_outside::connection::{SecretFile, Tls};
use fades_outside::field::FieldError;
use fades_task::courier::NotDelivered;
use ureq::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use ureq::http::{Method, Request, Uri};

use super::{never, not_now};
use crate::stop::Stop;
use crate::web;

/// What is said that a body is.
pub(super) const KIND: &str = "application/cloudevents+json";

/// Answers up to this length are read to their end, so that the connection can be
/// used again, bytes.
const ANSWER: u64 = 16 << 10;

/// A server that takes events.
#[derive(Debug)]
pub(crate) struct HttpTo {
    client: Client,
    to: Uri,
}

impl HttpTo {
    pub(crate) fn new(
        to: Uri,
        token: Option<&SecretFile>,
        tls: Tls,
        agent: &str,
        timeout: Duration,
        means: &Means,
    ) -> Result<Self, FieldError> {
        let access = web::access(token, tls, agent, timeout, timeout);
        let client = Client::new(&to.to_string(), access, means)?;
        Ok(Self { client, to })
    }

    pub(super) fn carry(&self, body: Vec<u8>, stop: &Stop) -> Result<(), NotDelivered> {
        let request = Request::builder().method(Method::POST).uri(self.to.clone());
        let request = request.header(CONTENT_TYPE, KIND);
        let request = request.body(body).map_err(not_now)?;
        let mut answer = self
            .client
            .send(request, &[stop.flag()])
            .map_err(not_delivered)?;
        let status = answer.status;
        if (200..=299).contains(&status) {
            finish(&mut answer);
            return Ok(());
        }
        let after = web::retry_after(&answer.headers, SystemTime::now());
        let said = web::said(self.client.origin(), status, &answer.words());
        let after = after.map(|a| a.as_nanos().try_into().unwrap_or(u64::MAX));
        Err(NotDelivered {
            after: after.map(fades_task::quantity::Duration),
            ..if is_final(status) {
                never(said)
            } else {
                not_now(said)
            }
        })
    }
}

/// Whether the same bytes will never be taken. A conflict (409) is with the state
/// of the receiver, which may change.
const fn is_final(status: u16) -> bool {
    matches!(status, 400 | 405 | 406 | 413 | 415 | 422)
}

/// It has arrived; what is said of it is not looked at.
fn finish(answer: &mut Answer<'_>) {
    let length = answer.headers.get(CONTENT_LENGTH);
    let length = length.and_then(|l| l.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|l| l <= ANSWER) {
        let mut place = Arc::<Room>::default().place();
        let _ = answer.whole(ANSWER, Instant::now(), Duration::from_secs(1), &mut place);
    }
}

fn not_delivered(e: ClientError) -> NotDelivered {
    not_now(e)
}
