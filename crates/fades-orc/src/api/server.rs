//! Routes, connections and the thread that serves them.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::Request;
use axum::http::header::CONTENT_LENGTH;
use axum::response::{IntoResponse, Response};
use fades_task::identity::Name;
use fades_task::time::Time;
use tokio::net::{TcpListener, UnixListener};
use tracing::error;

use super::auth::{Caller, Nonces};
use super::connection::{Door, LOCAL_MAX, REMOTE_MAX};
use super::listen::Listeners;
use super::page;
use super::problem::{BUSY, FAILED, MALFORMED, METHOD, NOT_FOUND, TOO_LARGE, TOO_SLOW};
use super::remote::Remote;
use super::routes::ROUTES;
use super::seats::{Full, Seat, Seats};
use super::types::Problem;
use crate::config::NodeConfig;
use crate::driver::Input;
use crate::shared::Shared;
use crate::store::Store;
use crate::trust::Trust;

/// A body must have arrived within this time.
const BODY_WITHIN: Duration = Duration::from_secs(30);

/// Requests that are being served have this long when the node ends.
const END_WITHIN: Duration = Duration::from_secs(2);

/// Threads that may block on the store or on signatures.
const BLOCKING_THREADS: usize = 4;

/// Most watchers at once: each holds a connection for hours.
const WATCHERS_MAX: usize = 128;

/// Most watchers at once with one key or certificate. Operators on the socket
/// count as one.
const WATCHERS_EACH: usize = 16;

/// What all handlers share.
#[derive(Debug)]
pub(crate) struct Api {
    pub(super) config: Arc<NodeConfig>,
    pub(super) store: Arc<Store>,
    pub(super) shared: Arc<Shared>,
    pub(super) inputs: Sender<Input>,
    pub(super) trusted: Arc<Trust>,
    pub(super) nonces: Nonces,
    pub(super) seats: Arc<Seats>,
    /// Held while a bundle is loaded.
    pub(super) bundles: tokio::sync::Mutex<()>,
    /// The node's own user.
    pub(super) user: u32,
    pub(super) started: (Time, Instant),
}

impl Api {
    pub(crate) fn new(
        config: Arc<NodeConfig>,
        store: Arc<Store>,
        shared: Arc<Shared>,
        trusted: Arc<Trust>,
        inputs: Sender<Input>,
    ) -> Self {
        let now = shared.clock().now();
        Self {
            config,
            store,
            shared,
            inputs,
            trusted,
            nonces: Nonces::default(),
            seats: Seats::new(WATCHERS_MAX, WATCHERS_EACH),
            bundles: tokio::sync::Mutex::new(()),
            user: rustix::process::geteuid().as_raw(),
            started: (now, Instant::now()),
        }
    }

    /// The configuration with what was reloaded since the start.
    pub(super) fn current(&self) -> Arc<NodeConfig> {
        self.shared.config()
    }

    /// A place for somebody who watches.
    pub(super) fn seat(&self, caller: &Caller) -> Result<Seat, Problem> {
        self.seats.take(caller.id()).map_err(|full| {
            let detail = match full {
                Full::All(all) => {
                    format!("{all} watch already: try again later, or ask without watching")
                }
                Full::Each(each) => {
                    format!("{each} watch with this key already: end one of them")
                }
            };
            Problem::new(BUSY, detail)
        })
    }

    /// Tells the driver.
    pub(super) fn tell(&self, input: Input) -> Result<(), Problem> {
        self.inputs.send(input).map_err(|_| ending())
    }
}

/// Why nothing is taken any more.
pub(super) fn ending() -> Problem {
    Problem::new(FAILED, "the node is about to end")
}

/// What handlers are given.
pub(super) type Shelf = axum::extract::State<Arc<Api>>;

/// Runs `work`, which reads or writes the store, where it may block.
pub(super) async fn blocking<T: Send + 'static>(
    api: &Arc<Api>,
    work: impl FnOnce(&Api) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let api = Arc::clone(api);
    let done = tokio::task::spawn_blocking(move || work(&api)).await;
    done.unwrap_or_else(|e| {
        error!(reason = %e, "a request failed");
        Err(Problem::new(
            FAILED,
            "the request failed: see the node's log",
        ))
    })
}

/// The whole body, which has at most `max` bytes and arrives in time.
pub(super) async fn body(request: Request, max: usize) -> Result<Bytes, Problem> {
    let too_large = || {
        Problem::new(
            TOO_LARGE,
            format!("the body may have {max} bytes at the most"),
        )
    };
    let announced = request.headers().get(CONTENT_LENGTH);
    let announced = announced.and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|n| n > max as u64) {
        return Err(too_large());
    }
    let read = to_bytes(request.into_body(), max);
    match tokio::time::timeout(BODY_WITHIN, read).await {
        Err(_) => Err(Problem::new(
            TOO_SLOW,
            format!("the body was not there within {} s", BODY_WITHIN.as_secs()),
        )),
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(e)) if is_limit(&e) => Err(too_large()),
        Ok(Err(e)) => Err(Problem::new(MALFORMED, format!("the body: {e}"))),
    }
}

fn is_limit(error: &axum::Error) -> bool {
    let mut next: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = next {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        next = error.source();
    }
    false
}

/// The name in a path.
pub(super) fn name(text: &str) -> Result<Name, Problem> {
    text.parse()
        .map_err(|e: fades_task::identity::IdentityError| Problem::new(MALFORMED, e.to_string()))
}

fn routes(api: Arc<Api>) -> Router {
    let served = ROUTES.iter().fold(Router::new(), |router, route| {
        // Methods of one path come together.
        router.route(route.path, (route.serve)())
    });
    served
        .merge(page::routes())
        .fallback(nowhere)
        .method_not_allowed_fallback(no_method)
        .with_state(api)
}

async fn nowhere(request: Request) -> Response {
    let detail = format!("{} is no path of this API", request.uri().path());
    Problem::new(NOT_FOUND, detail).into_response()
}

async fn no_method(request: Request) -> Response {
    let detail = format!(
        "{} does not take {}",
        request.uri().path(),
        request.method()
    );
    Problem::new(METHOD, detail).into_response()
}

/// The thread that serves the API. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Server {
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
}

impl Server {
    pub(crate) fn start(api: Api, listeners: Listeners) -> std::io::Result<Self> {
        let shared = Arc::clone(&api.shared);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .build()?;
        let (unix, tcp, socket) = listeners.into_parts();
        let _entered = runtime.enter();
        let unix = UnixListener::from_std(unix)?;
        let tcp = tcp.map(TcpListener::from_std).transpose()?;
        drop(_entered);
        let thread = std::thread::Builder::new()
            .name("api".to_owned())
            .spawn(move || {
                let _socket = socket;
                runtime.block_on(serve(Arc::new(api), unix, tcp));
                runtime.shutdown_timeout(END_WITHIN);
            })?;
        Ok(Self {
            thread: Some(thread),
            shared,
        })
    }
}

async fn serve(api: Arc<Api>, unix: UnixListener, tcp: Option<TcpListener>) {
    let shared = Arc::clone(&api.shared);
    let router = routes(api);
    let local = Door::new(router.clone(), LOCAL_MAX, &shared).local(unix);
    let all = async {
        match tcp {
            None => local.await,
            Some(tcp) => {
                let door = Door::new(router, REMOTE_MAX, &shared);
                let remote = Remote::new(door, REMOTE_MAX as usize, &shared);
                tokio::join!(local, remote.listen(tcp));
            }
        }
    };
    let late = async {
        let mut ending = shared.ending();
        // The sender lives as long as the node.
        drop(ending.wait_for(|ending| *ending).await);
        tokio::time::sleep(END_WITHIN).await;
    };
    tokio::select! {
        () = all => {}
        () = late => {}
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.end();
        if let Some(thread) = self.thread.take() {
            // A panic was logged when it happened.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use axum::body::{Body, Bytes, HttpBody};
    use axum::extract::Request;

    use super::body;

    /// A body of which nothing ever arrives.
    struct Silent;

    impl HttpBody for Silent {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Infallible>>> {
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_arrive_is_given_up() {
        let problem = body(Request::new(Body::new(Silent)), 10).await.unwrap_err();
        assert_eq!(problem.status, 408);
    }

    #[tokio::test]
    async fn a_body_that_announces_nothing_is_cut_at_the_same_length() {
        let full = body(Request::new(Body::from("0123456789")), 10).await;
        assert_eq!(full.unwrap(), "0123456789");
        let problem = body(Request::new(Body::from("0123456789!")), 10).await;
        assert_eq!(problem.unwrap_err().status, 413);
    }
}
