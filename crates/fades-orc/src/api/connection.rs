//! Connections: how many, for how long, and what each may keep waiting.
//!
//! ```text
//! accept ─▶ a place ─▶ head of a request within HEAD_WITHIN ─▶ handler ─▶ answer
//!              ▲                                                            │
//!              └──────── closed: idle, too slow, or the node ends ◀─────────┘
//! ```
//! An answer may take as long as its handler takes, and as long as it is read;
//! nobody may leave one unread.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Sleep, sleep};
use tower_service::Service;
use tracing::{debug, warn};

use super::auth::Peer;
use crate::shared::Shared;

/// The head of a request arrives within this time after the connection was
/// made, or after the request before it was answered.
const HEAD_WITHIN: Duration = Duration::from_secs(30);

/// Bytes of an answer are taken within this time.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);

/// Longest head of a request, bytes; also how much of a request or an answer
/// is kept at a time.
const HEAD_MAX: usize = 64 << 10;

/// Pause when the system has no descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// Most connections on the Unix socket.
pub(super) const LOCAL_MAX: u32 = 1_024;

/// Most connections over TCP.
pub(super) const REMOTE_MAX: u32 = 256;

/// Where connections come in: those who do not find room wait outside.
#[derive(Debug, Clone)]
pub(super) struct Door {
    router: Router,
    places: Arc<Semaphore>,
    most: u32,
    ending: watch::Receiver<bool>,
}

impl Door {
    pub(super) fn new(router: Router, most: u32, shared: &Shared) -> Self {
        Self {
            router,
            places: Arc::new(Semaphore::new(most as usize)),
            most,
            ending: shared.ending(),
        }
    }

    /// Lets in who comes over the Unix socket, until the node ends.
    pub(super) async fn local(self, listener: UnixListener) {
        while let Some(place) = self.place().await {
            match self.unless_ending(listener.accept()).await {
                Some(Ok((stream, _))) => {
                    let user = stream.peer_cred();
                    let peer = user.map_or(Peer::Unknown, |user| Peer::User(user.uid()));
                    tokio::spawn(self.clone().serve(stream, peer, place));
                }
                Some(Err(e)) => not_accepted(&e).await,
                None => break,
            }
        }
        self.until_empty().await;
    }

    /// The same with other answers.
    pub(super) fn with(&self, router: Router) -> Self {
        let mut other = self.clone();
        other.router = router;
        other
    }

    /// A place for a connection; none when the node ends.
    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        let place = Arc::clone(&self.places).acquire_owned();
        // It is never closed.
        self.unless_ending(place).await?.ok()
    }

    /// A place, if one is free.
    pub(super) fn free_place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    pub(super) async fn unless_ending<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut ending = self.ending.clone();
        tokio::select! {
            biased;
            _ = ending.wait_for(|ending| *ending) => None,
            done = work => Some(done),
        }
    }

    /// Waits until all connections have ended.
    pub(super) async fn until_empty(&self) {
        // As above.
        let _ = self.places.acquire_many(self.most).await;
    }

    /// Answers what is asked on a connection, one request after the other.
    pub(super) async fn serve(
        mut self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        peer: Peer,
        place: impl Send,
    ) {
        let router = self.router;
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer.clone()));
            // A router is always ready.
            router.clone().call(request)
        });
        let stream = TokioIo::new(Patient::new(stream));
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WITHIN)
            .max_buf_size(HEAD_MAX);
        let mut connection = std::pin::pin!(builder.serve_connection(stream, service));
        // What is awaited lends the value, which must not be kept.
        let ending = async { drop(self.ending.wait_for(|ending| *ending).await) };
        let served = tokio::select! {
            served = &mut connection => served,
            () = ending => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(e) = served {
            debug!(reason = %e, "a connection was lost");
        }
        drop(place);
    }
}

/// Most often there are no descriptors: others end and give theirs back.
pub(super) async fn not_accepted(error: &io::Error) {
    warn!(reason = %error, "a connection could not be accepted");
    sleep(PAUSE).await;
}

/// A stream of which every byte that is written is taken in time.
struct Patient<S> {
    stream: S,
    /// When whoever does not take what was written is given up.
    until: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    const fn new(stream: S) -> Self {
        let until = None;
        Self { stream, until }
    }

    /// Passes `polled` on, unless it has been pending for too long.
    fn in_time<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.until = None;
            return polled;
        }
        let until = self
            .until
            .get_or_insert_with(|| Box::pin(sleep(TAKEN_WITHIN)));
        until.as_mut().poll(cx).map(|()| {
            let reason = "the answer was not taken in time";
            Err(io::Error::new(io::ErrorKind::TimedOut, reason))
        })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.in_time(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.in_time(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.in_time(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.in_time(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use axum::Router;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::{Instant, timeout};

    use super::{Door, HEAD_WITHIN, Peer, TAKEN_WITHIN};
    use crate::shared::Shared;

    /// Longer than anything may take.
    const LONG: Duration = Duration::from_secs(300);

    fn door(most: u32) -> (Door, Arc<Shared>) {
        let config = crate::samples::config("/nowhere".as_ref());
        let shared = Arc::new(Shared::new(Arc::new(config)));
        let body = "x".repeat(1 << 20);
        let router = Router::new().route("/", get(|| async { body }));
        (Door::new(router, most, &shared), shared)
    }

    async fn connection(door: &Door) -> DuplexStream {
        let (here, there) = duplex(1024);
        let place = door.place().await.unwrap();
        tokio::spawn(door.clone().serve(there, Peer::Unknown, place));
        here
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_trickles_in_is_given_up() {
        let (door, _shared) = door(1);
        let mut stream = connection(&door).await;
        let begun = Instant::now();
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: node\r\n")
            .await
            .unwrap();
        let mut trickle = 0;
        // Each byte on its own would be in time.
        while timeout(LONG, stream.write_all(b"a")).await.unwrap().is_ok() {
            trickle += 1;
            assert!(trickle < 1000, "nobody gives up");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert!(begun.elapsed() <= HEAD_WITHIN + Duration::from_secs(2));
        // Its place is free.
        assert!(timeout(LONG, door.place()).await.unwrap().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_takes_is_given_up() {
        let (door, _shared) = door(1);
        let mut stream = connection(&door).await;
        let begun = Instant::now();
        let request = b"GET / HTTP/1.1\r\nHost: node\r\n\r\n";
        stream.write_all(request).await.unwrap();
        assert!(timeout(LONG, door.place()).await.unwrap().is_some());
        assert!(begun.elapsed() >= TAKEN_WITHIN);
        drop(stream);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_slow_and_goes_on_gets_everything() {
        let (door, _shared) = door(1);
        let mut stream = connection(&door).await;
        let request = b"GET / HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let (mut length, mut piece) = (0, [0; 512]);
        loop {
            let read = timeout(LONG, stream.read(&mut piece))
                .await
                .unwrap()
                .unwrap();
            if read == 0 {
                break;
            }
            length += read;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(length > 1 << 20, "{length}");
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_connections_than_there_are_places_and_all_end_with_the_node() {
        let (door, shared) = door(2);
        let _first = connection(&door).await;
        let _second = connection(&door).await;
        let waits = timeout(Duration::from_millis(10), door.place());
        assert!(waits.await.is_err());
        shared.end();
        timeout(LONG, door.until_empty()).await.unwrap();
        assert!(door.place().await.is_none());
    }
}
