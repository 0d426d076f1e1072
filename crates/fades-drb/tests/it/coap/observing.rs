//! Devices that tell changes, end it, forget it, or tell what nobody asked for.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fades_task::mtw::{Dto, Take};

use super::faults::{ACK, CON, CONTENT, PATH, option, peer, to};
use super::{broker, field};
use crate::broker::{PATIENCE, drain, dto};

const OBSERVE: u16 = 6;

/// A notification: number, seconds that it is good for, and a value.
fn told(q: &[u8], kind: u8, number: u8, age: u8, value: &str) -> Vec<u8> {
    // Max-Age is option 14.
    let mut rest = vec![0x61, number, 0x81, age, 0xff];
    rest.extend(value.as_bytes());
    to(q, kind, CONTENT, &rest)
}

/// The same with a message id of its own.
fn later(mut bytes: Vec<u8>, id: u8) -> Vec<u8> {
    bytes[2..4].copy_from_slice(&[0xE0, id]);
    bytes
}

/// What is collected until there are so many readings, and how long it took.
fn collected(port: u16, count: u64) -> (Vec<f64>, Duration) {
    let broker = broker(&field(&[port], &format!("{PATH}\nevery = \"1h\"")));
    let start = Instant::now();
    let channel = broker.begin_in(
        1,
        &[Dto {
            take: Take::Live { count: Some(count) },
            ..dto("collect")
        }],
        "100s",
    );
    let mut values = Vec::new();
    let fed = drain(&channel, |b| {
        values.extend(b.series().flat_map(|s| s.value.to_vec()));
    });
    assert!(fed.finished);
    (values, start.elapsed())
}

#[test]
fn a_device_that_ends_telling_is_asked_anew_at_once() {
    let asked = Arc::<Mutex<Vec<Vec<u8>>>>::default();
    let noted = Arc::clone(&asked);
    let port = peer(move |_, q| {
        let mut asked = noted.lock().unwrap();
        asked.push(q.to_vec());
        let questions = asked.iter().filter(|q| q[1] == 1).count() as u8;
        match (q[1], questions) {
            // Its first value is good for minutes; the resource is gone at once.
            (1, 1) => vec![told(q, ACK, 1, 250, "1"), later(to(q, CON, 0x84, b""), 1)],
            (1, n) => vec![told(q, ACK, n, 250, &n.to_string())],
            _ => vec![],
        }
    });
    let (values, time) = collected(port, 2);
    assert_eq!(values, [1.0, 2.0]);
    assert!(time < PATIENCE / 8, "{time:?}");
    let asked = asked.lock().unwrap();
    let observes = |q: &&Vec<u8>| q[1] == 1 && option(q, OBSERVE).is_some();
    assert!(asked.iter().filter(observes).count() >= 2);
    // The end of it was acknowledged.
    assert!(asked.iter().any(|q| *q == [0x60, 0, 0xE0, 1]), "{asked:?}");
}

#[test]
fn a_device_that_forgot_to_tell_is_asked_when_its_value_is_too_old() {
    let asked = Arc::<Mutex<u8>>::default();
    let noted = Arc::clone(&asked);
    let port = peer(move |_, q| {
        let mut number = noted.lock().unwrap();
        *number += 1;
        vec![told(q, ACK, *number, 0, &number.to_string())]
    });
    let (values, time) = collected(port, 2);
    assert_eq!(values, [1.0, 2.0]);
    // 5 to 15 s after the end of its age, as RFC 7641 says.
    assert!(time >= Duration::from_secs(5), "{time:?}");
    assert!(time < Duration::from_secs(40), "{time:?}");
}

#[test]
fn old_notifications_are_dropped_and_those_that_nobody_wants_are_refused() {
    let resets = Arc::<Mutex<Vec<Vec<u8>>>>::default();
    let noted = Arc::clone(&resets);
    let port = peer(move |_, q| {
        if q[0] >> 4 == 7 {
            noted.lock().unwrap().push(q.to_vec());
        }
        if q[1] != 1 {
            return vec![];
        }
        let mut other = later(told(q, CON, 9, 250, "99"), 9);
        other[4] ^= 0xff;
        vec![
            told(q, ACK, 5, 250, "5"),
            later(told(q, CON, 3, 250, "3"), 3),
            other,
            later(told(q, CON, 6, 250, "6"), 6),
        ]
    });
    let (values, _) = collected(port, 2);
    assert_eq!(values, [5.0, 6.0]);
    let resets = resets.lock().unwrap().clone();
    assert_eq!(resets, [vec![0x70, 0, 0xE0, 9]]);
}
