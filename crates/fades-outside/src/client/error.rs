//! What can go wrong between the node and a server.

use std::io::{self, ErrorKind};

use rustls::CertificateError;
use ureq::{Error, Timeout};

use super::{Stopped, Times};
use crate::secret::SecretError;

/// Why a server gave no answer, or none that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody wants the answer any more.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// A secret cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A file of certificates or keys is none.
    #[error("{file} cannot be used: {reason}")]
    Certificate {
        /// The file.
        file: String,
        /// Why.
        reason: String,
    },
    /// A secret that cannot be sent.
    #[error("the secret for {address} has characters that no header can have")]
    BadSecret {
        /// The server.
        address: String,
    },
    /// Nobody listens.
    #[error("nothing listens at {address}: does the server run, and is the port right?")]
    Refused {
        /// The server.
        address: String,
    },
    /// The network does not lead there.
    #[error("{address} cannot be reached: {reason}; check the network and the address")]
    Unreachable {
        /// The server.
        address: String,
        /// Why.
        reason: String,
    },
    /// The name has no address.
    #[error("the name in {address} is not known: check its spelling and the host's DNS")]
    UnknownHost {
        /// The server.
        address: String,
    },
    /// The certificate is for another name.
    #[error("the certificate of {address} is for another name ({reason}): use a name that it has")]
    TlsName {
        /// The server.
        address: String,
        /// Why.
        reason: String,
    },
    /// The certificate is from somebody else.
    #[error(
        "the certificate of {address} is not trusted ({reason}): name its authority in ca-file"
    )]
    Untrusted {
        /// The server.
        address: String,
        /// Why.
        reason: String,
    },
    /// No security can be agreed on.
    #[error("no secure connection to {address}: {reason}; does it speak TLS at this port?")]
    Tls {
        /// The server.
        address: String,
        /// Why.
        reason: String,
    },
    /// The server does not take who the node says it is.
    #[error("{address} does not let the node in ({status}: {words}): check auth")]
    Forbidden {
        /// The server.
        address: String,
        /// The status.
        status: u16,
        /// What the server says.
        words: String,
    },
    /// The server does not answer the question.
    #[error("{address} answered {status}: {words}")]
    Status {
        /// The server.
        address: String,
        /// The status.
        status: u16,
        /// What the server says.
        words: String,
    },
    /// The answer is said to be at another server.
    #[error("{address} sends to another server, {to:?}: write that address if it is meant")]
    Redirected {
        /// The server.
        address: String,
        /// Where.
        to: String,
    },
    /// The answer is said to be elsewhere, again and again.
    #[error("{address} sends from one place to the next without end")]
    Redirects {
        /// The server.
        address: String,
    },
    /// A part of it took too long.
    #[error("{address} took longer than {seconds} s to {what}: is it overloaded?")]
    Late {
        /// The server.
        address: String,
        /// The limit, seconds.
        seconds: u64,
        /// What took too long.
        what: &'static str,
    },
    /// Other long answers were being read all the time.
    #[error(
        "the answer of {address} is long, and had no place beside other long ones within \
         {seconds} s: ask for less at once, or leave out addresses that send without end"
    )]
    Crowded {
        /// The server.
        address: String,
        /// How long that was.
        seconds: u64,
    },
    /// The connection ended too early.
    #[error("{address} closed the connection in the middle of an answer; was it stopped?")]
    Closed {
        /// The server.
        address: String,
    },
    /// More bytes than are taken.
    #[error("the answer of {address} is longer than {most} bytes")]
    TooLong {
        /// The server.
        address: String,
        /// The limit, bytes.
        most: u64,
    },
    /// Something else than HTTP.
    #[error("{address} does not speak HTTP as it should: {reason}")]
    Protocol {
        /// The server.
        address: String,
        /// Why.
        reason: String,
    },
}

impl ClientError {
    /// What an error of the library means.
    pub(super) fn of(address: &str, times: &Times, e: Error) -> Self {
        let address = address.to_owned();
        match e {
            Error::Other(e) if e.is::<Stopped>() => Self::Stopped(Stopped),
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
            Timeout::Global => ("answer", times.whole.unwrap_or(times.head)),
            _ => ("begin to answer", times.head),
        };
        Self::Late {
            address,
            seconds: limit.as_secs(),
            what,
        }
    }
}
