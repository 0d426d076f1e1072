//! Answers of 1.x in MessagePack, read as they come.
//!
//! An answer is a sequence of messages, each a map:
//! `{results: [{statement_id, series: [{name, tags, columns, values, partial}],
//! partial, error}], error}`. Rows go to whoever asked while they are read;
//! nothing that the server sends makes this hold more than one row, and lengths
//! that it states are not believed.

use std::io::{self, BufRead, Read};

use rmp::Marker;

/// Why an answer cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum MsgpackError<E> {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{0}")]
    Malformed(&'static str),
    #[error("{0}")]
    Server(String),
    /// Whoever takes the rows has enough.
    #[error(transparent)]
    Taker(E),
}

/// What stands before the rows of a series.
#[derive(Debug, Default)]
pub(super) struct Head {
    pub(super) statement: usize,
    pub(super) tags: Vec<(String, String)>,
    pub(super) columns: usize,
}

/// What an answer came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Whole {
    /// The last message said that more would follow.
    pub(super) partial: bool,
}

/// Longest name or text, bytes. The server's own limit for a key is 64 KiB.
const LONGEST: u32 = 64 << 10;

/// Most entries of a map, and most columns.
const MOST: u32 = 1024;

/// How deep a value that nobody asked for may go.
const DEEPEST: usize = 8;

type Result<T, E> = std::result::Result<T, MsgpackError<E>>;

/// Reads a whole answer. `rows` is given the head of a series and the number of
/// its rows, which it must read, see [`reading`] and [`text_row`].
pub(super) fn answer<R: BufRead, E>(
    reader: &mut R,
    mut rows: impl FnMut(&Head, &mut R, u32) -> Result<(), E>,
) -> Result<Whole, E> {
    let mut whole = Whole { partial: true };
    while !reader.fill_buf()?.is_empty() {
        message(reader, &mut whole, &mut rows)?;
    }
    Ok(whole)
}

fn message<R: BufRead, E>(
    reader: &mut R,
    whole: &mut Whole,
    rows: &mut impl FnMut(&Head, &mut R, u32) -> Result<(), E>,
) -> Result<(), E> {
    for _ in 0..map(reader)? {
        match text(reader)?.as_str() {
            "results" => {
                for _ in 0..array(reader)?.min(MOST) {
                    result(reader, whole, rows)?;
                }
            }
            "error" => return Err(MsgpackError::Server(text(reader)?)),
            _ => skip(reader, 0)?,
        }
    }
    Ok(())
}

fn result<R: BufRead, E>(
    reader: &mut R,
    whole: &mut Whole,
    rows: &mut impl FnMut(&Head, &mut R, u32) -> Result<(), E>,
) -> Result<(), E> {
    let mut head = Head::default();
    whole.partial = false;
    for _ in 0..map(reader)? {
        match text(reader)?.as_str() {
            "statement_id" => {
                let id = integer(reader)?;
                head.statement = usize::try_from(id).map_err(|_| malformed("statement_id"))?;
            }
            "series" => {
                for _ in 0..array(reader)? {
                    series(reader, &mut head, rows)?;
                }
            }
            "error" => return Err(MsgpackError::Server(text(reader)?)),
            "partial" => whole.partial = boolean(reader)?,
            _ => skip(reader, 0)?,
        }
    }
    Ok(())
}

fn series<R: BufRead, E>(
    reader: &mut R,
    head: &mut Head,
    rows: &mut impl FnMut(&Head, &mut R, u32) -> Result<(), E>,
) -> Result<(), E> {
    (head.tags, head.columns) = (Vec::new(), 0);
    for _ in 0..map(reader)? {
        match text(reader)?.as_str() {
            "tags" => {
                let mut length = 0;
                for _ in 0..map(reader)? {
                    let (name, value) = (text(reader)?, text(reader)?);
                    length += name.len() + value.len();
                    if length > LONGEST as usize {
                        return Err(malformed("tags of more than 64 KiB"));
                    }
                    head.tags.push((name, value));
                }
            }
            "columns" => {
                let columns = array(reader)?;
                for _ in 0..columns {
                    text(reader)?;
                }
                head.columns = columns as usize;
            }
            "values" => {
                let n = array(reader)?;
                rows(head, reader, n)?;
            }
            _ => skip(reader, 0)?,
        }
    }
    Ok(())
}

/// A row of time and value; the value is `None` when there is none, and NaN when
/// it is no number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) time: i64,
    pub(super) value: Option<f64>,
}

/// What a row as it mostly stands takes at the most, bytes.
const ROW: usize = 19;

/// Reads `n` rows of time and value.
pub(super) fn readings<R: BufRead, E>(
    reader: &mut R,
    n: u32,
    mut each: impl FnMut(Row) -> Result<(), E>,
) -> Result<(), E> {
    let mut left = n;
    while left > 0 {
        let buffer = reader.fill_buf()?;
        let mut at = 0;
        while left > 0
            && let Some(row) = buffer.get(at..at + ROW)
            && let Some((row, length)) = usual(row)
        {
            each(row)?;
            at += length;
            left -= 1;
        }
        reader.consume(at);
        if left > 0 {
            each(reading(reader)?)?;
            left -= 1;
        }
    }
    Ok(())
}

/// A row of two numbers, at the start of `bytes`; with its length.
fn usual(bytes: &[u8]) -> Option<(Row, usize)> {
    let bytes: &[u8; ROW] = bytes.try_into().ok()?;
    if bytes[0] != 0x92 {
        return None;
    }
    let (time, at) = match bytes[1] {
        0xd3 => (i64::from_be_bytes(array_of(&bytes[2..10])?), 10),
        0xd2 => (i64::from(i32::from_be_bytes(array_of(&bytes[2..6])?)), 6),
        _ => return None,
    };
    let (value, end) = match bytes[at] {
        0xcb => (
            f64::from_be_bytes(array_of(&bytes[at + 1..at + 9])?),
            at + 9,
        ),
        small @ 0..0x80 => (f64::from(small), at + 1),
        _ => return None,
    };
    let value = Some(value);
    Some((Row { time, value }, end))
}

fn array_of<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

fn reading<R: BufRead, E>(reader: &mut R) -> Result<Row, E> {
    if array(reader)? != 2 {
        return Err(malformed("a row of other than two columns"));
    }
    let time = time(reader)?;
    let value = match marker(reader)? {
        Marker::Null => None,
        Marker::True => Some(1.0),
        Marker::False => Some(0.0),
        Marker::F64 => Some(f64::from_be_bytes(bytes(reader)?)),
        Marker::F32 => Some(f64::from(f32::from_be_bytes(bytes(reader)?))),
        Marker::U64 => Some(u64::from_be_bytes(bytes(reader)?) as f64),
        m if string_length::<R, E>(m, reader)?.is_some_and(|n| n <= LONGEST) => Some(f64::NAN),
        m => Some(integer_of(m, reader)? as f64),
    };
    Ok(Row { time, value })
}

/// A row of one text.
pub(super) fn text_row<R: BufRead, E>(reader: &mut R) -> Result<String, E> {
    if array(reader)? != 1 {
        return Err(malformed("a row of other than one column"));
    }
    text(reader)
}

/// A time: a number of ns, or seconds and ns since 1970 UTC in an extension of
/// the server's own (number 5).
fn time<R: BufRead, E>(reader: &mut R) -> Result<i64, E> {
    let marker = marker(reader)?;
    if !matches!(marker, Marker::Ext8) {
        return integer_of(marker, reader);
    }
    let [length, kind] = bytes::<2, R, E>(reader)?;
    if (length, kind) != (12, 5) {
        return Err(malformed("an unknown extension"));
    }
    let seconds = i64::from_be_bytes(bytes(reader)?);
    let rest = i64::from(i32::from_be_bytes(bytes(reader)?));
    let time = seconds.checked_mul(1_000_000_000);
    time.and_then(|t| t.checked_add(rest))
        .ok_or_else(|| malformed("a time beyond 1677 to 2262"))
}

fn marker<R: Read, E>(reader: &mut R) -> Result<Marker, E> {
    rmp::decode::read_marker(reader).map_err(|e| MsgpackError::Io(e.0))
}

fn bytes<const N: usize, R: Read, E>(reader: &mut R) -> Result<[u8; N], E> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn integer<R: Read, E>(reader: &mut R) -> Result<i64, E> {
    let marker = marker(reader)?;
    integer_of(marker, reader)
}

fn integer_of<R: Read, E>(marker: Marker, reader: &mut R) -> Result<i64, E> {
    Ok(match marker {
        Marker::FixPos(n) => n.into(),
        Marker::FixNeg(n) => n.into(),
        Marker::U8 => u8::from_be_bytes(bytes(reader)?).into(),
        Marker::U16 => u16::from_be_bytes(bytes(reader)?).into(),
        Marker::U32 => u32::from_be_bytes(bytes(reader)?).into(),
        Marker::U64 => i64::try_from(u64::from_be_bytes(bytes(reader)?))
            .map_err(|_| malformed("a number beyond 63 bits"))?,
        Marker::I8 => i8::from_be_bytes(bytes(reader)?).into(),
        Marker::I16 => i16::from_be_bytes(bytes(reader)?).into(),
        Marker::I32 => i32::from_be_bytes(bytes(reader)?).into(),
        Marker::I64 => i64::from_be_bytes(bytes(reader)?),
        _ => return Err(malformed("no number where one belongs")),
    })
}

fn boolean<R: Read, E>(reader: &mut R) -> Result<bool, E> {
    match marker(reader)? {
        Marker::True => Ok(true),
        Marker::False => Ok(false),
        _ => Err(malformed("neither true nor false where one belongs")),
    }
}

fn map<R: Read, E>(reader: &mut R) -> Result<u32, E> {
    let n = match marker(reader)? {
        Marker::FixMap(n) => n.into(),
        Marker::Map16 => u16::from_be_bytes(bytes(reader)?).into(),
        Marker::Map32 => u32::from_be_bytes(bytes(reader)?),
        _ => return Err(malformed("no map where one belongs")),
    };
    if n > MOST {
        return Err(malformed("a map of too many entries"));
    }
    Ok(n)
}

fn array<R: Read, E>(reader: &mut R) -> Result<u32, E> {
    Ok(match marker(reader)? {
        Marker::FixArray(n) => n.into(),
        Marker::Array16 => u16::from_be_bytes(bytes(reader)?).into(),
        Marker::Array32 => u32::from_be_bytes(bytes(reader)?),
        _ => return Err(malformed("no list where one belongs")),
    })
}

/// The length of a text that `marker` begins, whose bytes are skipped.
fn string_length<R: BufRead, E>(marker: Marker, reader: &mut R) -> Result<Option<u32>, E> {
    let Some(length) = length_of(marker, reader)? else {
        return Ok(None);
    };
    discard(reader, length.into())?;
    Ok(Some(length))
}

fn length_of<R: Read, E>(marker: Marker, reader: &mut R) -> Result<Option<u32>, E> {
    let length = match marker {
        Marker::FixStr(n) => n.into(),
        Marker::Str8 => u8::from_be_bytes(bytes(reader)?).into(),
        Marker::Str16 => u16::from_be_bytes(bytes(reader)?).into(),
        Marker::Str32 => u32::from_be_bytes(bytes(reader)?),
        _ => return Ok(None),
    };
    if length > LONGEST {
        return Err(malformed("a text of more than 64 KiB"));
    }
    Ok(Some(length))
}

fn text<R: Read, E>(reader: &mut R) -> Result<String, E> {
    let marker = marker(reader)?;
    let length =
        length_of(marker, reader)?.ok_or_else(|| malformed("no text where one belongs"))?;
    let mut text = vec![0; length as usize];
    reader.read_exact(&mut text)?;
    String::from_utf8(text).map_err(|_| malformed("a text that is not UTF-8"))
}

fn discard<R: BufRead, E>(reader: &mut R, length: u64) -> Result<(), E> {
    let skipped = io::copy(&mut reader.take(length), &mut io::sink())?;
    if skipped < length {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(())
}

/// Skips a value that nobody asked for.
fn skip<R: BufRead, E>(reader: &mut R, depth: usize) -> Result<(), E> {
    if depth > DEEPEST {
        return Err(malformed("lists in lists in lists"));
    }
    let marker = marker(reader)?;
    let within = match marker {
        Marker::FixArray(n) => n.into(),
        Marker::Array16 => u16::from_be_bytes(bytes(reader)?).into(),
        Marker::Array32 => u32::from_be_bytes(bytes(reader)?),
        Marker::FixMap(n) => 2 * u32::from(n),
        Marker::Map16 => 2 * u32::from(u16::from_be_bytes(bytes(reader)?)),
        Marker::Null | Marker::True | Marker::False => 0,
        Marker::F32 => bytes::<4, R, E>(reader).map(|_| 0)?,
        Marker::F64 | Marker::U64 => bytes::<8, R, E>(reader).map(|_| 0)?,
        m => match string_length::<R, E>(m, reader)? {
            Some(_) => 0,
            None => integer_of::<R, E>(m, reader).map(|_| 0)?,
        },
    };
    if within > MOST {
        return Err(malformed("a list of too many entries"));
    }
    (0..within).try_for_each(|_| skip(reader, depth + 1))
}

fn malformed<E>(what: &'static str) -> MsgpackError<E> {
    MsgpackError::Malformed(what)
}

#[cfg(test)]
mod tests;
