//! Units that answer as real ones do, over TCP or on a pseudo terminal.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_modbus::server::{Service, rtu, tcp};
use tokio_modbus::{ExceptionCode, Request, Response, SlaveRequest};
use tokio_serial::{SerialPort, SerialStream};

/// Units on a bus.
pub(super) struct Plant {
    runtime: Option<Runtime>,
    server: Option<JoinHandle<()>>,
    units: Units,
    url: String,
    /// The other end of the pseudo terminal, so that it lives.
    _end: Option<std::fs::File>,
}

#[derive(Clone, Default)]
struct Units(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    words: BTreeMap<(u8, u16), u16>,
    dead: BTreeSet<u8>,
    refused: BTreeSet<u16>,
    requests: Vec<String>,
}

type Answer = Pin<Box<dyn Future<Output = Result<Option<Response>, ExceptionCode>> + Send>>;

impl Service for Units {
    type Request = SlaveRequest<'static>;
    type Response = Option<Response>;
    type Exception = ExceptionCode;
    type Future = Answer;

    fn call(&self, request: Self::Request) -> Self::Future {
        let answer = self.0.lock().unwrap().answer(&request);
        Box::pin(std::future::ready(answer))
    }
}

impl State {
    fn answer(
        &mut self,
        request: &SlaveRequest<'static>,
    ) -> Result<Option<Response>, ExceptionCode> {
        let unit = request.slave;
        let (table, address, count) = match request.request {
            Request::ReadCoils(a, n) => ("coil", a, n),
            Request::ReadDiscreteInputs(a, n) => ("discrete", a, n),
            Request::ReadHoldingRegisters(a, n) => ("holding", a, n),
            Request::ReadInputRegisters(a, n) => ("input", a, n),
            _ => return Err(ExceptionCode::IllegalFunction),
        };
        self.requests
            .push(format!("{unit} {table} {address}+{count}"));
        if self.dead.contains(&unit) {
            return Ok(None);
        }
        let all = (0..count).map(|i| address.wrapping_add(i));
        if all.clone().any(|a| self.refused.contains(&a)) {
            return Err(ExceptionCode::IllegalDataAddress);
        }
        let words: Vec<u16> = all
            .map(|a| self.words.get(&(unit, a)).copied().unwrap_or_default())
            .collect();
        let bits = || words.iter().map(|w| *w != 0).collect();
        Ok(Some(match table {
            "coil" => Response::ReadCoils(bits()),
            "discrete" => Response::ReadDiscreteInputs(bits()),
            "holding" => Response::ReadHoldingRegisters(words),
            _ => Response::ReadInputRegisters(words),
        }))
    }
}

impl Plant {
    /// On a port of its own.
    pub(super) fn tcp() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut plant = Self {
            runtime: Some(Runtime::new().unwrap()),
            server: None,
            units: Units::default(),
            url: format!("tcp://{}", listener.local_addr().unwrap()),
            _end: None,
        };
        drop(listener);
        plant.start();
        plant
    }

    /// On a pseudo terminal.
    pub(super) fn rtu() -> Self {
        let runtime = Runtime::new().unwrap();
        let entered = runtime.enter();
        let (device, end) = SerialStream::pair().unwrap();
        drop(entered);
        let path = end.name().unwrap();
        // Kept open without a lock, so that it lives.
        let kept = std::fs::File::open(&path).unwrap();
        drop(end);
        let units = Units::default();
        let service = units.clone();
        let server = runtime.spawn(async move {
            let _ = rtu::Server::new(device).serve_forever(service).await;
        });
        Self {
            runtime: Some(runtime),
            server: Some(server),
            units,
            url: path,
            _end: Some(kept),
        }
    }

    /// The option that says where it is.
    pub(super) fn url(&self) -> String {
        if self.url.starts_with('/') {
            return format!("serial = \"{}\"", self.url);
        }
        format!("url = \"{}\"", self.url)
    }

    pub(super) fn start(&mut self) {
        let address: std::net::SocketAddr = self.url.trim_start_matches("tcp://").parse().unwrap();
        let units = self.units.clone();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let runtime = self.runtime.as_ref().unwrap();
        self.server =
            Some(runtime.spawn(async move {
                let socket = tokio::net::TcpSocket::new_v4().unwrap();
                socket.set_reuseaddr(true).unwrap();
                socket.bind(address).unwrap();
                let server = tcp::Server::new(socket.listen(16).unwrap());
                ready.send(()).unwrap();
                let connected = |stream, peer| {
                    let units = units.clone();
                    async move {
                        tcp::accept_tcp_connection(stream, peer, move |_| Ok(Some(units.clone())))
                    }
                };
                let _ = server.serve(&connected, |_| {}).await;
            }));
        is_ready.recv().unwrap();
    }

    /// Ends the server and its connections.
    pub(super) fn stop(&mut self) {
        let server = self.server.take().unwrap();
        server.abort();
        let _ = self.runtime.as_ref().unwrap().block_on(server);
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.units.0.lock().unwrap()
    }

    pub(super) fn set(&self, unit: u8, words: &[(u16, u16)]) {
        let words = words.iter().map(|&(a, w)| ((unit, a), w));
        self.state().words.extend(words);
    }

    pub(super) fn die(&self, units: &[u8]) {
        self.state().dead.extend(units);
    }

    pub(super) fn revive(&self) {
        self.state().dead.clear();
    }

    pub(super) fn refuse(&self, addresses: &[u16]) {
        self.state().refused.extend(addresses);
    }

    /// What was asked so far.
    pub(super) fn requests(&self) -> Vec<String> {
        self.state().requests.clone()
    }

    pub(super) fn asked(&self, unit: u8) -> usize {
        let unit = format!("{unit} ");
        self.state()
            .requests
            .iter()
            .filter(|r| r.starts_with(&unit))
            .count()
    }
}

impl Drop for Plant {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
