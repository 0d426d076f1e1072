//! `aberdeen`: the Aberdeen data set from the files to the answer of `summary`.
//!
//! Timed from before the signed task is written to the node's socket until the
//! result has been read. The node has answered such a question before, so its
//! index of the files and the system's cache are warm; each time the question
//! begins at another moment before the first reading, so that no batches of an
//! earlier answer can be used (`the same question again`: they can). Compared with the program
//! `plain-aberdeen`, from its start to its end: the `csv` crate on all cores,
//! no isolation, no store, no signature. Both must give the same answer.

use std::path::{Path, PathBuf};
use std::process::Command;

use fades_task::identity::ImageRef;
use fades_task::limits::Isolation;
use fades_task::result::{Breakdown, TaskResult};
use fades_task::time::Time;
use serde_json::{Value, json};

use super::{Taken, hello};
use crate::bench::{Bench, output};
use crate::fault::Fault;
use crate::figure::{Aim, Figure};
use crate::node::Node;
use crate::node::connection::Connection;
use crate::turns::{in_turns, timed};

const ARCHIVE: &str = "aberdeen_sds011_luftdaten.tar.xz";

/// Over the plain program.
const AIM: f64 = 1.15;

/// Room for all values, so that quantiles are exact.
const MEMORY: &str = "64MiB";

/// The two add up in different orders.
const RELATIVE: f64 = 1e-9;

const DESCRIBED: [&str; 9] = [
    "count", "min", "max", "mean", "sd", "sum", "p50", "p95", "p99",
];

pub(super) fn run(bench: &Bench, taken: &mut Taken) -> Result<(), Fault> {
    let Some(data) = &bench.data else {
        taken.skip(
            "aberdeen",
            "set FADES_TEST_DATA to the folder of the public data sets",
        );
        return Ok(());
    };
    let archive = data.join(ARCHIVE);
    if !archive.is_file() {
        let why = format!("{} is not there: see FADES_TEST_DATA", archive.display());
        taken.skip("aberdeen", &why);
        return Ok(());
    }
    let Some(isolation) = bench.isolations(|_, _| ()).first().copied() else {
        taken.skip("aberdeen", "this host has no isolation: see `fades doctor`");
        return Ok(());
    };
    let files = unpacked(bench, &archive)?;
    let node = Node::start(bench, "aberdeen", &source(&files))?;
    let image = node.publish(&bench.image("summary")?)?;
    let mut asking = Asking {
        connection: node.connect()?,
        node: &node,
        image,
        isolation,
        number: 0,
        last: Breakdown::default(),
    };
    let plain = || {
        let mut program = Command::new(&bench.programs.plain_aberdeen);
        timed(|| output(program.arg(&files)))
    };
    let theirs = plain().1?;
    let theirs = serde_json::from_str(&theirs).map_err(Fault::json("plain-aberdeen's answer"))?;
    same(&asking.ask(0)?.1, &theirs)?;
    for (what, other, aim) in [
        ("aberdeen", 1, Aim::Ratio(AIM)),
        ("the same question again", 0, Aim::Report),
    ] {
        let mut from = 0;
        let (ours, theirs) = in_turns(
            bench.rounds((15, 60), (3, 4)),
            || {
                from += other;
                asking.ask(from).map(|(spent, _)| spent)
            },
            || {
                let (spent, done) = plain();
                done.map(|_| spent)
            },
        )?;
        taken.note(format!("{what}, the last answer: {:?}", asking.last));
        let figure = Figure::new(what, Some(isolation), "us", &ours);
        taken.add(figure.map(|f| {
            f.against("csv crate, all cores, no isolation", &theirs)
                .aiming(aim)
        }));
    }
    Ok(())
}

/// The question, asked again and again.
struct Asking<'a> {
    node: &'a Node,
    connection: Connection,
    image: ImageRef,
    isolation: Isolation,
    number: usize,
    /// Where the time of the last answer went.
    last: Breakdown,
}

impl Asking<'_> {
    /// Microseconds until the answer, and the answer. All readings are later
    /// than `from`, so that it makes another question of the same rows.
    fn ask(&mut self, from: i64) -> Result<(f64, Value), Fault> {
        self.number += 1;
        let from = Time(from * 1_000_000_000).to_string();
        let task = json!({
            "retrieve": [{ "name": "pm", "kind": "pm*", "from": from }],
            "function": {
                "isolation": [self.isolation],
                "limits": { "memory": MEMORY, "output": "256KiB" },
            },
        });
        let id = format!("aberdeen-{}", self.number);
        let task = self.node.sign(&id, &self.image, &task)?;
        let (spent, result) = timed(|| self.connection.answered::<TaskResult>(&task));
        let result = result?;
        hello::check(&result, self.isolation)?;
        self.last = result.breakdown;
        Ok((spent, result.answer.unwrap_or_default()))
    }
}

/// The folder `luftdaten` of the data set; unpacked once and kept.
fn unpacked(bench: &Bench, archive: &Path) -> Result<PathBuf, Fault> {
    let whole = bench.arguments.out.join("aberdeen");
    if !whole.is_dir() {
        let fresh = bench.subfolder("unpacking")?;
        let mut tar = Command::new("tar");
        tar.arg("-xJf").arg(archive).arg("-C").arg(&fresh);
        output(tar.args(["--wildcards", "*.csv"]))?;
        std::fs::rename(&fresh, &whole).map_err(Fault::file(&whole, "make"))?;
    }
    Ok(whole.join("luftdaten"))
}

fn source(files: &Path) -> String {
    format!(
        "[source.citizen]\ntype = \"csv\"\nfiles = \"{}/*/*.csv\"\ndelimiter = \";\"\n\
         time = {{ column = \"timestamp\", zone = \"UTC\" }}\ndevice = \"{{sensor_id}}\"\n\
         location = \"aberdeen/{{location}}\"\npoints = [\n\
         {{ column = \"P1\", kind = \"pm10\", unit = \"ug/m3\", valid = [0, 998.9] }},\n\
         {{ column = \"P2\", kind = \"pm2.5\", unit = \"ug/m3\", valid = [0, 998.9] }} ]\n",
        files.display()
    )
}

/// That the function's answer is the plain program's.
fn same(ours: &Value, theirs: &Value) -> Result<(), Fault> {
    let differs = |what: &str, a: &Value, b: &Value| Fault::Differs {
        what: what.to_owned(),
        ours: a.to_string(),
        theirs: b.to_string(),
    };
    if ours["quantiles"] != "exact" {
        return Err(differs("quantiles", &ours["quantiles"], &json!("exact")));
    }
    let (ours, theirs) = (by_series(&ours["groups"]), by_series(theirs));
    if ours.len() != theirs.len() {
        let (a, b) = (ours.len().into(), theirs.len().into());
        return Err(differs("the number of series", &a, &b));
    }
    for (ours, theirs) in ours.iter().zip(&theirs) {
        for what in ["kind", "device", "location"] {
            if ours[what] != theirs[what] {
                return Err(differs(what, &ours[what], &theirs[what]));
            }
        }
        for what in DESCRIBED {
            if !close(&ours[what], &theirs[what]) {
                let series = format!("{what} of {} {}", ours["kind"], ours["device"]);
                return Err(differs(&series, &ours[what], &theirs[what]));
            }
        }
    }
    Ok(())
}

fn by_series(rows: &Value) -> Vec<&Value> {
    let mut rows: Vec<&Value> = rows.as_array().into_iter().flatten().collect();
    let key = |row: &Value| ["kind", "device", "location"].map(|k| row[k].to_string());
    rows.sort_by_key(|row| key(row));
    rows
}

fn close(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => (a - b).abs() <= RELATIVE * a.abs().max(b.abs()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(device: &str, sum: f64) -> Value {
        let mut row = json!({ "kind": "pm10", "device": device, "location": "a" });
        for name in DESCRIBED {
            row[name] = 1.into();
        }
        row["sum"] = sum.into();
        row
    }

    #[test]
    fn answers_agree_in_any_order_and_to_the_last_digits_only() {
        let ours = |rows: &[Value]| json!({ "quantiles": "exact", "groups": rows });
        let (a, b) = (row("a", 1e6), row("b", 2.0));
        let theirs = json!([b, a]);
        assert!(same(&ours(&[a.clone(), b.clone()]), &theirs).is_ok());
        assert!(same(&ours(&[row("a", 1e6 + 1e-4), b.clone()]), &theirs).is_ok());
        assert!(same(&ours(&[row("a", 1e6 + 1.0), b.clone()]), &theirs).is_err());
        assert!(same(&ours(&[a.clone(), row("c", 2.0)]), &theirs).is_err());
        assert!(same(&ours(std::slice::from_ref(&a)), &theirs).is_err());
        let sketched = json!({ "quantiles": { "sketch": "ddsketch" }, "groups": [a, b] });
        assert!(same(&sketched, &theirs).is_err());
    }
}
