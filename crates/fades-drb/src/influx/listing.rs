//! The series of a server, from their keys: `measurement,tag=value,…`.

use super::layout::{Group, Layout};

/// The groups that a series belongs to: one for each wanted statement of its
/// measurement.
pub(super) fn groups(layout: &Layout, statements: &[usize], key: &str) -> Vec<Group> {
    let mut parts = split(key, ',').into_iter();
    let measurement = parts.next().map(unescaped).unwrap_or_default();
    let mut tags = vec![String::new(); layout.tags.len()];
    for part in parts {
        let mut sides = split(part, '=').into_iter();
        let (Some(name), Some(value)) = (sides.next(), sides.next()) else {
            continue;
        };
        if let Ok(tag) = layout.tags.binary_search(&unescaped(name)) {
            tags[tag] = unescaped(value);
        }
    }
    let of = statements.iter().copied();
    let of = of.filter(|&s| layout.statements[s].measurement == measurement);
    of.map(|statement| Group {
        statement,
        tags: tags.clone(),
    })
    .collect()
}

/// Parts between separators that no backslash stands before.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut begin, mut escaped) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        if c == separator && !escaped {
            parts.push(&text[begin..at]);
            begin = at + separator.len_utf8();
        }
        escaped = c == '\\';
    }
    parts.push(&text[begin..]);
    parts
}

/// A backslash counts only before what it can escape.
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.peek().is_some_and(|c| matches!(c, ',' | '=' | ' ')) => {
                out.extend(chars.next());
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{split, unescaped};

    #[test]
    fn keys_are_taken_apart_where_nothing_is_escaped() {
        let parts = split("a\\,b,c=d\\=e,f=g\\ h", ',');
        assert_eq!(parts, ["a\\,b", "c=d\\=e", "f=g\\ h"]);
        assert_eq!(split(parts[1], '='), ["c", "d\\=e"]);
        assert_eq!(unescaped("a\\,b\\=\\ \\x"), "a,b= \\x");
    }
}
