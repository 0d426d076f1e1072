//! What can go wrong between the broker and a server.

use std::io::{self, ErrorKind};

use rustls::CertificateError;
use ureq::{Error, Timeout};

use super::Times;
use super::connection::Halted;
use crate::flow::Stopped;
use crate::secret::SecretError;

/// Why a server gave no answer, or none that can be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error(transparent)]
    Stopped(#[from] Stopped),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("{file} cannot be used: {reason}")]
    Certificate { file: String, reason: String },
    #[error("the secret for {address} has characters that no header can have")]
    BadSecret { address: String },
    #[error("nothing listens at {address}: does the server run, and is the port right?")]
    Refused { address: String },
    #[error("{address} cannot be reached: {reason}; check the network and the address")]
    Unreachable { address: String, reason: String },
    #[error("the name in {address} is not known: check its spelling and the host's DNS")]
    UnknownHost { address: String },
    #[error("the certificate of {address} is for another name ({reason}): use a name that it has")]
    TlsName { address: String, reason: String },
    #[error(
        "the certificate of {address} is not trusted ({reason}): name its authority in tls.ca-file"
    )]
    Untrusted { address: String, reason: String },
    #[error("no secure connection to {address}: {reason}; does it speak TLS at this port?")]
    Tls { address: String, reason: String },
    #[error("{address} does not let the broker in ({status}: {words}): check auth")]
    Forbidden {
        address: String,
        status: u16,
        words: String,
    },
    #[error("{address} answered {status}: {words}")]
    Status {
        address: String,
        status: u16,
        words: String,
    },
    #[error("{address} sends to another server, {to:?}: write that address if it is meant")]
    Redirected { address: String, to: String },
    #[error("{address} sends from one place to the next without end")]
    Redirects { address: String },
    #[error("{address} took longer than {seconds} s to {what}: is it overloaded?")]
    Late {
        address: String,
        seconds: u64,
        what: &'static str,
    },
    #[error("{address} closed the connection in the middle of an answer; was it stopped?")]
    Closed { address: String },
    #[error("the answer of {address} is longer than {most} bytes")]
    TooLong { address: String, most: u64 },
    #[error("{address} does not speak HTTP as it should: {reason}")]
    Protocol { address: String, reason: String },
}

impl ClientError {
    /// What an error of the library means.
    pub(super) fn of(address: &str, times: &Times, e: Error) -> Self {
        let address = address.to_owned();
        match e {
            Error::Other(e) if e.is::<Halted>() => Self::Stopped(Stopped),
            Error::Io(e) => Self::of_io(address, times, e),
            Error::Rustls(e) => Self::of_tls(address, &e),
            Error::HostNotFound => Self::UnknownHost { address },
            Error::Timeout(which) => Self::late(address, times, which),
            Error::Decompress(_, e) => Self::of_io(address, times, e),
            e => {
                let reason = e.to_string();
                Self::Protocol { address, reason }
            }
        }
    }

    fn of_io(address: String, times: &Times, e: io::Error) -> Self {
        let tls = e.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
        if let Some(e) = tls {
            return Self::of_tls(address, e);
        }
        match e.kind() {
            ErrorKind::ConnectionRefused => Self::Refused { address },
            ErrorKind::UnexpectedEof
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe => Self::Closed { address },
            ErrorKind::TimedOut | ErrorKind::WouldBlock => {
                Self::late(address, times, Timeout::PerRead)
            }
            ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::Other => {
                let reason = e.to_string();
                Self::Protocol { address, reason }
            }
            _ => {
                let reason = e.to_string();
                Self::Unreachable { address, reason }
            }
        }
    }

    fn of_tls(address: String, e: &rustls::Error) -> Self {
        let reason = e.to_string();
        match e {
            rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            ) => Self::TlsName { address, reason },
            rustls::Error::InvalidCertificate(_) => Self::Untrusted { address, reason },
            _ => Self::Tls { address, reason },
        }
    }

    fn late(address: String, times: &Times, which: Timeout) -> Self {
        let (what, limit) = match which {
            Timeout::Connect | Timeout::Resolve => ("connect", times.connect),
            Timeout::PerRead | Timeout::RecvBody => ("say anything", times.stall),
            _ => ("begin to answer", times.head),
        };
        Self::Late {
            address,
            seconds: limit.as_secs(),
            what,
        }
    }
}
