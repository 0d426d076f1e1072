//! Server-sent events of a node, one after the other.
//!
//! Takes of the format what a node sends: fields of one line each, an event
//! ends with an empty line, a line that begins with a colon is a comment.

use std::collections::VecDeque;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::Bytes;
use serde::de::DeserializeOwned;

use super::client::{Client, Opened, refusal};
use crate::problem::{Attempt, Problem};

/// Nothing for so long, not even a comment: the node is gone.
const SILENCE: Duration = Duration::from_secs(60);

/// Longest event, bytes; far more than a node sends.
const EVENT_MAX: usize = 4 << 20;

/// An event.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// What it is.
    pub(crate) name: String,
    data: String,
}

impl Told {
    /// Its data as `T`.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        serde_json::from_str(&self.data)
            .or_problem(|| format!("an event {:?} of the node is not understood", self.name))
    }
}

/// What a node tells on one connection.
#[derive(Debug)]
pub(crate) struct Stream<'a> {
    client: &'a Client,
    opened: Opened,
    parser: Parser,
    told: VecDeque<Told>,
}

impl Client {
    /// Begins to watch what the node tells under `path`.
    pub(crate) fn watch(&self, path: &str) -> Result<Stream<'_>, Problem> {
        let accept = ("accept", "text/event-stream");
        let request = self.request((&Method::GET, path), Bytes::new(), accept)?;
        let opened = self.block_on(async {
            let open = tokio::time::timeout(SILENCE, self.open(request)).await;
            let opened = open.unwrap_or_else(|_| Err(silent(self)))?;
            match opened.answer.status().is_success() {
                true => Ok(opened),
                false => Err(refusal(&self.whole(opened).await?)),
            }
        })?;
        Ok(Stream {
            client: self,
            opened,
            parser: Parser::default(),
            told: VecDeque::new(),
        })
    }
}

fn silent(client: &Client) -> Problem {
    let seconds = SILENCE.as_secs();
    client
        .lost()
        .reason(format!("nothing came for {seconds} s"))
}

impl Stream<'_> {
    /// The next event; none when the node has ended the stream.
    pub(crate) fn next(&mut self) -> Result<Option<Told>, Problem> {
        loop {
            if let Some(told) = self.told.pop_front() {
                return Ok(Some(told));
            }
            // The timer needs the runtime around it.
            let answer = &mut self.opened.answer;
            let frame = async { tokio::time::timeout(SILENCE, answer.frame()).await };
            let frame = self.client.block_on(frame);
            let Some(frame) = frame.map_err(|_| silent(self.client))? else {
                return Ok(None);
            };
            let frame = frame.map_err(|e| self.client.lost().because(&e))?;
            let bytes = frame.into_data().unwrap_or_default();
            self.told.extend(self.parser.take(&bytes)?);
        }
    }
}

impl Drop for Stream<'_> {
    fn drop(&mut self) {
        self.opened.driver.abort();
    }
}

/// What has arrived and is no event yet.
#[derive(Debug, Default)]
struct Parser {
    line: Vec<u8>,
    next: Told,
}

impl Parser {
    /// The events that `bytes` complete.
    fn take(&mut self, bytes: &[u8]) -> Result<Vec<Told>, Problem> {
        let mut told = Vec::new();
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            self.line.extend_from_slice(piece);
            if self.line.len() + self.next.data.len() > EVENT_MAX {
                return Err(Problem::new("an event of the node is too long"));
            }
            if self.line.pop_if(|b| *b == b'\n').is_some() {
                let line = String::from_utf8_lossy(&self.line).into_owned();
                self.line.clear();
                told.extend(self.line(&line));
            }
        }
        Ok(told)
    }

    fn line(&mut self, line: &str) -> Option<Told> {
        if line.is_empty() {
            let told = std::mem::take(&mut self.next);
            return (!told.data.is_empty()).then_some(told);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.next.name),
            "data" => self.next.data.push_str(value),
            // A comment, or an id, which whoever does not come back needs not.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{Parser, Told};

    #[test]
    fn events_are_put_together_however_they_arrive() {
        let text = "id: 1\nevent: line\ndata: {\"a\":1}\n\n: alive\n\nevent:end\ndata:{}\n\n";
        let told = |name: &str, data: &str| Told {
            name: name.to_owned(),
            data: data.to_owned(),
        };
        let expected = [told("line", "{\"a\":1}"), told("end", "{}")];
        assert_eq!(Parser::default().take(text.as_bytes()).unwrap(), expected);
        let mut parser = Parser::default();
        let bytes = text.as_bytes().chunks(1);
        let one_by_one: Vec<Told> = bytes.flat_map(|b| parser.take(b).unwrap()).collect();
        assert_eq!(one_by_one, expected);
    }

    #[test]
    fn an_event_that_never_ends_is_not_kept() {
        let mut parser = Parser::default();
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..4 {
            parser.take(&piece).unwrap();
        }
        parser.take(&piece).unwrap_err();
    }
}
