//! The node's folder, and the lock that makes it one node's alone.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use super::StoreError;

const LOCK: &str = "node.lock";

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
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            let read = file.read_to_string(&mut pid);
            let pid = read.ok().map(|_| pid.trim().to_owned());
            return Err(StoreError::InUse {
                folder: folder.to_owned(),
                pid: pid
                    .filter(|p| !p.is_empty())
                    .unwrap_or("unknown".to_owned()),
            });
        }
        Err(e) => return Err(failed(e.into())),
    }
    // Who holds the lock is for people; a full disk must not stop the node.
    let _ = file.set_len(0);
    let _ = file.write_all(format!("{}\n", std::process::id()).as_bytes());
    Ok(file)
}
