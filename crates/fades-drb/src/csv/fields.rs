//! A row's fields.

/// Start and end of a field, bytes; a line is shorter than 4 GiB.
type Span = (u32, u32);

/// Where the fields of a row are.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    spans: Vec<Span>,
    /// The fields without quotes, when the row has quotes.
    unquoted: Option<Vec<u8>>,
}

impl Fields {
    /// Finds fields 0 to `last`; what follows is not looked at. A field whose
    /// quote is not closed is not there, nor is what follows.
    pub(crate) fn split(&mut self, line: &[u8], delimiter: u8, quote: Option<u8>, last: usize) {
        self.spans.clear();
        self.unquoted = None;
        if let Some(quote) = quote
            && memchr::memchr(quote, line).is_some()
        {
            self.split_quoted(line, delimiter, quote, last);
            return;
        }
        // Fields are short: comparing eight bytes at a time beats starting a
        // vectorised search for each of them.
        let mut start = 0;
        let (words, rest) = line.as_chunks::<8>();
        for (at, word) in (0_u32..).step_by(8).zip(words) {
            let mut found = bytes_equal(u64::from_le_bytes(*word), delimiter);
            while found != 0 {
                let end = at + found.trailing_zeros() / 8;
                self.spans.push((start, end));
                start = end + 1;
                if self.spans.len() > last {
                    return;
                }
                found &= found - 1;
            }
        }
        let length = line.len() as u32;
        for (end, byte) in (length - rest.len() as u32..).zip(rest) {
            if *byte == delimiter {
                self.spans.push((start, end));
                start = end + 1;
                if self.spans.len() > last {
                    return;
                }
            }
        }
        self.spans.push((start, length));
    }

    fn split_quoted(&mut self, line: &[u8], delimiter: u8, quote: u8, last: usize) {
        let mut text = Vec::with_capacity(line.len());
        let mut rest = line;
        while self.spans.len() <= last {
            let start = text.len();
            let blanks = rest
                .iter()
                .take_while(|&&b| b == b' ' && b != delimiter)
                .count();
            if rest.get(blanks) == Some(&quote) {
                match unquote(&rest[blanks + 1..], quote, &mut text) {
                    Some(after) => rest = after,
                    None => break,
                }
            }
            let end = memchr::memchr(delimiter, rest);
            text.extend_from_slice(&rest[..end.unwrap_or(rest.len())]);
            self.spans.push((start as u32, text.len() as u32));
            match end {
                Some(end) => rest = &rest[end + 1..],
                None => break,
            }
        }
        self.unquoted = Some(text);
    }

    /// Field number `i` of the line that was split, without blanks around it.
    pub(crate) fn field<'a>(&'a self, line: &'a [u8], i: usize) -> Option<&'a [u8]> {
        let text = self.unquoted.as_deref().unwrap_or(line);
        let (start, end) = *self.spans.get(i)?;
        Some(text[start as usize..end as usize].trim_ascii())
    }

    pub(crate) fn count(&self) -> usize {
        self.spans.len()
    }
}

/// The highest bit of each byte of `word` that is `byte`, of no other.
const fn bytes_equal(word: u64, byte: u8) -> u64 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let differ = word ^ (byte as u64 * 0x0101_0101_0101_0101);
    !(((differ & LOW) + LOW) | differ | LOW)
}

/// Copies what is inside quotes; gives what follows the closing quote. A
/// doubled quote stands for one.
fn unquote<'a>(mut rest: &'a [u8], quote: u8, into: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let at = memchr::memchr(quote, rest)?;
        into.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        match rest.strip_prefix(&[quote]) {
            Some(after) => {
                into.push(quote);
                rest = after;
            }
            None => return Some(rest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Fields;

    fn split(line: &str, last: usize) -> Vec<String> {
        let mut fields = Fields::default();
        fields.split(line.as_bytes(), b';', Some(b'"'), last);
        let field = |i| fields.field(line.as_bytes(), i).unwrap();
        (0..fields.count())
            .map(|i| String::from_utf8(field(i).to_vec()).unwrap())
            .collect()
    }

    #[test]
    fn fields_are_split_up_to_the_last_that_counts() {
        assert_eq!(split("a; b ;;d", 9), ["a", "b", "", "d"]);
        assert_eq!(split("a;b;c;d", 1), ["a", "b"]);
        assert_eq!(split("", 9), [""]);
        assert_eq!(split("a;", 9), ["a", ""]);
    }

    #[test]
    fn fields_of_any_length_are_found_wherever_they_begin() {
        for length in 0..40 {
            let line: String = (0..length)
                .map(|i| if i % 3 == 0 || i % 7 == 2 { ';' } else { ':' })
                .collect();
            let expected: Vec<&str> = line.split(';').collect();
            assert_eq!(split(&line, 99), expected);
            for last in 0..expected.len() {
                assert_eq!(split(&line, last), expected[..=last]);
            }
        }
    }

    #[test]
    fn quotes_hold_delimiters_and_doubled_quotes() {
        assert_eq!(split(r#""a;b";"c""d";e"#, 9), ["a;b", "c\"d", "e"]);
        assert_eq!(split(r#" "a" ;"";x"y"#, 9), ["a", "", "x\"y"]);
        assert_eq!(split(r#""a";"b";c"#, 1), ["a", "b"]);
    }

    #[test]
    fn a_quote_that_is_not_closed_ends_the_row() {
        assert_eq!(split(r#"a;"b;c"#, 9), ["a"]);
        assert_eq!(split(r#"""#, 9), [""; 0]);
    }
}
