//! Answers, tasks and devices as people read them.

pub(crate) mod answer;
pub(crate) mod number;
pub(crate) mod report;
pub(crate) mod table;

use serde::Serialize;

/// `value` as JSON with indentation and a final line break.
pub(crate) fn json(value: &impl Serialize) -> String {
    // What is printed is made of text, numbers, lists and maps.
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}

/// `value` as JSON in one line.
pub(crate) fn json_line(value: &impl Serialize) -> String {
    // As above.
    let mut text = serde_json::to_string(value).unwrap_or_default();
    text.push('\n');
    text
}
