//! Connections over TCP: a handshake first, in which both sides show their
//! certificates, then what every connection is.
//!
//! ```text
//! accept ─▶ one of HANDSHAKES_MAX ─▶ handshake within HANDSHAKE_WITHIN ─▶ a place ─▶ served
//!              the oldest makes room                                      503 when there is none
//! ```
//! Nobody waits for others here: a client that connects and says nothing is
//! gone when its time is over, or sooner when many come.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::IntoResponse;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{info, warn};

use super::auth::Peer;
use super::certified::Certificate;
use super::connection::{Door, not_accepted};
use super::problem::BUSY;
use super::seats::{Full, Seats};
use super::types::Problem;
use crate::shared::Shared;
use crate::tls::Tls;

/// A handshake is over within this time.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// Most handshakes at once.
const HANDSHAKES_MAX: usize = 64;

/// Most connections of one certificate.
const EACH_MAX: usize = 64;

/// What a client sends that is sent away is read for so long, and so many
/// bytes of it: were it left unread, the client's system would tell it that
/// the connection was reset instead of why.
const FAREWELL_WITHIN: Duration = Duration::from_secs(1);
const FAREWELL_MAX: usize = 64 << 10;

/// First byte of every handshake.
const HANDSHAKE: u8 = 22;

/// What those are told who speak plain HTTP.
const PLAIN: &str = "this port takes TLS with a client certificate only: ask with https:// and a certificate (fades --cert, curl --cert), or over the node's socket\n";

/// The door for connections over TCP.
#[derive(Debug, Clone)]
pub(super) struct Remote {
    door: Door,
    shared: Arc<Shared>,
    seats: Arc<Seats>,
    most: usize,
}

impl Remote {
    pub(super) fn new(door: Door, most: usize, shared: &Arc<Shared>) -> Self {
        Self {
            door,
            shared: Arc::clone(shared),
            seats: Seats::new(most, EACH_MAX.min(most)),
            most,
        }
    }

    /// Lets in who comes over TCP, until the node ends.
    pub(super) async fn listen(self, listener: TcpListener) {
        let mut greeted: VecDeque<AbortHandle> = VecDeque::new();
        loop {
            match self.door.unless_ending(listener.accept()).await {
                Some(Ok((stream, from))) => {
                    greeted.retain(|g| !g.is_finished());
                    if greeted.len() >= HANDSHAKES_MAX
                        && let Some(oldest) = greeted.pop_front()
                    {
                        oldest.abort();
                    }
                    let greeting = tokio::spawn(self.clone().greet(stream, from));
                    greeted.push_back(greeting.abort_handle());
                }
                Some(Err(e)) => not_accepted(&e).await,
                None => break,
            }
        }
        greeted.iter().for_each(AbortHandle::abort);
        self.door.until_empty().await;
    }

    /// Learns who comes, and finds a place.
    async fn greet(self, stream: TcpStream, from: SocketAddr) {
        let Some(tls) = self.shared.tls() else {
            return;
        };
        let shaken = timeout(HANDSHAKE_WITHIN, handshake(stream, &tls)).await;
        let (stream, peer) = match shaken {
            Ok(Ok(client)) => client,
            Ok(Err(reason)) => return info!(%from, %reason, "a client was not let in"),
            Err(_) => return info!(%from, "a client said nothing and was sent away"),
        };
        let who = peer.fingerprint;
        let seat = self.seats.take(Some(who));
        // There are as many places as seats.
        match seat.and_then(|seat| Ok((seat, self.door.free_place().ok_or(Full::All(self.most))?)))
        {
            Ok(seat) => {
                let served = self.door.serve(stream, Peer::Certificate(peer), seat);
                drop(tokio::spawn(served));
            }
            Err(full) => {
                warn!(%from, certificate = who.short(), "no place for a connection");
                let door = self.door.with(Router::new().fallback(move || busy(full)));
                let told = door.serve(stream, Peer::Certificate(peer), ());
                // Who does not take it has gone without.
                drop(timeout(HANDSHAKE_WITHIN, told).await);
            }
        }
    }
}

async fn busy(full: Full) -> axum::response::Response {
    let detail = match full {
        Full::All(all) => format!("{all} connections are open already: try again later"),
        Full::Each(each) => {
            format!("this certificate has {each} connections open already: close some")
        }
    };
    let mut answer = Problem::new(BUSY, detail).into_response();
    let close = axum::http::HeaderValue::from_static("close");
    answer
        .headers_mut()
        .insert(axum::http::header::CONNECTION, close);
    answer
}

/// The handshake; the client's certificate, or why there is no connection.
async fn handshake(
    stream: TcpStream,
    tls: &Arc<Tls>,
) -> Result<(TlsStream<TcpStream>, Arc<Certificate>), String> {
    let mut first = [0];
    let seen = stream.peek(&mut first).await.map_err(|e| e.to_string())?;
    if seen == 1 && first[0] != HANDSHAKE {
        let answer = format!(
            "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{PLAIN}",
            PLAIN.len()
        );
        farewell(stream, answer.as_bytes()).await;
        return Err("it does not speak TLS".to_owned());
    }
    let acceptor = TlsAcceptor::from(Arc::clone(&tls.server));
    let stream = match acceptor.accept(stream).into_fallible().await {
        Ok(stream) => stream,
        Err((e, stream)) => {
            // The alert is on its way.
            farewell(stream, b"").await;
            return Err(e.to_string());
        }
    };
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let chain = chain.iter().map(|c| c.clone().into_owned()).collect();
    let certificate = Certificate::new(chain, Arc::downgrade(tls));
    let certificate = certificate.ok_or("it showed no certificate")?;
    Ok((stream, Arc::new(certificate)))
}

/// Says `last`, and stays until it was taken.
async fn farewell(mut stream: TcpStream, last: &[u8]) {
    let taken = async {
        stream.write_all(last).await?;
        stream.shutdown().await?;
        let (mut rest, mut length) = ([0; 1024], 0);
        while length < FAREWELL_MAX {
            match stream.read(&mut rest).await? {
                0 => break,
                n => length += n,
            }
        }
        std::io::Result::Ok(())
    };
    // Who does not take it has gone without.
    drop(timeout(FAREWELL_WITHIN, taken).await);
}
