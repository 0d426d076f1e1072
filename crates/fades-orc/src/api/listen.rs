//! The addresses on which the API listens.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A node that was killed while it started a process leaves that process, for
/// a moment, with its sockets.
const PATIENCE: Duration = Duration::from_secs(1);

const PAUSE: Duration = Duration::from_millis(20);

/// Why the API cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody listens on the socket already.
    #[error("{0}: a node already listens on this socket: stop it, or choose another path")]
    InUse(PathBuf),
    /// There is something else at the socket's path.
    #[error("{0}: there is something that is no socket: choose another path, or remove it")]
    NoSocket(PathBuf),
    /// The system refuses.
    #[error("{address}: cannot listen")]
    Bind {
        /// Path or address.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Sockets that are bound and do not block.
#[derive(Debug)]
pub struct Listeners {
    pub(crate) unix: UnixListener,
    pub(crate) tcp: Option<TcpListener>,
    socket: SocketFile,
}

/// The socket's name in the file system; removed when dropped.
#[derive(Debug)]
pub(crate) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // The next node finds that nobody listens, and replaces it.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listeners {
    /// Binds the Unix socket at `path`, which only its owner may open, and an
    /// address besides.
    ///
    /// # Errors
    /// When one of them cannot be had.
    pub fn bind(path: &Path, listen: Option<SocketAddr>) -> Result<Self, ListenError> {
        let tcp = listen.map(bind_tcp).transpose()?;
        vacant(path)?;
        let unix = bind_unix(path).map_err(|source| ListenError::Bind {
            address: path.display().to_string(),
            source,
        })?;
        Ok(Self {
            unix,
            tcp,
            socket: SocketFile(path.to_owned()),
        })
    }

    pub(crate) fn into_parts(self) -> (UnixListener, Option<TcpListener>, SocketFile) {
        (self.unix, self.tcp, self.socket)
    }
}

/// Whether `path` is free, or a socket that a node left when it was killed.
fn vacant(path: &Path) -> Result<(), ListenError> {
    let Ok(there) = std::fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !there.file_type().is_socket() {
        return Err(ListenError::NoSocket(path.to_owned()));
    }
    let deadline = Instant::now() + PATIENCE;
    while UnixStream::connect(path).is_ok() {
        if Instant::now() >= deadline {
            return Err(ListenError::InUse(path.to_owned()));
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// Under another name first, so that nobody finds it before it has its mode.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let mut hidden = path.as_os_str().to_owned();
    hidden.push(".new");
    let hidden = PathBuf::from(hidden);
    match std::fs::remove_file(&hidden) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(&hidden)?;
    listener.set_nonblocking(true)?;
    std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&hidden, path)?;
    Ok(listener)
}

fn bind_tcp(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let bound = TcpListener::bind(address).and_then(|l| l.set_nonblocking(true).map(|()| l));
    bound.map_err(|source| ListenError::Bind {
        address: address.to_string(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    use super::{ListenError, Listeners};

    #[test]
    fn the_socket_is_for_its_owner_alone_and_goes_with_the_node() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api.sock");
        let listeners = Listeners::bind(&path, None).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(listeners);
        assert!(!path.exists());
    }

    #[test]
    fn a_socket_in_use_is_left_alone_and_a_stale_one_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api.sock");
        let other = UnixListener::bind(&path).unwrap();
        assert!(matches!(Listeners::bind(&path, None), Err(ListenError::InUse(p)) if p == path));
        drop(other);
        assert!(path.exists());
        assert!(Listeners::bind(&path, None).is_ok());
    }

    #[test]
    fn a_file_at_the_path_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.txt");
        std::fs::write(&path, "dear").unwrap();
        assert!(matches!(
            Listeners::bind(&path, None),
            Err(ListenError::NoSocket(_))
        ));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "dear");
    }
}
