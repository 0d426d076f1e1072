//! Whom the client trusts, and the certificate with which it says who it is.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

use super::ClientError;
use crate::connection::Tls;
use crate::secret::Secrets;

/// What the files say now.
pub(super) fn config(tls: Option<&Tls>, secrets: &Secrets) -> Result<TlsConfig, ClientError> {
    let provider = Arc::new(ring::default_provider());
    let config = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(provider)
        .root_certs(RootCerts::WebPki);
    let Some(tls) = tls else {
        return Ok(config.build());
    };
    let config = match &tls.ca_file {
        None => config,
        Some(file) => {
            let trusted = certificates(file, secrets)?;
            let trusted: Vec<_> = trusted.iter().map(owned).collect();
            config.root_certs(RootCerts::new_with_certs(&trusted))
        }
    };
    Ok(config.client_cert(own(tls, secrets)?).build())
}

/// The node's own certificate.
fn own(tls: &Tls, secrets: &Secrets) -> Result<Option<ClientCert>, ClientError> {
    let (Some(file), Some(key_file)) = (&tls.certificate_file, &tls.key_file) else {
        return Ok(None);
    };
    let chain = certificates(file, secrets)?;
    let secret = secrets.read(key_file)?;
    let wrong = |reason: String| ClientError::Certificate {
        file: secrets.path(key_file).display().to_string(),
        reason,
    };
    let key = PrivateKeyDer::from_pem_slice(secret.expose().as_bytes())
        .map_err(|_| wrong("it holds no private key in PEM form".to_owned()))?;
    // What the client would only find out in the middle of a connection.
    CertifiedKey::from_der(chain.clone(), key, &ring::default_provider())
        .map_err(|e| wrong(format!("it does not fit {file}: {e}")))?;
    let key = PrivateKey::from_pem(secret.expose().as_bytes())
        .map_err(|_| wrong("it holds no private key in PEM form".to_owned()))?;
    let chain: Vec<_> = chain.iter().map(owned).collect();
    Ok(Some(ClientCert::new_with_certs(&chain, key)))
}

fn certificates(
    file: &str,
    secrets: &Secrets,
) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let path = secrets.beside(file);
    let wrong = |reason: String| ClientError::Certificate {
        file: path.display().to_string(),
        reason,
    };
    let pem = std::fs::read(&path).map_err(|e| wrong(e.to_string()))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(wrong("it holds no certificate in PEM form".to_owned())),
    }
}

fn owned(certificate: &CertificateDer<'_>) -> Certificate<'static> {
    Certificate::from_der(certificate).to_owned()
}
