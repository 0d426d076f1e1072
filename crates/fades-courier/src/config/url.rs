//! What addresses and folders must be like.

use std::net::IpAddr;

use fades_outside::client;
use fades_outside::connection::Tls;
use fades_outside::field::FieldError;
use fades_task::dial::{Address, Transport};
use fades_task::identity::Name;
use fades_task::quantity::Duration;

/// Checks an address of a server. Whether it asks for TLS.
pub(super) fn checked(url: &str, insecure: bool) -> Result<bool, FieldError> {
    let uri = client::checked(url)?;
    if url.contains('#') {
        return Err(FieldError::new("url", "has a part after #: leave that out"));
    }
    let is_secure = uri.scheme_str() == Some("https");
    open(uri.host().unwrap_or_default(), is_secure, insecure)?;
    Ok(is_secure)
}

/// A connection that anybody can read needs the operator's word.
pub(super) fn open(host: &str, is_secure: bool, insecure: bool) -> Result<(), FieldError> {
    if is_secure && insecure {
        let reason = "says nothing of an address that is secure: remove it";
        return Err(FieldError::new("insecure", reason));
    }
    if is_secure || insecure || is_this_host(host) {
        return Ok(());
    }
    let reason = "anybody on the way can read and change what is sent: write https:// or mqtts://, \
                  or insecure = true if that is meant";
    Err(FieldError::new("url", reason))
}

fn is_this_host(host: &str) -> bool {
    let inside = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let host = inside.unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Checks how long an attempt may take.
pub(super) fn within(timeout: Duration) -> Result<(), FieldError> {
    let bounds = Duration::from_secs(1)..=Duration::from_secs(600);
    if bounds.contains(&timeout) {
        return Ok(());
    }
    Err(FieldError::new("timeout", "is 1s to 10m"))
}

/// Checks who is trusted.
pub(super) fn trust(tls: &Tls, is_secure: bool) -> Result<(), FieldError> {
    let files = [&tls.ca_file, &tls.certificate_file];
    let named = files.iter().any(|f| f.is_some()) || tls.key_file.is_some();
    if named && !is_secure {
        let reason = "the url asks for no security: write https:// or mqtts://";
        return Err(FieldError::new("ca-file", reason));
    }
    if tls.certificate_file.is_some() != tls.key_file.is_some() {
        let reason = "belongs together with key-file: write both or none";
        return Err(FieldError::new("certificate-file", reason));
    }
    Ok(())
}

/// Checks the name of a folder.
pub(super) fn folder(folder: &str) -> Result<(), FieldError> {
    if folder.is_empty() || folder.contains('\0') {
        return Err(FieldError::new("folder", "names no folder"));
    }
    Ok(())
}

/// Where a server is.
pub(super) fn web(name: &Name, url: &str) -> Option<Address> {
    let uri = client::checked(url).ok()?;
    let host = uri.host()?;
    Some(Address::new(name, host, client::port(&uri), Transport::Tcp))
}
