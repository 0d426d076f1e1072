//! A disk that loses power, for tests: a file system of SQLite in memory that
//! knows what was synced.
//!
//! Killing a process does not show whether a store survives a power cut,
//! because the operating system keeps the pages that were written. Here every
//! write goes to a list of *pending* sectors until the file is synced. When
//! the power goes, each pending sector is kept or lost at random, in any
//! order, so that writes are dropped, reordered and torn.
//!
//! [`Disk::fail_after`] makes the power go at a chosen operation: from then on
//! every call fails, as it would for a process that no longer exists.
#![expect(unsafe_code, reason = "SQLite calls a file system through C function pointers")]

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::ffi;

/// Unit in which a disk writes or loses, bytes.
const SECTOR: usize = 512;

/// A file: what is on the platter, and what was written since the last sync.
#[derive(Debug, Default, Clone)]
struct Contents {
    durable: Option<Vec<u8>>,
    current: Option<Vec<u8>>,
    pending: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Length(usize),
    Removed,
}

impl Contents {
    fn apply(bytes: &mut Option<Vec<u8>>, change: &Change) {
        match change {
            Change::Removed => *bytes = None,
            Change::Length(n) => bytes.get_or_insert_default().resize(*n, 0),
            Change::Write { offset, bytes: written } => {
                let bytes = bytes.get_or_insert_default();
                let end = offset + written.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*offset..end].copy_from_slice(written);
            }
        }
    }

    fn change(&mut self, change: Change) {
        Self::apply(&mut self.current, &change);
        self.pending.push(change);
    }

    fn sync(&mut self) {
        self.durable.clone_from(&self.current);
        self.pending.clear();
    }

    /// Makes a removal durable that is still pending.
    fn sync_name(&mut self) {
        if let Some(last) = self.pending.iter().rposition(|c| matches!(c, Change::Removed)) {
            self.pending.drain(..=last);
            self.durable = None;
        }
    }

    /// What is there after a power cut: each pending change in sectors, kept
    /// or lost as `keep` says.
    fn cut(&mut self, keep: &mut impl FnMut() -> bool) {
        for change in std::mem::take(&mut self.pending) {
            match change {
                Change::Write { offset, bytes } => {
                    for (i, sector) in bytes.chunks(SECTOR).enumerate() {
                        if keep() {
                            let offset = offset + i * SECTOR;
                            let bytes = sector.to_vec();
                            Self::apply(&mut self.durable, &Change::Write { offset, bytes });
                        }
                    }
                }
                other if keep() => Self::apply(&mut self.durable, &other),
                _ => {}
            }
        }
        self.current.clone_from(&self.durable);
    }
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<String, Contents>,
    /// Operations that change something, so far.
    operations: u64,
    /// The operation at which the power goes.
    fails_at: Option<u64>,
    /// Syncs do nothing, as on a disk that lies or with syncing switched off.
    lies: bool,
}

impl State {
    /// Counts an operation; whether there is still power.
    fn powered(&mut self) -> bool {
        self.operations += 1;
        self.fails_at.is_none_or(|at| self.operations < at)
    }

    /// A sync of one file. As on every journalling file system, names that were
    /// removed before it are gone for good with it.
    fn sync(&mut self, name: &str) {
        self.files.values_mut().for_each(Contents::sync_name);
        self.files.entry(name.to_owned()).or_default().sync();
    }
}

/// A disk, registered with SQLite under [`Disk::name`].
#[derive(Debug)]
pub(crate) struct Disk {
    name: String,
    state: Mutex<State>,
}

impl Disk {
    /// A new disk with a name of its own. It lives as long as the test
    /// program, because SQLite keeps pointers to it.
    pub(crate) fn new(name: &str) -> &'static Self {
        let disk: &'static Self =
            Box::leak(Box::new(Self { name: name.to_owned(), state: Mutex::default() }));
        register(disk);
        disk
    }

    /// Name of the file system, for opening a connection.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Operations that changed something, so far.
    pub(crate) fn operations(&self) -> u64 {
        self.state().operations
    }

    /// The power goes at the `n`-th changing operation from now.
    pub(crate) fn fail_after(&self, n: u64) {
        let mut state = self.state();
        state.fails_at = Some(state.operations + n);
    }

    /// Whether the power is gone.
    pub(crate) fn is_off(&self) -> bool {
        let state = self.state();
        state.fails_at.is_some_and(|at| state.operations >= at)
    }

    /// From now on syncs are ignored: to show that a test notices.
    pub(crate) fn lie(&self) {
        self.state().lies = true;
    }

    /// The power comes back: unsynced sectors were kept or lost as `keep` says.
    pub(crate) fn restart(&self, mut keep: impl FnMut() -> bool) {
        let mut state = self.state();
        state.fails_at = None;
        for contents in state.files.values_mut() {
            contents.cut(&mut keep);
        }
        state.files.retain(|_, c| c.current.is_some());
    }
}

/// An open file, as SQLite allocates it: its methods first.
#[repr(C)]
struct Handle {
    methods: *const ffi::sqlite3_io_methods,
    disk: Option<&'static Disk>,
    /// Name of the file; owned, freed by `close`.
    name: *mut String,
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 1,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(size),
    xLock: Some(lock),
    xUnlock: Some(lock),
    xCheckReservedLock: Some(reserved),
    xFileControl: Some(control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(characteristics),
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    xFetch: None,
    xUnfetch: None,
};

fn register(disk: &'static Disk) {
    let name = CString::new(disk.name.as_str()).expect("names of disks have no zero byte");
    // SAFETY: a null name asks for the default file system, which always exists.
    let default = unsafe { ffi::sqlite3_vfs_find(ptr::null()) };
    // SAFETY: SQLite's own structure, alive for the whole process; copied to
    // borrow its clock and randomness.
    let mut vfs = unsafe { ptr::read(default) };
    vfs.szOsFile = size_of::<Handle>() as c_int;
    vfs.mxPathname = 512;
    vfs.pNext = ptr::null_mut();
    vfs.zName = name.into_raw();
    vfs.pAppData = ptr::from_ref(disk).cast_mut().cast();
    vfs.xOpen = Some(open);
    vfs.xDelete = Some(delete);
    vfs.xAccess = Some(access);
    vfs.xFullPathname = Some(full_path);
    vfs.iVersion = 1;
    // SAFETY: the structure is leaked, so it outlives every connection.
    let registered = unsafe { ffi::sqlite3_vfs_register(Box::leak(Box::new(vfs)), 0) };
    assert_eq!(registered, ffi::SQLITE_OK);
}

fn disk_of(vfs: *mut ffi::sqlite3_vfs) -> &'static Disk {
    // SAFETY: SQLite passes the structure that `register` gave it.
    let data = unsafe { (*vfs).pAppData };
    // SAFETY: `register` put a leaked disk there.
    unsafe { &*data.cast::<Disk>() }
}

fn text(s: *const c_char) -> String {
    // SAFETY: SQLite passes names with a terminating zero.
    unsafe { CStr::from_ptr(s) }.to_string_lossy().into_owned()
}

/// Runs `f` on the contents of an open file.
fn with<T>(file: *mut ffi::sqlite3_file, f: impl FnOnce(&mut State, &str) -> T) -> T {
    // SAFETY: SQLite passes files that `open` has filled.
    let handle = unsafe { &*file.cast::<Handle>() };
    // SAFETY: `open` put a boxed name there, which `close` alone frees.
    let name = unsafe { &*handle.name };
    let disk = handle.disk.expect("an open file has a disk");
    f(&mut disk.state(), name)
}

unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    file: *mut ffi::sqlite3_file,
    _flags: c_int,
    out: *mut c_int,
) -> c_int {
    let disk = disk_of(vfs);
    let name = if name.is_null() { "temporary".to_owned() } else { text(name) };
    {
        let mut state = disk.state();
        if !state.files.contains_key(&name) {
            if !state.powered() {
                return ffi::SQLITE_IOERR;
            }
            state.files.entry(name.clone()).or_default().change(Change::Length(0));
        }
    }
    let handle =
        Handle { methods: &raw const METHODS, disk: Some(disk), name: Box::into_raw(Box::new(name)) };
    // SAFETY: SQLite allocated `szOsFile` bytes for this.
    unsafe { ptr::write(file.cast::<Handle>(), handle) };
    if !out.is_null() {
        // SAFETY: checked for null; SQLite's own variable.
        unsafe { *out = ffi::SQLITE_OPEN_READWRITE };
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn delete(vfs: *mut ffi::sqlite3_vfs, name: *const c_char, sync: c_int) -> c_int {
    let mut state = disk_of(vfs).state();
    if !state.powered() {
        return ffi::SQLITE_IOERR;
    }
    let name = text(name);
    let lies = state.lies;
    let Some(contents) = state.files.get_mut(&name) else { return ffi::SQLITE_OK };
    contents.change(Change::Removed);
    if sync != 0 && !lies {
        state.sync(&name);
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn access(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    _flags: c_int,
    out: *mut c_int,
) -> c_int {
    let state = disk_of(vfs).state();
    let there = state.files.get(&text(name)).is_some_and(|c| c.current.is_some());
    // SAFETY: SQLite's own variable.
    unsafe { *out = c_int::from(there) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn full_path(
    _vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    room: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: a name with a terminating zero.
    let name = unsafe { CStr::from_ptr(name) }.to_bytes_with_nul();
    if name.len() > room as usize {
        return ffi::SQLITE_CANTOPEN;
    }
    // SAFETY: `out` has `room` bytes, which are enough, as was just checked.
    unsafe { ptr::copy_nonoverlapping(name.as_ptr().cast(), out, name.len()) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    let handle = file.cast::<Handle>();
    // SAFETY: an open file, closed once.
    let name = unsafe { (*handle).name };
    // SAFETY: boxed by `open`, not used again.
    drop(unsafe { Box::from_raw(name) });
    ffi::SQLITE_OK
}

unsafe extern "C" fn read(
    file: *mut ffi::sqlite3_file,
    out: *mut c_void,
    length: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    let (length, offset) = (length as usize, offset as usize);
    // SAFETY: SQLite's buffer of `length` bytes, which nobody else uses now.
    let out = unsafe { std::slice::from_raw_parts_mut(out.cast::<u8>(), length) };
    with(file, |state, name| {
        let bytes = state.files.get(name).and_then(|c| c.current.as_deref()).unwrap_or_default();
        let bytes = bytes.get(offset..).unwrap_or_default();
        let have = bytes.len().min(length);
        out[..have].copy_from_slice(&bytes[..have]);
        out[have..].fill(0);
        if have == length { ffi::SQLITE_OK } else { ffi::SQLITE_IOERR_SHORT_READ }
    })
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    from: *const c_void,
    length: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: SQLite's buffer of `length` bytes.
    let bytes = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), length as usize) };
    with(file, |state, name| {
        let powered = state.powered();
        let offset = offset as usize;
        let write = Change::Write { offset, bytes: bytes.to_vec() };
        // The write during which the power goes may still reach the disk in part.
        state.files.entry(name.to_owned()).or_default().change(write);
        if powered { ffi::SQLITE_OK } else { ffi::SQLITE_IOERR_WRITE }
    })
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, length: ffi::sqlite3_int64) -> c_int {
    with(file, |state, name| {
        if !state.powered() {
            return ffi::SQLITE_IOERR_TRUNCATE;
        }
        let length = Change::Length(length as usize);
        state.files.entry(name.to_owned()).or_default().change(length);
        ffi::SQLITE_OK
    })
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, _flags: c_int) -> c_int {
    with(file, |state, name| {
        if !state.powered() {
            return ffi::SQLITE_IOERR_FSYNC;
        }
        if !state.lies {
            state.sync(name);
        }
        ffi::SQLITE_OK
    })
}

unsafe extern "C" fn size(file: *mut ffi::sqlite3_file, out: *mut ffi::sqlite3_int64) -> c_int {
    let length = with(file, |state, name| {
        state.files.get(name).and_then(|c| c.current.as_ref()).map_or(0, Vec::len)
    });
    // SAFETY: SQLite's own variable.
    unsafe { *out = length as i64 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn lock(_file: *mut ffi::sqlite3_file, _level: c_int) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn reserved(_file: *mut ffi::sqlite3_file, out: *mut c_int) -> c_int {
    // SAFETY: SQLite's own variable.
    unsafe { *out = 0 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn control(_f: *mut ffi::sqlite3_file, _op: c_int, _arg: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn sector_size(_file: *mut ffi::sqlite3_file) -> c_int {
    SECTOR as c_int
}

unsafe extern "C" fn characteristics(_file: *mut ffi::sqlite3_file) -> c_int {
    0
}

// SAFETY: the disk is shared and guards its state with a mutex; the handle's
// pointers are used by SQLite's caller alone.
unsafe impl Sync for Handle {}
