//! Heads: files to which readings are appended as they arrive, until they are
//! made into segments. See [`frame`] for what is in them.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{Disk, Tape, What};
use super::frame::{self, Body, Row};
use crate::series::SeriesKey;

/// A head that is written.
#[derive(Debug)]
pub(super) struct Head {
    disk: Arc<Disk>,
    tape: Tape,
    /// Bytes that are durable.
    length: u64,
    /// Numbers in the file, by those in the broker; [`NONE`] of those not in it.
    numbers: Vec<u32>,
    /// How many series are in the file.
    series: u32,
    buffer: Vec<u8>,
}

/// The number of a series that is not in the file.
const NONE: u32 = u32::MAX;

/// What a head that was found has.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) number: u64,
    path: PathBuf,
    length: u64,
    pub(super) series: Vec<SeriesKey>,
    /// Numbered as in the file.
    pub(super) rows: Vec<Row>,
    /// When something was written last.
    pub(super) at: Option<i64>,
    /// Bytes behind the last whole frame.
    pub(super) torn: u64,
    /// The last frame says that the broker ended.
    pub(super) closed: bool,
}

pub(super) fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:08}.head"))
}

pub(super) fn number(file: &str) -> Option<u64> {
    file.strip_suffix(".head")?.parse().ok()
}

impl Head {
    pub(super) fn create(disk: &Arc<Disk>, folder: &Path, number: u64) -> io::Result<Self> {
        let tape = disk.create(&path(folder, number), What::Log)?;
        disk.sync_folder(folder)?;
        Ok(Self {
            disk: Arc::clone(disk),
            tape,
            length: 0,
            numbers: Vec::new(),
            series: 0,
            buffer: Vec::new(),
        })
    }

    /// Goes on with a head that was found. `numbers`: its series' numbers in the broker.
    pub(super) fn resume(disk: &Arc<Disk>, found: &Found, numbers: &[u32]) -> io::Result<Self> {
        let mut tape = disk.resume(&found.path, found.length, What::Log)?;
        tape.sync()?;
        let mut head = Self {
            disk: Arc::clone(disk),
            tape,
            length: found.length,
            numbers: Vec::new(),
            series: 0,
            buffer: Vec::new(),
        };
        numbers.iter().for_each(|&series| head.number(series));
        Ok(head)
    }

    /// Whether a series is in the file.
    pub(super) fn knows(&self, series: u32) -> bool {
        let number = self.numbers.get(series as usize);
        number.is_some_and(|&number| number != NONE)
    }

    fn number(&mut self, series: u32) {
        let index = series as usize;
        if self.numbers.len() <= index {
            self.numbers.resize(index + 1, NONE);
        }
        self.numbers[index] = self.series;
        self.series += 1;
    }

    /// Bytes that are durable.
    pub(super) const fn length(&self) -> u64 {
        self.length
    }

    /// Appends readings and waits until they are durable. `new`: those of their
    /// series that are not in the file, each once. After an error the head is to be
    /// [abandoned](Self::abandon).
    pub(super) fn append(
        &mut self,
        at: i64,
        rows: &[Row],
        new: &[(u32, SeriesKey)],
    ) -> io::Result<()> {
        new.iter().for_each(|(series, _)| self.number(*series));
        let keys: Vec<&SeriesKey> = new.iter().map(|(_, key)| key).collect();
        self.buffer.clear();
        let numbers = &self.numbers;
        let number = |series| numbers.get(series as usize).copied().unwrap_or(NONE);
        frame::put_rows(&mut self.buffer, at, &keys, rows.iter(), number);
        self.put()
    }

    /// Writes that the broker ends.
    pub(super) fn close(&mut self, at: i64) -> io::Result<()> {
        self.buffer.clear();
        frame::put_closed(&mut self.buffer, at);
        self.put()
    }

    fn put(&mut self) -> io::Result<()> {
        self.tape.write_all(&self.buffer)?;
        self.tape.sync()?;
        self.length += self.buffer.len() as u64;
        // What a burst needed is not kept.
        self.buffer.shrink_to(64 << 10);
        Ok(())
    }

    /// Gives the file up after an error, without what is not durable; `empty`: that
    /// is all.
    pub(super) fn abandon(mut self, empty: bool) {
        let path = self.tape.path().to_owned();
        let left = if empty {
            self.disk.remove(&path)
        } else {
            self.tape.cut(self.length).and_then(|()| self.tape.sync())
        };
        if let Err(e) = left {
            // Whoever finds it sees where the last whole frame ends.
            tracing::debug!("{}: {e}", path.display());
        }
    }
}

impl Found {
    /// Reads a head.
    pub(super) fn read(folder: &Path, number: u64) -> io::Result<Self> {
        let path = path(folder, number);
        let bytes = fs::read(&path)?;
        let mut found = Self {
            number,
            path,
            length: 0,
            series: Vec::new(),
            rows: Vec::new(),
            at: None,
            torn: 0,
            closed: false,
        };
        let mut rest = &bytes[..];
        while let Some(body) = frame::take(&mut rest, found.series.len()) {
            match body {
                Body::Rows { at, series, rows } => {
                    found.at = Some(at);
                    found.series.extend(series);
                    found.rows.extend(rows);
                    found.closed = false;
                }
                Body::Closed { at } => {
                    found.at = Some(at);
                    found.closed = true;
                }
            }
        }
        found.torn = rest.len() as u64;
        found.length = bytes.len() as u64 - found.torn;
        Ok(found)
    }
}
