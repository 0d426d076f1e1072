//! Connections over TLS, with certificates of both sides.

use std::io;
use std::path::Path;
use std::sync::Arc;

use fades_orc::tls;
use rustls::crypto::ring;
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::target::Https;
use crate::problem::{Attempt, Problem};

/// What is needed for connections to one address.
pub(super) struct Secure {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl std::fmt::Debug for Secure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Secure").field(&self.name).finish()
    }
}

impl Secure {
    /// Reads the certificates.
    pub(super) fn new(https: &Https) -> Result<Self, Problem> {
        let cannot = || format!("cannot ask https://{}", https.authority());
        let Some(ca) = &https.ca else {
            return Err(Problem::new(cannot())
                .reason("nothing says whose certificate the node has")
                .remedy("name the CA of the node's certificate: --ca FILE, or ca = \"FILE\" in your configuration"));
        };
        let Some(cert) = &https.cert else {
            return Err(Problem::new(cannot())
                .reason("over TCP a node takes nobody without a certificate")
                .remedy("name yours: --cert FILE --cert-key FILE, or cert and cert-key in your configuration"));
        };
        let mut roots = RootCertStore::empty();
        for certificate in tls::certificates(ca).or_problem(cannot)? {
            let unusable = || format!("{} holds no certificate of a CA", ca.display());
            roots.add(certificate).or_problem(unusable)?;
        }
        let chain = tls::certificates(cert).or_problem(cannot)?;
        let key_file = https.cert_key.as_deref().unwrap_or(cert);
        let key = tls::secret_key(key_file).or_problem(cannot)?;
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .or_problem(cannot)?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(|e| no_pair(&e, cert, key_file))?;
        let name = ServerName::try_from(https.host.clone()).or_problem(cannot)?;
        let connector = TlsConnector::from(Arc::new(config));
        Ok(Self { connector, name })
    }

    /// The handshake.
    pub(super) async fn over(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.connector.connect(self.name.clone(), stream).await
    }
}

fn no_pair(error: &rustls::Error, cert: &Path, key: &Path) -> Problem {
    let problem = Problem::new(format!("cannot use the certificate {}", cert.display()));
    match error {
        rustls::Error::InconsistentKeys(_) => problem
            .reason(format!("the key {} does not belong to it", key.display()))
            .remedy("name the two that were made together: --cert FILE --cert-key FILE"),
        e => problem.because(e),
    }
}

/// What can be done about a connection that was lost, where TLS says why.
pub(super) fn remedy(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
            .and_then(|e| e.downcast_ref::<rustls::Error>());
        if let Some(tls) = inner.or_else(|| error.downcast_ref()) {
            return Some(of_tls(tls));
        }
        next = error.source();
    }
    None
}

fn of_tls(error: &rustls::Error) -> &'static str {
    use AlertDescription as Alert;
    use CertificateError as Its;
    match error {
        rustls::Error::AlertReceived(Alert::UnknownCA | Alert::DecryptError) => {
            "the node does not know the CA of your certificate: have one made by a CA in its client-ca-file"
        }
        rustls::Error::AlertReceived(Alert::CertificateExpired) => {
            "your certificate is expired or not valid yet: have it renewed"
        }
        rustls::Error::AlertReceived(Alert::CertificateRevoked) => {
            "your certificate was revoked: ask whoever runs the CA for another"
        }
        rustls::Error::AlertReceived(_) => "see the node's log: fades node --log info",
        rustls::Error::InvalidCertificate(Its::UnknownIssuer) => {
            "the node's certificate is not by this CA: name another with --ca, or see whether this is the node you mean"
        }
        rustls::Error::InvalidCertificate(
            Its::NotValidForName | Its::NotValidForNameContext { .. },
        ) => {
            "the node's certificate is for another host: write the address as the certificate does"
        }
        rustls::Error::InvalidCertificate(
            Its::Expired
            | Its::ExpiredContext { .. }
            | Its::NotValidYet
            | Its::NotValidYetContext { .. },
        ) => {
            "the node's certificate is not valid now: its operator has to renew it; and see that this host's clock is right"
        }
        rustls::Error::InvalidMessage(_) => {
            "what answers there does not speak TLS: is this the node's port?"
        }
        _ => "see whether this is the node's address, and its log",
    }
}
