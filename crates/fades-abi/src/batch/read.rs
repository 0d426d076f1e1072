//! Reading a batch: every bound is checked once, when the batch is opened.

use zerocopy::FromBytes;

use super::{
    BATCH_MAGIC, BATCH_MAJOR, BatchError, COLUMN_ALIGN, Column, Header, SERIES_COMPLETE, Series,
    Text, column, kind,
};

/// A batch whose layout has been checked.
///
/// The bytes are read in place: they must not change while the batch is
/// borrowed, which holds for a function because batches are mapped read-only
/// and nobody else may write them.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    header: &'a Header,
    series: &'a [Series],
    strings: &'a [u8],
    time: &'a [i64],
    value: &'a [f64],
    mark: Option<&'a [u8]>,
}

/// The rows of one series in one batch, sorted by time.
#[derive(Debug, Clone, Copy)]
pub struct SeriesRows<'a> {
    /// Number of the series, the same in all batches of a run.
    pub id: u32,
    /// Identifier of the device.
    pub device: &'a str,
    /// What was measured, such as `temperature`.
    pub kind: &'a str,
    /// Unit as a UCUM code; may be empty.
    pub unit: &'a str,
    /// Where the device was; may be empty.
    pub location: &'a str,
    /// No later batch of this DTO has rows of this series.
    pub complete: bool,
    /// Times, ns since 1970-01-01T00:00Z, ascending.
    pub time: &'a [i64],
    /// Values, finite.
    pub value: &'a [f64],
    /// Bits of [`super::mark`] for each row, if any row of the batch has one.
    pub mark: Option<&'a [u8]>,
}

impl<'a> Batch<'a> {
    /// Opens a batch. Checks header, columns and series table; costs time
    /// proportional to the number of series, not of rows.
    ///
    /// # Errors
    /// Says which rule of the layout the bytes break.
    pub fn open(bytes: &'a [u8]) -> Result<Self, BatchError> {
        if bytes.len() < size_of::<Header>() {
            return Err(BatchError::Short);
        }
        if !(bytes.as_ptr() as usize).is_multiple_of(8) {
            return Err(BatchError::Unaligned);
        }
        let (header, _) = Header::ref_from_prefix(bytes).map_err(|_| BatchError::Short)?;
        if header.magic != BATCH_MAGIC {
            return Err(BatchError::Magic);
        }
        if header.major != BATCH_MAJOR {
            return Err(BatchError::Version(header.major));
        }
        let used = usize::try_from(header.used).map_err(|_| BatchError::Short)?;
        let bytes = bytes.get(..used).ok_or(BatchError::Short)?;
        if (header.header_length as usize) < size_of::<Header>() {
            return Err(BatchError::Header);
        }
        let columns: &[Column] =
            table(bytes, header.header_length.into(), header.columns).ok_or(BatchError::Header)?;
        let series: &[Series] =
            table(bytes, header.series_offset, header.series).ok_or(BatchError::Header)?;
        let strings =
            span(bytes, header.strings_offset, header.strings_length).ok_or(BatchError::Header)?;

        let (mut time, mut value, mut mark) = (None, None, None);
        for c in columns {
            match c.id {
                column::TIME => time = Some(cells(bytes, c, kind::I64, header.rows)?),
                column::VALUE => value = Some(cells(bytes, c, kind::F64, header.rows)?),
                column::MARK => mark = Some(cells(bytes, c, kind::U8, header.rows)?),
                _ => {}
            }
        }
        let batch = Self {
            header,
            series,
            strings,
            time: time.ok_or(BatchError::MissingColumn(column::TIME))?,
            value: value.ok_or(BatchError::MissingColumn(column::VALUE))?,
            mark,
        };
        batch.check_series()?;
        Ok(batch)
    }

    fn check_series(&self) -> Result<(), BatchError> {
        let mut next = 0_u64;
        for (i, s) in (0_u32..).zip(self.series) {
            if s.first_row != next {
                return Err(BatchError::Rows(i));
            }
            next = next.checked_add(s.rows).ok_or(BatchError::Rows(i))?;
            if next > self.header.rows {
                return Err(BatchError::Rows(i));
            }
            for text in [s.device, s.kind, s.unit, s.location] {
                self.text(text).ok_or(BatchError::Text(i))?;
            }
        }
        if next == self.header.rows {
            Ok(())
        } else {
            Err(BatchError::Rows(self.header.series))
        }
    }

    fn text(&self, text: Text) -> Option<&'a str> {
        core::str::from_utf8(span(self.strings, text.offset.into(), text.length.into())?).ok()
    }

    /// Index of the DTO in the task.
    #[must_use]
    pub const fn dto(&self) -> u32 {
        self.header.dto
    }

    /// Number of this batch within its DTO, from 0.
    #[must_use]
    pub const fn sequence(&self) -> u32 {
        self.header.sequence
    }

    /// How the batches of the DTO follow each other, one of [`super::order`].
    #[must_use]
    pub const fn order(&self) -> u32 {
        self.header.order
    }

    /// Number of rows.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.time.len()
    }

    /// Times of all rows, ns since 1970-01-01T00:00Z, series after series.
    #[must_use]
    pub const fn time(&self) -> &'a [i64] {
        self.time
    }

    /// Values of all rows, series after series.
    #[must_use]
    pub const fn value(&self) -> &'a [f64] {
        self.value
    }

    /// The series with their rows.
    pub fn series(&self) -> impl ExactSizeIterator<Item = SeriesRows<'a>> + '_ {
        self.series.iter().map(move |s| {
            // `open` has checked every span and text; an empty slice here would
            // mean that the bytes changed since.
            let rows = s.first_row as usize..(s.first_row + s.rows) as usize;
            SeriesRows {
                id: s.id,
                device: self.text(s.device).unwrap_or_default(),
                kind: self.text(s.kind).unwrap_or_default(),
                unit: self.text(s.unit).unwrap_or_default(),
                location: self.text(s.location).unwrap_or_default(),
                complete: s.flags & SERIES_COMPLETE != 0,
                time: self.time.get(rows.clone()).unwrap_or_default(),
                value: self.value.get(rows.clone()).unwrap_or_default(),
                mark: self.mark.and_then(|m| m.get(rows)),
            }
        })
    }
}

/// `length` bytes of `bytes` from `offset` on.
fn span(bytes: &[u8], offset: u64, length: u64) -> Option<&[u8]> {
    let end = offset.checked_add(length)?;
    bytes.get(usize::try_from(offset).ok()?..usize::try_from(end).ok()?)
}

fn table<T: FromBytes + zerocopy::Immutable>(bytes: &[u8], offset: u64, n: u32) -> Option<&[T]> {
    let bytes = span(
        bytes,
        offset,
        u64::from(n).checked_mul(size_of::<T>() as u64)?,
    )?;
    <[T]>::ref_from_bytes(bytes).ok()
}

fn cells<'a, T: FromBytes + zerocopy::Immutable>(
    bytes: &'a [u8],
    c: &Column,
    kind: u32,
    rows: u64,
) -> Result<&'a [T], BatchError> {
    let wrong = BatchError::Column(c.id);
    let length = rows.checked_mul(size_of::<T>() as u64).ok_or(wrong)?;
    if c.kind != kind || c.length != length || !c.offset.is_multiple_of(COLUMN_ALIGN as u64) {
        return Err(wrong);
    }
    let bytes = span(bytes, c.offset, length).ok_or(wrong)?;
    <[T]>::ref_from_bytes(bytes).map_err(|_| wrong)
}
