//! An inbox that is a folder. `docs/inbox.md` is its contract.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use fades_task::courier::{LETTER_MAX, Verdict};
use fades_task::identity::Name;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, Stat, fstat, openat};
use rustix::io::Errno;

use super::exchange::too_large;
use super::shelf::{self, Leaf};
use super::{Office, TOGETHER, Trouble};
use crate::pace::Found;

/// How long a folder is waited for that tells when something changes, and one that
/// does not.
const WATCHED: Duration = Duration::from_secs(30);
const UNWATCHED: Duration = Duration::from_secs(5);

/// A file that was changed less than this before may not be whole.
const QUIET: Duration = Duration::from_millis(250);

/// Longest name of a letter, bytes: `.problem.json` must fit behind it.
const NAME_MAX: usize = 240;

/// An inbox that is a folder.
#[derive(Debug)]
pub(crate) struct FolderBox {
    path: PathBuf,
    watch: Option<Watch>,
    /// Nothing that is wrong with watching has been said.
    silent: bool,
    /// All is well so far: there is time to wait.
    waits: bool,
}

/// What tells when something changes.
#[derive(Debug)]
struct Watch {
    events: OwnedFd,
    /// Device and number of the folder that it is for.
    of: (u64, u64),
}

/// What a look at the folder found.
#[derive(Debug, Default)]
struct Look {
    letters: Vec<(Leaf, Option<Vec<u8>>)>,
    /// There are files that may not be whole.
    unquiet: bool,
}

impl FolderBox {
    pub(crate) const fn new(path: PathBuf) -> Self {
        Self {
            path,
            watch: None,
            silent: true,
            waits: false,
        }
    }

    /// Waits for letters for a while, and sees to those that came.
    pub(super) fn ask(&mut self, name: &Name, office: &Office) -> Result<Found, Trouble> {
        let attended = self.attend(name, office);
        // How it does is said before it is waited for.
        self.waits = attended.is_ok();
        attended
            .map_err(|e| Trouble::new(format_args!("{}: {e}", self.path.display())))?
            .map_err(Trouble::from)
    }

    fn attend(
        &mut self,
        name: &Name,
        office: &Office,
    ) -> io::Result<Result<Found, crate::desk::Gone>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat(CWD, &self.path, flags, Mode::empty())?;
        self.watch(&fstat(&folder)?);
        let look = self.wait(&folder, office)?;
        if look.letters.is_empty() {
            return Ok(Ok(Found::Nothing));
        }
        let mut round = office.desk.round(name);
        let mut judged = Vec::new();
        for (leaf, envelope) in look.letters {
            match envelope {
                Some(envelope) => {
                    if let Err(gone) = round.hand_in(&envelope, leaf) {
                        return Ok(Err(gone));
                    }
                }
                None => judged.push((leaf, too_large())),
            }
        }
        match round.verdicts() {
            Ok(verdicts) => judged.extend(verdicts),
            Err(gone) => return Ok(Err(gone)),
        }
        let mut found = Found::Stuck;
        for (leaf, verdict) in &judged {
            shelf::put(folder.as_fd(), leaf, verdict)?;
            if !matches!(verdict, Verdict::Later { .. }) {
                found = Found::Letters;
            }
        }
        shelf::tidy(folder.as_fd())?;
        Ok(Ok(found))
    }

    /// Looks until there is something, or the time for waiting is over.
    fn wait(&mut self, folder: &OwnedFd, office: &Office) -> io::Result<Look> {
        let longest = match self.watch {
            _ if !self.waits => Duration::ZERO,
            Some(_) => WATCHED,
            None => UNWATCHED,
        };
        let end = Instant::now() + longest;
        loop {
            let look = look(folder)?;
            let left = end.saturating_duration_since(Instant::now());
            if !look.letters.is_empty() || left.is_zero() || office.stop.is_set() {
                return Ok(look);
            }
            let wait = if look.unquiet { QUIET.min(left) } else { left };
            let watch = self.watch.as_ref().filter(|_| !look.unquiet);
            office.stop.wait_with(watch.map(|w| w.events.as_fd()), wait);
            if self.is_elsewhere() {
                return Ok(look);
            }
        }
    }

    /// Begins to watch, if that is not done yet. What is there by the time is seen by
    /// the look that follows.
    fn watch(&mut self, folder: &Stat) {
        let of = (folder.st_dev, folder.st_ino);
        if self.watch.as_ref().is_some_and(|w| w.of == of) {
            return;
        }
        self.watch = None;
        let made = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).and_then(|fd| {
            let what = WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO | WatchFlags::CREATE;
            let what = what | WatchFlags::MOVE_SELF | WatchFlags::DELETE_SELF;
            inotify::add_watch(&fd, &self.path, what | WatchFlags::ONLYDIR)?;
            Ok(fd)
        });
        match made {
            Ok(events) => self.watch = Some(Watch { events, of }),
            Err(e) if self.silent => {
                self.silent = false;
                let (path, every) = (self.path.display(), UNWATCHED.as_secs());
                tracing::warn!("{path} cannot be watched ({e}): it is looked at every {every} s");
            }
            Err(_) => {}
        }
    }

    /// Whether the folder is not where it was. What else was told is not looked at:
    /// the folder is.
    fn is_elsewhere(&self) -> bool {
        use inotify::ReadFlags;
        let Some(watch) = &self.watch else {
            return false;
        };
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&watch.events, &mut buffer);
        let ends = ReadFlags::MOVE_SELF | ReadFlags::DELETE_SELF | ReadFlags::IGNORED;
        let mut ended = false;
        loop {
            match reader.next() {
                Ok(event) => ended |= event.events().intersects(ends),
                Err(Errno::INTR) => {}
                Err(_) => return ended,
            }
        }
    }
}

/// The first letters of a folder.
fn look(folder: &OwnedFd) -> io::Result<Look> {
    let mut look = Look::default();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = OsString::from_vec(entry.file_name().to_bytes().to_vec());
        let may_be = [FileType::RegularFile, FileType::Unknown].contains(&entry.file_type());
        if !may_be || !is_letter(&name) {
            continue;
        }
        let Some((file, stat)) = opened(folder, &name)? else {
            continue;
        };
        if is_fresh(&stat, SystemTime::now()) {
            look.unquiet = true;
            continue;
        }
        let envelope = read(file)?;
        look.letters.push((Leaf { name, stat }, envelope));
        if look.letters.len() == TOGETHER {
            break;
        }
    }
    Ok(look)
}

fn is_letter(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.ends_with(b".json") && !name.starts_with(b".") && name.len() <= NAME_MAX
}

/// A regular file; never what a link leads to.
fn opened(folder: &OwnedFd, name: &OsStr) -> io::Result<Option<(File, Stat)>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(folder, name, flags, Mode::empty()) {
        Ok(file) => file,
        // It is gone, or a link by now.
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(None),
        Err(e) => {
            let shown = name.to_string_lossy();
            return Err(io::Error::other(format!("{shown} cannot be read: {e}")));
        }
    };
    let stat = fstat(&file)?;
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    Ok(is_file.then(|| (File::from(file), stat)))
}

/// Whether a file changed just now. One from the future did not.
fn is_fresh(stat: &Stat, now: SystemTime) -> bool {
    let seconds = u64::try_from(stat.st_mtime).unwrap_or(0);
    let nanoseconds = stat.st_mtime_nsec;
    let changed = Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds);
    let since = now.duration_since(SystemTime::UNIX_EPOCH + changed);
    since.is_ok_and(|since| since < QUIET)
}

/// What is in a file; `None`: more than a letter may have.
fn read(file: File) -> io::Result<Option<Vec<u8>>> {
    let mut envelope = Vec::new();
    let most = LETTER_MAX as u64 + 1;
    file.take(most).read_to_end(&mut envelope)?;
    Ok((envelope.len() <= LETTER_MAX).then_some(envelope))
}
