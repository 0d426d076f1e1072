//! `transfer-socket`: input the way a unikernel with a network gets it, so that
//! what the window saves can be seen.
//!
//! Timed from the first byte that is sent until the function has passed over
//! all of them: a thread sends the bytes of the batches through a socket in
//! pieces as long as an Ethernet frame carries, another receives each into a
//! buffer and copies it into memory that the function then reads. That is kind
//! to the socket: there are no headers, no checksums and no device. Compared with
//! `transfer` of the same batches, which attaches them and copies nothing.
#![expect(unsafe_code, reason = "a file that is filled through a mapping")]

use std::fs::File;
use std::os::fd::OwnedFd;

use memmap2::MmapMut;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
};

use super::Taken;
use super::transfer::Passing;
use crate::bench::Bench;
use crate::fault::Fault;
use crate::figure::Figure;
use crate::input::{BatchFile, Place, ROW};
use crate::turns::{in_turns, timed};

/// Payload of a TCP segment in an Ethernet frame of 1,500 bytes.
const PIECE: usize = 1448;

const SIZES: [(&str, u64); 3] = [
    ("1.5 MB", 1_500_000),
    ("15 MB", 15_000_000),
    ("150 MB", 150_000_000),
];

pub(super) fn run(bench: &Bench, taken: &mut Taken) -> Result<(), Fault> {
    let place = match &bench.place {
        Ok(place) => place,
        Err(why) => {
            taken.skip("transfer-socket", why);
            return Ok(());
        }
    };
    let Some(isolation) = taken.isolations(bench, "transfer-socket").first().copied() else {
        return Ok(());
    };
    let mut passing = [
        Passing::new(bench, isolation)?,
        Passing::new(bench, isolation)?,
    ];
    let [through, window] = &mut passing;
    for (size, bytes) in SIZES {
        let files = place.batches("socket", 1, bytes / ROW)?;
        let (ours, theirs) = in_turns(
            bench.rounds((20, 10), (3, 1)),
            || {
                let (received, copies) = timed(|| all_through(place, &files));
                Ok::<_, Fault>(received + through.over(&copies?)?.0)
            },
            || window.over(&files).map(|(spent, _)| spent),
        )?;
        let figure = Figure::new(size, Some(isolation), "us", &ours);
        taken.add(figure.map(|f| f.against("the window", &theirs)));
    }
    Ok(())
}

/// Copies of `files` that came through a socket.
fn all_through(place: &Place, files: &[BatchFile]) -> Result<Vec<BatchFile>, Fault> {
    let copy = |(i, file): (usize, &BatchFile)| {
        let path = place.path(&format!("copy-{i}"));
        let copied = through(file, &path).map_err(Fault::file(&path, "receive"))?;
        Ok(BatchFile {
            path,
            file: copied,
            length: file.length,
        })
    };
    files.iter().enumerate().map(copy).collect()
}

fn through(file: &BatchFile, path: &std::path::Path) -> std::io::Result<File> {
    let copy = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)?;
    fallocate(&copy, FallocateFlags::empty(), 0, file.length)?;
    // SAFETY: nobody else has this new file open, so nobody shortens it.
    let mut memory = unsafe { MmapMut::map_mut(&copy) }?;
    // SAFETY: batches are not changed once they are written.
    let source = unsafe { memmap2::Mmap::map(&file.file) }?;
    let (receiver, sender) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    std::thread::scope(|scope| {
        let sent = scope.spawn(move || send_all(&sender, &source));
        receive_all(&receiver, &mut memory)?;
        sent.join().unwrap_or(Err(rustix::io::Errno::IO))?;
        drop(memory);
        File::open(path)
    })
}

fn send_all(socket: &OwnedFd, bytes: &[u8]) -> rustix::io::Result<()> {
    bytes
        .chunks(PIECE)
        .try_for_each(|piece| send(socket, piece, SendFlags::NOSIGNAL).map(drop))
}

fn receive_all(socket: &OwnedFd, memory: &mut [u8]) -> rustix::io::Result<()> {
    let mut buffer = [0; PIECE];
    for piece in memory.chunks_mut(PIECE) {
        let (length, _) = recv(socket, &mut buffer, RecvFlags::empty())?;
        if length != piece.len() {
            return Err(rustix::io::Errno::PIPE);
        }
        piece.copy_from_slice(&buffer[..length]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_arrives_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..10 * PIECE as u32 + 7)
            .map(|i| (i % 251) as u8)
            .collect();
        let path = folder.path().join("source");
        std::fs::write(&path, &bytes).unwrap();
        let file = BatchFile {
            file: File::open(&path).unwrap(),
            path,
            length: bytes.len() as u64,
        };
        let copy = folder.path().join("copy");
        through(&file, &copy).unwrap();
        assert_eq!(std::fs::read(&copy).unwrap(), bytes);
    }
}
