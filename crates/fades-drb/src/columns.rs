//! Parquet files as bytes that are not trusted.
//!
//! [`Blob`] gives the `parquet` crate what it asks for as long as that is in the
//! file and no page claims to be giant. Decoders of the crate that panic are
//! turned into errors by [`guarded`].

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;
use rustix::buffer::spare_capacity;

/// Largest page, uncompressed, that is decoded; writers make pages of about 1 MiB.
const LARGEST_PAGE: i64 = 64 << 20;

/// Largest footer that is read.
const LARGEST_FOOTER: u64 = 64 << 20;

/// Why a Parquet file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BlobError {
    #[error("cannot be opened: {0}")]
    Open(io::Error),
    #[error("is no Parquet file, or damaged: {0}")]
    Format(ParquetError),
    #[error("is damaged: a decoder gave up")]
    Decoder,
    #[error("has a footer of {0} bytes: more than 64 MiB are not read")]
    Footer(u64),
}

impl From<ParquetError> for BlobError {
    fn from(e: ParquetError) -> Self {
        Self::Format(e)
    }
}

/// A file of which any part can be read.
#[derive(Debug)]
pub(crate) struct Blob {
    file: Arc<File>,
    len: u64,
}

impl Blob {
    pub(crate) fn open(path: &Path) -> Result<Self, BlobError> {
        let file = File::open(path).map_err(BlobError::Open)?;
        let metadata = file.metadata().map_err(BlobError::Open)?;
        Ok(Self {
            file: file.into(),
            len: if metadata.is_file() {
                metadata.len()
            } else {
                0
            },
        })
    }

    /// What the footer says.
    pub(crate) fn metadata(&self) -> Result<ParquetMetaData, BlobError> {
        let mut tail = [0; 8];
        if let Some(at) = self.len.checked_sub(8) {
            let read = self.file.read_exact_at(&mut tail, at);
            read.map_err(BlobError::Open)?;
            let [a, b, c, d, ..] = tail;
            let footer = u64::from(u32::from_le_bytes([a, b, c, d]));
            if footer > LARGEST_FOOTER && footer < self.len {
                return Err(BlobError::Footer(footer));
            }
        }
        guarded(|| Ok(ParquetMetaDataReader::new().parse_and_finish(self)?))
    }
}

/// Lets a decoder work on what is not trusted; a panic of it is an error.
pub(crate) fn guarded<T>(decode: impl FnOnce() -> Result<T, BlobError>) -> Result<T, BlobError> {
    // Whatever it was working on is thrown away with the error.
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or(Err(BlobError::Decoder))
}

impl Length for Blob {
    fn len(&self) -> u64 {
        self.len
    }
}

impl ChunkReader for Blob {
    type T = Header;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Header> {
        Ok(Header {
            file: Arc::clone(&self.file),
            at: start,
            ahead: Vec::new(),
            used: 0,
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let end = start.checked_add(length as u64);
        if end.is_none_or(|end| end > self.len) {
            let what = format!("{length} bytes at {start} of {}", self.len);
            return Err(ParquetError::EOF(what));
        }
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let at = start + bytes.len() as u64;
            let got = rustix::io::pread(&*self.file, spare_capacity(&mut bytes), at)
                .map_err(io::Error::from)?;
            if got == 0 {
                return Err(ParquetError::EOF("the file became shorter".to_owned()));
            }
        }
        bytes.truncate(length);
        Ok(bytes.into())
    }
}

/// The pages of a column. A dictionary that claims more values than there can be in
/// its bytes is refused, because the crate makes room for all of them.
pub(crate) struct Pages(SerializedPageReader<Blob>);

impl Pages {
    /// Those of a column of a row group with so many rows.
    pub(crate) fn new(
        blob: &Arc<Blob>,
        chunk: &ColumnChunkMetaData,
        rows: usize,
    ) -> parquet::errors::Result<Self> {
        let pages = SerializedPageReader::new(Arc::clone(blob), chunk, rows, None)?;
        Ok(Self(pages))
    }
}

impl Iterator for Pages {
    type Item = parquet::errors::Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> parquet::errors::Result<Option<Page>> {
        let page = self.0.get_next_page()?;
        if let Some(Page::DictionaryPage {
            buf, num_values, ..
        }) = &page
            && *num_values as usize > buf.len()
        {
            let what = "a dictionary claims more values than it can have";
            return Err(ParquetError::General(what.to_owned()));
        }
        Ok(page)
    }

    fn peek_next_page(&mut self) -> parquet::errors::Result<Option<PageMetadata>> {
        self.0.peek_next_page()
    }

    fn skip_next_page(&mut self) -> parquet::errors::Result<()> {
        self.0.skip_next_page()
    }
}

/// The header of a page. It is looked at before the crate does, which would
/// make room for whatever it claims.
#[derive(Debug)]
pub(crate) struct Header {
    file: Arc<File>,
    at: u64,
    ahead: Vec<u8>,
    used: usize,
}

/// More than a header takes unless it has long statistics.
const AHEAD: usize = 512;

impl io::Read for Header {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.used == self.ahead.len() {
            let first = self.ahead.is_empty();
            self.ahead.resize(AHEAD, 0);
            let got = self.file.read_at(&mut self.ahead, self.at)?;
            self.ahead.truncate(got);
            (self.at, self.used) = (self.at + got as u64, 0);
            if first && claimed(&self.ahead).is_some_and(|size| size > LARGEST_PAGE) {
                return Err(io::Error::other("a page claims to be larger than 64 MiB"));
            }
        }
        let got = buffer.len().min(self.ahead.len() - self.used);
        buffer[..got].copy_from_slice(&self.ahead[self.used..][..got]);
        self.used += got;
        Ok(got)
    }
}

/// The uncompressed size that a page header claims: the second field of the
/// structure, in Thrift's compact protocol.
fn claimed(header: &[u8]) -> Option<i64> {
    /// The next field is an `i32`.
    const NEXT_I32: u8 = 0x15;
    let mut bytes = header.iter().copied();
    let mut field = || {
        (bytes.next()? == NEXT_I32).then_some(())?;
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = bytes.next()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some((number >> 1) as i64 ^ -((number & 1) as i64));
            }
        }
        None
    };
    field()?;
    field()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use parquet::file::reader::ChunkReader;

    use super::{Blob, claimed};

    #[test]
    fn the_size_that_a_page_claims_is_seen() {
        // type 0, size 300 (zigzag 600), as the crate writes it.
        assert_eq!(claimed(&[0x15, 0, 0x15, 0xd8, 0x04, 0x15]), Some(300));
        assert_eq!(claimed(&[0x15, 0, 0x15, 0x01]), Some(-1));
        assert_eq!(claimed(&[0x25, 0, 0x15, 0x01]), None);
        assert_eq!(claimed(&[0x15; 3]), None);
        assert_eq!(claimed(&[]), None);
    }

    #[test]
    fn a_giant_page_is_refused_before_room_is_made_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let giant = [0x15, 0, 0x15, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0x15, 2];
        std::fs::write(&path, giant).unwrap();
        let blob = Blob::open(&path).unwrap();
        let mut header = blob.get_read(0).unwrap();
        let error = header.read(&mut [0; 4]).unwrap_err().to_string();
        assert!(error.contains("larger than 64 MiB"), "{error}");
        assert!(blob.get_bytes(4, 100).is_err());
        assert_eq!(blob.get_bytes(1, 2).unwrap(), giant[1..3]);
    }
}
