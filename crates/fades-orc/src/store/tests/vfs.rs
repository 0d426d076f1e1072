//! SQLite on a [`Disk`]: the smallest VFS that serves a database in WAL mode
//! with an exclusive lock (which needs no shared memory).
#![expect(unsafe_code, reason = "a VFS is a table of C functions")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::mem::size_of;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::ffi;

use super::disk::Disk;

/// SQLite's file, with what this VFS needs behind it.
#[repr(C)]
struct Opened {
    base: ffi::sqlite3_file,
    disk: *const Mutex<Disk>,
    /// From `Box::into_raw`; null once closed.
    name: *mut String,
    delete_on_close: bool,
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 1,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(no_lock),
    xUnlock: Some(no_lock),
    xCheckReservedLock: Some(check_reserved),
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

/// Registers a VFS called `name` over a disk of its own, for the rest of the
/// process's life.
pub(super) fn register(name: &str) -> &'static Mutex<Disk> {
    let disk: &'static Mutex<Disk> = Box::leak(Box::new(Mutex::new(Disk::new(0))));
    let vfs = Box::leak(Box::new(ffi::sqlite3_vfs {
        iVersion: 1,
        szOsFile: size_of::<Opened>() as c_int,
        mxPathname: 512,
        pNext: std::ptr::null_mut(),
        zName: CString::new(name).unwrap().into_raw(),
        pAppData: std::ptr::from_ref(disk).cast_mut().cast(),
        xOpen: Some(open),
        xDelete: Some(delete),
        xAccess: Some(access),
        xFullPathname: Some(full_path),
        xDlOpen: None,
        xDlError: None,
        xDlSym: None,
        xDlClose: None,
        xRandomness: Some(randomness),
        xSleep: Some(sleep),
        xCurrentTime: Some(current_time),
        xGetLastError: None,
        xCurrentTimeInt64: None,
        xSetSystemCall: None,
        xGetSystemCall: None,
        xNextSystemCall: None,
    }));
    // SAFETY: the table lives for ever.
    let code = unsafe { ffi::sqlite3_vfs_register(vfs, 0) };
    assert_eq!(code, ffi::SQLITE_OK);
    disk
}

pub(super) fn locked(disk: &Mutex<Disk>) -> MutexGuard<'_, Disk> {
    disk.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The disk of a VFS that [`register`] made.
fn disk_of(vfs: *mut ffi::sqlite3_vfs) -> MutexGuard<'static, Disk> {
    // SAFETY: SQLite hands back the table that was registered.
    let disk = unsafe { (*vfs).pAppData }
        .cast_const()
        .cast::<Mutex<Disk>>();
    // SAFETY: `register` leaked the disk.
    locked(unsafe { &*disk })
}

fn parts(file: *mut ffi::sqlite3_file) -> (MutexGuard<'static, Disk>, &'static str) {
    // SAFETY: SQLite hands back a file that `open` filled in.
    let opened = unsafe { &*file.cast::<Opened>() };
    // SAFETY: `register` leaked the disk.
    let disk = unsafe { &*opened.disk };
    // SAFETY: the name lives until `close`, and no caller keeps it longer.
    let name = unsafe { &*opened.name };
    (locked(disk), name)
}

fn text<'a>(name: *const c_char) -> &'a str {
    // SAFETY: SQLite hands out texts that end with zero.
    unsafe { CStr::from_ptr(name) }.to_str().unwrap()
}

fn code<T>(done: Result<T, super::disk::Off>, failed: c_int) -> c_int {
    done.map_or(failed, |_| ffi::SQLITE_OK)
}

unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    let name = match name.is_null() {
        true => "temporary".to_owned(),
        false => text(name).to_owned(),
    };
    let mut disk = disk_of(vfs);
    let made = match disk.exists(&name) {
        true => Ok(()),
        false => disk.create(&name),
    };
    let failed = made.is_err();
    drop(disk);
    let opened = Opened {
        base: ffi::sqlite3_file {
            pMethods: if failed {
                std::ptr::null()
            } else {
                &raw const METHODS
            },
        },
        // SAFETY: SQLite hands back the table that was registered.
        disk: unsafe { (*vfs).pAppData }.cast_const().cast(),
        name: if failed {
            std::ptr::null_mut()
        } else {
            Box::into_raw(Box::new(name))
        },
        delete_on_close: flags & ffi::SQLITE_OPEN_DELETEONCLOSE != 0,
    };
    // SAFETY: SQLite reserved `szOsFile` bytes there.
    unsafe { file.cast::<Opened>().write(opened) };
    if !out_flags.is_null() {
        // SAFETY: checked above.
        unsafe { *out_flags = flags };
    }
    if failed {
        ffi::SQLITE_CANTOPEN
    } else {
        ffi::SQLITE_OK
    }
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: SQLite hands back a file that `open` filled in.
    let opened = unsafe { &mut *file.cast::<Opened>() };
    // SAFETY: from `Box::into_raw` in `open`; SQLite closes a file once.
    let name = unsafe { Box::from_raw(opened.name) };
    opened.name = std::ptr::null_mut();
    if opened.delete_on_close {
        // SAFETY: `register` leaked the disk.
        let _ = locked(unsafe { &*opened.disk }).delete(&name, false);
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn read(
    file: *mut ffi::sqlite3_file,
    into: *mut c_void,
    length: c_int,
    at: i64,
) -> c_int {
    // SAFETY: SQLite gives a buffer of that length.
    let into = unsafe { std::slice::from_raw_parts_mut(into.cast::<u8>(), length as usize) };
    let (disk, name) = parts(file);
    match disk.read(name, at as usize, into) {
        Ok(n) if n == into.len() => ffi::SQLITE_OK,
        Ok(_) => ffi::SQLITE_IOERR_SHORT_READ,
        Err(_) => ffi::SQLITE_IOERR_READ,
    }
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    from: *const c_void,
    length: c_int,
    at: i64,
) -> c_int {
    // SAFETY: SQLite gives a buffer of that length.
    let from = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), length as usize) };
    let (mut disk, name) = parts(file);
    code(disk.write(name, at as usize, from), ffi::SQLITE_IOERR_WRITE)
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: i64) -> c_int {
    let (mut disk, name) = parts(file);
    code(
        disk.truncate(name, size as usize),
        ffi::SQLITE_IOERR_TRUNCATE,
    )
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    let (mut disk, name) = parts(file);
    code(disk.sync(name), ffi::SQLITE_IOERR_FSYNC)
}

unsafe extern "C" fn file_size(file: *mut ffi::sqlite3_file, size: *mut i64) -> c_int {
    let (disk, name) = parts(file);
    // SAFETY: SQLite gives a place for the size.
    unsafe { *size = disk.size(name) as i64 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn no_lock(_: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn check_reserved(_: *mut ffi::sqlite3_file, taken: *mut c_int) -> c_int {
    // SAFETY: SQLite gives a place for the answer.
    unsafe { *taken = 0 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn control(_: *mut ffi::sqlite3_file, _: c_int, _: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn sector_size(_: *mut ffi::sqlite3_file) -> c_int {
    512
}

/// As SQLite assumes of real disks: bytes beside those written stay.
unsafe extern "C" fn characteristics(_: *mut ffi::sqlite3_file) -> c_int {
    ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE
}

unsafe extern "C" fn delete(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    sync_folder: c_int,
) -> c_int {
    let done = disk_of(vfs).delete(text(name), sync_folder != 0);
    code(done, ffi::SQLITE_IOERR_DELETE)
}

unsafe extern "C" fn access(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    _: c_int,
    exists: *mut c_int,
) -> c_int {
    let there = disk_of(vfs).exists(text(name));
    // SAFETY: SQLite gives a place for the answer.
    unsafe { *exists = c_int::from(there) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn full_path(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    length: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: SQLite hands out texts that end with zero.
    let name = unsafe { CStr::from_ptr(name) }.to_bytes_with_nul();
    if name.len() > length as usize {
        return ffi::SQLITE_CANTOPEN;
    }
    // SAFETY: `out` has `length` bytes, which are enough.
    unsafe { std::ptr::copy_nonoverlapping(name.as_ptr().cast(), out, name.len()) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn randomness(
    _: *mut ffi::sqlite3_vfs,
    length: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: SQLite gives a buffer of that length.
    unsafe { std::ptr::write_bytes(out, 0x5a, length as usize) };
    length
}

unsafe extern "C" fn sleep(_: *mut ffi::sqlite3_vfs, _: c_int) -> c_int {
    0
}

unsafe extern "C" fn current_time(_: *mut ffi::sqlite3_vfs, day: *mut f64) -> c_int {
    // SAFETY: SQLite gives a place for the answer.
    unsafe { *day = 2_461_000.0 };
    ffi::SQLITE_OK
}
