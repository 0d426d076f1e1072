//! Peers that lose, delay, damage and overdo.

use std::net::UdpSocket;
use std::time::Instant;

use super::{broker, field, now, tested};
use crate::broker::PATIENCE;

/// A peer that answers each datagram with those that `answer` says; it is given the
/// number of the datagram too.
fn peer(answer: impl Fn(usize, &[u8]) -> Vec<Vec<u8>> + Send + 'static) -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        for number in 0.. {
            let Ok((length, from)) = socket.recv_from(&mut buffer) else {
                return;
            };
            for datagram in answer(number, &buffer[..length]) {
                let _ = socket.send_to(&datagram, from);
            }
        }
    });
    port
}

/// An answer to a question: type bits, code, options and payload.
fn to(question: &[u8], kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x44 | kind << 4, code];
    bytes.extend(&question[2..8]);
    bytes.extend(rest);
    bytes
}

const ACK: u8 = 2;
const CON: u8 = 0;
const CONTENT: u8 = 0x45;
const PATH: &str = "path = { t = \"/t\" }";

/// The number of the block that a question asks for.
fn block(question: &[u8]) -> u32 {
    // Token of 4 bytes, Uri-Path "t", then Block2.
    let length = usize::from(question[10] & 0xf);
    let value = question[11..11 + length].iter();
    value.fold(0, |n, b| n << 8 | u32::from(*b)) >> 4
}

fn block_option(number: u32, more: bool) -> Vec<u8> {
    let value = number << 4 | u32::from(more) << 3;
    // Block2 is option 23: delta 13 + 10.
    vec![
        0xd3,
        10,
        (value >> 16) as u8,
        (value >> 8) as u8,
        value as u8,
    ]
}

#[test]
fn what_is_lost_is_asked_again_and_answers_may_come_by_themselves() {
    // The first datagram is lost; the second is acknowledged, damaged answers and
    // one to somebody else follow, then the answer.
    let port = peer(|number, q| {
        if number == 0 || q[0] >> 4 == 6 {
            return vec![];
        }
        let mut other = to(q, CON, CONTENT, b"\xff99");
        other[5] ^= 0xff;
        let mut separate = to(q, CON, CONTENT, b"\xff21.5");
        separate[2..4].copy_from_slice(&[7, 7]);
        vec![
            vec![0x60, 0, q[2], q[3]],
            b"junk".to_vec(),
            vec![],
            other,
            separate.clone(),
            separate,
        ]
    });
    let broker = broker(&field(&[port], PATH));
    let (ended, totals) = broker.run(&[now()]);
    assert_eq!(ended.good().used, 1);
    assert_eq!(totals.of(&format!("n{port}"), "t").values, [21.5]);
}

#[test]
fn a_peer_that_misbehaves_fails_in_words_and_in_time_and_slows_nobody() {
    let good = peer(|_, q| vec![to(q, ACK, CONTENT, b"\xff1")]);
    let bad: [(u16, &str); 8] = [
        (peer(|_, _| vec![]), "did not answer in time"),
        (
            peer(|_, q| vec![vec![0x60, 0, q[2], q[3]]]),
            "did not answer in time",
        ),
        (
            peer(|_, q| vec![vec![0x70, 0, q[2], q[3]]]),
            "does not understand",
        ),
        (peer(|_, q| vec![to(q, ACK, 0x84, b"")]), "4.04 not found"),
        // Blocks without end, one that is not the one asked for, a changing one.
        (
            peer(|_, q| {
                let mut rest = block_option(block(q), true);
                rest.extend([b"\xff".as_slice(), &[b'1'; 16]].concat());
                vec![to(q, ACK, CONTENT, &rest)]
            }),
            "longer than",
        ),
        (
            peer(|_, q| {
                let mut rest = block_option(block(q) * 2, true);
                rest.extend([b"\xff".as_slice(), &[b'1'; 16]].concat());
                vec![to(q, ACK, CONTENT, &rest)]
            }),
            "do not fit together",
        ),
        (
            peer(|number, q| {
                // ETag is option 4, Block2 then 19 further.
                let more = block_option(block(q), true);
                let mut rest = vec![0x41, number as u8, 0xd3, 6, more[2], more[3], more[4], 0xff];
                rest.extend([b'1'; 16]);
                vec![to(q, ACK, CONTENT, &rest)]
            }),
            "changes faster",
        ),
        (peer(|_, q| vec![to(q, ACK, CONTENT, b"\xffsecret")]), ""),
    ];
    let mut ports: Vec<u16> = bad.iter().map(|b| b.0).collect();
    ports.push(good);
    let broker = broker(&field(&ports, PATH));
    let start = Instant::now();
    let (ended, totals) = broker.run(&[now()]);
    assert!(start.elapsed() < PATIENCE / 8, "{:?}", start.elapsed());
    let coverage = ended.good();
    assert_eq!((coverage.matched, coverage.answered), (9, 1));
    assert_eq!(totals.of(&format!("n{good}"), "t").values, [1.0]);
    assert_eq!(coverage.lost_total(), 1, "{:?}", coverage.lost);
    assert!(!format!("{coverage:?}").contains("secret"));
    for (port, words) in bad.iter().filter(|b| !b.1.is_empty()) {
        let alone = super::broker(&field(&[*port], PATH));
        let report = tested(&alone).unwrap();
        let reason = &report.coverage.absent[0].reason;
        assert!(reason.contains(words), "{words} in {reason}");
    }
}

#[test]
fn a_device_that_fails_again_and_again_is_left_alone() {
    let port = peer(|_, q| vec![vec![0x70, 0, q[2], q[3]]]);
    let broker = broker(&field(&[port], PATH));
    let reason = |n: u32| {
        let mut now = now();
        // Another question each time, so that none is answered with another's.
        now.from = fades_task::time::Time(n.into());
        let (ended, _) = broker.run(&[now]);
        ended.coverage[0].absent[0].reason.clone()
    };
    let reasons: Vec<String> = (0..5).map(reason).collect();
    assert!(!reasons[2].contains("left alone"), "{reasons:?}");
    assert!(
        reasons[4].contains("left alone") && reasons[4].contains("reset"),
        "{reasons:?}"
    );
}

#[test]
fn a_flood_of_datagrams_does_not_make_it_later() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        let Ok((length, from)) = socket.recv_from(&mut buffer) else {
            return;
        };
        let mut other = to(&buffer[..length], CON, CONTENT, b"\xff99");
        other[5] ^= 0xff;
        let start = Instant::now();
        while start.elapsed() < PATIENCE / 4 {
            let _ = socket.send_to(&other, from);
        }
    });
    let broker = broker(&field(&[port], PATH));
    let start = Instant::now();
    let (ended, _) = broker.run(&[now()]);
    assert!(start.elapsed() < PATIENCE / 8, "{:?}", start.elapsed());
    assert_eq!(ended.coverage[0].late, 1);
}
