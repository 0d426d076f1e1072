//! Many devices and many questions at the same time, also over IPv6.

use std::net::UdpSocket;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fades_task::mtw::Dto;

use super::faults::{ACK, CONTENT, PATH, path, peer, to};
use super::{broker, field, now};
use crate::broker::{Ended, PATIENCE, each, sources};

#[test]
fn hundreds_of_slow_devices_are_asked_at_once() {
    const DEVICES: usize = 300;
    let slow = || {
        peer(|_, q| {
            std::thread::sleep(Duration::from_millis(400));
            vec![to(q, ACK, CONTENT, b"\xff1")]
        })
    };
    let ports: Vec<u16> = (0..DEVICES).map(|_| slow()).collect();
    let broker = broker(&field(&ports, PATH));
    let start = Instant::now();
    let (ended, totals) = broker.run(&[now()]);
    assert_eq!(ended.good().answered, DEVICES as u64);
    assert_eq!(totals.rows, DEVICES as u64);
    // One after the other they would take two minutes.
    assert!(start.elapsed() < PATIENCE / 8, "{:?}", start.elapsed());
}

#[test]
fn questions_that_overlap_are_one_and_each_gets_what_it_asked_for() {
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let noted = Arc::clone(&asked);
    let port = peer(move |_, q| {
        noted.lock().unwrap().push(path(q));
        std::thread::sleep(Duration::from_millis(300));
        vec![to(q, ACK, CONTENT, b"\xff1")]
    });
    let broker = broker(&field(&[port], "path = { t = \"/t\", h = \"/h\" }"));
    let of = |kind: &str| Dto {
        kind: vec![kind.to_owned()],
        ..now()
    };
    let one = broker.begin_in(1, &[of("t"), of("h")], "20s");
    let two = broker.begin_in(2, &[now()], "20s");
    let (_, totals) = each(&one, 2);
    let kinds = |i: usize| -> Vec<&str> {
        let keys = totals[i].series.keys();
        keys.map(|(_, _, kind)| kind.as_str()).collect()
    };
    assert_eq!((kinds(0), kinds(1)), (vec!["t"], vec!["h"]));
    let (_, totals) = each(&two, 1);
    assert_eq!(totals[0].rows, 2);
    for _ in 0..2 {
        assert_eq!(Ended::of(broker.report()).failure, None);
    }
    let mut asked = asked.lock().unwrap().clone();
    asked.sort();
    assert_eq!(asked, ["h", "t"]);
}

#[test]
fn a_device_may_have_an_address_of_ipv6() {
    let Ok(socket) = UdpSocket::bind("[::1]:0") else {
        println!("SKIPPED: coap_ipv6: no ::1; ip addr add ::1/128 dev lo");
        return;
    };
    let port = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let answer = to(&buffer[..length], ACK, CONTENT, b"\xff6");
            let _ = socket.send_to(&answer, from);
        }
    });
    let broker = broker(&sources(&format!(
        "[source.field]\ntype = \"coap\"\ndevices-at = {{ six = \"coap://[::1]:{port}\" }}\n{PATH}"
    )));
    let (ended, totals) = broker.run(&[now()]);
    assert_eq!(ended.good().used, 1);
    assert_eq!(totals.of("six", "t").values, [6.0]);
}
