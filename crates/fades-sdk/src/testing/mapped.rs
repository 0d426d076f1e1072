//! A batch file as a function gets it: mapped read-only, nothing copied.
#![expect(
    unsafe_code,
    reason = "maps a file, and reads what lies there as bytes"
)]

use core::ffi::{c_int, c_void};
use core::{ptr, slice};
use std::fs::File;
use std::io::{Error, ErrorKind};
use std::os::fd::AsRawFd;
use std::path::Path;

const PROT_READ: c_int = 1;
const MAP_SHARED: c_int = 1;

// Declared here so that an author's project needs no crate for two functions
// that the standard library links anyway.
unsafe extern "C" {
    fn mmap(
        address: *mut c_void,
        length: usize,
        protection: c_int,
        flags: c_int,
        file: c_int,
        offset: i64,
    ) -> *mut c_void;
    fn munmap(address: *mut c_void, length: usize) -> c_int;
}

/// A file in memory. Nobody may write it meanwhile, as nobody writes a batch.
#[derive(Debug)]
pub(super) struct Mapped {
    start: *const u8,
    length: usize,
}

impl Mapped {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path)?;
        let length = usize::try_from(file.metadata()?.len()).map_err(Error::other)?;
        if length == 0 {
            return Err(Error::new(ErrorKind::InvalidData, "the file is empty"));
        }
        // SAFETY: a new mapping at an address that the system picks changes no
        // memory that is in use.
        let start = unsafe {
            mmap(
                ptr::null_mut(),
                length,
                PROT_READ,
                MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if start.addr() == usize::MAX {
            return Err(Error::last_os_error());
        }
        let start = start.cast_const().cast();
        Ok(Self { start, length })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: `open` has mapped these bytes, and only dropping unmaps them.
        unsafe { slice::from_raw_parts(self.start, self.length) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: `open` has mapped exactly this, and no borrow of it is left.
        // Unmapping a whole mapping does not fail.
        unsafe { munmap(self.start.cast_mut().cast(), self.length) };
    }
}
