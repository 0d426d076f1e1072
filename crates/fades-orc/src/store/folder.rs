//! The node's folder, and the lock that makes it one node's alone.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::StoreError;

const LOCK: &str = "node.lock";

/// A node that was killed while it started a process leaves that process, for
/// a moment, with the lock.
const PATIENCE: Duration = Duration::from_secs(1);

const PAUSE: Duration = Duration::from_millis(20);

/// Makes the folder, for its owner alone, when it is not there.
pub(super) fn make(folder: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|source| StoreError::File {
            path: folder.to_owned(),
            doing: "the node's folder cannot be made",
            source,
        })
}

/// Takes the folder for this process until the file is closed.
pub(super) fn lock(folder: &Path) -> Result<File, StoreError> {
    let path = folder.join(LOCK);
    let failed = |source| StoreError::File {
        path: path.clone(),
        doing: "the lock file cannot be opened",
        source,
    };
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(failed)?;
    let deadline = Instant::now() + PATIENCE;
    while let Err(e) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        if e != Errno::WOULDBLOCK {
            return Err(failed(e.into()));
        }
        if Instant::now() >= deadline {
            return Err(in_use(folder, &mut file));
        }
        std::thread::sleep(PAUSE);
    }
    // Who holds the lock is for people; a full disk must not stop the node.
    let _ = file.set_len(0);
    let _ = file.write_all(format!("{}\n", std::process::id()).as_bytes());
    Ok(file)
}

fn in_use(folder: &Path, file: &mut File) -> StoreError {
    let mut pid = String::new();
    // The holder writes its number last; without it, it is unknown.
    let _ = file.read_to_string(&mut pid);
    StoreError::InUse {
        folder: folder.to_owned(),
        pid: match pid.trim() {
            "" => "unknown".to_owned(),
            pid => pid.to_owned(),
        },
    }
}
