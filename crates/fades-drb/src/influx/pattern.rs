//! What a task says of a name, in a form that both languages of the database
//! have: exact names, and regular expressions of Go.
//!
//! An expression may match more than its glob, never less: what comes is compared
//! with the glob itself. Every character of a task that is not a letter, a digit
//! or beyond ASCII is escaped, so that none can end the expression.

use std::fmt::Write;

/// What the value of a tag must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) tag: String,
    /// Names, of which it may be one.
    pub(super) exact: Vec<String>,
    /// Anchored expressions, of which it may match one.
    pub(super) expressions: Vec<String>,
    /// Series without the tag are wanted too.
    pub(super) absent: bool,
}

impl Condition {
    /// Of the globs of a task.
    pub(super) fn of(tag: &str, globs: &[String], absent: bool) -> Self {
        // A control character would have to be written as it is in a name.
        let is_exact = |glob: &&String| {
            let special = |c: char| "*?[]{}\\".contains(c) || c.is_control();
            !glob.contains(special)
        };
        let (exact, other): (Vec<_>, Vec<_>) = globs.iter().partition(is_exact);
        Self {
            tag: tag.to_owned(),
            exact: exact.into_iter().cloned().collect(),
            expressions: other.into_iter().map(|g| expression(g)).collect(),
            absent,
        }
    }

    /// Of names that are known.
    pub(super) fn one_of(tag: &str, names: impl Iterator<Item = String>) -> Self {
        let globs: Vec<String> = names.collect();
        let (exact, other): (Vec<_>, Vec<_>) = globs
            .into_iter()
            .partition(|name| !name.contains(char::is_control));
        Self {
            tag: tag.to_owned(),
            exact,
            expressions: other.iter().map(|name| anchored(&literal(name))).collect(),
            absent: false,
        }
    }
}

fn anchored(inside: &str) -> String {
    format!("(?s)^(?:{inside})$")
}

/// The expression of a glob that is known to be one.
fn expression(glob: &str) -> String {
    let mut inside = String::with_capacity(2 * glob.len());
    let mut chars = glob.chars().peekable();
    let mut depth = 0_usize;
    while let Some(c) = chars.next() {
        match c {
            '*' if chars.peek() == Some(&'*') => {
                while chars.next_if_eq(&'*').is_some() {}
                chars.next_if_eq(&'/');
                inside.push_str(".*");
            }
            '*' => inside.push_str("[^\\/]*"),
            '?' => inside.push_str("[^\\/]"),
            '[' => {
                skip_class(&mut chars);
                inside.push('.');
            }
            '{' => {
                depth += 1;
                inside.push_str("(?:");
            }
            '}' if depth > 0 => {
                depth -= 1;
                inside.push(')');
            }
            ',' if depth > 0 => inside.push('|'),
            '\\' => push(&mut inside, chars.next().unwrap_or('\\')),
            c => push(&mut inside, c),
        }
    }
    anchored(&inside)
}

/// Skips what is between `[` and its `]`.
fn skip_class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    let _ = chars.next_if(|c| matches!(c, '!' | '^'));
    chars.next_if_eq(&']');
    for c in chars.by_ref() {
        if c == ']' {
            return;
        }
    }
}

fn literal(text: &str) -> String {
    let mut escaped = String::with_capacity(2 * text.len());
    text.chars().for_each(|c| push(&mut escaped, c));
    escaped
}

/// One character that means itself.
fn push(expression: &mut String, c: char) {
    match c {
        c if c.is_ascii_alphanumeric() => expression.push(c),
        c if c.is_ascii_punctuation() => expression.extend(['\\', c]),
        ' ' => expression.push(' '),
        c if c.is_ascii() => {
            // Octal: the one form that no language around it takes for its own.
            let _ = write!(expression, "\\{:03o}", u32::from(c));
        }
        c if c.is_control() || c == '\u{2028}' || c == '\u{2029}' => expression.push('.'),
        c => expression.push(c),
    }
}

#[cfg(test)]
mod tests {
    use globset::GlobBuilder;
    use proptest::prelude::{prop, prop_assert, proptest};

    use super::Condition;

    #[test]
    fn globs_become_names_or_expressions() {
        let of = |glob: &str| Condition::of("t", &[glob.to_owned()], false);
        assert_eq!(of("board-1").exact, ["board-1"]);
        assert_eq!(of("a'b\"").exact, ["a'b\""]);
        let cases = [
            ("a*", r"(?s)^(?:a[^\/]*)$"),
            ("a/**", r"(?s)^(?:a\/.*)$"),
            ("**/b", r"(?s)^(?:.*b)$"),
            ("x?[!]a]{b,c\\,}", r"(?s)^(?:x[^\/].(?:b|c\,))$"),
            ("a/\n*'", "(?s)^(?:a\\/\\012[^\\/]*\\')$"),
        ];
        for (glob, expression) in cases {
            assert_eq!(of(glob).expressions, [expression], "{glob}");
        }
    }

    /// Whether a slash or a line break stands in an expression as it is.
    fn ends_early(expression: &str) -> bool {
        let mut chars = expression.chars();
        while let Some(c) = chars.next() {
            match c {
                '\\' => drop(chars.next()),
                '/' | '\n' | '\0' => return true,
                _ => {}
            }
        }
        false
    }

    proptest! {
        #[test]
        fn no_glob_ends_its_expression(glob in prop::string::string_regex("(?s).{0,12}").unwrap()) {
            if GlobBuilder::new(&glob).literal_separator(true).build().is_ok() {
                for expression in Condition::of("t", &[glob], false).expressions {
                    prop_assert!(!ends_early(&expression), "{expression}");
                }
            }
        }

        #[test]
        fn what_a_glob_matches_its_expression_matches(
            glob in r"[ab/*?{},\[\]!.+-]{0,8}",
            name in r"[ab/.,+-]{0,6}",
        ) {
            let built = GlobBuilder::new(&glob).literal_separator(true).build();
            if let Ok(built) = built
                && built.compile_matcher().is_match(&name)
            {
                let condition = Condition::of("t", std::slice::from_ref(&glob), false);
                let matches = condition.exact.contains(&name)
                    || condition.expressions.iter().any(|e| {
                        // The same expressions mean the same here, in this alphabet.
                        let e = regex_automata::meta::Regex::new(e).unwrap();
                        e.is_match(&name)
                    });
                prop_assert!(matches, "{glob} {name} {condition:?}");
            }
        }
    }
}
