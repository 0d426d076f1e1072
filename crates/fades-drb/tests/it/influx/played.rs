//! A server of 2.x that is played: recorded readings, in the form in which such a
//! server answers, and what it was asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use fades_task::mtw::Dto;
use fades_task::time::Time;
use jiff::Timestamp;

use crate::broker::dto;
use crate::web::{Asked, Reply, Web};

pub(super) const HOUR: i64 = 3_600_000_000_000;

/// The first full hour of the recorded readings.
pub(super) const BEGIN: i64 = 1_767_225_600_000_000_000;

/// A series as the server has it; values as it writes them.
#[derive(Debug, Clone)]
pub(super) struct Recorded {
    pub(super) board: &'static str,
    pub(super) kind: &'static str,
    /// Of the column `_value`.
    pub(super) datatype: &'static str,
    pub(super) readings: Vec<(i64, String)>,
}

/// Three boards that say something every few minutes for two days, one of them in
/// a few hours only, and one that counts.
pub(super) fn recorded() -> Vec<Recorded> {
    let every = |board, kind, step: i64, from: i64, to: i64| Recorded {
        board,
        kind,
        datatype: if kind == "count" { "long" } else { "double" },
        readings: (from * HOUR / step..to * HOUR / step)
            .map(|i| (BEGIN + i * step, value(board, i)))
            .collect(),
    };
    let minute = HOUR / 60;
    vec![
        every("a", "count", 5 * minute, 0, 48),
        every("a", "t", minute, 0, 48),
        every("b", "t", 3 * minute, 30, 34),
        every("c", "t", 7 * minute, 0, 48),
    ]
}

fn value(board: &str, i: i64) -> String {
    let number = (i * 31 + i64::from(board.as_bytes()[0])) % 1000;
    match board {
        "a" => number.to_string(),
        _ => (number as f64 / 8.0).to_string(),
    }
}

/// What a question in Flux says.
#[derive(Debug, Clone)]
pub(super) struct Flux {
    pub(super) from: i64,
    pub(super) to: i64,
    pub(super) text: String,
}

impl Flux {
    pub(super) fn of(asked: &Asked) -> Self {
        let question: serde_json::Value = serde_json::from_str(&asked.body).unwrap();
        let text = question["query"].as_str().unwrap().to_owned();
        let number = |after: &str| {
            let (_, rest) = text.split_once(after).unwrap();
            rest.split_once(')').unwrap().0.parse().unwrap()
        };
        Self {
            from: number("start: time(v: "),
            to: number("stop: time(v: "),
            text,
        }
    }

    /// Whether readings are asked for, and not where they begin or end.
    pub(super) fn wants_readings(&self) -> bool {
        !self.text.contains("|> last()") && !self.text.contains("|> first()")
    }

    /// Length of the steps of an aggregate, ns.
    fn every(&self) -> Option<i64> {
        let (_, rest) = self.text.split_once("aggregateWindow(every: ")?;
        rest.split_once("ns,")?.0.parse().ok()
    }
}

/// The answer of a server that has `series`, in their order.
pub(super) fn answer(series: &[Recorded], flux: &Flux) -> String {
    let (mut text, mut datatype) = (String::new(), "");
    for (table, series) in series.iter().enumerate() {
        let within = |time: i64| flux.from <= time && time < flux.to;
        let readings = series.readings.iter().filter(|(time, _)| within(*time));
        let mut readings: Vec<(i64, String)> = readings.cloned().collect();
        if flux.text.contains("|> last()") {
            readings = readings.pop().into_iter().collect();
        } else if flux.text.contains("|> first()") {
            readings.truncate(1);
        }
        if let Some(every) = flux.every() {
            let mut steps: BTreeMap<i64, u32> = BTreeMap::new();
            for (time, _) in &readings {
                // A step that the range cuts begins where the range does.
                let begin = (time - time.rem_euclid(every)).max(flux.from);
                *steps.entry(begin).or_default() += 1;
            }
            readings = steps.into_iter().map(|(t, n)| (t, n.to_string())).collect();
        }
        if readings.is_empty() {
            continue;
        }
        if datatype != series.datatype {
            datatype = series.datatype;
            text += &format!(
                "\n#datatype,string,long,dateTime:RFC3339,{datatype},string,string\n\
                 #group,false,false,false,false,true,true\n#default,0000,,,,,\n\
                 ,result,table,_time,_value,board,type\n"
            );
        }
        for (time, value) in readings {
            let time = Timestamp::from_nanosecond(time.into()).unwrap();
            let (board, kind) = (series.board, series.kind);
            text += &format!(",,{table},{time},{value},{board},{kind}\n");
        }
    }
    text.trim_start().replace('\n', "\r\n")
}

/// A server that answers so; `change` may make something else of an answer for
/// readings.
pub(super) fn server(
    series: Vec<Recorded>,
    change: impl Fn(&Flux, String) -> Reply + Send + Sync + 'static,
) -> Web {
    Web::start(move |asked| {
        let flux = Flux::of(asked);
        let text = answer(&series, &flux);
        match flux.wants_readings() {
            true => change(&flux, text),
            false => Reply::Body(text.into_bytes()),
        }
    })
}

/// An honest one.
pub(super) fn honest(series: Vec<Recorded>) -> Web {
    server(series, |_, text| Reply::Body(text.into_bytes()))
}

/// The ranges of the readings that a server was asked for, in their order.
pub(super) fn ranges(web: &Web) -> Vec<(i64, i64)> {
    let asked = web.asked();
    let asked = asked.iter().map(Flux::of).filter(Flux::wants_readings);
    let mut ranges: Vec<(i64, i64)> = asked.map(|f| (f.from, f.to)).collect();
    ranges.sort_unstable();
    ranges
}

pub(super) fn between(from: i64, to: i64) -> Dto {
    Dto {
        from: Time(from),
        to: Time(to),
        ..dto("d")
    }
}

pub(super) fn bucket(parallel: u8) -> String {
    format!(
        "version = 2\norg = \"uni lab\"\nbucket = \"lab\"\nmeasurement = \"readings\"\n\
         map = {{ device = \"board\", kind = \"type\" }}\nunit = \"Cel\"\n\
         parallel = {parallel}\ntimeout = \"2s\"\n"
    )
}

/// Lets questions through when so many are there at the same time.
#[derive(Debug, Clone)]
pub(super) struct Gate(Arc<(Mutex<usize>, Condvar)>, usize);

impl Gate {
    pub(super) fn of(many: usize) -> Self {
        Self(Arc::default(), many)
    }

    /// Waits for the others; whether all came.
    pub(super) fn pass(&self) -> bool {
        let (here, changed) = &*self.0;
        let mut here = here.lock().unwrap();
        *here += 1;
        changed.notify_all();
        let patience = Duration::from_secs(20);
        let waited = changed.wait_timeout_while(here, patience, |here| *here < self.1);
        !waited.unwrap().1.timed_out()
    }
}
