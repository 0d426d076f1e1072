//! Writing a batch into memory that the caller provides.

use zerocopy::{FromBytes, IntoBytes};

use super::{
    BATCH_MAGIC, BATCH_MAJOR, BATCH_MINOR, BatchError, COLUMN_ALIGN, Column, Header,
    SERIES_COMPLETE, Series, Text, column, kind,
};

/// A series that a batch shall have.
#[derive(Debug, Clone, Copy)]
pub struct SeriesSpec<'a> {
    /// Number of the series, the same in all batches of a run.
    pub id: u32,
    /// Identifier of the device.
    pub device: &'a str,
    /// What was measured.
    pub kind: &'a str,
    /// Unit as a UCUM code; may be empty.
    pub unit: &'a str,
    /// Where the device was; may be empty.
    pub location: &'a str,
    /// Number of rows in this batch.
    pub rows: u64,
    /// No later batch of this DTO has rows of this series.
    pub complete: bool,
}

/// A batch being written: header and series table are in place, the columns
/// are zero until the caller fills them.
#[derive(Debug)]
pub struct Draft<'a> {
    /// Times, ns since 1970-01-01T00:00Z, series after series.
    pub time: &'a mut [i64],
    /// Values, series after series.
    pub value: &'a mut [f64],
    /// Bits of [`super::mark`], when the draft was made with marks.
    pub mark: Option<&'a mut [u8]>,
}

struct Layout {
    rows: usize,
    series_offset: usize,
    strings_offset: usize,
    strings_length: usize,
    /// Offsets of time, value and mark.
    columns: [usize; 3],
    used: usize,
}

fn layout(series: &[SeriesSpec<'_>], marks: bool) -> Layout {
    let rows: u64 = series.iter().map(|s| s.rows).sum();
    let rows = rows as usize;
    let columns = if marks { 3 } else { 2 };
    let series_offset = size_of::<Header>() + columns * size_of::<Column>();
    let strings_offset = series_offset + size_of_val_of::<Series>(series.len());
    let strings_length = series
        .iter()
        .map(|s| s.device.len() + s.kind.len() + s.unit.len() + s.location.len())
        .sum::<usize>();
    let time = (strings_offset + strings_length).next_multiple_of(COLUMN_ALIGN);
    let value = (time + rows * 8).next_multiple_of(COLUMN_ALIGN);
    let mark = (value + rows * 8).next_multiple_of(COLUMN_ALIGN);
    Layout {
        rows,
        series_offset,
        strings_offset,
        strings_length,
        columns: [time, value, mark],
        used: if marks { mark + rows } else { value + rows * 8 },
    }
}

const fn size_of_val_of<T>(n: usize) -> usize {
    n * size_of::<T>()
}

/// Bytes that a batch of these series takes, before padding to whole pages.
#[must_use]
pub fn encoded_length(series: &[SeriesSpec<'_>], marks: bool) -> usize {
    layout(series, marks).used
}

impl<'a> Draft<'a> {
    /// Lays a batch out in `memory`, which must be zero and aligned to eight
    /// bytes (to 64 for columns that are aligned in memory too).
    ///
    /// # Errors
    /// [`BatchError::Full`] when `memory` is too short,
    /// [`BatchError::Unaligned`] when it is not aligned.
    pub fn new(
        memory: &'a mut [u8],
        dto: u32,
        sequence: u32,
        order: u32,
        series: &[SeriesSpec<'_>],
        marks: bool,
    ) -> Result<Self, BatchError> {
        let l = layout(series, marks);
        if !(memory.as_ptr() as usize).is_multiple_of(8) {
            return Err(BatchError::Unaligned);
        }
        let memory = memory.get_mut(..l.used).ok_or(BatchError::Full(l.used))?;
        let columns = if marks { 3_u32 } else { 2 };
        put(
            memory,
            0,
            &Header {
                magic: BATCH_MAGIC,
                major: BATCH_MAJOR,
                minor: BATCH_MINOR,
                header_length: size_of::<Header>() as u32,
                used: l.used as u64,
                rows: l.rows as u64,
                dto,
                sequence,
                order,
                columns,
                series_offset: l.series_offset as u64,
                series: series.len() as u32,
                reserved: 0,
                strings_offset: l.strings_offset as u64,
                strings_length: l.strings_length as u64,
                spare: [0; 6],
            },
        );
        let described = [
            (column::TIME, kind::I64, l.rows * 8),
            (column::VALUE, kind::F64, l.rows * 8),
            (column::MARK, kind::U8, l.rows),
        ];
        for (i, (id, kind, length)) in described.into_iter().take(columns as usize).enumerate() {
            let offset = l.columns[i] as u64;
            put(
                memory,
                size_of::<Header>() + i * size_of::<Column>(),
                &Column {
                    id,
                    kind,
                    offset,
                    length: length as u64,
                    reserved: 0,
                },
            );
        }
        write_series(memory, &l, series);
        Ok(Self::columns_of(memory, &l, marks))
    }

    fn columns_of(memory: &'a mut [u8], l: &Layout, marks: bool) -> Self {
        let (_, rest) = memory.split_at_mut(l.columns[0]);
        let (time, rest) = rest.split_at_mut(l.columns[1] - l.columns[0]);
        let value_end = if marks {
            l.columns[2] - l.columns[1]
        } else {
            l.rows * 8
        };
        let (value, mark) = rest.split_at_mut(value_end);
        Self {
            time: whole(&mut time[..l.rows * 8]),
            value: whole(&mut value[..l.rows * 8]),
            mark: marks.then_some(mark),
        }
    }
}

/// Views bytes as cells. The caller has cut them to a whole number of cells at
/// an eight-byte boundary, so the empty fallback is never taken.
fn whole<T: FromBytes + IntoBytes>(bytes: &mut [u8]) -> &mut [T] {
    <[T]>::mut_from_bytes(bytes).unwrap_or_default()
}

fn put<T: IntoBytes + zerocopy::Immutable>(memory: &mut [u8], offset: usize, value: &T) {
    memory[offset..offset + size_of::<T>()].copy_from_slice(value.as_bytes());
}

fn write_series(memory: &mut [u8], l: &Layout, series: &[SeriesSpec<'_>]) {
    let (mut row, mut string) = (0_u64, 0_usize);
    for (i, s) in series.iter().enumerate() {
        let mut text = |memory: &mut [u8], t: &str| {
            let at = l.strings_offset + string;
            memory[at..at + t.len()].copy_from_slice(t.as_bytes());
            let text = Text {
                offset: string as u32,
                length: t.len() as u32,
            };
            string += t.len();
            text
        };
        let entry = Series {
            id: s.id,
            flags: if s.complete { SERIES_COMPLETE } else { 0 },
            first_row: row,
            rows: s.rows,
            device: text(memory, s.device),
            kind: text(memory, s.kind),
            unit: text(memory, s.unit),
            location: text(memory, s.location),
            reserved: 0,
        };
        put(memory, l.series_offset + i * size_of::<Series>(), &entry);
        row += s.rows;
    }
}
