//! One connection to a node's API that is kept open, with as little between
//! the socket and whoever asks as there can be: both share the processors that
//! are measured.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use fades_task::result::TaskState;
use serde::de::DeserializeOwned;

use super::Signed;
use crate::fault::Fault;

/// No request takes longer.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);

/// What a node answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// A connection that is kept open.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: BufReader<UnixStream>,
    request: Vec<u8>,
}

impl Connection {
    pub(crate) fn open(socket: &Path) -> Result<Self, Fault> {
        let stream = UnixStream::connect(socket).map_err(Fault::file(socket, "connect to"))?;
        stream
            .set_read_timeout(Some(ANSWER_WITHIN))
            .map_err(Fault::system("set a timeout"))?;
        Ok(Self {
            stream: BufReader::new(stream),
            request: Vec::new(),
        })
    }

    /// Submits a task.
    pub(crate) fn submit(&mut self, task: &Signed) -> Result<(), Fault> {
        let reply = self.exchange("POST", "/v1/tasks", task.envelope.as_bytes())?;
        accepted("POST", "/v1/tasks", reply).map(drop)
    }

    /// Submits a task and waits for its result, in one request.
    pub(crate) fn answered<T: DeserializeOwned>(&mut self, task: &Signed) -> Result<T, Fault> {
        const PATH: &str = "/v1/tasks?wait=60s";
        let reply = self.exchange("POST", PATH, task.envelope.as_bytes())?;
        let body = accepted("POST", PATH, reply)?;
        serde_json::from_slice(&body).map_err(Fault::json("a task's result"))
    }

    /// Waits for the result of a task; whoever asks looks at its state.
    pub(crate) fn result<T: DeserializeOwned>(&mut self, id: &str) -> Result<T, Fault> {
        let path = format!("/v1/tasks/{id}/result?wait=60s");
        let reply = self.exchange("GET", &path, b"")?;
        let body = accepted("GET", &path, reply)?;
        serde_json::from_slice(&body).map_err(Fault::json("a task's result"))
    }

    /// The state of a task, as the API writes it.
    pub(crate) fn state(&mut self, id: &str) -> Result<TaskState, Fault> {
        #[derive(serde::Deserialize)]
        struct Brief {
            state: TaskState,
        }
        let path = format!("/v1/tasks/{id}/result");
        let reply = self.exchange("GET", &path, b"")?;
        let body = accepted("GET", &path, reply)?;
        let brief: Brief = serde_json::from_slice(&body).map_err(Fault::json("a task's state"))?;
        Ok(brief.state)
    }

    /// What is answered to `GET path`.
    pub(crate) fn get(&mut self, path: &str) -> Result<Vec<u8>, Fault> {
        let reply = self.exchange("GET", path, b"")?;
        accepted("GET", path, reply)
    }

    /// Cancels a task.
    pub(crate) fn cancel(&mut self, id: &str) -> Result<(), Fault> {
        let path = format!("/v1/tasks/{id}/cancel");
        let reply = self.exchange("POST", &path, b"")?;
        accepted("POST", &path, reply).map(drop)
    }

    fn exchange(&mut self, method: &str, path: &str, body: &[u8]) -> Result<Reply, Fault> {
        self.request.clear();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        );
        self.request.extend(head.as_bytes());
        self.request.extend(body);
        self.stream
            .get_mut()
            .write_all(&self.request)
            .map_err(Fault::system("send a request to the node"))?;
        read(&mut self.stream, path)
    }
}

fn accepted(method: &'static str, path: &str, reply: Reply) -> Result<Vec<u8>, Fault> {
    match reply.status {
        200..=202 => Ok(reply.body),
        status => Err(Fault::Answer {
            method,
            path: path.to_owned(),
            status,
            body: String::from_utf8_lossy(&reply.body).into_owned(),
        }),
    }
}

/// Reads one answer with a length.
fn read(stream: &mut impl BufRead, path: &str) -> Result<Reply, Fault> {
    let odd = |reason| Fault::Http {
        path: path.to_owned(),
        reason,
    };
    let mut next = || {
        let mut line = String::new();
        stream
            .read_line(&mut line)
            .map_err(Fault::system("read an answer of the node"))?;
        Ok::<_, Fault>(line)
    };
    let first = next()?;
    let status = first.split(' ').nth(1).and_then(|s| s.parse().ok());
    let status = status.ok_or_else(|| odd("there is no status line"))?;
    let mut length = None;
    loop {
        let line = next()?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse::<usize>().ok();
        }
    }
    let length = length.ok_or_else(|| odd("it has no length"))?;
    let mut body = vec![0; length];
    stream
        .read_exact(&mut body)
        .map_err(Fault::system("read an answer of the node"))?;
    Ok(Reply { status, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_where_its_length_says_and_the_next_one_begins() {
        let text = "HTTP/1.1 201 Created\r\nContent-Length: 2\r\nx: y\r\n\r\n{}HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n";
        let mut stream = text.as_bytes();
        let first = read(&mut stream, "/").unwrap();
        assert_eq!((first.status, &first.body[..]), (201, &b"{}"[..]));
        assert_eq!(read(&mut stream, "/").unwrap().status, 404);
    }

    #[test]
    fn an_answer_without_length_or_status_is_refused() {
        for text in ["", "HTTP/1.1 200 OK\r\n\r\n", "nonsense\r\n\r\n"] {
            assert!(matches!(
                read(&mut text.as_bytes(), "/"),
                Err(Fault::Http { .. })
            ));
        }
    }

    #[test]
    fn a_refusal_is_passed_on_with_its_words() {
        let body = b"{\"detail\":\"queue full\"}".to_vec();
        let refused = accepted("POST", "/v1/tasks", Reply { status: 503, body });
        let words = refused.unwrap_err().to_string();
        assert!(
            words.contains("503") && words.contains("queue full"),
            "{words}"
        );
    }
}
