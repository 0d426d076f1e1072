//! What is kept of a name's figures: `NAME.json`.

use std::path::Path;

use serde::Serialize;

use crate::fault::Fault;
use crate::figure::Figure;
use crate::host::Host;

/// The file's content.
#[derive(Debug, Serialize)]
pub(crate) struct Record<'a> {
    name: &'a str,
    commit: &'a str,
    host: &'a Host,
    figures: Vec<Entry<'a>>,
}

#[derive(Debug, Serialize)]
struct Entry<'a> {
    figure: &'a str,
    isolation: String,
    unit: &'a str,
    n: usize,
    median: f64,
    p95: f64,
    p99: f64,
    min: f64,
    max: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    baseline: Option<Compared<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<f64>,
    aim: String,
}

#[derive(Debug, Serialize)]
struct Compared<'a> {
    what: &'a str,
    median: f64,
}

impl<'a> Record<'a> {
    pub(crate) fn new(
        name: &'a str,
        commit: &'a str,
        host: &'a Host,
        figures: &'a [Figure],
    ) -> Self {
        Self {
            name,
            commit,
            host,
            figures: figures.iter().map(Entry::of).collect(),
        }
    }

    /// The file's text.
    pub(crate) fn text(&self) -> String {
        // Texts and finite numbers always have a JSON form.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// Writes `NAME.json` into `folder`, whole or not at all.
    pub(crate) fn keep(&self, folder: &Path) -> Result<(), Fault> {
        let path = folder.join(format!("{}.json", self.name));
        let fresh = path.with_extension("json.new");
        std::fs::write(&fresh, self.text()).map_err(Fault::file(&fresh, "write"))?;
        std::fs::rename(&fresh, &path).map_err(Fault::file(&path, "replace"))
    }
}

impl<'a> Entry<'a> {
    fn of(figure: &'a Figure) -> Self {
        let values = &figure.values;
        Self {
            figure: &figure.what,
            isolation: figure.isolation_text(),
            unit: figure.unit,
            n: values.n,
            median: rounded(values.median),
            p95: rounded(values.p95),
            p99: rounded(values.p99),
            min: rounded(values.min),
            max: rounded(values.max),
            baseline: figure.baseline.as_ref().map(|baseline| Compared {
                what: &baseline.what,
                median: rounded(baseline.median),
            }),
            ratio: figure.ratio().map(rounded),
            aim: figure.aim_text(),
        }
    }
}

/// To four decimals: less than any clock here tells apart.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use fades_task::limits::Isolation;

    use super::*;
    use crate::figure::Aim;
    use crate::samples::Samples;

    fn host() -> Host {
        Host {
            cpu: "a processor".to_owned(),
            cores: 2,
            memory_bytes: 1 << 30,
            kernel: "6.18.0".to_owned(),
            kvm: Some("kvm_pvm".to_owned()),
        }
    }

    fn figures() -> Vec<Figure> {
        let some = |values: &[f64]| values.iter().copied().collect::<Samples>();
        let start = Figure::new(
            "start",
            Some(Isolation::Microvm),
            "us",
            &some(&[98.76543, 101.0]),
        )
        .unwrap()
        .against("posix_spawn", &some(&[130.0]))
        .aiming(Aim::Ratio(0.8));
        let rss = Figure::new("at rest", None, "bytes", &some(&[12.0])).unwrap();
        vec![start, rss]
    }

    #[test]
    fn the_file_is_as_it_is_documented() {
        let (host, figures) = (host(), figures());
        let text = Record::new("start", "0123abcd", &host, &figures).text();
        assert_eq!(text, include_str!("../tests/golden/start.json"));
    }

    #[test]
    fn an_older_file_is_replaced_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("start.json");
        std::fs::write(&path, "old").unwrap();
        let (host, figures) = (host(), figures());
        let record = Record::new("start", "0123abcd", &host, &figures);
        record.keep(folder.path()).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), record.text());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
