//! Three days without a network: the node goes on, and afterwards everything arrives
//! that there was room for. The days are simulated; core, store and courier are real.

use std::collections::BTreeMap;
use std::net::TcpListener;

use fades_orc::core::outbox::PAUSE_MAX;
use fades_orc::core::{Capacity, Rules};
use fades_task::allowance::Allowances;
use fades_task::policy::Order;
use fades_task::quantity::{Duration, Size};
use fades_task::time::Time;
use serde_json::{Value, json};

use super::simulated::{Settings, Simulated, name, task};
use super::world::World;

const DAYS: u64 = 3;
const HOURS: u64 = 24 * DAYS;
const HOUR: Duration = Duration::from_secs(3600);

/// What is written in `docs/operation.md`: five minutes, and up to a quarter more.
const BACK_WITHIN: Duration = Duration::from_secs(375);

fn node(room: Size, places: Value) -> Simulated {
    let capacity = Capacity {
        parallel: 4,
        memory: Size(64 << 20),
        input: Size(64 << 20),
        batch: Size(2 << 20),
    };
    Simulated::start(Settings {
        rules: Rules {
            capacity,
            order: Order::default(),
            allowances: Allowances::default(),
            grants: super::model::grants(),
        },
        mail: Some((room, places)),
        gated: false,
    })
}

/// A port at which nobody listens.
fn away() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

fn standing(id: &str, every: &str, to: &[&str]) -> Value {
    let deliver: Vec<Value> = to.iter().map(|to| json!({"to": to})).collect();
    let schedule = json!({"every": every, "catch-up": "all"});
    task(id, &json!({"schedule": schedule, "deliver": deliver}))
}

/// When an answer was given.
fn given(body: &[u8]) -> Time {
    let event: Value = serde_json::from_slice(body).unwrap();
    serde_json::from_value(event["time"].clone()).unwrap()
}

/// What a run's id says of the time that was due: of ids of one task, the later is
/// the greater.
fn stream(id: &str) -> &str {
    id.split_once('.').map_or(id, |(task, _)| task)
}

#[test]
fn after_three_days_without_a_network_every_answer_arrives_in_its_order() {
    let address = away();
    let url = format!("http://{address}/air");
    let mut node = node(Size(256 << 20), json!({"city": {"url": url}}));
    let begin = node.now.time;
    node.submit(standing("often", "10m", &["city"]));
    node.submit(standing("hourly", "1h", &["city"]));
    for hour in 1..=HOURS {
        node.pass(HOUR);
        let deliver = json!({"deliver": [{"to": "city"}]});
        node.submit(task(&format!("once-{hour:02}"), &deliver));
        if [13, 40].contains(&hour) {
            node.restart();
        }
    }
    let all = HOURS * (6 + 1 + 1);
    assert_eq!(node.store().outbox().unwrap().len() as u64, all, "all wait");
    assert_eq!(node.store().counts().done, all, "and all ran meanwhile");
    // About one attempt each five minutes, and the first few of each life.
    let longest = PAUSE_MAX.0 + PAUSE_MAX.0 / 4;
    assert_eq!(longest, BACK_WITHIN.0, "what is documented");
    let attempts = HOURS * HOUR.0 / longest..HOURS * HOUR.0 / PAUSE_MAX.0 + 3 * 16;
    assert!(attempts.contains(&node.tried), "{} attempts", node.tried);

    let world = World::on(TcpListener::bind(address).unwrap());
    let back = node.now.time;
    node.pass(BACK_WITHIN);
    assert!(
        !world.known().delivered.is_empty(),
        "delivery goes on within the time that is documented"
    );
    // Some are heard and not acknowledged, which costs a pause each.
    node.pass(Duration::from_secs(120));
    assert_eq!(node.store().outbox().unwrap(), [], "nothing waits any more");
    let (_, sent) = node.store().dispatched().unwrap().remove(0);
    assert_eq!((sent.delivered, sent.lost), (all, 0));

    let known = world.known();
    assert_eq!(known.delivered.len() as u64, all);
    let again = known.delivered.values().filter(|b| b.len() > 1).count();
    assert!(again > 0, "what was not acknowledged came again");
    let mut last: BTreeMap<&str, &str> = BTreeMap::new();
    for id in &known.order {
        let before = last.insert(stream(id), id);
        assert!(
            before.is_none_or(|before| before < id.as_str()),
            "{id} came late"
        );
    }
    for (id, bodies) in &known.delivered {
        assert!(bodies.iter().all(|b| b == &bodies[0]), "{id}: other bytes");
        let event: Value = serde_json::from_slice(&bodies[0]).unwrap();
        let result = node.store().result(&name(id)).unwrap().unwrap();
        assert_eq!(event["data"], serde_json::to_value(result).unwrap());
        assert!(given(&bodies[0]) <= back);
    }
    // Runs were on time, network or not.
    let often = known
        .delivered
        .iter()
        .filter(|(id, _)| stream(id) == "often");
    for (n, (id, bodies)) in (1..).zip(often) {
        let due = begin.after(Duration::from_secs(600 * n));
        assert_eq!(given(&bodies[0]), due, "{id}");
    }
}

#[test]
fn what_has_no_room_for_three_days_is_the_oldest_and_is_counted() {
    let address = away();
    let url = format!("http://{address}/air");
    let disk = tempfile::tempdir().unwrap();
    let places = json!({"city": {"url": url}, "disk": {"folder": disk.path()}});
    let mut node = node(Size(64 << 10), places);
    node.submit(standing("often", "10m", &["city", "disk"]));
    node.pass(Duration(HOURS * HOUR.0 / 2));
    node.restart();
    node.pass(Duration(HOURS * HOUR.0 / 2));
    let all = HOURS * 6;
    let kept = node.store().outbox().unwrap();
    let bytes: u64 = kept.iter().map(|parcel| parcel.bytes).sum();
    assert!(
        bytes <= 64 << 10 && kept.len() > 20,
        "{} of {bytes} B",
        kept.len()
    );
    assert!(kept.iter().all(|p| p.receiver.name() == &name("city")));
    let sent: BTreeMap<String, _> = node
        .store()
        .dispatched()
        .unwrap()
        .into_iter()
        .map(|(receiver, sent)| (receiver.name().to_string(), sent))
        .collect();
    let (city, other) = (&sent["city"], &sent["disk"]);
    assert_eq!(
        (other.delivered, other.lost),
        (all, 0),
        "another is not harmed"
    );
    assert_eq!(city.lost + kept.len() as u64, all, "each is counted");
    let reason = city.reason.as_deref().unwrap();
    assert!(reason.contains("the outbox is full (64KiB)"), "{reason}");

    let world = World::on(TcpListener::bind(address).unwrap());
    node.pass(BACK_WITHIN);
    node.pass(BACK_WITHIN);
    let known = world.known();
    let folder = std::fs::read_dir(disk.path()).unwrap();
    let mut written: Vec<String> = folder
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .map(|file| file.trim_end_matches(".json").to_owned())
        .collect();
    written.sort();
    // Those that were given after the network came back are among them.
    let arrive = kept.len() + written.len() - all as usize;
    let newest = &written[written.len() - arrive..];
    assert_eq!(known.order, newest, "the newest arrive, in their order");
}
