//! Connections that are asked for: nothing is resolved and connected here.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use fades_task::dial::DialFailure;
use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

use crate::dial::{Asked, as_io};

/// Whoever asks is told the name; nobody here needs its addresses.
#[derive(Debug)]
pub(super) struct Nobody;

impl Resolver for Nobody {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let mut none = self.empty();
        // An empty answer would be an error.
        none.push(([0, 0, 0, 0], 0).into());
        Ok(none)
    }
}

/// Asks for connections.
#[derive(Debug)]
pub(super) struct Asking(pub(super) Asked);

impl Connector<()> for Asking {
    type Out = Wire;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> Result<Option<Wire>, Error> {
        let uri = details.uri;
        let host = uri.host().unwrap_or_default();
        let within = *details.timeout.after;
        let stream = self.0.stream(host, super::port(uri), within);
        let stream = stream.map_err(|failure| match failure {
            DialFailure::NoName(_) => Error::HostNotFound,
            DialFailure::TimedOut => Error::Timeout(details.timeout.reason),
            failure => as_io(failure).into(),
        })?;
        stream.set_nodelay(details.config.no_delay())?;
        let (input, output) = (
            details.config.input_buffer_size(),
            details.config.output_buffer_size(),
        );
        Ok(Some(Wire {
            stream,
            buffers: LazyBuffers::new(input, output),
        }))
    }
}

/// A stream that came connected.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    buffers: LazyBuffers,
}

impl Transport for Wire {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let within = timeout.not_zero().map(|t| *t);
        self.stream.set_write_timeout(within)?;
        let output = &self.buffers.output()[..amount];
        self.stream.write_all(output).map_err(|e| late(e, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let within = timeout.not_zero().map(|t| *t);
        self.stream.set_read_timeout(within)?;
        let input = self.buffers.input_append_buf();
        let amount = loop {
            match self.stream.read(input) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                read => break read.map_err(|e| late(e, timeout))?,
            }
        };
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        // Open and silent: whatever is there, nobody asked for.
        let mut byte = [0];
        let is_silent = |e: std::io::Error| e.kind() == ErrorKind::WouldBlock;
        self.stream.set_nonblocking(true).is_ok()
            && self.stream.peek(&mut byte).is_err_and(is_silent)
            && self.stream.set_nonblocking(false).is_ok()
    }
}

fn late(e: std::io::Error, timeout: NextTimeout) -> Error {
    match e.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Error::Timeout(timeout.reason),
        _ => e.into(),
    }
}
