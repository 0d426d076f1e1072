//! Certificates for tests, and clients that show them.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls::crypto::ring;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::client::PATIENCE;

/// A CA.
pub(crate) struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key, and the CA by which the other side is judged.
#[derive(Clone)]
pub(crate) struct Shown {
    pub(crate) certificate: String,
    pub(crate) key: String,
    pub(crate) trusted: String,
}

pub(crate) type Stream = StreamOwned<ClientConnection, TcpStream>;

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { pem, issuer }
    }

    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    pub(crate) fn issue(&self, change: impl FnOnce(&mut CertificateParams)) -> Shown {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Shown {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            trusted: self.pem.clone(),
        }
    }

    /// A node's certificate.
    pub(crate) fn node(&self) -> Shown {
        self.issue(|params| {
            let address = SanType::IpAddress([127, 0, 0, 1].into());
            params.subject_alt_names.push(address);
        })
    }

    /// A client's certificate with these names.
    pub(crate) fn client(&self, uris: &[&str]) -> Shown {
        self.issue(|params| params.subject_alt_names = uris.iter().map(|u| uri(u)).collect())
    }

    /// A client's certificate whose time is over.
    pub(crate) fn expired(&self, uris: &[&str]) -> Shown {
        self.issue(|params| {
            params.subject_alt_names = uris.iter().map(|u| uri(u)).collect();
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        })
    }

    /// A client's certificate with a number, by which it can be revoked.
    pub(crate) fn numbered(&self, uris: &[&str], number: u64) -> Shown {
        self.issue(|params| {
            params.subject_alt_names = uris.iter().map(|u| uri(u)).collect();
            params.serial_number = Some(SerialNumber::from(number));
        })
    }

    /// The list that revokes the certificates with these numbers.
    pub(crate) fn revoked(&self, numbers: &[u64]) -> String {
        let entry = |number: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*number),
            revocation_time: date_time_ymd(2025, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2025, 1, 1),
            next_update: date_time_ymd(2090, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: numbers.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

impl Shown {
    /// Without a certificate, only judging the other side.
    pub(crate) fn nothing(&self) -> Self {
        let mut nothing = self.clone();
        nothing.certificate.clear();
        nothing
    }

    fn config(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        let trusted = CertificateDer::from_pem_slice(self.trusted.as_bytes()).unwrap();
        roots.add(trusted).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        if self.certificate.is_empty() {
            return builder.with_no_client_auth();
        }
        let chain = CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        builder.with_client_auth_cert(vec![chain], key).unwrap()
    }

    /// A connection; the handshake ends with what is written and read first.
    pub(crate) fn connect(&self, address: SocketAddr) -> io::Result<Stream> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let name = address.ip().into();
        let connection = ClientConnection::new(Arc::new(self.config()), name);
        Ok(StreamOwned::new(
            connection.map_err(io::Error::other)?,
            stream,
        ))
    }
}
