//! What bounds a source whatever its broker sends.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fades_task::resource::DeviceState;

use super::mosquitto::Mosquitto;
use super::{broker, devices, hall, now, tested, until};
use crate::broker::PATIENCE;

/// Memory of this process that is in use, bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * rustix::param::page_size()
}

#[test]
fn a_flood_takes_no_memory_however_long_it_is() {
    let Some(mosquitto) = Mosquitto::start("mqtt_memory") else {
        return;
    };
    let broker = broker(&hall(mosquitto.port, "value = \"/v\""));
    let _ = tested(&broker).unwrap();
    let mut publisher = mosquitto.publisher();
    let pad = "x".repeat(1000);
    let mut flood = |messages: u32| {
        let messages = 0..messages;
        publisher.flood(messages.map(|i| {
            let topic = format!("site/a/d{}/t", i % 50);
            (topic, format!("{{\"v\":{i},\"pad\":\"{pad}\"}}"))
        }));
        publisher.publish("site/a/last/t", "{\"v\":1}");
    };
    let heard = |device: &str| {
        let last = || devices(&broker).into_iter().find(|d| d.device == device);
        last().and_then(|d| d.liveness.unwrap().last_seen)
    };
    flood(10_000);
    until("the first flood has passed", || heard("last").is_some());
    let (first, before, mut most) = (heard("last"), resident(), 0);
    flood(200_000);
    until("the second flood has passed", || {
        most = most.max(resident());
        heard("last") > first
    });
    let grown = most.saturating_sub(before) >> 20;
    assert!(grown < 48, "{grown} MiB for a flood of 200 MB");
}

#[test]
fn a_packet_that_is_too_long_does_not_end_the_source() {
    let Some(mosquitto) = Mosquitto::start("mqtt_long") else {
        return;
    };
    for version in ["3.1.1", "5"] {
        let broker = broker(&hall(mosquitto.port, &format!("version = \"{version}\"")));
        let _ = tested(&broker).unwrap();
        let mut publisher = mosquitto.publisher();
        publisher.publish("site/a/d1/t", "1");
        let state = || {
            let found = devices(&broker).into_iter().find(|d| d.device == "d1");
            found.map(|d| d.liveness.unwrap())
        };
        until("it works", || state().is_some());
        let first = state().unwrap().last_seen;
        publisher.publish("site/a/d2/t", vec![b'1'; 2 << 20]);
        if version == "3.1.1" {
            until("the connection ends", || {
                state().unwrap().state == DeviceState::Failing
            });
        }
        let mut failing = false;
        until("it goes on", || {
            publisher.publish("site/a/d1/t", "2");
            let now = state().unwrap();
            failing |= now.state == DeviceState::Failing && version == "5";
            now.last_seen > first && now.state == DeviceState::Alive
        });
        assert!(!failing, "the broker was told not to send it");
        assert!(devices(&broker).iter().all(|d| d.device != "d2"));
    }
}

#[test]
fn attempts_to_connect_come_later_and_later() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let times = Arc::<Mutex<Vec<Instant>>>::default();
    let noted = Arc::clone(&times);
    std::thread::spawn(move || {
        // Each connection is closed at once.
        for stream in listener.incoming() {
            drop(stream);
            noted.lock().unwrap().push(Instant::now());
        }
    });
    let broker = broker(&hall(port, ""));
    until("it was tried five times", || {
        times.lock().unwrap().len() >= 5
    });
    let gaps = || -> Vec<Duration> {
        let times = times.lock().unwrap();
        times.windows(2).map(|w| w[1] - w[0]).collect()
    };
    for (i, gap) in gaps().iter().take(4).enumerate() {
        let longest = Duration::from_secs(1 << i);
        assert!(*gap >= longest / 2, "{i}: {:?}", gaps());
        assert!(
            *gap <= longest + Duration::from_secs(3),
            "{i}: {:?}",
            gaps()
        );
    }
    // Whoever asks makes it try again, a second after the last time at the soonest.
    let before = times.lock().unwrap().len();
    let began = Instant::now();
    let (ended, _) = broker.run(&[now()]);
    assert!(ended.failure.is_some());
    assert!(times.lock().unwrap().len() > before);
    assert!(began.elapsed() < PATIENCE / 20, "{:?}", began.elapsed());
    let least = gaps().into_iter().min().unwrap();
    assert!(least >= Duration::from_millis(500), "{:?}", gaps());
}
