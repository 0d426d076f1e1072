//! Who asks, and what they may.
//!
//! The operator is whoever reaches the Unix socket as the node's own user or
//! as root; the operator may read and cancel. Over TCP the certificate says who
//! asks. Everybody else carries a signed request, and whoever carries one is
//! who signed it. Submitting and publishing need the signature of the envelope in
//! any case, so the operator cannot do either without a key.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::ConnectInfo;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use fades_task::identity::{Digest, Name};
use fades_task::time::Time;
use fades_trust::request::{VerifiedRequest, from_header, verify_request};
use fades_trust::task::Audience;
use fades_trust::trust::{Role, TrustStore};

use super::certified::Certificate;
use super::problem::{BUSY, FORBIDDEN, UNSIGNED};
use super::server::Api;
use super::types::Problem;
use crate::tls::Claims;

/// Most nonces that are remembered.
const NONCES_MAX: usize = 4_096;

/// From so many on, those of requests that have expired are forgotten.
const NONCES_FEW: usize = 512;

/// The other end of a connection.
#[derive(Debug, Clone)]
pub(super) enum Peer {
    /// A process of this host, by its user.
    User(u32),
    /// The holder of a certificate.
    Certificate(Arc<Certificate>),
    /// Anybody.
    Unknown,
}

/// Who asks.
#[derive(Debug)]
pub(super) enum Caller {
    Operator,
    Signed(Box<VerifiedRequest>),
    /// The holder of a certificate, and what it says.
    Certified(Arc<Certificate>, Claims),
}

/// Nonces of requests that are still valid.
#[derive(Debug, Default)]
pub(super) struct Nonces(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    nonces: BTreeMap<(Digest, Name), Time>,
    /// When the last one that was forgotten expired. The clock has passed
    /// that time; if it is set back, what expires by then may have been
    /// served.
    forgotten: Option<Time>,
}

impl Seen {
    fn forget_expired(&mut self, now: Time) {
        let forgotten = &mut self.forgotten;
        self.nonces.retain(|_, expires| {
            let keep = *expires > now;
            if !keep {
                *forgotten = (*forgotten).max(Some(*expires));
            }
            keep
        });
    }
}

impl Nonces {
    /// Whether the nonce is new; it is not from now on.
    fn take(&self, request: &VerifiedRequest, now: Time) -> Result<(), Problem> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let expires = request.statement().expires;
        let nonce = (request.key().public.id(), request.statement().nonce.clone());
        let served = seen.nonces.get(&nonce).is_some_and(|until| *until > now);
        if served || seen.forgotten.is_some_and(|time| expires <= time) {
            let detail = "this signed request was served already: sign each request for itself";
            return Err(Problem::new(UNSIGNED, detail));
        }
        if seen.nonces.len() >= NONCES_FEW {
            seen.forget_expired(now);
        }
        if seen.nonces.len() >= NONCES_MAX {
            let detail = "too many signed requests at once: try again in some minutes";
            return Err(Problem::new(BUSY, detail));
        }
        seen.nonces.insert(nonce, expires);
        Ok(())
    }
}

impl Api {
    pub(super) fn trust(&self) -> Result<Arc<TrustStore>, Problem> {
        Ok(self.trusted.table()?)
    }

    pub(super) fn audience(&self) -> Audience<'_> {
        Audience {
            name: &self.config.name,
            labels: &self.config.labels,
        }
    }

    /// Whether the key of somebody who was let in is still the same, and still
    /// trusted.
    pub(super) fn still_trusts(&self, caller: &Caller, now: Time) -> bool {
        let request = match caller {
            Caller::Operator => return true,
            Caller::Certified(certificate, _) => return self.still_takes(certificate).is_ok(),
            Caller::Signed(request) => request,
        };
        let key = request.key();
        let trusted = |table: Arc<TrustStore>| {
            table.find(key.public.id()) == Some(key) && table.usable(key, now).is_ok()
        };
        self.trust().is_ok_and(trusted)
    }

    /// Whether a certificate would still be let in.
    fn still_takes(&self, certificate: &Certificate) -> Result<(), Problem> {
        let lost = |reason: String| {
            let detail = format!("your certificate is no longer taken: {reason}");
            Problem::new(UNSIGNED, detail)
        };
        let tls = self.shared.tls();
        let tls = tls.ok_or_else(|| lost("the node takes none".to_owned()))?;
        certificate.still_taken(&tls).map_err(lost)
    }

    /// Who sent a request without a signature.
    fn by_connection(&self, parts: &Parts) -> Result<Caller, Problem> {
        let peer = parts.extensions.get::<ConnectInfo<Peer>>();
        match peer.map(|info| &info.0) {
            Some(Peer::User(user)) if *user == 0 || *user == self.user => Ok(Caller::Operator),
            Some(Peer::Certificate(certificate)) => {
                self.still_takes(certificate)?;
                let claims = certificate.claims.clone();
                let claims = claims.map_err(|e| Problem::new(UNSIGNED, e.to_string()))?;
                Ok(Caller::Certified(Arc::clone(certificate), claims))
            }
            Some(Peer::User(_) | Peer::Unknown) | None => Err(Problem::new(
                UNSIGNED,
                "sign the request with a key that this node trusts (Authorization: FADES …), or ask as the node's own user over its socket",
            )),
        }
    }

    /// Who sent the request with these headers.
    pub(super) fn caller(&self, parts: &Parts) -> Result<Caller, Problem> {
        let Some(header) = parts.headers.get(AUTHORIZATION) else {
            return self.by_connection(parts);
        };
        let envelope = from_header(header.to_str().unwrap_or_default())
            .map_err(fades_trust::refusal::Refusal::from)?;
        let now = self.shared.clock().now();
        let path = parts.uri.path_and_query().map_or("/", |p| p.as_str());
        let received = (parts.method.as_str(), path);
        let trust = self.trust()?;
        let request = verify_request(&envelope, &trust, self.audience(), received, now)?;
        self.nonces.take(&request, now)?;
        Ok(Caller::Signed(Box::new(request)))
    }
}

impl Caller {
    /// What tells them from others; nothing does of operators on the socket.
    pub(super) fn id(&self) -> Option<Digest> {
        match self {
            Self::Operator => None,
            Self::Signed(request) => Some(request.key().public.id()),
            Self::Certified(certificate, _) => Some(certificate.fingerprint),
        }
    }

    /// The services whose tasks they may hand in and cancel.
    fn own_services(&self) -> &[Name] {
        match self {
            Self::Operator => &[],
            Self::Signed(request) if request.key().has(Role::Submit) => &request.key().services,
            Self::Signed(_) => &[],
            Self::Certified(_, claims) => &claims.services,
        }
    }

    /// Whether they may read.
    pub(super) fn may_read(&self) -> Result<(), Problem> {
        match self {
            Self::Signed(request) if request.key().has(Role::Audit) => Ok(()),
            _ => self.may_look(),
        }
    }

    /// Whether they may read what concerns others because of what they are, and not
    /// because they look after what was done.
    pub(super) fn may_look(&self) -> Result<(), Problem> {
        match self {
            Self::Operator => Ok(()),
            Self::Signed(request) if request.key().has(Role::Administer) => Ok(()),
            Self::Signed(request) => Ok(request.require(Role::Read)?),
            Self::Certified(_, claims) if claims.operator || claims.reader => Ok(()),
            Self::Certified(..) => Err(Problem::new(
                FORBIDDEN,
                "this certificate may not read what concerns others: it needs the name urn:fades:reader",
            )),
        }
    }

    /// Whether they may read the node's own log.
    pub(super) fn may_read_log(&self) -> Result<(), Problem> {
        match self {
            Self::Signed(request) if request.key().has(Role::Audit) => Ok(()),
            _ => self.may_operate(),
        }
    }

    /// Whether they may ask what would become of a task.
    pub(super) fn may_plan(&self) -> Result<(), Problem> {
        match self {
            Self::Signed(request) if request.key().has(Role::Submit) => Ok(()),
            Self::Certified(_, claims) if !claims.services.is_empty() => Ok(()),
            _ => self.may_read(),
        }
    }

    /// Whether they may read what concerns tasks of `service`: its own tasks
    /// are open to whoever may submit them.
    pub(super) fn may_read_of(&self, service: &Name) -> Result<(), Problem> {
        match self.own_services().contains(service) {
            true => Ok(()),
            false => self.may_read(),
        }
    }

    /// The services whose tasks they may read; `None` is all of them.
    pub(super) fn services(&self) -> Result<Option<Vec<Name>>, Problem> {
        let submits = match self {
            Self::Signed(request) => request.key().has(Role::Submit),
            Self::Operator | Self::Certified(..) => !self.own_services().is_empty(),
        };
        match self.may_read() {
            Err(_) if submits => Ok(Some(self.own_services().to_vec())),
            may => may.map(|()| None),
        }
    }

    /// The services for which they ask: the one that they name, or all their own.
    pub(super) fn asks_for(&self, service: Option<&Name>) -> Result<Vec<Name>, Problem> {
        match service {
            None => Ok(self.own_services().to_vec()),
            Some(service) if self.own_services().contains(service) => Ok(vec![service.clone()]),
            Some(service) => Err(Problem::new(
                FORBIDDEN,
                format!("whoever asks does not speak for the service {service}"),
            )),
        }
    }

    /// Whether they may change how the node works.
    pub(super) fn may_operate(&self) -> Result<(), Problem> {
        match self {
            Self::Operator => Ok(()),
            Self::Signed(request) if request.key().has(Role::Administer) => Ok(()),
            Self::Certified(_, claims) if claims.operator => Ok(()),
            Self::Signed(_) | Self::Certified(..) => Err(Problem::new(
                FORBIDDEN,
                "only the node's own user or root may do this, over the node's socket, or who has a key with the role administer or a certificate with the name urn:fades:operator",
            )),
        }
    }

    /// Whether they may cancel a task of `service`.
    pub(super) fn may_cancel(&self, service: &Name) -> Result<(), Problem> {
        match self {
            Self::Operator => Ok(()),
            Self::Signed(request) if request.key().has(Role::Administer) => Ok(()),
            Self::Signed(request) => {
                request.require(Role::Submit)?;
                Ok(request.require_service(service)?)
            }
            Self::Certified(_, claims) if claims.operator => Ok(()),
            Self::Certified(_, claims) if claims.services.contains(service) => Ok(()),
            Self::Certified(..) => Err(Problem::new(
                FORBIDDEN,
                format!("this certificate may not cancel tasks of {service}"),
            )),
        }
    }

    /// Who they are, for the record.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Operator => "the node's operator".to_owned(),
            Self::Signed(request) => format!("key {}", request.key().name),
            Self::Certified(certificate, claims) => {
                let as_whom = match (claims.operator, claims.services.first()) {
                    (true, _) => "an operator's".to_owned(),
                    (false, Some(service)) => format!("service {service}'s"),
                    (false, None) => "a reader's".to_owned(),
                };
                format!("{as_whom} certificate {}", certificate.fingerprint.short())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use fades_task::quantity::Duration;
    use fades_task::time::Time;
    use fades_trust::request::{RequestStatement, VerifiedRequest, sign_request, verify_request};
    use fades_trust::task::Audience;

    use super::{NONCES_FEW, NONCES_MAX, Nonces};
    use crate::samples::{key, name, now, trust};

    fn request(nonce: usize, expires: Time) -> VerifiedRequest {
        let statement = RequestStatement {
            method: "GET".to_owned(),
            path: "/".to_owned(),
            audience: name("harbour-07"),
            expires,
            nonce: name(&nonce.to_string()),
        };
        let node = name("harbour-07");
        let node = Audience {
            name: &node,
            labels: &[],
        };
        let envelope = sign_request(&statement, &key());
        let now = expires.before(Duration::from_secs(1));
        verify_request(&envelope, &trust(), node, ("GET", "/"), now).unwrap()
    }

    fn after(seconds: u64) -> Time {
        now().after(Duration::from_secs(seconds))
    }

    #[test]
    fn a_nonce_counts_once_and_so_many_are_remembered_at_the_most() {
        let nonces = Nonces::default();
        let first = request(0, after(60));
        nonces.take(&first, now()).unwrap();
        assert_eq!(nonces.take(&first, now()).unwrap_err().status, 401);
        for n in 1..NONCES_MAX {
            nonces.take(&request(n, after(60)), now()).unwrap();
        }
        let more = request(NONCES_MAX, after(120));
        assert_eq!(nonces.take(&more, now()).unwrap_err().status, 503);
        nonces.take(&more, after(61)).unwrap();
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_bring_a_served_request_back() {
        let nonces = Nonces::default();
        let first = request(0, after(60));
        nonces.take(&first, now()).unwrap();
        // The clock leaps ahead, and what seems to have expired is forgotten.
        let leap = 7200;
        for n in 1..NONCES_FEW + 2 {
            let ahead = request(n, after(leap + 60));
            nonces.take(&ahead, after(leap)).unwrap();
        }
        assert_eq!(nonces.take(&first, now()).unwrap_err().status, 401);
        nonces.take(&request(9999, after(61)), now()).unwrap();
    }
}
