//! A client that showed its certificate, for as long as its connection lasts.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use fades_task::identity::Digest;
use fades_trust::function::image_digest;
use rustls_pki_types::CertificateDer;

use crate::tls::{ClaimError, Claims, Tls};

/// A certificate is looked at anew after this time: it may have expired, or
/// have been revoked.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// A client's certificate.
#[derive(Debug)]
pub(super) struct Certificate {
    /// By which it is told from others.
    pub(super) fingerprint: Digest,
    /// What it says.
    pub(super) claims: Result<Claims, ClaimError>,
    chain: Vec<CertificateDer<'static>>,
    /// By what and when it was taken last.
    taken: Mutex<(Weak<Tls>, Instant)>,
}

impl Certificate {
    /// That of a client with which there was a handshake.
    pub(super) fn new(chain: Vec<CertificateDer<'static>>, by: Weak<Tls>) -> Option<Self> {
        let own = chain.first()?;
        Some(Self {
            fingerprint: image_digest(own),
            claims: Claims::of(own),
            taken: Mutex::new((by, Instant::now())),
            chain,
        })
    }

    /// Whether it would still be let in, or why not.
    pub(super) fn still_taken(&self, tls: &Arc<Tls>) -> Result<(), String> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let same = std::ptr::eq(taken.0.as_ptr(), Arc::as_ptr(tls));
        if same && taken.1.elapsed() < LOOK_AGAIN {
            return Ok(());
        }
        tls.takes(&self.chain).map_err(|e| e.to_string())?;
        *taken = (Arc::downgrade(tls), Instant::now());
        Ok(())
    }
}
