//! Which files a source has, and in which state they are.
//!
//! Every retrieval looks at the folders and files of its sources, because what
//! changed before a task was handed in must be in its answer. What is the same as
//! last time is not looked at any closer: folders are listed again only when they
//! changed, and a state that was seen before keeps its number.
//!
//! Time stamps have a grain: a file that changed a moment ago can change again
//! without another stamp. Until stamps are older than that, nothing is taken for
//! the same.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::Found;
use super::format::Format;
use super::input::{Identity, Moment, ReadError};
use super::layout::NameParts;

/// The files of a source in one state.
pub(crate) struct Snapshot {
    /// The same number means the same state; `None` when a file changed so short
    /// a while ago that it could change again unseen.
    pub(crate) number: Option<u64>,
    pub(super) files: Arc<[Named]>,
    /// State of each file.
    pub(super) states: Vec<Identity>,
}

/// A file, and what its name alone says.
pub(super) struct Named {
    pub(super) path: PathBuf,
    pub(super) device: Option<String>,
    pub(super) location: Option<String>,
}

/// What was found last time.
#[derive(Default)]
pub(super) struct Listing {
    /// Folders that were listed, and paths that were none or no file.
    looked: Vec<(PathBuf, Option<Identity>)>,
    files: Arc<[Named]>,
    is_settled: bool,
    last: Option<Arc<Snapshot>>,
    next: u64,
}

impl Listing {
    /// The files that match the globs of `format` below `base`, as they are now.
    pub(super) fn snapshot(
        &mut self,
        base: &Path,
        format: &Format,
    ) -> Result<Arc<Snapshot>, ReadError> {
        let now = Moment::now();
        let reused = self.is_settled && self.looked.iter().all(|(p, was)| stamp(p) == *was);
        if !reused {
            self.list(base, format, now)?;
        }
        let states = match self.states() {
            // It vanished since its folder was looked at.
            Err(_) if reused => {
                self.list(base, format, now)?;
                self.states()?
            }
            states => states?,
        };
        let settled = self.is_settled && states.iter().all(|s| s.is_settled(now));
        if let Some(last) = &self.last
            && settled
            && last.number.is_some()
            && Arc::ptr_eq(&last.files, &self.files)
            && last.states == states
        {
            return Ok(Arc::clone(last));
        }
        self.next += 1;
        let snapshot = Arc::new(Snapshot {
            number: settled.then_some(self.next),
            files: Arc::clone(&self.files),
            states,
        });
        self.last = Some(Arc::clone(&snapshot));
        Ok(snapshot)
    }

    fn list(&mut self, base: &Path, format: &Format, now: Moment) -> Result<(), ReadError> {
        self.is_settled = false;
        let Found { files, looked } = super::files::list(base, &format.globs)?;
        let named = files.into_iter().map(|path| named(format, path));
        self.files = named.collect::<Result<_, _>>()?;
        self.looked = looked;
        let mut stamps = self.looked.iter().filter_map(|(_, s)| s.as_ref());
        self.is_settled = stamps.all(|s| s.is_settled(now));
        Ok(())
    }

    fn states(&self) -> Result<Vec<Identity>, ReadError> {
        let states = self.files.iter().map(|f| {
            let metadata = fs::metadata(&f.path);
            let metadata = metadata.map_err(|e| ReadError::io("look at", &f.path, e))?;
            Ok(Identity::of(&metadata))
        });
        states.collect()
    }
}

/// The state of a folder; `None` when there is nothing.
pub(super) fn stamp(path: &Path) -> Option<Identity> {
    let metadata: io::Result<_> = fs::metadata(path);
    metadata.ok().map(|m| Identity::of(&m))
}

fn named(format: &Format, path: PathBuf) -> Result<Named, ReadError> {
    let parts = NameParts::of(format, &path)?;
    Ok(Named {
        device: parts.render(&format.device),
        location: parts.render(&format.location),
        path,
    })
}
