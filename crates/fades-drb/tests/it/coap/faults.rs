//! Peers that lose, delay, damage and overdo.

use std::net::UdpSocket;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::{broker, field, now, tested};
use crate::broker::PATIENCE;

/// A peer that answers each datagram with those that `answer` says; it is given the
/// number of the datagram too.
pub(super) fn peer(answer: impl Fn(usize, &[u8]) -> Vec<Vec<u8>> + Send + 'static) -> u16 {
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
pub(super) fn to(question: &[u8], kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x44 | kind << 4, code];
    bytes.extend(&question[2..8]);
    bytes.extend(rest);
    bytes
}

pub(super) const ACK: u8 = 2;
pub(super) const CON: u8 = 0;
pub(super) const CONTENT: u8 = 0x45;
pub(super) const PATH: &str = "path = { t = \"/t\" }";

/// The first option of a question with this number.
pub(super) fn option(question: &[u8], wanted: u16) -> Option<Vec<u8>> {
    let mut options = options(question).into_iter();
    options.find(|(n, _)| *n == wanted).map(|(_, value)| value)
}

/// The path that a question asks for.
pub(super) fn path(question: &[u8]) -> String {
    let parts = options(question).into_iter().filter(|(n, _)| *n == 11);
    let parts: Vec<String> = parts.map(|(_, v)| String::from_utf8(v).unwrap()).collect();
    parts.join("/")
}

fn options(question: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let (mut rest, mut number, mut found) = (&question[8..], 0, Vec::new());
    while let [head, after @ ..] = rest {
        let (mut delta, mut length) = (u16::from(head >> 4), usize::from(head & 15));
        rest = after;
        if delta == 13 {
            delta += u16::from(rest[0]);
            rest = &rest[1..];
        }
        if length == 13 {
            length += usize::from(rest[0]);
            rest = &rest[1..];
        }
        number += delta;
        found.push((number, rest[..length].to_vec()));
        rest = &rest[length..];
    }
    found
}

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
    let times = Arc::<Mutex<usize>>::default();
    let noted = Arc::clone(&times);
    let port = peer(move |_, q| {
        *noted.lock().unwrap() += 1;
        vec![vec![0x70, 0, q[2], q[3]]]
    });
    let broker = broker(&field(&[port], PATH));
    let reason = |n: u32| {
        let mut now = now();
        // Another question each time, so that none is answered with another's.
        now.from = fades_task::time::Time(n.into());
        let (ended, _) = broker.run(&[now]);
        ended.coverage[0].absent[0].reason.clone()
    };
    let start = Instant::now();
    let first = reason(0);
    assert!(!first.contains("left alone"), "{first}");
    let mut asked = 1;
    let left = loop {
        let reason = reason(asked);
        if reason.contains("left alone") {
            break reason;
        }
        asked += 1;
        assert!(start.elapsed() < PATIENCE);
        std::thread::sleep(std::time::Duration::from_millis(300));
    };
    assert!(left.contains("reset"), "{left}");
    // Whoever asks within a second is told the same, so this takes some.
    assert!(start.elapsed() > std::time::Duration::from_secs(2));
    assert_eq!(*times.lock().unwrap(), 3);
}

/// A part of a document as a block of 1,024 bytes.
fn part(question: &[u8], document: &[u8]) -> Vec<u8> {
    let value = option(question, 23).unwrap_or_default();
    let number = value.iter().fold(0, |n, b| n << 8 | usize::from(*b)) >> 4;
    let begin = (number * 1024).min(document.len());
    let end = (begin + 1024).min(document.len());
    let mut rest = block_option(number as u32, end < document.len());
    // Six stands for 1,024 bytes.
    rest[4] |= 6;
    rest.push(0xff);
    rest.extend(&document[begin..end]);
    to(question, ACK, CONTENT, &rest)
}

/// A device that says of itself what is in a document, and whose resources are 1.
fn saying(document: Vec<u8>) -> (u16, Arc<Mutex<usize>>) {
    let times = Arc::<Mutex<usize>>::default();
    let noted = Arc::clone(&times);
    let port = peer(move |_, q| {
        if path(q) == ".well-known/core" {
            return vec![part(q, &document)];
        }
        *noted.lock().unwrap() += 1;
        vec![to(q, ACK, CONTENT, b"\xff1")]
    });
    (port, times)
}

#[test]
fn what_a_device_says_of_itself_is_checked() {
    const FOUND: &str = "path = \"/s/{kind}\"";
    let long = format!("</s/{}>", "x".repeat(1_200)).into_bytes();
    let cases: [(Vec<u8>, &str); 6] = [
        (vec![0xff; 30], "no link format"),
        (b"<html>Not found</html>".to_vec(), "no"),
        (b"</other>;rt=x".to_vec(), "none of its resources"),
        (
            b"<coap://elsewhere/s/t>,<//h/s/t>,</s/t?q=1>".to_vec(),
            "none of its resources",
        ),
        (long, "none of its resources"),
        (vec![b','; 300 << 10], "longer than"),
    ];
    for (document, words) in cases {
        let (port, times) = saying(document);
        let report = tested(&broker(&field(&[port], FOUND))).unwrap();
        let reason = &report.coverage.absent[0].reason;
        assert!(reason.contains(words), "{words} in {reason}");
        assert_eq!(*times.lock().unwrap(), 0, "{words}");
    }
    // Of very many resources some are asked for.
    let document: String = (0..5_000).map(|i| format!("</s/k{i}>,")).collect();
    let (port, times) = saying(document.trim_end_matches(',').into());
    let (ended, totals) = broker(&field(&[port], FOUND)).run(&[now()]);
    assert_eq!(ended.good().used, 1_000);
    assert_eq!((totals.rows, *times.lock().unwrap()), (1_000, 1_000));
}

#[test]
fn blocks_that_do_not_fit_are_no_answer() {
    let bytes = |number: u32, more: bool, exponent: u8, length: usize| {
        let mut rest = block_option(number, more);
        rest[4] |= exponent;
        rest.push(0xff);
        rest.extend(vec![b'1'; length]);
        rest
    };
    type Lie = Box<dyn Fn(&[u8]) -> Vec<u8> + Send>;
    let after = |first: Vec<u8>, then: Vec<u8>| -> Lie {
        Box::new(move |q| match block(q) {
            0 => first.clone(),
            _ => then.clone(),
        })
    };
    let good = bytes(0, true, 0, 16);
    let lies: [Lie; 7] = [
        // It begins in the middle; with less, or more, than a block.
        after(bytes(1, true, 0, 16), bytes(2, false, 0, 4)),
        after(bytes(0, true, 0, 15), bytes(1, false, 0, 4)),
        after(bytes(0, true, 0, 17), bytes(1, false, 0, 4)),
        // The next is none, another one, of another size, or too long.
        after(good.clone(), b"\xff1".to_vec()),
        after(good.clone(), bytes(2, false, 0, 4)),
        after(good.clone(), bytes(1, false, 1, 4)),
        after(good, bytes(1, false, 0, 17)),
    ];
    for (i, lie) in lies.into_iter().enumerate() {
        let port = peer(move |_, q| vec![to(q, ACK, CONTENT, &lie(q))]);
        let report = tested(&broker(&field(&[port], PATH))).unwrap();
        assert_eq!(report.coverage.failed, 1, "{i}: {:?}", report.coverage);
        let reason = &report.coverage.absent[0].reason;
        assert!(reason.contains("do not fit together"), "{i}: {reason}");
    }
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
