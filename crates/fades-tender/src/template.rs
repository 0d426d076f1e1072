//! Templates: an image laid out for one limit of memory and one isolation, in a
//! file that any number of shells map copy-on-write.
//!
//! ```text
//! offset 0    the template zones of the layout: gate, monitor, text, constants, page tables, data
//! their end   lengths of sheet and symbols, sheet (JSON), symbols (text)
//! ```
//! A tender that makes a template never runs a function, and ends when it has
//! made one; the file is sealed before anybody else sees it. A shell checks the
//! seals, so that nothing that it has mapped can change.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use fades_task::limits::Isolation;
use fades_task::message::TemplateRequest;
use rustix::fs::{MemfdFlags, SealFlags};
use serde::{Deserialize, Serialize};

use crate::address::{GuestAddr, Offset};
use crate::image::{FILE_MAX, Image, ImageError};
use crate::layout::{Layout, LayoutError};
use crate::memory::{GuestMemory, OutOfBounds};
use crate::microvm::{self, MicrovmError};
use crate::symbols::Symbols;

/// Longest sheet or symbols, bytes.
const TAIL_MAX: u64 = 32 << 20;

/// Bytes of the two lengths at the start of the tail.
const LENGTHS: usize = 16;

const SEALS: SealFlags = SealFlags::WRITE
    .union(SealFlags::SHRINK)
    .union(SealFlags::GROW);

/// Why a template could not be made, or is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TemplateError {
    #[error("the image cannot be read: {0}")]
    Read(#[source] io::Error),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error("the template's file: {0}")]
    File(#[from] io::Error),
    #[error(transparent)]
    Bounds(#[from] OutOfBounds),
    #[error(transparent)]
    Microvm(#[from] MicrovmError),
    #[error("the template is malformed: {0}")]
    Malformed(&'static str),
}

/// What a shell has to know besides the bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sheet {
    pub(crate) isolation: Isolation,
    pub(crate) layout: Layout,
    /// Where the function starts.
    pub(crate) entry: GuestAddr,
    /// Whether the function keeps checkpoints.
    pub(crate) checkpoints: bool,
}

/// A template, ready to be mapped.
#[derive(Debug)]
pub(crate) struct Template {
    pub(crate) sheet: Sheet,
    file: File,
    /// Where in the file the symbols are, and how long they are.
    symbols: (u64, u64),
}

/// Makes a template of the image in `file`.
pub(crate) fn make(
    file: &mut File,
    symbols: &[u8],
    request: &TemplateRequest,
) -> Result<Template, TemplateError> {
    let mut bytes = Vec::new();
    file.take(FILE_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(TemplateError::Read)?;
    let image = Image::parse(&bytes)?;
    of_image(&image, &bytes, symbols, request)
}

/// Makes a template of an image that has been checked, from the bytes that it
/// refers to.
pub(crate) fn of_image(
    image: &Image,
    bytes: &[u8],
    symbols: &[u8],
    request: &TemplateRequest,
) -> Result<Template, TemplateError> {
    let layout = Layout::plan(image, &request.limits, request.context)?;
    let zones = layout.zones().template();
    let length = zones.end - zones.start;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create("fades-template", flags).map_err(io::Error::from)?;
    rustix::fs::ftruncate(&file, length).map_err(io::Error::from)?;
    let memory = GuestMemory::of_file(&file, zones)?;
    copy_image(image, bytes, &layout, &memory)?;
    if request.isolation == Isolation::Microvm {
        microvm::install(&layout, &memory)?;
    }
    // Where it is still mapped for writing, it cannot be sealed.
    drop(memory);
    let sheet = Sheet {
        isolation: request.isolation,
        layout,
        entry: image.entry,
        checkpoints: image.about.checkpoints,
    };
    append(file, length, sheet, symbols)
}

fn append(
    file: OwnedFd,
    end: u64,
    sheet: Sheet,
    symbols: &[u8],
) -> Result<Template, TemplateError> {
    let json = serde_json::to_vec(&sheet).map_err(io::Error::from)?;
    let file = File::from(file);
    let mut tail = (json.len() as u64).to_le_bytes().to_vec();
    tail.extend((symbols.len() as u64).to_le_bytes());
    tail.extend(&json);
    tail.extend(symbols);
    file.write_all_at(&tail, end)?;
    rustix::fs::fcntl_add_seals(&file, SEALS | SealFlags::SEAL).map_err(io::Error::from)?;
    Ok(Template {
        sheet,
        file,
        symbols: (end + (LENGTHS + json.len()) as u64, symbols.len() as u64),
    })
}

fn copy_image(
    image: &Image,
    bytes: &[u8],
    layout: &Layout,
    memory: &GuestMemory,
) -> Result<(), OutOfBounds> {
    for segment in &image.segments {
        let span = layout.spans.iter().find(|s| s.start == segment.start);
        if let Some(span) = span {
            let at = Offset(span.offset.0 + segment.lead);
            memory.copy_in(at, &bytes[segment.file.clone()])?;
        }
    }
    Ok(())
}

impl AsFd for Template {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Template {
    /// Looks at a file that somebody says is a template.
    pub(crate) fn open(file: OwnedFd) -> Result<Self, TemplateError> {
        let seals = rustix::fs::fcntl_get_seals(&file).map_err(io::Error::from)?;
        if !seals.contains(SEALS) {
            return Err(TemplateError::Malformed("it is not sealed"));
        }
        let length = rustix::fs::fstat(&file).map_err(io::Error::from)?.st_size as u64;
        let file = File::from(file);
        // The zones say where the tail begins, and the tail says which zones:
        // there are two possibilities, told apart by the file's length.
        let ends = [true, false].map(|bulk| {
            let zones = crate::layout::Zones::of(bulk).template();
            zones.end - zones.start
        });
        let end = ends.into_iter().find(|end| length > *end);
        let end = end.ok_or(TemplateError::Malformed("it is too short"))?;
        let mut lengths = [0; LENGTHS];
        file.read_exact_at(&mut lengths, end)?;
        let number = |b: &[u8]| b.iter().rev().fold(0_u64, |n, b| n << 8 | u64::from(*b));
        let (json, symbols) = (number(&lengths[..8]), number(&lengths[8..]));
        if json > TAIL_MAX || symbols > TAIL_MAX {
            return Err(TemplateError::Malformed("its tail is too long"));
        }
        let mut text = vec![0; json as usize];
        file.read_exact_at(&mut text, end + LENGTHS as u64)?;
        let sheet: Sheet = serde_json::from_slice(&text)
            .map_err(|_| TemplateError::Malformed("its sheet cannot be read"))?;
        let zones = sheet.layout.zones().template();
        if zones.end - zones.start != end {
            return Err(TemplateError::Malformed(
                "its zones are not those of its length",
            ));
        }
        Ok(Self {
            sheet,
            file,
            symbols: (end + LENGTHS as u64 + json, symbols),
        })
    }

    /// Names for crash reports; none when they cannot be read.
    pub(crate) fn symbols(&self) -> Symbols {
        let (at, length) = self.symbols;
        let mut text = vec![0; length as usize];
        match self.file.read_exact_at(&mut text, at) {
            Ok(()) => Symbols::parse(&String::from_utf8_lossy(&text)),
            Err(_) => Symbols::default(),
        }
    }

    /// Copies what the template holds for `span` into a function's memory.
    pub(crate) fn copy_to(
        &self,
        memory: &GuestMemory,
        offset: Offset,
        length: u64,
    ) -> Result<(), TemplateError> {
        let zones = self.sheet.layout.zones().template();
        let at = offset
            .0
            .checked_sub(zones.start)
            .filter(|_| zones.contains(&offset.0))
            .ok_or(TemplateError::Malformed("a region lies outside of it"))?;
        let mut bytes = vec![0; length as usize];
        self.file.read_exact_at(&mut bytes, at)?;
        memory.copy_in(offset, &bytes)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
