//! Requests to a node's API.
//!
//! One connection for each request, on the Unix socket or over TLS. A node
//! serves its own operator without a signature, who is the one that owns its
//! folder, and whoever shows a certificate; everybody else's requests carry the
//! signature of their key.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use fades_orc::api::types::{NodeInfo, Problem as Refused, TaskDetail, TaskList};
use fades_task::identity::Name;
use fades_task::quantity;
use fades_trust::key::SecretKey;
use fades_trust::request::{RequestStatement, sign_request, to_header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;

use super::secure::{self, Secure};
use super::target::{self, Address, Target};
use crate::cli::shared::NodeChoice;
use crate::keys::file;
use crate::problem::{Attempt, Problem};
use crate::session::{Session, now};

/// Longest answer that is read, bytes.
const ANSWER_MAX: usize = 64 << 20;

/// Longest time for one request: a node waits for a minute at the most.
const REQUEST_TIME: Duration = Duration::from_secs(120);

/// For how long a signed request is valid.
const VALID: quantity::Duration = quantity::Duration::from_secs(60);

/// A way to one node.
#[derive(Debug)]
pub(crate) struct Client {
    /// The node.
    pub(crate) target: Target,
    /// Over TCP.
    secure: Option<Secure>,
    key: Option<SecretKey>,
    runtime: tokio::runtime::Runtime,
}

/// An answer that begins to arrive.
#[derive(Debug)]
pub(crate) struct Opened {
    /// Its head, and what follows.
    pub(crate) answer: Response<Incoming>,
    /// Moves the bytes of its connection.
    pub(crate) driver: JoinHandle<()>,
}

/// What a node answered.
#[derive(Debug)]
pub(crate) struct Reply {
    /// Created, or there already; finished, or not yet.
    pub(crate) status: StatusCode,
    /// The body.
    pub(crate) body: Bytes,
}

impl Client {
    /// Finds the node and reads the key to ask with.
    pub(crate) fn find(choice: &NodeChoice, session: &Session) -> Result<Self, Problem> {
        let mut client = Self::new(target::find(choice, session)?)?;
        if client.target.unnamed {
            client.target.name = client.node()?.name;
        }
        Ok(client)
    }

    /// A way to `target`.
    pub(crate) fn new(target: Target) -> Result<Self, Problem> {
        let key = target
            .ask_key
            .as_deref()
            .map(file::read_secret)
            .transpose()?;
        let secure = match &target.address {
            Address::Socket(_) => None,
            Address::Https(https) => Some(Secure::new(https)?),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .or_problem(|| "cannot make a connection".to_owned())?;
        Ok(Self {
            target,
            secure,
            key,
            runtime,
        })
    }

    /// The key that signs tasks.
    pub(crate) fn key(&self) -> Result<&SecretKey, Problem> {
        self.key.as_ref().ok_or_else(|| {
            let name = &self.target.name;
            let problem = Problem::new(format!("no key to sign a task for node {name}"));
            match (&self.target.folder, self.target.unnamed) {
                (Some(folder), _) => problem.reason(format!(
                    "{} has no development keys",
                    folder.join("keys").display()
                )),
                (None, true) => problem.reason("--key names none"),
                (None, false) => problem
                    .reason(format!("node.{name} in your configuration names no \"key\"")),
            }
            .remedy("fades key new NAME, and have the node's operator trust it: fades key trust NAME.pub --role submit --role read --service SERVICE")
        })
    }

    /// `GET path`, read as `T`.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Problem> {
        read(&self.send(Method::GET, path, Bytes::new(), "application/json")?)
    }

    /// `POST path` with JSON, read as `T`.
    pub(crate) fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Problem> {
        let body = serde_json::to_vec(body).or_problem(|| "cannot write the request".to_owned())?;
        read(&self.send(Method::POST, path, body.into(), "application/json")?)
    }

    /// `PUT path` with JSON, read as `T`.
    pub(crate) fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Problem> {
        let body = serde_json::to_vec(body).or_problem(|| "cannot write the request".to_owned())?;
        read(&self.send(Method::PUT, path, body.into(), "application/json")?)
    }

    /// One request; an answer that is a refusal is a problem.
    pub(crate) fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        media: &str,
    ) -> Result<Reply, Problem> {
        let request = self.request((&method, path), body, ("content-type", media))?;
        // The timer needs the runtime around it.
        let whole = async { self.whole(self.open(request).await?).await };
        let exchange = async { tokio::time::timeout(REQUEST_TIME, whole).await };
        let reply = self.runtime.block_on(exchange);
        let reply = reply.unwrap_or_else(|_| {
            Err(self
                .lost()
                .reason(format!("no answer within {} s", REQUEST_TIME.as_secs())))
        })?;
        match reply.status.is_success() {
            true => Ok(reply),
            false => Err(refusal(&reply)),
        }
    }

    /// One request, signed where that is needed.
    pub(crate) fn request(
        &self,
        (method, path): (&Method, &str),
        body: Bytes,
        header: (&str, &str),
    ) -> Result<Request<Full<Bytes>>, Problem> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.host())
            .header(header.0, header.1);
        if let Some(key) = self.key.as_ref().filter(|_| !self.is_known()) {
            request = request.header("authorization", self.authorization(key, method, path)?);
        }
        request
            .body(Full::new(body))
            .or_problem(|| format!("cannot ask for {path}"))
    }

    fn host(&self) -> String {
        match &self.target.address {
            Address::Socket(_) => "fades".to_owned(),
            Address::Https(https) => https.authority(),
        }
    }

    /// Runs `work` to its end.
    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Whether the node knows us by our connection: its folder is ours, or we
    /// show a certificate.
    fn is_known(&self) -> bool {
        if self.secure.is_some() {
            return true;
        }
        let us = rustix::process::geteuid().as_raw();
        let owner = |folder: &PathBuf| std::fs::metadata(folder).map(|m| m.uid());
        let ours = |folder| us == 0 || owner(folder).is_ok_and(|owner| owner == us);
        self.target.folder.as_ref().is_some_and(ours)
    }

    fn authorization(
        &self,
        key: &SecretKey,
        method: &Method,
        path: &str,
    ) -> Result<String, Problem> {
        let statement = RequestStatement {
            method: method.to_string(),
            path: path.to_owned(),
            audience: self.target.name.clone(),
            expires: now().after(VALID),
            nonce: random_name()?,
        };
        Ok(to_header(&sign_request(&statement, key)))
    }

    /// The beginning of an answer.
    pub(crate) async fn open(&self, request: Request<Full<Bytes>>) -> Result<Opened, Problem> {
        match &self.target.address {
            Address::Socket(path) => match UnixStream::connect(path).await {
                Ok(stream) => self.speak(stream, request).await,
                Err(e) => Err(self.unreachable(&e)),
            },
            Address::Https(https) => {
                let stream = TcpStream::connect((https.host.as_str(), https.port)).await;
                let stream = stream.map_err(|e| self.unreachable(&e))?;
                // It is there for such addresses.
                let Some(secure) = &self.secure else {
                    return Err(self.lost());
                };
                match secure.over(stream).await {
                    Ok(stream) => self.speak(stream, request).await,
                    Err(e) => Err(self.lost_because(&e)),
                }
            }
        }
    }

    async fn speak(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        request: Request<Full<Bytes>>,
    ) -> Result<Opened, Problem> {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| self.lost_because(&e))?;
        // Its error is the request's error as well.
        let driver = tokio::spawn(async { drop(connection.await) });
        let answer = sender.send_request(request).await;
        let answer = answer.map_err(|e| self.lost_because(&e))?;
        Ok(Opened { answer, driver })
    }

    /// The whole of an answer.
    pub(super) async fn whole(&self, opened: Opened) -> Result<Reply, Problem> {
        let Opened { answer, driver } = opened;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
        driver.abort();
        let body = body
            .map_err(|e| self.lost().reason(e.to_string()))?
            .to_bytes();
        Ok(Reply { status, body })
    }

    fn unreachable(&self, error: &std::io::Error) -> Problem {
        let Target {
            name,
            address,
            folder,
            ..
        } = &self.target;
        let problem = Problem::new(format!("cannot reach node {name} at {address}")).because(error);
        match folder {
            Some(folder) => problem.remedy(format!("start it: fades node {}", folder.display())),
            None => problem.remedy("see whether it runs there"),
        }
    }

    fn lost_because(&self, error: &(dyn std::error::Error + 'static)) -> Problem {
        let problem = self.lost().because(error);
        match secure::remedy(error) {
            Some(remedy) => problem.remedy(remedy),
            None => problem,
        }
    }

    pub(crate) fn lost(&self) -> Problem {
        let Target { name, address, .. } = &self.target;
        Problem::new(format!("lost node {name} at {address}"))
    }

    /// The id of the task that `given` is, begins, or that is the last one.
    pub(crate) fn task_id(&self, given: Option<&str>) -> Result<Name, Problem> {
        // Who may read one task may not be allowed to list all.
        if let Some(id) = given.and_then(|g| g.parse::<Name>().ok())
            && self.get::<TaskDetail>(&format!("/v1/tasks/{id}")).is_ok()
        {
            return Ok(id);
        }
        let list: TaskList = self.get("/v1/tasks?limit=500")?;
        let Some(given) = given else {
            let last = list.tasks.first().map(|t| t.id.clone());
            return last.ok_or_else(|| Problem::refused("the node has no tasks yet"));
        };
        let ids: Vec<&Name> = list.tasks.iter().map(|t| &t.id).collect();
        match ids
            .iter()
            .filter(|id| id.as_str().starts_with(given))
            .collect::<Vec<_>>()
            .as_slice()
        {
            [one] => Ok((**one).clone()),
            // Older than the list: the node knows.
            [] => given
                .parse()
                .or_problem(|| format!("{given:?} is no id of a task")),
            many => Err(
                Problem::refused(format!("{} tasks begin with {given}", many.len()))
                    .remedy("write more of the id; `fades ps` lists them"),
            ),
        }
    }

    /// The node about itself.
    pub(crate) fn node(&self) -> Result<NodeInfo, Problem> {
        self.get("/v1/node")
    }
}

fn read<T: DeserializeOwned>(reply: &Reply) -> Result<T, Problem> {
    serde_json::from_slice(&reply.body).map_err(|e| {
        Problem::new("the node's answer is not understood")
            .because(&e)
            .remedy("use a `fades` of the node's version")
    })
}

impl Reply {
    /// The body as `T`.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        read(self)
    }
}

/// A node's refusal in our words: its own, without the protocol around them.
pub(super) fn refusal(reply: &Reply) -> Problem {
    let status = reply.status;
    let ours = |what: String| match status.is_server_error() {
        true => Problem::new(what),
        false => Problem::refused(what),
    };
    match serde_json::from_slice::<Refused>(&reply.body) {
        Ok(refused) => ours(refused.title).reason(refused.detail),
        Err(_) => ours(format!("the node answered {status}")),
    }
}

/// A name that nobody used before.
pub(crate) fn random_name() -> Result<Name, Problem> {
    let mut bytes = [0; 16];
    let none = || Problem::new("the operating system gives no random bytes");
    getrandom::fill(&mut bytes).map_err(|_| none())?;
    let text: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    text.parse().map_err(|_| none())
}
