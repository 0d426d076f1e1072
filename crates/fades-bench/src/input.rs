//! Batches as a broker makes them: files in a tmpfs with huge pages.
//!
//! The file system is mounted in a mount namespace that only this process and
//! its children have, and is gone when they are.
#![expect(unsafe_code, reason = "this process leaves its mount namespace")]

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use fades_abi::INPUT_PAGE;
use fades_abi::batch::{Draft, SeriesSpec, encoded_length, order};
use fades_task::message::Feed;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::fault::Fault;
use crate::memory::Memory;
use crate::shells::Fed;

/// Where a batch ends and the next begins, as nodes have it by default: bytes.
pub(crate) const CHUNK: u64 = 64 << 20;

/// Bytes of a row: a time and a value.
pub(crate) const ROW: u64 = 16;

/// A place for batches.
#[derive(Debug)]
pub(crate) struct Place {
    folder: PathBuf,
}

/// A batch.
#[derive(Debug)]
pub(crate) struct BatchFile {
    /// Its file.
    pub(crate) path: PathBuf,
    /// Open for reading.
    pub(crate) file: File,
    /// Length, bytes.
    pub(crate) length: u64,
}

impl Place {
    /// Mounts the file system at `folder`. The calling thread, and so the
    /// process, should have no other threads as yet.
    pub(crate) fn mount(folder: &Path) -> io::Result<Self> {
        // SAFETY: descriptors stay shared; a thread that was there before would
        // keep its view of mounts, which changes nothing that it has open.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
        let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
        mount_change("/", private)?;
        std::fs::create_dir_all(folder)?;
        let options = CString::new("huge=always,mode=0700")?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("fades", folder, "tmpfs", flags, Some(options.as_c_str()))?;
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    /// Whether there is memory for so many bytes of batches.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        Memory::now().is_ok_and(|memory| memory.available > 2 * bytes)
    }

    /// A file for something else than a batch.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Batches with `rows` rows of `series` series each, no batch longer than
    /// [`CHUNK`]; files called after `name`.
    pub(crate) fn batches(
        &self,
        name: &str,
        series: u64,
        rows: u64,
    ) -> Result<Vec<BatchFile>, Fault> {
        parts(series, rows)
            .into_iter()
            .enumerate()
            .map(|(i, part)| {
                let path = self.folder.join(format!("{name}-{i:03}"));
                write(&path, i as u32, &part)
            })
            .collect()
    }
}

impl BatchFile {
    /// Hands it to a function.
    pub(crate) fn to(&self, function: &impl Fed) -> Result<(), Fault> {
        let feed = Feed::Batch {
            dto: 0,
            length: self.length,
        };
        function.feed(&feed, Some(self.file.as_fd()))
    }
}

impl Drop for BatchFile {
    fn drop(&mut self) {
        // The file system goes with this process in any case.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Rows of a series in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    series: u64,
    first: u64,
    rows: u64,
    /// No later batch has rows of the series.
    complete: bool,
}

/// Which rows of which series each batch has.
fn parts(series: u64, rows: u64) -> Vec<Vec<Span>> {
    // A page of the input is left for names.
    let room = (CHUNK - INPUT_PAGE) / ROW;
    let mut batches: Vec<Vec<Span>> = vec![Vec::new()];
    let mut free = room;
    for series in 0..series {
        let mut first = 0;
        while first < rows {
            if free == 0 {
                batches.push(Vec::new());
                free = room;
            }
            let now = free.min(rows - first);
            if let Some(batch) = batches.last_mut() {
                batch.push(Span {
                    series,
                    first,
                    rows: now,
                    complete: first + now == rows,
                });
            }
            first += now;
            free -= now;
        }
    }
    batches
}

fn write(path: &Path, sequence: u32, spans: &[Span]) -> Result<BatchFile, Fault> {
    let names: Vec<String> = spans
        .iter()
        .map(|s| format!("series-{}", s.series))
        .collect();
    let specs: Vec<SeriesSpec<'_>> = spans
        .iter()
        .zip(&names)
        .map(|(span, device)| SeriesSpec {
            id: span.series as u32,
            device,
            kind: "value",
            unit: "1",
            location: "",
            rows: span.rows,
            complete: span.complete,
        })
        .collect();
    let used = encoded_length(&specs, false);
    let mut memory = vec![0; used + size_of::<u64>()];
    let start = memory.as_ptr().align_offset(size_of::<u64>());
    let memory = &mut memory[start..start + used];
    let draft = Draft::new(memory, 0, sequence, order::SERIES, &specs, false)?;
    let values = spans
        .iter()
        .flat_map(|s| numbered(s.series, s.first, s.rows));
    for ((time, value), new) in draft.time.iter_mut().zip(draft.value).zip(values) {
        (*time, *value) = new;
    }
    let length = (used as u64).next_multiple_of(INPUT_PAGE);
    let written = || {
        let mut file = File::create(path)?;
        file.write_all(memory)?;
        file.set_len(length)?;
        File::open(path)
    };
    Ok(BatchFile {
        file: written().map_err(Fault::file(path, "write"))?,
        path: path.to_owned(),
        length,
    })
}

/// A reading each second; values of two decimals in no order.
fn numbered(series: u64, first: u64, rows: u64) -> impl Iterator<Item = (i64, f64)> {
    (first..first + rows).map(move |row| {
        let mixed = (row + 1 + (series << 40)).wrapping_mul(6_364_136_223_846_793_005);
        let hundredths = 1500 + (mixed >> 33) % 2000;
        let second = 1_700_000_000 + row.cast_signed();
        (second * 1_000_000_000, hundredths as f64 / 100.0)
    })
}

#[cfg(test)]
mod tests {
    use fades_abi::batch::Batch;

    use super::*;

    #[test]
    fn no_batch_is_longer_than_a_chunk_and_no_row_is_lost() {
        let parts = parts(24, 390_625);
        let rows = |batch: &Vec<Span>| batch.iter().map(|s| s.rows).sum::<u64>();
        assert!(parts.len() > 1);
        assert!(parts.iter().all(|b| rows(b) * ROW < CHUNK));
        assert_eq!(parts.iter().map(rows).sum::<u64>(), 24 * 390_625);
        let complete = parts.iter().flatten().filter(|s| s.complete);
        assert_eq!(complete.count(), 24);
    }

    #[test]
    fn a_file_is_a_batch_of_whole_pages() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place {
            folder: folder.path().to_owned(),
        };
        let files = place.batches("some", 3, 100).unwrap();
        assert_eq!(files.len(), 1);
        assert!(files[0].length.is_multiple_of(INPUT_PAGE));
        let bytes = std::fs::read(&files[0].path).unwrap();
        let mut aligned = vec![0_u8; bytes.len() + 64];
        let start = aligned.as_ptr().align_offset(64);
        aligned[start..start + bytes.len()].copy_from_slice(&bytes);
        let batch = Batch::open(&aligned[start..start + bytes.len()]).unwrap();
        assert_eq!(batch.series().count(), 3);
        assert_eq!(batch.series().map(|s| s.value.len()).sum::<usize>(), 300);
        drop(files);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
