//! Questions in Flux, the language of 2.x.

use std::fmt::Write;

use fades_task::mtw::Aggregate;

use super::influxql::{GREATEST, LEAST, Range};
use super::layout::Layout;
use super::pattern::Condition;

/// The readings of these statements; each is a result of its own, called by its
/// number.
pub(super) fn select(
    layout: &Layout,
    bucket: &str,
    statements: &[usize],
    conditions: &[Condition],
    range: Range,
    aggregate: Option<Aggregate>,
) -> String {
    let mut query = String::new();
    for &number in statements {
        push_rows(&mut query, layout, bucket, number, conditions, range);
        // Series that differ in other tags become one.
        push_group(&mut query, layout);
        match aggregate {
            None => query.push_str(" |> sort(columns: [\"_time\"])"),
            Some(a) => {
                let (every, of) = (a.every.0, a.of.word());
                query.push_str(match a.of {
                    fades_task::mtw::AggregateKind::First
                    | fades_task::mtw::AggregateKind::Last => " |> sort(columns: [\"_time\"])",
                    _ => "",
                });
                let _ = write!(
                    query,
                    " |> aggregateWindow(every: {every}ns, fn: {of}, createEmpty: false, \
                     timeSrc: \"_start\")"
                );
            }
        }
        push_end(&mut query, layout, number);
    }
    query
}

/// One reading of each series, the `end` ("first" or "last") one.
pub(super) fn ends(
    layout: &Layout,
    bucket: &str,
    statements: &[usize],
    conditions: &[Condition],
    end: &str,
) -> String {
    let range = Range {
        from: LEAST,
        to: GREATEST,
    };
    let mut query = String::new();
    for &number in statements {
        push_rows(&mut query, layout, bucket, number, conditions, range);
        // The storage answers this without reading the rest.
        let _ = write!(query, " |> {end}()");
        push_group(&mut query, layout);
        push_end(&mut query, layout, number);
    }
    query
}

fn push_rows(
    query: &mut String,
    layout: &Layout,
    bucket: &str,
    number: usize,
    conditions: &[Condition],
    range: Range,
) {
    let statement = &layout.statements[number];
    let Range { from, to } = range;
    let _ = write!(
        query,
        "from(bucket: {}) |> range(start: time(v: {from}), stop: time(v: {to})) |> filter(fn: (r) \
         => r._measurement == {} and r._field == {}",
        text(bucket),
        text(&statement.measurement),
        text(&statement.field),
    );
    for condition in conditions {
        let tag = text(&condition.tag);
        let exact = condition.exact.iter();
        let exact = exact.map(|value| format!("r[{tag}] == {}", text(value)));
        let expressions = condition.expressions.iter();
        let expressions = expressions.map(|e| format!("r[{tag}] =~ /{e}/"));
        let absent = condition.absent.then(|| format!("not exists r[{tag}]"));
        let any: Vec<String> = exact.chain(expressions).chain(absent).collect();
        let _ = write!(query, " and ({})", any.join(" or "));
    }
    query.push(')');
}

fn push_group(query: &mut String, layout: &Layout) {
    let tags: Vec<String> = layout.tags.iter().map(|t| text(t)).collect();
    let _ = write!(query, " |> group(columns: [{}])", tags.join(", "));
}

fn push_end(query: &mut String, layout: &Layout, number: usize) {
    let mut columns = vec!["\"_time\"".to_owned(), "\"_value\"".to_owned()];
    columns.extend(layout.tags.iter().map(|t| text(t)));
    let columns = columns.join(", ");
    let _ = writeln!(
        query,
        " |> keep(columns: [{columns}]) |> yield(name: \"{number:04}\")"
    );
}

/// A text in double quotes. Everything but letters and digits is written as its
/// bytes, so that nothing in it can mean anything.
fn text(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            c if c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ' ') => quoted.push(c),
            c => {
                let mut bytes = [0; 4];
                for byte in c.encode_utf8(&mut bytes).bytes() {
                    let _ = write!(quoted, "\\x{byte:02x}");
                }
            }
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, proptest};

    use super::text;

    #[test]
    fn nothing_in_a_text_means_anything() {
        assert_eq!(text("a-1"), "\"a-1\"");
        assert_eq!(text("\"${x}\\"), "\"\\x22\\x24\\x7bx\\x7d\\x5c\"");
        assert_eq!(text("é"), "\"\\xc3\\xa9\"");
    }

    proptest! {
        #[test]
        fn only_letters_digits_and_bytes_come_out(said in any::<String>()) {
            let quoted = text(&said);
            let inside = &quoted[1..quoted.len() - 1];
            let plain = |c: char| c.is_ascii_alphanumeric() || "_-. \\".contains(c);
            prop_assert!(inside.chars().all(plain));
            let escapes = inside.split('\\').skip(1);
            prop_assert!(escapes.into_iter().all(|e| e.starts_with('x') && e.len() >= 3));
        }
    }
}
