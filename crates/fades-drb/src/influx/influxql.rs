//! Questions in InfluxQL, the language of 1.x.

use std::fmt::Write;

use fades_task::mtw::Aggregate;

use super::layout::{Layout, Statement};
use super::pattern::Condition;

/// From (inclusive) and to (exclusive), ns since 1970 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) from: i64,
    pub(super) to: i64,
}

/// Least and greatest time that the server knows.
pub(super) const LEAST: i64 = i64::MIN + 2;
pub(super) const GREATEST: i64 = i64::MAX - 1;

/// The readings of these statements, grouped by the tags of the layout.
pub(super) fn select(
    layout: &Layout,
    retention: Option<&str>,
    statements: &[usize],
    conditions: &[Condition],
    range: Range,
    aggregate: Option<Aggregate>,
) -> String {
    let mut query = String::new();
    for &statement in statements {
        let statement = &layout.statements[statement];
        let field = name(&statement.field);
        let field = match aggregate {
            None => field,
            Some(a) => format!("{}({field})", a.of.word()),
        };
        let from = measurement(retention, statement);
        let Range { from: begin, to } = range;
        let _ = write!(
            query,
            "SELECT {field} FROM {from} WHERE time >= {begin} AND time < {to}"
        );
        push_conditions(&mut query, conditions, " AND ");
        let mut groups: Vec<String> = layout.tags.iter().map(|t| name(t)).collect();
        if let Some(a) = aggregate {
            groups.push(format!("time({}ns)", a.every.0));
        }
        if !groups.is_empty() {
            let _ = write!(query, " GROUP BY {}", groups.join(","));
        }
        if aggregate.is_some() {
            query.push_str(" fill(none)");
        }
        query.push(';');
    }
    query
}

/// One reading of each series, the `end` ("first" or "last") one; or of all of a
/// statement.
pub(super) fn ends(
    layout: &Layout,
    retention: Option<&str>,
    statements: &[usize],
    conditions: &[Condition],
    end: &str,
    grouped: bool,
) -> String {
    let mut query = String::new();
    for &statement in statements {
        let statement = &layout.statements[statement];
        let (field, from) = (name(&statement.field), measurement(retention, statement));
        let _ = write!(
            query,
            "SELECT {end}({field}) FROM {from} WHERE time >= {LEAST} AND time <= {GREATEST}"
        );
        push_conditions(&mut query, conditions, " AND ");
        if grouped && !layout.tags.is_empty() {
            let groups: Vec<String> = layout.tags.iter().map(|t| name(t)).collect();
            let _ = write!(query, " GROUP BY {}", groups.join(","));
        }
        query.push(';');
    }
    query
}

/// The series of these statements, by their keys.
pub(super) fn series(layout: &Layout, statements: &[usize], conditions: &[Condition]) -> String {
    let mut names: Vec<String> = statements
        .iter()
        .map(|&s| name(&layout.statements[s].measurement))
        .collect();
    names.dedup();
    let mut query = format!("SHOW SERIES FROM {}", names.join(","));
    push_conditions(&mut query, conditions, " WHERE ");
    query
}

fn measurement(retention: Option<&str>, statement: &Statement) -> String {
    let measurement = name(&statement.measurement);
    match retention {
        Some(retention) => format!("{}.{measurement}", name(retention)),
        None => measurement,
    }
}

fn push_conditions(query: &mut String, conditions: &[Condition], before: &str) {
    let mut before = before;
    for condition in conditions {
        let tag = name(&condition.tag);
        let exact = condition.exact.iter();
        let exact = exact.map(|value| format!("{tag} = {}", text(value)));
        let expressions = condition.expressions.iter();
        let expressions = expressions.map(|e| format!("{tag} =~ /{e}/"));
        let absent = condition.absent.then(|| format!("{tag} = ''"));
        let any: Vec<String> = exact.chain(expressions).chain(absent).collect();
        let _ = write!(query, "{before}({})", any.join(" OR "));
        before = " AND ";
    }
}

/// A name in double quotes.
fn name(name: &str) -> String {
    quoted(name, '"')
}

/// A text in single quotes.
fn text(text: &str) -> String {
    quoted(text, '\'')
}

/// Control characters, of which the language knows one only, do not come here.
fn quoted(text: &str, quote: char) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push(quote);
    for c in text.chars() {
        match c {
            '\n' => quoted.push_str("\\n"),
            '\\' => quoted.push_str("\\\\"),
            c if c == quote => quoted.extend(['\\', c]),
            c => quoted.push(c),
        }
    }
    quoted.push(quote);
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::text;

    /// Reads a string as the server's scanner does; gives it and what is left.
    fn scanned(query: &str) -> Option<(String, &str)> {
        let mut chars = query.char_indices();
        let (_, quote) = chars.next()?;
        let mut read = String::new();
        while let Some((at, c)) = chars.next() {
            match c {
                '\n' | '\0' => return None,
                '\\' => match chars.next()?.1 {
                    'n' => read.push('\n'),
                    c @ ('\\' | '"' | '\'') => read.push(c),
                    _ => return None,
                },
                c if c == quote => return Some((read, &query[at + 1..])),
                c => read.push(c),
            }
        }
        None
    }

    proptest! {
        #[test]
        fn no_text_ends_its_quotes(said in any::<String>()) {
            let said = said.replace('\0', "0");
            let quoted = text(&said);
            let (read, rest) = scanned(&quoted).unwrap();
            prop_assert_eq!(read, said);
            prop_assert_eq!(rest, "");
        }
    }
}
