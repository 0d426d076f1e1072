//! A function's answer as tables.
//!
//! Nothing is known of the function. Single values become lines; a list of
//! maps becomes a table, or one table for each `kind` when all of them name
//! one; maps inside are opened up into columns.

use serde_json::{Map, Value};

use super::number;
use super::table::{Column, Table, visible};
use crate::session::{Ink, Session};

/// The answer's text.
pub(crate) fn text(answer: &Value, session: &Session) -> String {
    let Value::Object(map) = answer else {
        return format!("{}\n", cell(answer));
    };
    let mut lines = Table::new([Column::left(""), Column::left("")]);
    let mut tables = String::new();
    for (key, value) in map {
        match rows(value) {
            Some(rows) => tables += &section(key, &rows, session),
            None => flat(key, value, &mut |k, v| lines.row([k, cell(v)])),
        }
    }
    // The table of single values needs no headings.
    let lines = lines.text(session);
    let lines = lines.split_once('\n').map_or("", |(_, rows)| rows);
    match (lines.is_empty(), tables.is_empty()) {
        (false, false) => format!("{lines}\n{tables}"),
        _ => format!("{lines}{tables}"),
    }
}

/// The maps of a list that has nothing else.
fn rows(value: &Value) -> Option<Vec<&Map<String, Value>>> {
    let items = value.as_array().filter(|items| !items.is_empty())?;
    items.iter().map(Value::as_object).collect()
}

fn section(key: &str, rows: &[&Map<String, Value>], session: &Session) -> String {
    let kinds = rows.iter().map(|r| r.get("kind").and_then(Value::as_str));
    let Some(kinds) = kinds.collect::<Option<Vec<_>>>() else {
        return titled(key, &table(rows, session), session);
    };
    let mut seen: Vec<&str> = Vec::new();
    for kind in &kinds {
        if !seen.contains(kind) {
            seen.push(kind);
        }
    }
    let of_kind = |kind: &str| {
        let of = rows.iter().zip(&kinds).filter(|(_, k)| **k == kind);
        let mut rows: Vec<Map<String, Value>> = of.map(|(r, _)| (*r).clone()).collect();
        let unit = same_unit(&rows);
        for row in &mut rows {
            row.shift_remove("kind");
            if unit.is_some() {
                row.shift_remove("unit");
            }
        }
        let title = match unit {
            Some(unit) => format!("{kind} [{unit}]"),
            None => kind.to_owned(),
        };
        titled(
            &title,
            &table(&rows.iter().collect::<Vec<_>>(), session),
            session,
        )
    };
    seen.into_iter().map(of_kind).collect()
}

/// The unit that all rows have.
fn same_unit(rows: &[Map<String, Value>]) -> Option<String> {
    let first = rows.first()?.get("unit")?.as_str()?;
    let same = rows
        .iter()
        .all(|r| r.get("unit").and_then(Value::as_str) == Some(first));
    (same && !first.is_empty()).then(|| first.to_owned())
}

fn titled(title: &str, table: &str, session: &Session) -> String {
    format!("{}\n{table}\n", session.ink(Ink::Strong, &visible(title)))
}

fn table(rows: &[&Map<String, Value>], session: &Session) -> String {
    let rows: Vec<Vec<(String, &Value)>> = rows.iter().map(|row| opened(row)).collect();
    let mut names: Vec<&String> = Vec::new();
    for (name, _) in rows.iter().flatten() {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let numeric = |name: &String| {
        let mut values = rows
            .iter()
            .flatten()
            .filter(|(n, v)| n == name && !v.is_null());
        values.all(|(_, v)| v.is_number())
    };
    names.sort_by_key(|name| (numeric(name), rank(name)));
    let columns: Vec<Vec<String>> = names
        .iter()
        .map(|name| {
            let value = |row: &Vec<(String, &Value)>| {
                row.iter().find(|(n, _)| n == *name).map(|c| c.1.clone())
            };
            cells(&rows.iter().map(value).collect::<Vec<_>>())
        })
        .collect();
    let headings = names.iter().map(|name| match numeric(name) {
        true => Column::right(name.to_uppercase()),
        false => Column::left(name.to_uppercase()),
    });
    let mut table = Table::new(headings);
    for i in 0..rows.len() {
        table.row(columns.iter().map(|c| c[i].clone()));
    }
    table.text(session)
}

/// Where a column stands: an answer travels with its keys in the order of
/// their encoding, which means nothing. Others keep that order, behind these.
fn rank(name: &str) -> usize {
    const ORDER: [&str; 21] = [
        "day", "date", "time", "from", "to", "location", "device", "count", "marked", "min",
        "mean", "max", "sd", "p50", "p95", "p99", "sum", "last", "aqi", "category", "hours",
    ];
    ORDER.iter().position(|o| *o == name).unwrap_or(ORDER.len())
}

/// A row with the maps inside of it opened up.
fn opened(row: &Map<String, Value>) -> Vec<(String, &Value)> {
    let mut cells = Vec::new();
    for (key, value) in row {
        flat(key, value, &mut |k, v| cells.push((k, v)));
    }
    cells
}

fn flat<'a>(key: &str, value: &'a Value, take: &mut impl FnMut(String, &'a Value)) {
    match value.as_object() {
        Some(map) => map.iter().for_each(|(k, v)| flat_one(key, k, v, take)),
        None => take(key.to_owned(), value),
    }
}

fn flat_one<'a>(key: &str, inner: &str, value: &'a Value, take: &mut dyn FnMut(String, &'a Value)) {
    let key = format!("{key} {inner}");
    match value.as_object() {
        Some(map) => map.iter().for_each(|(k, v)| flat_one(&key, k, v, take)),
        None => take(key, value),
    }
}

/// The texts of one column: floats with one number of decimals.
fn cells(values: &[Option<Value>]) -> Vec<String> {
    let is_float = |v: &Option<Value>| matches!(v, Some(Value::Number(n)) if n.is_f64());
    if !values.iter().any(is_float) {
        return values
            .iter()
            .map(|v| v.as_ref().map_or(String::new(), cell))
            .collect();
    }
    let floats: Vec<f64> = values.iter().flatten().filter_map(Value::as_f64).collect();
    let mut shown = number::column(&floats).into_iter();
    let text = |v: &Option<Value>| match v {
        Some(v) if v.is_number() => shown.next().unwrap_or_default(),
        Some(v) => cell(v),
        None => String::new(),
    };
    values.iter().map(text).collect()
}

/// One value as text.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(b) => if *b { "yes" } else { "no" }.to_owned(),
        Value::String(s) => visible(s),
        Value::Number(n) => match (n.as_u64(), n.as_i64(), n.as_f64()) {
            (Some(n), ..) => n.to_string(),
            (_, Some(n), _) => n.to_string(),
            (.., Some(f)) => number::float(f),
            _ => n.to_string(),
        },
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(", "),
        Value::Object(map) => {
            let parts = map
                .iter()
                .map(|(k, v)| format!("{} {}", visible(k), cell(v)));
            parts.collect::<Vec<_>>().join(", ")
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::text;
    use crate::session::{Environment, Session};

    fn plain(answer: &serde_json::Value) -> String {
        let env = Environment {
            no_color: true,
            ..Environment::default()
        };
        text(answer, &Session::new(env))
    }

    #[test]
    fn a_list_with_kinds_becomes_a_table_for_each_kind() {
        let answer = json!({
            "by": "device",
            "rows": [
                { "kind": "pm10", "unit": "ug/m3", "device": "5331", "count": 12, "mean": 7.25 },
                { "kind": "pm2.5", "unit": "ug/m3", "device": "5331", "count": 12, "mean": 3.5 },
                { "kind": "pm10", "unit": "ug/m3", "device": "7", "count": 3, "mean": 110.0 },
            ],
        });
        assert_eq!(
            plain(&answer),
            "by  device\n\n\
             pm10 [ug/m3]\nDEVICE  COUNT    MEAN\n5331       12    7.25\n7           3  110.00\n\n\
             pm2.5 [ug/m3]\nDEVICE  COUNT  MEAN\n5331       12   3.5\n\n"
        );
    }

    #[test]
    fn single_values_become_lines_and_maps_inside_columns() {
        let answer =
            json!({ "greeting": "hello, world", "rows": 3, "limits": { "low": 1, "high": 2.5 } });
        assert_eq!(
            plain(&answer),
            "greeting     hello, world\nrows         3\nlimits low   1\nlimits high  2.5\n"
        );
        let list = json!({ "days": [{ "day": "a", "p": { "x": 1, "y": null } }, { "day": "b" }] });
        assert_eq!(plain(&list), "days\nDAY  P X  P Y\na      1    -\nb\n\n");
    }

    #[test]
    fn an_answer_that_is_no_map_is_printed_as_it_is() {
        assert_eq!(plain(&json!(3.5)), "3.5\n");
        assert_eq!(plain(&json!(["a", "b"])), "a, b\n");
    }
}
