use std::io::{Read, Seek, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::{Channel, MAX_BLOB, WireError};

fn soon() -> Option<Instant> {
    Some(Instant::now() + Duration::from_secs(5))
}

#[test]
fn a_frame_arrives_with_blob_and_descriptors() {
    let (a, b) = Channel::pair().unwrap();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"batch").unwrap();
    a.send(&"hello", b"blob", &[file.as_fd()]).unwrap();
    let frame = b.receive::<String>(soon()).unwrap().unwrap();
    assert_eq!(
        (frame.message.as_str(), frame.blob.as_slice()),
        ("hello", &b"blob"[..])
    );
    let [descriptor] = <[_; 1]>::try_from(frame.descriptors).unwrap();
    let flags = rustix::io::fcntl_getfd(&descriptor).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    let mut received = std::fs::File::from(descriptor);
    received.rewind().unwrap();
    let mut text = String::new();
    received.read_to_string(&mut text).unwrap();
    assert_eq!(text, "batch");
}

#[test]
fn frames_keep_their_order_and_bounds_when_they_are_large() {
    let (a, b) = Channel::pair().unwrap();
    let sender = std::thread::spawn(move || {
        for i in 0..50_u32 {
            a.send(&i, &vec![i as u8; (i as usize) * 40_000], &[])
                .unwrap();
        }
    });
    for i in 0..50_u32 {
        let frame = b.receive::<u32>(soon()).unwrap().unwrap();
        assert_eq!(frame.message, i);
        assert!(frame.blob.len() == (i as usize) * 40_000);
        assert!(frame.blob.iter().all(|&x| x == i as u8));
    }
    sender.join().unwrap();
    assert!(b.receive::<u32>(soon()).unwrap().is_none());
}

#[test]
fn a_silent_peer_is_given_up_at_the_deadline_and_can_still_speak() {
    let (a, b) = Channel::pair().unwrap();
    let deadline = Instant::now() + Duration::from_millis(20);
    assert!(matches!(
        b.receive::<u32>(Some(deadline)),
        Err(WireError::Deadline)
    ));
    a.send(&1_u32, &[], &[]).unwrap();
    assert_eq!(b.receive::<u32>(soon()).unwrap().unwrap().message, 1);
}

#[test]
fn malformed_frames_are_refused_without_allocating_what_they_claim() {
    for header in [
        [5_u32, 0, 0, 0],
        [u32::MAX, 0, 0, super::MAGIC],
        [2, MAX_BLOB as u32 + 1, 0, super::MAGIC],
        [2, 0, 1, super::MAGIC],
    ] {
        let (a, b) = Channel::pair().unwrap();
        let bytes: Vec<u8> = header.iter().flat_map(|w| w.to_le_bytes()).collect();
        rustix::net::send(a.as_fd(), &bytes, rustix::net::SendFlags::empty()).unwrap();
        assert!(
            matches!(b.receive::<u32>(soon()), Err(WireError::Frame(_))),
            "{header:?}"
        );
    }
}

#[test]
fn a_peer_that_is_gone_is_an_error_and_no_signal() {
    let (a, b) = Channel::pair().unwrap();
    drop(b);
    assert!(matches!(a.send(&1, &[], &[]), Err(WireError::Io(_))));
}

#[test]
fn shutting_down_wakes_a_receiver() {
    let (a, _b) = Channel::pair().unwrap();
    let other = a.try_clone().unwrap();
    let waiter = std::thread::spawn(move || other.receive::<u32>(soon()).unwrap().is_none());
    a.shut_down();
    assert!(waiter.join().unwrap());
}
