//! A database InfluxDB as a source, 1.x (InfluxQL) or 2.x (Flux).
//!
//! * [`layout`]: which measurements, fields and tags make series.
//! * [`pattern`], [`influxql`], [`flux`]: a selector as a question. Nothing that a
//!   task says can be anything but a value in it.
//! * [`msgpack`], [`annotated`]: answers, read as they come.
//! * [`slices`], [`merge`]: parts of a range at the same time, as one answer.
//!
//! One question asks for all series that match: the server finds them, and sends
//! them one after the other, each in the order of its times.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::client::{Access, Client, ClientError, Times, TokenWord};
use crate::config::{FieldError, InfluxSource};
use crate::flow::{Ask, Matching, Outlet, Stopped};
use crate::selector::Selector;
use crate::series::{MAX_SERIES, SeriesKey};
use crate::source::{Known, Setting};

mod annotated;
mod flux;
mod grouping;
mod influxql;
mod layout;
mod listing;
mod merge;
mod msgpack;
mod pattern;
mod server;
mod slices;

use grouping::Grouping;
use influxql::{GREATEST, LEAST, Range};
use layout::Group;
use merge::{Naming, Order};
use pattern::Condition;
use server::{End, Question, Server};

/// Why the source cannot answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InfluxError {
    /// Nobody wants it any more.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("{address} refuses the question: {words}")]
    Server { address: String, words: String },
    #[error("the answer of {address} cannot be read: {what}")]
    Malformed { address: String, what: String },
    #[error(
        "{address} has more than {MAX_SERIES} series that match: ask for fewer, or map tags that \
         have fewer values"
    )]
    TooManySeries { address: String },
    #[error(
        "{address} has two series that are both {key}: map the tag that tells them apart, or make \
         a source of each measurement"
    )]
    Twice { address: String, key: String },
    #[error("no thread for a part of the range: {reason}")]
    NoThread { reason: String },
}

/// The source at work.
#[derive(Debug)]
pub(crate) struct Influx {
    server: Server,
    parallel: u8,
    reads: String,
}

/// The series that match.
struct Found {
    series: BTreeMap<SeriesKey, Group>,
    order: Order,
    /// Time of the newest of their readings, when the list says it.
    newest: Option<i64>,
}

/// A range that is cut into parts.
struct Cut {
    parts: Vec<Range>,
    step: Option<i64>,
    order: Order,
}

/// Most devices that are named in a question one by one.
const NAMED: usize = 1000;

/// Most series whose first and last times are looked up.
const DATED: usize = 5000;

impl Influx {
    /// Sets the source to work; `config` was checked.
    pub(crate) fn new(config: &InfluxSource, setting: &Setting) -> Result<Self, FieldError> {
        let stall = config.timeout.as_std();
        let times = Times {
            connect: stall.min(Duration::from_secs(10)),
            head: stall,
            stall,
            whole: None,
        };
        let access = Access {
            auth: config.auth.clone(),
            word: TokenWord::Token,
            tls: config.tls.clone(),
            times,
            gzip: config.gzip,
            agent: "fades".to_owned(),
        };
        let client = Client::new(&config.url, access, &setting.means())?;
        let place = config.database.as_ref().or(config.bucket.as_ref());
        let measurements = config.measurement.as_slice().join(", ");
        Ok(Self {
            reads: format!(
                "{measurements} of {} at {}",
                place.map_or("", String::as_str),
                client.origin()
            ),
            server: Server::new(client, config),
            parallel: config.parallel,
        })
    }

    /// What it reads, in words.
    pub(crate) fn reads(&self) -> String {
        self.reads.clone()
    }

    /// Whether it can have readings that match, without asking it.
    pub(crate) fn may_match(&self, selector: &Selector) -> bool {
        !self.server.layout.wanted(selector).is_empty()
    }

    /// Sends the readings that `ask` wants, series after series.
    pub(crate) fn fetch(&self, ask: &Ask, out: &Outlet) -> Result<(), InfluxError> {
        let Some((question, order)) = self.question(ask, out)? else {
            return Ok(());
        };
        let step = ask.aggregate.and_then(|a| i64::try_from(a.every.0).ok());
        let parts = slices::slices(question.range, self.parallel, step);
        let mut naming = Naming::new(&self.server.layout, self.address(), ask, out);
        let counted = Counted::default();
        let fetched = match parts.as_slice() {
            [range] => {
                let mut take = |piece| naming.send(piece);
                let question = Question {
                    range: *range,
                    ..question
                };
                self.part(&question, step, &mut take, &[&ask.stop], &counted)
            }
            _ => {
                let cut = Cut { parts, step, order };
                self.together(&question, &cut, &mut naming, &counted)
            }
        };
        let (rows, bytes) = counted.get();
        out.fetched(rows, bytes)?;
        fetched
    }

    fn address(&self) -> &str {
        self.server.client.origin()
    }

    /// Says which devices match; `None` when there are none, or nothing in the
    /// range.
    fn question(&self, ask: &Ask, out: &Outlet) -> Result<Option<(Question, Order)>, InfluxError> {
        let selector = &ask.selector;
        let mut statements = self.server.layout.wanted(selector);
        let mut conditions = self.server.layout.conditions(selector);
        if statements.is_empty() {
            return Ok(None);
        }
        let found = self.series(&statements, &conditions, selector, &ask.stop)?;
        let series = &found.series;
        let devices: BTreeSet<&Arc<str>> = series.keys().map(|k| &k.device).collect();
        out.series(series.keys().map(Matching::always))?;
        let has: BTreeSet<usize> = series.values().map(|g| g.statement).collect();
        statements.retain(|s| has.contains(s));
        if let Some(tag) = self.server.layout.device_tag()
            && selector.is_noted()
            && devices.len() <= NAMED
        {
            let names = devices.iter().map(|d| d.to_string());
            conditions.push(Condition::one_of(tag, names));
        }
        // The greatest time means that there is no end.
        let mut range = Range {
            from: selector.from.max(LEAST),
            to: selector.to.min(GREATEST),
        };
        if statements.is_empty() || range.from >= range.to {
            return Ok(None);
        }
        if slices::slices(range, self.parallel, None).len() > 1 {
            let (server, stops) = (&self.server, &[&ask.stop]);
            let extent = server.extent(&statements, &conditions, found.newest, stops)?;
            let Some((oldest, newest)) = extent else {
                return Ok(None);
            };
            range.from = range.from.max(oldest);
            range.to = range.to.min(newest.saturating_add(1));
        }
        let question = Question {
            statements,
            conditions,
            range,
            aggregate: ask.aggregate,
        };
        Ok((range.from < range.to).then_some((question, found.order)))
    }

    /// The series that match.
    fn series(
        &self,
        statements: &[usize],
        conditions: &[Condition],
        selector: &Selector,
        stop: &Arc<AtomicBool>,
    ) -> Result<Found, InfluxError> {
        let mut series: BTreeMap<SeriesKey, Group> = BTreeMap::new();
        let (mut places, mut newest) = (HashMap::new(), None);
        let listed = !self.server.is_ordered() && self.parallel > 1;
        let address = || self.address().to_owned();
        let note = |group: Group, last: Option<i64>| {
            newest = newest.max(last);
            let key = self.server.layout.key(&group);
            // Lost when its readings come, and not remembered.
            if merge::is_long(&key) {
                return Ok(());
            }
            if listed && !places.contains_key(&group) {
                if places.len() >= MAX_SERIES {
                    return Err(InfluxError::TooManySeries { address: address() });
                }
                places.insert(group.clone(), places.len());
            }
            if key.device.is_empty() || !selector.matches(&key) {
                return Ok(());
            }
            match series.get(&key) {
                Some(known) if *known == group => Ok(()),
                Some(_) => {
                    let (address, key) = (address(), merge::words(&key));
                    Err(InfluxError::Twice { address, key })
                }
                None if series.len() >= MAX_SERIES => {
                    Err(InfluxError::TooManySeries { address: address() })
                }
                None => {
                    series.insert(key, group);
                    Ok(())
                }
            }
        };
        self.server.series(statements, conditions, &[stop], note)?;
        Ok(Found {
            series,
            order: match listed {
                true => Order::Listed(places),
                false => Order::Names,
            },
            newest,
        })
    }

    /// Fetches one part of a range.
    fn part(
        &self,
        question: &Question,
        step: Option<i64>,
        take: &mut dyn FnMut(grouping::Piece) -> Result<(), InfluxError>,
        stops: &[&Arc<AtomicBool>],
        counted: &Counted,
    ) -> Result<(), InfluxError> {
        let mut grouping = Grouping::new(self.address(), question.range, step, take);
        let bytes = self.server.rows(question, &mut grouping, stops)?;
        counted.add(grouping.rows, bytes);
        Ok(())
    }

    /// Fetches all parts of a range at the same time. The first that fails ends it for
    /// all, also for those from which something is awaited.
    fn together(
        &self,
        question: &Question,
        cut: &Cut,
        naming: &mut Naming<'_>,
        counted: &Counted,
    ) -> Result<(), InfluxError> {
        let asked = Arc::clone(&naming.ask.stop);
        let over = Arc::new(AtomicBool::new(false));
        let first: Mutex<Option<InfluxError>> = Mutex::default();
        let merged = std::thread::scope(|scope| {
            let mut inlets = Vec::new();
            let mut begun = Ok(());
            for range in &cut.parts {
                let (sender, inlet) = merge::part();
                let question = Question {
                    range: *range,
                    ..question.clone()
                };
                let (asked, over, first) = (&asked, &over, &first);
                let fetch = move || {
                    let mut take = |piece| sender.send(piece).map_err(|_| Stopped.into());
                    let stops = [asked, over];
                    let fetched = self.part(&question, cut.step, &mut take, &stops, counted);
                    if let Err(e) = fetched
                        && !over.swap(true, Ordering::Relaxed)
                    {
                        *first.lock().unwrap_or_else(PoisonError::into_inner) = Some(e);
                    }
                };
                let thread = std::thread::Builder::new().name("influx".to_owned());
                if let Err(e) = thread.spawn_scoped(scope, fetch) {
                    let reason = e.to_string();
                    begun = Err(InfluxError::NoThread { reason });
                    break;
                }
                inlets.push(inlet);
            }
            let merged = begun.and_then(|()| merge::merge(inlets, &cut.order, naming));
            over.store(true, Ordering::Relaxed);
            merged
        });
        let first = first.into_inner().unwrap_or_else(PoisonError::into_inner);
        // A part that was ended looks as if it had come to its end.
        first.map_or(merged, Err)
    }

    /// The series, with the times of their first and last readings unless there
    /// are many.
    pub(crate) fn known(&self, stop: &Arc<AtomicBool>) -> Result<Vec<Known>, InfluxError> {
        let all = Selector::all();
        let statements = self.server.layout.wanted(&all);
        let series = self.series(&statements, &[], &all, stop)?.series;
        let (mut oldest, mut newest) = (BTreeMap::new(), BTreeMap::new());
        if series.len() <= DATED {
            oldest = self.server.ends(&statements, &[], End::First, &[stop])?;
            newest = self.server.ends(&statements, &[], End::Last, &[stop])?;
        }
        let known = series.into_iter().map(|(key, group)| Known {
            key,
            readings: None,
            oldest: oldest.get(&group).copied(),
            newest: newest.get(&group).copied(),
        });
        Ok(known.collect())
    }
}

/// Rows and bytes of all parts.
#[derive(Debug, Default)]
struct Counted {
    rows: AtomicU64,
    bytes: AtomicU64,
}

impl Counted {
    fn add(&self, rows: u64, bytes: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn get(&self) -> (u64, u64) {
        let [rows, bytes] = [&self.rows, &self.bytes].map(|n| n.load(Ordering::Relaxed));
        (rows, bytes)
    }
}
