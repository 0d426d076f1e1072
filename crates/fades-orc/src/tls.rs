//! Certificates of the API over TCP: the node's own, and whose it takes.
//!
//! Files are read at the start and whenever the configuration is read anew.
//! What is wrong with one is said then, and not by a handshake that fails.

mod claims;

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fades_task::time::Time;
use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ServerConfig, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, TrustAnchor, UnixTime,
};
use webpki::{EndEntityCert, KeyUsage};

pub(crate) use self::claims::{ClaimError, Claims};

/// More than any of the files has, bytes.
const FILE_MAX: u64 = 4 << 20;

/// The first second that no certificate can be valid at.
const NEVER: Duration = Duration::from_secs(253_402_300_800);

/// The files that the API needs for listening over TCP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The node's certificate, followed by those between it and its CA.
    pub certificate: PathBuf,
    /// Its secret key.
    pub key: PathBuf,
    /// The CAs of clients.
    pub clients: PathBuf,
    /// Clients' certificates that their CA has revoked.
    pub revoked: Option<PathBuf>,
}

/// What is wrong with a certificate or a key.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("the {what} {path} cannot be read")]
    Read {
        /// What it should hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file holds something else.
    #[error("{path} holds no {what} in PEM form: name another file")]
    Empty {
        /// What it should hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// Others can read the secret key.
    #[error(
        "the key {path} is not used: others than its owner can read or write it (mode {mode:04o}); chmod 600 {path}, and have a new one made if others had it"
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Key and certificate were not made together.
    #[error(
        "the key {key} does not belong to the certificate {certificate}: name the two that were made together"
    )]
    Mismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
    },
    /// The node's certificate is too old.
    #[error(
        "the certificate {path} expired at {time}: have it renewed, and see that the host's clock is right"
    )]
    Expired {
        /// The file.
        path: PathBuf,
        /// When.
        time: Time,
    },
    /// The node's certificate is for later.
    #[error("the certificate {path} is not valid before {time}: is the host's clock right?")]
    NotYet {
        /// The file.
        path: PathBuf,
        /// From when.
        time: Time,
    },
    /// What a file holds cannot be used.
    #[error("{path}: {reason}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// What the files said when they were read.
#[derive(Debug)]
pub(crate) struct Tls {
    /// For handshakes.
    pub(crate) server: Arc<ServerConfig>,
    verifier: Arc<dyn ClientCertVerifier>,
    /// What was read, for telling whether something else is there now.
    read: Vec<Vec<u8>>,
    /// When the node's certificate expires.
    pub(crate) not_after: Time,
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Whether the files can be used at `now`; when the node's certificate expires.
///
/// # Errors
/// What is wrong with them.
pub fn check(files: &TlsFiles, now: Time) -> Result<Time, TlsError> {
    Tls::load(files, now).map(|tls| tls.not_after)
}

impl Tls {
    pub(crate) fn load(files: &TlsFiles, now: Time) -> Result<Self, TlsError> {
        let chain = certificates(&files.certificate)?;
        let not_after = valid(&files.certificate, &chain, now)?;
        let own = pair(chain.clone(), files)?;
        let clients = certificates(&files.clients)?;
        let revoked = files.revoked.as_deref().map_or(Ok(vec![]), revoked)?;
        let certificates = chain.iter().chain(&clients).map(|c| c.to_vec());
        let read = certificates
            .chain(revoked.iter().map(|l| l.to_vec()))
            .collect();
        let verifier = verifier(files, &clients, revoked)?;
        let mut server = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(unusable(&files.certificate))?
            .with_client_cert_verifier(Arc::clone(&verifier))
            .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(own)));
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        // A connection that goes on where another ended would be let in
        // without a look at its certificate.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Ok(Self {
            server: Arc::new(server),
            verifier,
            read,
            not_after,
        })
    }

    /// Whether `other` is made of the same certificates.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.read == other.read
    }

    /// Whether a client's certificates would be taken now.
    pub(crate) fn takes(&self, chain: &[CertificateDer<'_>]) -> Result<(), rustls::Error> {
        let Some((own, between)) = chain.split_first() else {
            return Err(rustls::Error::NoCertificatesPresented);
        };
        let now = UnixTime::now();
        self.verifier
            .verify_client_cert(own, between, now)
            .map(drop)
    }
}

fn unusable<E: std::fmt::Display>(path: &Path) -> impl Fn(E) -> TlsError {
    move |error| TlsError::Unusable {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Read {
        what,
        path: path.to_owned(),
        source,
    };
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if length > FILE_MAX {
        let reason = format!("it has {length} bytes, at most {FILE_MAX} are read");
        return Err(unusable(path)(reason));
    }
    std::fs::read(path).map_err(failed)
}

/// The certificates in a file, at least one.
///
/// # Errors
/// When there is none.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let what = "certificate";
    let pem = read(what, path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(TlsError::Empty {
            what,
            path: path.to_owned(),
        }),
    }
}

/// The secret key in a file that only its owner can read; root's may be
/// shared with a group, as systems do that keep all keys in one folder.
///
/// # Errors
/// When there is none, or others can read it.
pub fn secret_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let what = "key";
    let about = std::fs::metadata(path).map_err(|source| TlsError::Read {
        what,
        path: path.to_owned(),
        source,
    })?;
    let shared = about.uid() == 0 && !rustix::process::geteuid().is_root();
    let others = if shared { 0o037 } else { 0o077 };
    if about.mode() & others != 0 {
        return Err(TlsError::Exposed {
            path: path.to_owned(),
            mode: about.mode() & 0o7777,
        });
    }
    PrivateKeyDer::from_pem_slice(&read(what, path)?).map_err(|_| TlsError::Empty {
        what,
        path: path.to_owned(),
    })
}

/// Certificate and key, which belong together.
fn pair(chain: Vec<CertificateDer<'static>>, files: &TlsFiles) -> Result<CertifiedKey, TlsError> {
    let key = secret_key(&files.key)?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|e| match e {
        rustls::Error::InconsistentKeys(_) => TlsError::Mismatch {
            key: files.key.clone(),
            certificate: files.certificate.clone(),
        },
        e => unusable(&files.key)(e),
    })
}

fn revoked(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let what = "list of revoked certificates";
    let pem = read(what, path)?;
    let found: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(TlsError::Empty {
            what,
            path: path.to_owned(),
        }),
    }
}

fn verifier(
    files: &TlsFiles,
    clients: &[CertificateDer<'static>],
    revoked: Vec<CertificateRevocationListDer<'static>>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for ca in clients {
        roots.add(ca.clone()).map_err(unusable(&files.clients))?;
    }
    // A CA without a list has revoked nothing.
    let built = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .with_crls(revoked)
        .allow_unknown_revocation_status()
        .build();
    let named = files.revoked.as_ref().unwrap_or(&files.clients);
    built
        .map(|verifier| verifier as Arc<dyn ClientCertVerifier>)
        .map_err(unusable(named))
}

fn as_time(time: UnixTime) -> Time {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Time(seconds.saturating_mul(1_000_000_000))
}

/// Whether the first of `chain` is valid at `now`, and until when.
fn valid(path: &Path, chain: &[CertificateDer<'_>], now: Time) -> Result<Time, TlsError> {
    let path = path.to_owned();
    let own = chain.first().ok_or_else(|| TlsError::Empty {
        what: "certificate",
        path: path.clone(),
    })?;
    let own = EndEntityCert::try_from(own).map_err(unusable(&path))?;
    let seconds = u64::try_from(now.0 / 1_000_000_000).unwrap_or_default();
    match at(&own, Duration::from_secs(seconds)) {
        webpki::Error::CertExpired { not_after, .. } => {
            let time = as_time(not_after);
            return Err(TlsError::Expired { path, time });
        }
        webpki::Error::CertNotValidYet { not_before, .. } => {
            let time = as_time(not_before);
            return Err(TlsError::NotYet { path, time });
        }
        _ => {}
    }
    match at(&own, NEVER) {
        webpki::Error::CertExpired { not_after, .. } => Ok(as_time(not_after)),
        other => Err(unusable(&path)(other)),
    }
}

/// What is wrong with a certificate at a time: its validity is looked at
/// before the CAs, of which there are none here.
fn at(own: &EndEntityCert<'_>, time: Duration) -> webpki::Error {
    let (time, none): (_, &[TrustAnchor<'_>]) = (UnixTime::since_unix_epoch(time), &[]);
    let verified = own.verify_for_usage(&[], none, &[], time, KeyUsage::server_auth(), None, None);
    match verified {
        Ok(_) => webpki::Error::UnknownIssuer,
        Err(e) => e,
    }
}
