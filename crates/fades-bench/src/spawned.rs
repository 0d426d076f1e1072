//! What a start is compared with: the least process that Linux can make.
//!
//! `posix_spawn` of a static program without libc (`spawned/main.rs`) whose
//! standard output is a pipe, into which it writes one byte.
#![expect(unsafe_code, reason = "posix_spawn and what it takes")]

use std::ffi::CString;
use std::io::{self, PipeReader, Read};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;

use rustix::process::{Pid, WaitOptions, waitpid};

use crate::fault::Fault;
use crate::turns::microseconds;

/// What it is, in the table.
pub(crate) const WHAT: &str = "posix_spawn of a static program without libc, to its one byte";

const PROGRAM: &[u8] = include_bytes!(env!("FADES_BENCH_SPAWNED"));

/// The program, as a file that can be executed.
#[derive(Debug)]
pub(crate) struct Spawned {
    path: CString,
}

impl Spawned {
    /// Writes the program into `folder`.
    pub(crate) fn new(folder: &Path) -> Result<Self, Fault> {
        let path = folder.join("spawned");
        std::fs::write(&path, PROGRAM).map_err(Fault::file(&path, "write"))?;
        let executable = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(&path, executable)
            .map_err(Fault::file(&path, "make executable"))?;
        let path = CString::new(path.as_os_str().as_bytes());
        let path = path.map_err(|e| Fault::system("name the program")(io::Error::from(e)))?;
        Ok(Self { path })
    }

    /// Spawns the program; microseconds until its byte was read.
    pub(crate) fn run(&self) -> Result<f64, Fault> {
        self.timed().map_err(Fault::system("spawn a program"))
    }

    fn timed(&self) -> io::Result<f64> {
        let (mut reader, writer) = io::pipe()?;
        let begun = Instant::now();
        let pid = spawn(&self.path, writer.as_raw_fd())?;
        let read = one_byte(&mut reader);
        let spent = microseconds(begun.elapsed());
        waitpid(Some(pid), WaitOptions::empty())?;
        read.map(|()| spent)
    }
}

fn one_byte(reader: &mut PipeReader) -> io::Result<()> {
    let mut byte = [0];
    reader.read_exact(&mut byte)
}

/// `posix_spawn` of `path` with `output` as its standard output.
fn spawn(path: &CString, output: i32) -> io::Result<Pid> {
    let mut actions = MaybeUninit::<libc::posix_spawn_file_actions_t>::uninit();
    // SAFETY: `actions` is written here.
    check(unsafe { libc::posix_spawn_file_actions_init(actions.as_mut_ptr()) })?;
    // SAFETY: `actions` was written above.
    let added = unsafe { libc::posix_spawn_file_actions_adddup2(actions.as_mut_ptr(), output, 1) };
    let mut pid = 0;
    let arguments = [path.as_ptr().cast_mut(), std::ptr::null_mut()];
    let environment = [std::ptr::null_mut()];
    let spawned = check(added).and_then(|()| {
        // SAFETY: path, arguments and environment end with zero and outlive the
        // call; `actions` was written above.
        check(unsafe {
            libc::posix_spawn(
                &raw mut pid,
                path.as_ptr(),
                actions.as_ptr(),
                std::ptr::null(),
                arguments.as_ptr(),
                environment.as_ptr(),
            )
        })
    });
    // SAFETY: `actions` was written above and is not used again.
    unsafe { libc::posix_spawn_file_actions_destroy(actions.as_mut_ptr()) };
    spawned?;
    Pid::from_raw(pid).ok_or_else(|| io::Error::other("posix_spawn gave no process"))
}

fn check(errno: i32) -> io::Result<()> {
    match errno {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_writes_its_byte_and_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let spawned = Spawned::new(folder.path()).unwrap();
        for _ in 0..10 {
            assert!(spawned.run().unwrap() > 0.0);
        }
        let none = waitpid(Some(Pid::INIT), WaitOptions::NOHANG);
        assert!(none.is_err(), "a child is left: {none:?}");
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let nothing = Spawned {
            path: CString::from(c"/nonexistent"),
        };
        assert!(nothing.run().is_err());
    }

    #[test]
    fn the_program_is_as_small_as_it_says() {
        assert!(PROGRAM.len() < 16 << 10, "{} bytes", PROGRAM.len());
    }
}
