//! Messages and descriptors between the processes of a node.
//!
//! Orchestrator, broker and tenders talk over Unix stream sockets. A *frame* is
//! a JSON value, an optional *blob* of bytes, and up to [`MAX_DESCRIPTORS`]
//! file descriptors that travel with the frame's first byte:
//!
//! ```text
//! u32 length of JSON │ u32 length of blob │ u32 descriptors │ u32 magic │ JSON │ blob
//! ```
//! Programs that inherit their end of a connection are started by [`spawn`].
//! This crate knows nothing of what the messages mean (`fades-task::message`
//! does) and starts no threads but the one that makes children. Reads are bounded
//! in size and, when the caller gives a deadline, in time; an [`Inbox`] never
//! waits at all.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

mod inbox;
pub mod spawn;

pub use self::inbox::{Arrival, Inbox};

/// Longest JSON part of a frame, bytes.
pub const MAX_JSON: usize = 4 << 20;

/// Longest blob of a frame, bytes.
pub const MAX_BLOB: usize = 64 << 20;

/// Most descriptors that one frame carries.
pub const MAX_DESCRIPTORS: usize = 4;

const HEADER: usize = 16;
const MAGIC: u32 = u32::from_le_bytes(*b"FADW");

/// Why a frame could not be sent or received.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The socket failed.
    #[error("the connection to the other process failed")]
    Io(#[from] io::Error),
    /// The peer sent something that is no frame.
    #[error("the other process sent a malformed frame: {0}")]
    Frame(&'static str),
    /// The JSON part is not the message that was expected.
    #[error("the other process sent a message that is not understood")]
    Message(#[from] serde_json::Error),
    /// The deadline passed before a whole frame was there.
    #[error("no whole message arrived in time")]
    Deadline,
}

/// A received frame.
#[derive(Debug)]
pub struct Frame<T> {
    /// The JSON part.
    pub message: T,
    /// The blob; empty when there is none.
    pub blob: Vec<u8>,
    /// The descriptors, close-on-exec.
    pub descriptors: Vec<OwnedFd>,
}

/// Lengths of what follows a frame's header.
#[derive(Debug)]
struct Head {
    json: usize,
    blob: usize,
}

impl Head {
    /// Reads a header that arrived with so many descriptors.
    fn read(header: &[u8; HEADER], descriptors: usize) -> Result<Self, WireError> {
        let word =
            |i: usize| u32::from_le_bytes([header[i], header[i + 1], header[i + 2], header[i + 3]]);
        let (json, blob) = (word(0) as usize, word(4) as usize);
        if word(12) != MAGIC {
            return Err(WireError::Frame("not a frame"));
        }
        if json > MAX_JSON || blob > MAX_BLOB {
            return Err(WireError::Frame("larger than a frame may be"));
        }
        if word(8) as usize != descriptors {
            return Err(WireError::Frame(
                "another number of descriptors than announced",
            ));
        }
        Ok(Self { json, blob })
    }
}

/// One end of a connection between two processes.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
}

impl From<OwnedFd> for Channel {
    fn from(socket: OwnedFd) -> Self {
        Self { socket }
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.socket
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Channel {
    /// A connected pair, close-on-exec.
    ///
    /// # Errors
    /// When the process has no descriptors left.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((a.into(), b.into()))
    }

    /// A second handle on the same end, so that one thread can send while
    /// another receives. Two senders must take turns.
    ///
    /// # Errors
    /// When the process has no descriptors left.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(self.socket.try_clone()?.into())
    }

    /// Ends both directions: a peer or another handle that waits sees the end.
    pub fn shut_down(&self) {
        // It is not an error when the peer was faster.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
    }

    /// Ends what is sent in this direction: the peer reads to the end of it. What
    /// the peer sends still arrives.
    pub fn end_sending(&self) {
        // It is not an error when the peer was faster.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Write);
    }

    /// Sends one frame; blocks while the peer's buffer is full.
    ///
    /// # Errors
    /// [`WireError::Io`] with `BrokenPipe` when the peer is gone;
    /// [`WireError::Frame`] when the message is larger than a frame may be.
    pub fn send<T: Serialize>(
        &self,
        message: &T,
        blob: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), WireError> {
        let json = serde_json::to_vec(message)?;
        if json.len() > MAX_JSON || blob.len() > MAX_BLOB || descriptors.len() > MAX_DESCRIPTORS {
            return Err(WireError::Frame("too large to send"));
        }
        let mut header = [0_u8; HEADER];
        let words = [
            json.len() as u32,
            blob.len() as u32,
            descriptors.len() as u32,
            MAGIC,
        ];
        for (bytes, word) in header.chunks_exact_mut(4).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        // In one piece: a peer that is woken finds the whole frame.
        let mut parts = [&header[..], &json, blob];
        let mut sent = self.send_first(&parts, descriptors)?;
        for part in &mut parts {
            let done = sent.min(part.len());
            sent -= done;
            *part = &part[done..];
        }
        parts.into_iter().try_for_each(|part| self.send_all(part))
    }

    /// Sends the beginning of a frame; how much of it the socket took.
    fn send_first(
        &self,
        parts: &[&[u8]; 3],
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<usize, WireError> {
        let parts = parts.map(IoSlice::new);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        loop {
            match sendmsg(&self.socket, &parts, &mut control, SendFlags::NOSIGNAL) {
                Err(rustix::io::Errno::INTR) => {}
                sent => return Ok(sent.map_err(io::Error::from)?),
            }
        }
    }

    fn send_all(&self, mut bytes: &[u8]) -> Result<(), WireError> {
        while !bytes.is_empty() {
            match rustix::net::send(&self.socket, bytes, SendFlags::NOSIGNAL) {
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(io::Error::from(e).into()),
                Ok(n) => bytes = &bytes[n..],
            }
        }
        Ok(())
    }

    /// Receives one frame, or `None` when the peer has closed its end.
    ///
    /// # Errors
    /// [`WireError::Deadline`] when the frame is not whole by `deadline`; the
    /// connection is unusable after any error but a deadline that passed
    /// before the first byte.
    pub fn receive<T: DeserializeOwned>(
        &self,
        deadline: Option<Instant>,
    ) -> Result<Option<Frame<T>>, WireError> {
        let mut header = [0_u8; HEADER];
        let mut descriptors = Vec::new();
        let mut have = 0;
        while have < HEADER {
            self.wait(deadline)?;
            match self.receive_some(&mut header[have..], &mut descriptors)? {
                0 if have == 0 => return Ok(None),
                0 => return Err(WireError::Frame("the end inside a frame")),
                n => have += n,
            }
        }
        let Head { json, blob } = Head::read(&header, descriptors.len())?;
        let json = self.receive_exactly(json, deadline)?;
        let blob = self.receive_exactly(blob, deadline)?;
        let message = serde_json::from_slice(&json)?;
        Ok(Some(Frame {
            message,
            blob,
            descriptors,
        }))
    }

    fn receive_some(
        &self,
        bytes: &mut [u8],
        descriptors: &mut Vec<OwnedFd>,
    ) -> Result<usize, WireError> {
        match self.receive_part(bytes, descriptors, RecvFlags::empty()) {
            Err(WireError::Io(e)) if e.kind() == io::ErrorKind::ConnectionReset => Ok(0),
            received => received,
        }
    }

    fn receive_part(
        &self,
        bytes: &mut [u8],
        descriptors: &mut Vec<OwnedFd>,
        flags: RecvFlags,
    ) -> Result<usize, WireError> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = match recvmsg(
            &self.socket,
            &mut [IoSliceMut::new(bytes)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC | flags,
        ) {
            Err(rustix::io::Errno::INTR) => return self.receive_part(bytes, descriptors, flags),
            other => other.map_err(io::Error::from)?.bytes,
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        if descriptors.len() > MAX_DESCRIPTORS {
            return Err(WireError::Frame("too many descriptors"));
        }
        Ok(received)
    }

    fn receive_exactly(
        &self,
        length: usize,
        deadline: Option<Instant>,
    ) -> Result<Vec<u8>, WireError> {
        let mut bytes = vec![0; length];
        let mut have = 0;
        while have < length {
            self.wait(deadline)?;
            let mut stray = Vec::new();
            match self.receive_some(&mut bytes[have..], &mut stray)? {
                0 => return Err(WireError::Frame("the end inside a frame")),
                n => have += n,
            }
            if !stray.is_empty() {
                return Err(WireError::Frame("descriptors inside a frame"));
            }
        }
        Ok(bytes)
    }

    fn wait(&self, deadline: Option<Instant>) -> Result<(), WireError> {
        let Some(deadline) = deadline else {
            return Ok(());
        };
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec {
                tv_sec: left.as_secs() as i64,
                tv_nsec: left.subsec_nanos().into(),
            };
            let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
            match poll(&mut fds, Some(&timeout)) {
                Ok(0) => return Err(WireError::Deadline),
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(io::Error::from(e).into()),
            }
        }
    }
}

#[cfg(test)]
mod tests;
