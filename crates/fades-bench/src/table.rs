//! The table that people read.

use crate::figure::Figure;

const HEAD: [&str; 11] = [
    "figure",
    "isolation",
    "unit",
    "n",
    "median",
    "p95",
    "p99",
    "baseline",
    "ratio",
    "aim",
    "met?",
];

/// Columns that hold numbers, which stand to the right.
const NUMBERS: std::ops::RangeInclusive<usize> = 3..=8;

/// The table, a line for each figure.
pub(crate) fn table<'a>(figures: impl IntoIterator<Item = (&'a str, &'a Figure)>) -> String {
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(
        figures
            .into_iter()
            .map(|(name, figure)| cells(name, figure)),
    );
    let widths: [usize; HEAD.len()] = std::array::from_fn(|column| {
        let lengths = rows.iter().map(|row| row[column].chars().count());
        lengths.max().unwrap_or(0)
    });
    rows.iter().map(|row| line(row, &widths)).collect()
}

fn line(cells: &[String; HEAD.len()], widths: &[usize; HEAD.len()]) -> String {
    let mut line = String::new();
    for (column, (cell, &width)) in cells.iter().zip(widths).enumerate() {
        line += &if NUMBERS.contains(&column) {
            format!("{cell:>width$}  ")
        } else {
            format!("{cell:<width$}  ")
        };
    }
    format!("{}\n", line.trim_end())
}

fn cells(name: &str, figure: &Figure) -> [String; HEAD.len()] {
    let values = &figure.values;
    let what = match figure.what.as_str() {
        what if what == name => what.to_owned(),
        what => format!("{name}: {what}"),
    };
    let baseline = figure.baseline.as_ref();
    [
        what,
        figure.isolation_text(),
        figure.unit.to_owned(),
        values.n.to_string(),
        number(values.median),
        number(values.p95),
        number(values.p99),
        baseline.map_or_else(String::new, |b| number(b.median)),
        figure
            .ratio()
            .map_or_else(String::new, |r| format!("{r:.3}")),
        figure.aim_text(),
        match figure.met() {
            Some(true) => "yes".to_owned(),
            Some(false) => "NO".to_owned(),
            None => String::new(),
        },
    ]
}

/// With about four digits that count.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        a if a >= 1000.0 || a == 0.0 => 0,
        a if a >= 100.0 => 1,
        a if a >= 10.0 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use fades_task::limits::Isolation;

    use super::*;
    use crate::figure::Aim;
    use crate::samples::Samples;

    #[test]
    fn a_figure_is_a_line_and_says_whether_its_aim_is_met() {
        let some = |value: f64| [value].into_iter().collect::<Samples>();
        let start = Figure::new("start", Some(Isolation::Microvm), "us", &some(120.0))
            .unwrap()
            .against("posix_spawn", &some(100.0))
            .aiming(Aim::Ratio(0.8));
        let other = Figure::new("at rest", None, "bytes", &some(1e6)).unwrap();
        let text = table([("start", &start), ("rss", &other)]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].starts_with("figure"), "{text}");
        assert!(
            lines[1].starts_with("start  ") && lines[1].ends_with("NO"),
            "{text}"
        );
        assert!(
            lines[1].contains("1.200") && lines[1].contains("120.0"),
            "{text}"
        );
        assert!(
            lines[2].starts_with("rss: at rest") && lines[2].ends_with("report"),
            "{text}"
        );
    }
}
