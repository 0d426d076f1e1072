//! Connections of browsers, until the command is told to end.

use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

use super::door::{Door, Verdict};
use super::forward::{Answer, forward, refused, welcome};
use crate::ask::client::Client;
use crate::problem::{Attempt, Problem};

/// Most connections at once; more wait. A browser makes six.
const CONNECTIONS: usize = 64;

/// The head of a request is there within this time.
const HEAD_WITHIN: Duration = Duration::from_secs(30);

/// Pause when the system has no descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until Ctrl-C or SIGTERM.
pub(super) async fn serve(
    listener: TcpListener,
    door: Arc<Door>,
    client: &Arc<Client>,
) -> Result<(), Problem> {
    let listening = || "cannot listen".to_owned();
    let listener = tokio::net::TcpListener::from_std(listener).or_problem(listening)?;
    let waiting = || "cannot wait for signals".to_owned();
    let mut interrupt = signal(SignalKind::interrupt()).or_problem(waiting)?;
    let mut terminate = signal(SignalKind::terminate()).or_problem(waiting)?;
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let accept = async {
        // It is never closed.
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let (door, client) = (Arc::clone(&door), Arc::clone(client));
            tokio::spawn(async move {
                connection(stream, door, client).await;
                drop(place);
            });
        }
    };
    tokio::select! {
        () = accept => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    // Nothing is waited for: streams of events have no end of their own.
    Ok(())
}

async fn connection(stream: TcpStream, door: Arc<Door>, client: Arc<Client>) {
    let service = service_fn(move |request| {
        let (door, client) = (Arc::clone(&door), Arc::clone(&client));
        async move { Ok::<_, Infallible>(answer(&door, &client, request).await) }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN);
    let served = builder.serve_connection(TokioIo::new(stream), service);
    // The browser knows why it went away.
    let _ = served.await;
}

async fn answer(door: &Door, client: &Client, request: Request<Incoming>) -> Answer {
    match door.judge(request.method(), request.uri(), request.headers()) {
        Verdict::Welcome { cookie } => welcome(&cookie),
        Verdict::Pass => forward(client, &request).await,
        Verdict::No(status, reason) => refused(status, reason),
    }
}
