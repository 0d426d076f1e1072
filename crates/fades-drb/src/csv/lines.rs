//! Lines of a stream, in bounded memory.

use std::cell::Cell;
use std::io::{self, Read};

/// Longest line, bytes; a longer one is reported without its text.
pub(crate) const MAX_LINE: usize = 64 << 10;

/// What some programs write at the start of UTF-8 texts.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

const BUFFER: usize = 4 * MAX_LINE;

thread_local! {
    /// The buffer of the last stream: a thread reads thousands of small files.
    static SPARE: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// A line without its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    Text(&'a [u8]),
    TooLong,
}

/// Takes a stream apart at its line breaks.
pub(crate) struct Lines<R> {
    source: R,
    /// Larger than a line may be, so that there is always room for more.
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// Bytes of the stream before `buffer[start]`.
    offset: u64,
    ended: bool,
}

impl<R> Drop for Lines<R> {
    fn drop(&mut self) {
        SPARE.set(Some(std::mem::take(&mut self.buffer)));
    }
}

impl<R: Read> Lines<R> {
    /// `offset` is where in the whole text the stream begins.
    pub(crate) fn new(source: R, offset: u64) -> Self {
        Self {
            source,
            buffer: SPARE.take().unwrap_or_else(|| vec![0; BUFFER].into()),
            start: 0,
            end: 0,
            offset,
            ended: false,
        }
    }

    /// Offset of the next line in the whole text, bytes.
    pub(crate) const fn offset(&self) -> u64 {
        self.offset
    }

    /// The next line. The last one needs no line break.
    pub(crate) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        let mut searched = 0;
        loop {
            let have = &self.buffer[self.start..self.end];
            if let Some(at) = memchr::memchr(b'\n', &have[searched..]) {
                return Ok(Some(self.take(searched + at, 1)));
            }
            searched = have.len();
            if searched > MAX_LINE {
                self.skip_line()?;
                return Ok(Some(Line::TooLong));
            }
            if self.ended {
                return Ok((searched > 0).then(|| self.take(searched, 0)));
            }
            self.fill()?;
        }
    }

    /// The line of `length` bytes, and goes on behind its `ends` end bytes.
    fn take(&mut self, length: usize, ends: usize) -> Line<'_> {
        let text = &self.buffer[self.start..self.start + length];
        let first = self.offset == 0;
        self.start += length + ends;
        self.offset += (length + ends) as u64;
        if length > MAX_LINE {
            return Line::TooLong;
        }
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        match text.strip_prefix(BYTE_ORDER_MARK) {
            Some(text) if first => Line::Text(text),
            _ => Line::Text(text),
        }
    }

    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let have = &self.buffer[self.start..self.end];
            let (skip, found) = match memchr::memchr(b'\n', have) {
                Some(at) => (at + 1, true),
                None => (have.len(), false),
            };
            self.start += skip;
            self.offset += skip as u64;
            if found || self.ended {
                return Ok(());
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        loop {
            match self.source.read(&mut self.buffer[self.end..]) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
                Ok(0) => {
                    self.ended = true;
                    return Ok(());
                }
                Ok(n) => {
                    self.end += n;
                    return Ok(());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BUFFER, Line, Lines, MAX_LINE};
    use proptest::prelude::{any, prop, proptest};

    /// Gives its bytes in small pieces.
    struct Trickle<'a>(&'a [u8], usize);

    impl std::io::Read for Trickle<'_> {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            let n = self.1.min(self.0.len()).min(into.len());
            into[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    fn lines(text: &[u8], piece: usize) -> Vec<Option<Vec<u8>>> {
        let mut lines = Lines::new(Trickle(text, piece), 0);
        let mut found = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            found.push(match line {
                Line::Text(t) => Some(t.to_vec()),
                Line::TooLong => None,
            });
        }
        assert_eq!(lines.offset(), text.len() as u64);
        found
    }

    #[test]
    fn ends_of_lines_are_taken_off() {
        let text = |t: &str| Some(t.as_bytes().to_vec());
        assert_eq!(lines(b"a\r\n\nb", 2), [text("a"), text(""), text("b")]);
        assert_eq!(lines(b"", 1), []);
        assert_eq!(lines(b"\n", 1), [text("")]);
    }

    #[test]
    fn a_line_without_end_costs_no_memory_and_the_next_one_is_found() {
        for length in [MAX_LINE + 1, BUFFER, 3 * BUFFER + 7] {
            let mut text = vec![b'x'; length];
            text.extend(b"\nnext");
            assert_eq!(
                lines(&text, 1 << 20),
                [None, Some(b"next".to_vec())],
                "{length}"
            );
        }
        let longest = vec![b'x'; MAX_LINE];
        assert_eq!(lines(&longest, 1 << 20), [Some(longest)]);
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(
            text in prop::collection::vec(prop::sample::select(b"ab\r\n".to_vec()), 0..80),
            piece in 1_usize..9,
            _x in any::<bool>(),
        ) {
            let mut expected: Vec<_> = text.split(|&b| b == b'\n')
                .map(|l| Some(l.strip_suffix(b"\r").unwrap_or(l).to_vec())).collect();
            if expected.last() == Some(&Some(vec![])) && text.last() != Some(&b'\r') {
                expected.pop();
            }
            assert_eq!(lines(&text, piece), expected);
        }
    }
}
