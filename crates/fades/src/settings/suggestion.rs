//! "Did you mean": the closest of several names.

/// The one of `known` that `typed` is most likely to mean, if any is close.
pub(crate) fn closest<'a>(typed: &str, known: &[&'a str]) -> Option<&'a str> {
    let ranked = known.iter().map(|k| (distance(typed, k), *k));
    let (distance, name) = ranked.min_by_key(|(d, _)| *d)?;
    (distance <= 1 + typed.len() / 4).then_some(name)
}

/// Insertions, removals and changes that lead from `a` to `b`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// What serde's text about an unknown field or variant says: the word, and the
/// words that would do.
pub(crate) fn unknown_word(message: &str) -> Option<(&str, Vec<&str>)> {
    let at = message
        .find("unknown field `")
        .or_else(|| message.find("unknown variant `"))?;
    let mut quoted = message[at..].split('`').skip(1).step_by(2);
    let word = quoted.next()?;
    Some((word, quoted.collect()))
}

#[cfg(test)]
mod tests {
    use super::{closest, unknown_word};

    #[test]
    fn a_slip_of_the_finger_finds_the_word_that_was_meant() {
        let known = ["name", "labels", "memory", "parallel"];
        assert_eq!(closest("nmae", &known), Some("name"));
        assert_eq!(closest("memroy", &known), Some("memory"));
        assert_eq!(closest("paralel", &known), Some("parallel"));
        assert_eq!(closest("label", &known), Some("labels"));
        assert_eq!(closest("colour", &known), None);
    }

    #[test]
    fn unknown_fields_and_variants_are_read_out_of_the_message() {
        let message = "unknown field `memroy`, expected `name` or `memory`";
        assert_eq!(
            unknown_word(message),
            Some(("memroy", vec!["name", "memory"]))
        );
        assert_eq!(unknown_word("missing field `name`"), None);
    }
}
