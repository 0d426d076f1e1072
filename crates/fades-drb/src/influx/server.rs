//! Asking a server, of either version.

use std::collections::BTreeMap;
use std::io::{self, BufReader};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use fades_task::mtw::Aggregate;
use ureq::http::Request;
use ureq::http::header::{ACCEPT, CONTENT_TYPE};

use super::InfluxError;
use super::annotated::{self, AnnotatedError};
use super::grouping::Grouping;
use super::influxql::Range;
use super::layout::{Group, Layout};
use super::msgpack::{self, Head, MsgpackError, Row};
use super::pattern::Condition;
use super::{flux, influxql, listing};
use crate::client::{Answer, Client, shown};
use crate::config::InfluxSource;

/// Rows of a piece of an answer of 1.x. An answer that is not in pieces would be
/// made in the server's memory.
const CHUNK: u32 = 10_000;

/// Bytes that are read at once.
const BUFFER: usize = 256 << 10;

/// Which readings are wanted.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) statements: Vec<usize>,
    pub(super) conditions: Vec<Condition>,
    pub(super) range: Range,
    pub(super) aggregate: Option<Aggregate>,
}

/// Which end of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    First,
    Last,
}

/// A server and its language.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) client: Client,
    pub(super) layout: Layout,
    dialect: Dialect,
}

#[derive(Debug)]
enum Dialect {
    One {
        database: String,
        retention: Option<String>,
    },
    Two {
        org: String,
        bucket: String,
    },
}

type Stops<'a> = &'a [&'a Arc<AtomicBool>];

impl Server {
    pub(super) fn new(client: Client, config: &InfluxSource) -> Self {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let dialect = match config.version {
            1 => Dialect::One {
                database: text(&config.database),
                retention: config.retention.clone(),
            },
            _ => Dialect::Two {
                org: text(&config.org),
                bucket: text(&config.bucket),
            },
        };
        Self {
            client,
            layout: Layout::new(config),
            dialect,
        }
    }

    /// Whether series come in the order of their names.
    pub(super) const fn is_ordered(&self) -> bool {
        matches!(self.dialect, Dialect::One { .. })
    }

    /// Sends the rows of a question to `grouping`; gives the bytes received.
    pub(super) fn rows(
        &self,
        question: &Question,
        grouping: &mut Grouping<'_>,
        stops: Stops<'_>,
    ) -> Result<u64, InfluxError> {
        let Question {
            statements,
            conditions,
            range,
            aggregate,
        } = question;
        let layout = &self.layout;
        let bytes = match &self.dialect {
            Dialect::One { retention, .. } => {
                let retention = retention.as_deref();
                let query = influxql::select(
                    layout, retention, statements, conditions, *range, *aggregate,
                );
                self.each_group(&query, statements, stops, |group, reader, n| {
                    grouping.begin(group).map_err(MsgpackError::Taker)?;
                    msgpack::readings(reader, n, |row| {
                        grouping.row(row).map_err(MsgpackError::Taker)
                    })
                })?
            }
            Dialect::Two { bucket, .. } => {
                let query =
                    flux::select(layout, bucket, statements, conditions, *range, *aggregate);
                self.each_row(&query, stops, |group, row| {
                    grouping.begin(group)?;
                    grouping.row(row)
                })?
            }
        };
        grouping.flush()?;
        Ok(bytes)
    }

    /// The series that meet conditions, whether they have readings in a range or
    /// not, in the server's order; of 2.x with the times of last readings, some of
    /// them several times.
    pub(super) fn series(
        &self,
        statements: &[usize],
        conditions: &[Condition],
        stops: Stops<'_>,
        mut each: impl FnMut(Group, Option<i64>) -> Result<(), InfluxError>,
    ) -> Result<(), InfluxError> {
        let layout = &self.layout;
        match &self.dialect {
            Dialect::One { .. } => {
                let query = influxql::series(layout, statements, conditions);
                self.msgpack(&query, stops, |_, reader, n| {
                    for _ in 0..n {
                        let key = msgpack::text_row(reader)?;
                        listing::groups(layout, statements, &key)
                            .into_iter()
                            .try_for_each(|group| each(group, None))
                            .map_err(MsgpackError::Taker)?;
                    }
                    Ok(())
                })?;
            }
            Dialect::Two { bucket, .. } => {
                let last = End::Last.word();
                let query = flux::ends(layout, bucket, statements, conditions, last);
                self.each_row(&query, stops, |group, row| each(group, Some(row.time)))?;
            }
        }
        Ok(())
    }

    /// Times of the first or last reading of each series.
    pub(super) fn ends(
        &self,
        statements: &[usize],
        conditions: &[Condition],
        end: End,
        stops: Stops<'_>,
    ) -> Result<BTreeMap<Group, i64>, InfluxError> {
        let mut found = BTreeMap::new();
        let mut note = |group: Group, row: Row| {
            if found.len() >= crate::series::MAX_SERIES {
                let address = self.client.origin().to_owned();
                return Err(InfluxError::TooManySeries { address });
            }
            let time = found.entry(group).or_insert(row.time);
            *time = match end {
                End::First => row.time.min(*time),
                End::Last => row.time.max(*time),
            };
            Ok(())
        };
        let layout = &self.layout;
        match &self.dialect {
            Dialect::One { retention, .. } => {
                let retention = retention.as_deref();
                let query =
                    influxql::ends(layout, retention, statements, conditions, end.word(), true);
                self.each_group(&query, statements, stops, |group, reader, n| {
                    msgpack::readings(reader, n, |row| {
                        note(group.clone(), row).map_err(MsgpackError::Taker)
                    })
                })?;
            }
            Dialect::Two { bucket, .. } => {
                let query = flux::ends(layout, bucket, statements, conditions, end.word());
                self.each_row(&query, stops, note)?;
            }
        }
        Ok(found)
    }

    /// Times of the oldest and newest of all readings; `newest`, if it is known.
    pub(super) fn extent(
        &self,
        statements: &[usize],
        conditions: &[Condition],
        newest: Option<i64>,
        stops: Stops<'_>,
    ) -> Result<Option<(i64, i64)>, InfluxError> {
        let Dialect::One { retention, .. } = &self.dialect else {
            let oldest = self.ends(statements, conditions, End::First, stops)?;
            return Ok(oldest.into_values().min().zip(newest));
        };
        let mut extent: Option<(i64, i64)> = None;
        for end in [End::First, End::Last] {
            let retention = retention.as_deref();
            let query = influxql::ends(
                &self.layout,
                retention,
                statements,
                conditions,
                end.word(),
                false,
            );
            self.msgpack(&query, stops, |_, reader, n| {
                msgpack::readings(reader, n, |row| {
                    let (oldest, newest) = extent.unwrap_or((row.time, row.time));
                    extent = Some((oldest.min(row.time), newest.max(row.time)));
                    Ok(())
                })
            })?;
        }
        Ok(extent)
    }

    /// Asks 1.x; `rows` is given the series that rows belong to.
    fn each_group(
        &self,
        query: &str,
        statements: &[usize],
        stops: Stops<'_>,
        mut rows: impl FnMut(Group, &mut Body<'_>, u32) -> Result<(), MsgpackError<InfluxError>>,
    ) -> Result<u64, InfluxError> {
        self.msgpack(query, stops, |head, reader, n| {
            let statement = statements.get(head.statement).copied();
            let statement =
                statement.ok_or(MsgpackError::Malformed("an answer to what nobody asked"))?;
            if head.columns != 2 {
                return Err(MsgpackError::Malformed("rows of other than two columns"));
            }
            let tags = self.layout.tags.iter().map(|tag| {
                let mut tags = head.tags.iter();
                let found = tags.find(|(name, _)| name == tag);
                found.map(|(_, value)| value.clone()).unwrap_or_default()
            });
            let tags = tags.collect();
            rows(Group { statement, tags }, reader, n)
        })
    }

    /// Asks 1.x. Gives the bytes received.
    fn msgpack(
        &self,
        query: &str,
        stops: Stops<'_>,
        rows: impl FnMut(&Head, &mut Body<'_>, u32) -> Result<(), MsgpackError<InfluxError>>,
    ) -> Result<u64, InfluxError> {
        let Dialect::One { database, .. } = &self.dialect else {
            return Ok(0);
        };
        let form = format!(
            "db={}&epoch=ns&chunked=true&chunk_size={CHUNK}&q={}",
            encoded(database),
            encoded(query)
        );
        let request = Request::post(format!("{}/query", self.client.origin()))
            .header(ACCEPT, "application/x-msgpack")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form.into_bytes());
        let mut body = self.ask(request, stops)?;
        let read = msgpack::answer(&mut body, rows);
        let whole = read.map_err(|e| match e {
            MsgpackError::Io(e) => self.broken(&body, e),
            MsgpackError::Malformed(what) => {
                self.malformed(&format!("{what}; is it a server of version 1.x?"))
            }
            MsgpackError::Server(words) => self.said(&words),
            MsgpackError::Taker(e) => e,
        })?;
        if whole.partial {
            return Err(self.malformed("it ends where more should follow"));
        }
        Ok(body.get_ref().received())
    }

    /// Asks 2.x. Gives the bytes received.
    fn each_row(
        &self,
        query: &str,
        stops: Stops<'_>,
        mut each: impl FnMut(Group, Row) -> Result<(), InfluxError>,
    ) -> Result<u64, InfluxError> {
        let Dialect::Two { org, .. } = &self.dialect else {
            return Ok(0);
        };
        let question = serde_json::json!({
            "query": query,
            "type": "flux",
            "dialect": { "annotations": ["datatype", "group", "default"], "header": true },
        });
        let address = format!("{}/api/v2/query?org={}", self.client.origin(), encoded(org));
        let request = Request::post(address)
            .header(ACCEPT, "application/csv")
            .header(CONTENT_TYPE, "application/json")
            .body(question.to_string().into_bytes());
        let mut body = self.ask(request, stops)?;
        let statements = self.layout.statements.len();
        let read = annotated::answer(&mut body, &self.layout.tags, |named| {
            if named.statement >= statements {
                return Err(self.malformed("an answer to what nobody asked"));
            }
            let (statement, tags) = (named.statement, named.tags.to_vec());
            each(Group { statement, tags }, named.row)
        });
        read.map_err(|e| match e {
            AnnotatedError::Io(e) => self.broken(&body, e),
            AnnotatedError::Malformed(what) => {
                self.malformed(&format!("{what}; is it a server of version 2.x?"))
            }
            AnnotatedError::Server(words) => self.said(&words),
            AnnotatedError::Taker(e) => e,
        })?;
        Ok(body.get_ref().received())
    }

    fn ask(
        &self,
        request: Result<Request<Vec<u8>>, ureq::http::Error>,
        stops: Stops<'_>,
    ) -> Result<Body<'_>, InfluxError> {
        let request = request.map_err(|_| self.malformed("no address can be made of its url"))?;
        let answer = self.client.ask(request, stops)?;
        Ok(BufReader::with_capacity(BUFFER, answer))
    }

    fn broken(&self, body: &Body<'_>, e: io::Error) -> InfluxError {
        InfluxError::Client(body.get_ref().error(e))
    }

    fn malformed(&self, what: &str) -> InfluxError {
        InfluxError::Malformed {
            address: self.client.origin().to_owned(),
            what: what.to_owned(),
        }
    }

    fn said(&self, words: &str) -> InfluxError {
        InfluxError::Server {
            address: self.client.origin().to_owned(),
            words: shown(words.as_bytes()),
        }
    }
}

type Body<'a> = BufReader<Answer<'a>>;

impl End {
    const fn word(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Last => "last",
        }
    }
}

/// A text in the form in which forms and addresses carry it.
fn encoded(text: &str) -> String {
    use std::fmt::Write;
    let mut encoded = String::with_capacity(2 * text.len());
    for byte in text.bytes() {
        match byte {
            b if b.is_ascii_alphanumeric() || b"-._~".contains(&b) => encoded.push(b.into()),
            b => {
                let _ = write!(encoded, "%{b:02X}");
            }
        }
    }
    encoded
}
