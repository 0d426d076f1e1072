//! Log lines of a function: made harmless, and cut where they exceed the limit.

use fades_abi::gate::TEXT_MAX;

/// What a line costs besides its bytes, so that empty lines are not free.
const LINE: u64 = 1;

/// What is left of a run's limit for log bytes.
#[derive(Debug)]
pub(crate) struct Journal {
    left: u64,
    cut: u64,
}

impl Journal {
    /// A journal that takes `limit` bytes.
    pub(crate) const fn new(limit: u64) -> Self {
        Self {
            left: limit,
            cut: 0,
        }
    }

    /// The bytes of a line of `length` bytes that are worth copying, at most.
    pub(crate) fn worth(&self, length: u64) -> u64 {
        length.min(TEXT_MAX).min(self.left.saturating_sub(LINE))
    }

    /// Takes a line of which the function says that it has `length` bytes, and
    /// of which the first [`Self::worth`] were copied. `None` when nothing of it
    /// may be kept.
    pub(crate) fn take(&mut self, length: u64, copied: &[u8]) -> Option<String> {
        let kept = copied.len() as u64;
        // A function may claim any length; what counts is what it could have
        // sent.
        self.cut += length.min(TEXT_MAX).saturating_sub(kept);
        if length > TEXT_MAX {
            self.cut = self.cut.saturating_add(length - TEXT_MAX);
        }
        if self.left <= LINE && length > 0 || self.left == 0 {
            return None;
        }
        // What is made harmless may be three times as long.
        let mut text = harmless(copied);
        let room = usize::try_from(self.left - LINE.min(self.left)).unwrap_or(usize::MAX);
        let end = text.floor_char_boundary(room);
        self.cut = self.cut.saturating_add((text.len() - end) as u64);
        text.truncate(end);
        self.left = self.left.saturating_sub(end as u64 + LINE);
        Some(text)
    }

    /// Bytes that were cut so far.
    pub(crate) const fn cut(&self) -> u64 {
        self.cut
    }
}

/// `bytes` as text that cannot disturb a terminal or forge a line.
pub(crate) fn harmless(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let plain = |c: char| if is_harmful(c) { '\u{fffd}' } else { c };
    text.chars().map(plain).collect()
}

/// Control characters, line and paragraph separators, and the characters that
/// turn the direction of text.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{061c}'
        )
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(journal: &mut Journal, text: &[u8]) -> Option<String> {
        let worth = journal.worth(text.len() as u64) as usize;
        journal.take(text.len() as u64, &text[..worth])
    }

    #[test]
    fn lines_are_kept_until_the_limit_and_the_rest_is_counted() {
        let mut journal = Journal::new(10);
        assert_eq!(write(&mut journal, b"12345").unwrap(), "12345");
        assert_eq!(write(&mut journal, b"67890").unwrap(), "678");
        assert_eq!(write(&mut journal, b"rest"), None);
        assert_eq!(journal.cut(), 2 + 4);
    }

    #[test]
    fn what_is_made_harmless_counts_as_long_as_it_is_kept() {
        let mut journal = Journal::new(20);
        let kept = write(&mut journal, &[1; 10]).unwrap();
        assert_eq!(kept, "\u{fffd}".repeat(6));
        // 19 bytes were left for it, and 18 of 30 are kept.
        assert_eq!(journal.cut(), 12);
        assert_eq!(write(&mut journal, b"rest"), None);
    }

    #[test]
    fn empty_lines_are_not_free() {
        let mut journal = Journal::new(3);
        let lines = (0..100).filter_map(|_| write(&mut journal, b""));
        assert_eq!(lines.count(), 3);
    }

    #[test]
    fn a_long_line_is_cut_whatever_length_it_claims() {
        let mut journal = Journal::new(1 << 20);
        assert_eq!(journal.worth(u64::MAX), TEXT_MAX);
        let line = vec![b'x'; TEXT_MAX as usize];
        let kept = journal.take(u64::MAX, &line).unwrap();
        assert_eq!(kept.len() as u64, TEXT_MAX);
        assert_eq!(journal.cut(), u64::MAX - TEXT_MAX);
    }

    #[test]
    fn nothing_that_moves_a_cursor_gets_through() {
        let text = harmless("a\x1b[2J\r\nb\u{202e}c\u{2028}\x7f\u{9b}é".as_bytes());
        assert_eq!(
            text,
            "a\u{fffd}[2J\u{fffd}\u{fffd}b\u{fffd}c\u{fffd}\u{fffd}\u{fffd}é"
        );
        assert_eq!(harmless(b"\xff"), "\u{fffd}");
    }
}
