//! A function's memory, laid out once for many runs.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use fades_task::message::{Refused, TemplateRequest, TenderReport, TenderRequest};
use fades_task::quantity::Size;
use fades_task::shell::{Class, Needs};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, memfd_create};

use super::{Fresh, ShellError, how_it_ended};

/// What must never happen to the bytes of an image or a template again.
const SEALS: SealFlags = SealFlags::WRITE
    .union(SealFlags::SHRINK)
    .union(SealFlags::GROW)
    .union(SealFlags::SEAL);

/// A unit of `st_blocks`, bytes.
const BLOCK: u64 = 512;

/// A template, as a tender made it.
#[derive(Debug)]
pub struct Template {
    file: OwnedFd,
    number: u64,
    needs: Needs,
    bytes: u64,
}

impl AsFd for Template {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Template {
    /// Has the tender at `program` make a template of `image`, and waits for
    /// it. `symbols` are those of the image for crash reports; `number` is
    /// what shells tell templates apart by.
    ///
    /// # Errors
    /// [`ShellError`]; nothing of the tender is left then.
    pub fn make(
        program: &Path,
        image: &[u8],
        symbols: Option<&str>,
        request: &TemplateRequest,
        number: u64,
    ) -> Result<Self, ShellError> {
        let image = sealed(image)?;
        let mut fresh = Fresh::spawn(program)?;
        let request = TenderRequest::Template(request.clone());
        let symbols = symbols.unwrap_or_default().as_bytes();
        fresh.control.send(&request, symbols, &[image.as_fd()])?;
        let frame = fresh.hear()?;
        let TenderReport::Template { needs } = frame.message else {
            return Err(ShellError::Unexpected);
        };
        let [file] =
            <[OwnedFd; 1]>::try_from(frame.descriptors).map_err(|_| ShellError::Unexpected)?;
        // It was the tender's last word. What becomes of its process is of no
        // interest, but that it is gone.
        let _ = how_it_ended(&mut fresh.child, String::new());
        let seals = fcntl_get_seals(&file).map_err(io::Error::from)?;
        if !seals.contains(SEALS) {
            return Err(ShellError::Unsealed);
        }
        let blocks = fstat(&file).map_err(io::Error::from)?.st_blocks;
        Ok(Self {
            file,
            number,
            needs,
            bytes: u64::try_from(blocks).unwrap_or(0) * BLOCK,
        })
    }

    /// What shells tell templates apart by.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// What it needs of a shell.
    #[must_use]
    pub const fn needs(&self) -> Needs {
        self.needs
    }

    /// The class of the shells that can run it with batches of at most
    /// `window` bytes.
    ///
    /// # Errors
    /// [`ShellError::Refused`] when no class has so much room.
    pub fn class(&self, window: Size) -> Result<Class, ShellError> {
        Class::fitting(self.needs, window).ok_or_else(|| {
            let (heap, most) = (self.needs.heap, Class::HEAPS[Class::HEAPS.len() - 1]);
            let reason = format!(
                "no shell has room for a heap of {heap} and batches of {window}: \
                 the largest heap is {most}, the longest batch {}",
                Class::WINDOW_MAX
            );
            ShellError::Refused(Refused::Limits { reason })
        })
    }

    /// Memory that it takes, bytes.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// The bytes in memory that nobody can change any more, so that what was
/// checked is what is run.
fn sealed(image: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(memfd_create("image", flags)?);
    file.write_all(image)?;
    file.rewind()?;
    fcntl_add_seals(&file, SEALS)?;
    Ok(file.into())
}
