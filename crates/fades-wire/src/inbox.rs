//! Frames from peers that are waited for all together, as with `epoll`.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::RecvFlags;
use serde::de::DeserializeOwned;

use super::{Channel, Frame, HEADER, Head, WireError};

/// Memory for a part of a frame grows in steps of this, bytes: a length that a
/// peer only claims costs nothing.
const STEP: usize = 64 << 10;

/// What one look at a channel found.
#[derive(Debug)]
pub enum Arrival<T> {
    /// A whole frame. There may be more.
    Frame(Frame<T>),
    /// Nothing that is whole yet.
    Nothing,
    /// The peer has closed its end.
    End {
        /// It did so, or died, without having read all that was sent to it.
        unread: bool,
    },
}

/// What has arrived of a channel's next frame. It takes what is there and
/// never waits.
#[derive(Debug, Default)]
pub struct Inbox {
    header: [u8; HEADER],
    have: usize,
    descriptors: Vec<OwnedFd>,
    head: Option<Head>,
    /// The JSON part, then the blob.
    bytes: Vec<u8>,
}

/// What one system call brought.
enum Part {
    Bytes(usize),
    Nothing,
    End { unread: bool },
}

impl Inbox {
    /// Takes what has arrived, up to the end of a frame.
    ///
    /// # Errors
    /// When the peer sent no frame, or the socket failed; the connection is
    /// unusable then.
    pub fn take<T: DeserializeOwned>(
        &mut self,
        channel: &Channel,
    ) -> Result<Arrival<T>, WireError> {
        loop {
            let part = match &self.head {
                None => self.more_of_header(channel)?,
                Some(head) if self.bytes.len() < head.json + head.blob => {
                    let missing = head.json + head.blob - self.bytes.len();
                    self.more_of_body(channel, missing)?
                }
                Some(_) => return self.finish(),
            };
            let begun = self.have > 0;
            match part {
                Part::Bytes(_) => {}
                Part::Nothing => return Ok(Arrival::Nothing),
                Part::End { unread } if unread || !begun => return Ok(Arrival::End { unread }),
                Part::End { .. } => return Err(WireError::Frame("the end inside a frame")),
            }
        }
    }

    fn more_of_header(&mut self, channel: &Channel) -> Result<Part, WireError> {
        let rest = &mut self.header[self.have..];
        let part = part(channel, rest, &mut self.descriptors)?;
        if let Part::Bytes(n) = part {
            self.have += n;
        }
        if self.have == HEADER {
            self.head = Some(Head::read(&self.header, self.descriptors.len())?);
        }
        Ok(part)
    }

    fn more_of_body(&mut self, channel: &Channel, missing: usize) -> Result<Part, WireError> {
        let have = self.bytes.len();
        self.bytes.resize(have + missing.min(STEP), 0);
        let mut stray = Vec::new();
        let part = part(channel, &mut self.bytes[have..], &mut stray);
        let got = match part {
            Ok(Part::Bytes(n)) => n,
            _ => 0,
        };
        self.bytes.truncate(have + got);
        if !stray.is_empty() {
            return Err(WireError::Frame("descriptors inside a frame"));
        }
        part
    }

    /// Hands the frame out, and is empty again.
    fn finish<T: DeserializeOwned>(&mut self) -> Result<Arrival<T>, WireError> {
        let whole = std::mem::take(self);
        let mut json = whole.bytes;
        let blob = json.split_off(whole.head.map_or(0, |h| h.json));
        Ok(Arrival::Frame(Frame {
            message: serde_json::from_slice(&json)?,
            blob,
            descriptors: whole.descriptors,
        }))
    }
}

fn part(
    channel: &Channel,
    bytes: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> Result<Part, WireError> {
    match channel.receive_part(bytes, descriptors, RecvFlags::DONTWAIT) {
        Ok(0) => Ok(Part::End { unread: false }),
        Ok(n) => Ok(Part::Bytes(n)),
        Err(WireError::Io(e)) if e.kind() == io::ErrorKind::WouldBlock => Ok(Part::Nothing),
        Err(WireError::Io(e)) if e.kind() == io::ErrorKind::ConnectionReset => {
            Ok(Part::End { unread: true })
        }
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::{Arrival, Inbox, WireError};
    use crate::{Channel, MAX_BLOB};

    fn frame(arrival: Arrival<String>) -> (String, Vec<u8>, usize) {
        let Arrival::Frame(frame) = arrival else {
            panic!("{arrival:?}");
        };
        (frame.message, frame.blob, frame.descriptors.len())
    }

    #[test]
    fn frames_are_handed_out_one_at_a_time_and_whole() {
        let (a, b) = Channel::pair().unwrap();
        let mut inbox = Inbox::default();
        let look = |inbox: &mut Inbox| inbox.take::<String>(&b).unwrap();
        assert!(matches!(look(&mut inbox), Arrival::Nothing));
        a.send(&"one", b"blob", &[a.as_fd()]).unwrap();
        a.send(&"two", &[], &[]).unwrap();
        let one = ("one".to_owned(), b"blob".to_vec(), 1);
        assert_eq!(frame(look(&mut inbox)), one);
        assert_eq!(frame(look(&mut inbox)), ("two".to_owned(), vec![], 0));
        assert!(matches!(look(&mut inbox), Arrival::Nothing));
        drop(a);
        let end = look(&mut inbox);
        assert!(matches!(end, Arrival::End { unread: false }), "{end:?}");
    }

    #[test]
    fn a_frame_that_arrives_in_pieces_is_put_together() {
        let (a, b) = Channel::pair().unwrap();
        let (c, d) = Channel::pair().unwrap();
        let blob = vec![7; 150_000];
        a.send(&"pieces", &blob, &[]).unwrap();
        let mut bytes = vec![0; 150_000 + 16 + 8];
        let whole = rustix::net::RecvFlags::WAITALL;
        rustix::net::recv(b.as_fd(), &mut bytes[..], whole).unwrap();
        let mut inbox = Inbox::default();
        for piece in bytes.chunks(70_001) {
            let early = inbox.take::<String>(&d).unwrap();
            assert!(matches!(early, Arrival::Nothing));
            rustix::net::send(c.as_fd(), piece, rustix::net::SendFlags::empty()).unwrap();
        }
        let (message, got, _) = frame(inbox.take(&d).unwrap());
        assert_eq!(message, "pieces");
        assert!(got == blob);
    }

    #[test]
    fn a_peer_that_ends_without_having_read_its_orders_is_told_apart() {
        let (a, b) = Channel::pair().unwrap();
        a.send(&"orders", &[], &[]).unwrap();
        drop(b);
        let end = Inbox::default().take::<String>(&a).unwrap();
        assert!(matches!(end, Arrival::End { unread: true }), "{end:?}");
    }

    #[test]
    fn what_is_no_frame_is_refused_without_allocating_what_it_claims() {
        let magic = crate::MAGIC;
        for header in [
            [5, 0, 0, 0],
            [2, MAX_BLOB as u32 + 1, 0, magic],
            [2, 0, 1, magic],
        ] {
            let (a, b) = Channel::pair().unwrap();
            let bytes: Vec<u8> = header.iter().flat_map(|w: &u32| w.to_le_bytes()).collect();
            rustix::net::send(a.as_fd(), &bytes, rustix::net::SendFlags::empty()).unwrap();
            let taken = Inbox::default().take::<String>(&b);
            assert!(matches!(taken, Err(WireError::Frame(_))), "{header:?}");
        }
        let (a, b) = Channel::pair().unwrap();
        let claim = [2, MAX_BLOB as u32, 0, magic];
        let bytes: Vec<u8> = claim.iter().flat_map(|w| w.to_le_bytes()).collect();
        rustix::net::send(a.as_fd(), &bytes, rustix::net::SendFlags::empty()).unwrap();
        let mut inbox = Inbox::default();
        assert!(matches!(inbox.take::<String>(&b), Ok(Arrival::Nothing)));
        assert!(inbox.bytes.capacity() <= super::STEP);
        drop(a);
        let taken = inbox.take::<String>(&b);
        assert!(matches!(taken, Err(WireError::Frame(_))), "{taken:?}");
    }
}
