//! Answers on their way to others: order, pauses, bounds, and that none is lost
//! without being counted.

use std::collections::{BTreeMap, BTreeSet};

use fades_task::allowance::Allowances;
use fades_task::courier::{NotDelivered, Receiver};
use fades_task::mtw::Deliver;
use fades_task::quantity::{Duration, Size};
use fades_task::time::Zone;
use proptest::prelude::{Strategy, any, prop, proptest};

use super::{
    Capacity, Core, Effect, Event, Now, Order, Part, Rules, Story, Tick, Timer, mtw, name, now,
};
use crate::core::outbox::{Dispatch, Mail, OVERDUE, PAUSE, PAUSE_MAX, StoredParcel};
use crate::core::{Commit, Task};

const SECOND: u64 = 1_000_000_000;

fn mail(at_most: u64) -> Mail {
    Mail {
        node: name("harbour-07"),
        at_most: Size(at_most),
    }
}

/// A node without a broker: its tasks end by being cancelled, which is an end like
/// any other.
fn story(at_most: u64) -> Story {
    let capacity = Capacity {
        parallel: 1,
        memory: Size(8 << 20),
        input: Size(40 << 20),
        batch: Size(2 << 20),
    };
    let rules = Rules {
        capacity,
        order: Order::default(),
        allowances: Allowances::default(),
        grants: crate::samples::grants(),
    };
    let mut story = Story {
        core: Core::new(rules, Zone::default(), Some(mail(at_most))),
        now: Now {
            time: now(),
            tick: Tick(0),
        },
        next: 1,
    };
    let started = story.step(Event::Start);
    assert!(started.contains(&Effect::Start(Part::Courier)));
    story
}

fn with_courier(at_most: u64) -> Story {
    let mut story = story(at_most);
    let _ = story.step(Event::Up(Part::Courier));
    story
}

/// Ends a task whose answer goes to `to`.
fn end(story: &mut Story, id: &str, to: &[&str]) -> Vec<Effect> {
    let mut mtw = mtw(id);
    mtw.deliver = to.iter().map(|to| Deliver { to: name(to) }).collect();
    let task = story.task(mtw);
    end_of(story, task)
}

fn end_of(story: &mut Story, task: Task) -> Vec<Effect> {
    let id = task.mtw.task.id.clone();
    let _ = story.step(Event::Accepted(task));
    story.cancel(id.as_str())
}

fn delivered(effects: &[Effect]) -> Vec<u64> {
    let parcel = |effect: &Effect| match effect {
        Effect::Deliver { parcel } => Some(*parcel),
        _ => None,
    };
    effects.iter().filter_map(parcel).collect()
}

fn commit(effects: &[Effect]) -> &Commit {
    let commit = effects.iter().find_map(|effect| match effect {
        Effect::Commit(commit) => Some(commit),
        _ => None,
    });
    commit.unwrap()
}

fn fails(story: &mut Story, parcel: u64, after: Option<Duration>) -> Vec<Effect> {
    let why = NotDelivered {
        reason: "Connection refused".to_owned(),
        refused: false,
        after,
    };
    story.step(Event::NotDelivered { parcel, why })
}

/// When the receivers are tried again, from now.
fn pause(story: &Story, effects: &[Effect]) -> u64 {
    let at = effects.iter().find_map(|effect| match effect {
        Effect::SetTimer {
            at,
            timer: Timer::Resend,
        } => Some(*at),
        _ => None,
    });
    (at.unwrap().0 - story.now.tick.0).unsigned_abs()
}

#[test]
fn an_answer_goes_to_each_receiver_once_after_it_is_stored() {
    let mut story = with_courier(1 << 20);
    let mut task = mtw("a");
    task.deliver = [name("city"), name("city"), name("port")]
        .map(|to| Deliver { to })
        .into();
    let mut task = story.task(task);
    task.inbox = Some(name("post"));
    let effects = end_of(&mut story, task);
    let commit = commit(&effects);
    let receivers: Vec<_> = commit.parcels.iter().map(|p| p.receiver.clone()).collect();
    assert_eq!(
        receivers,
        [
            Receiver::Destination(name("city")),
            Receiver::Destination(name("port")),
            Receiver::Inbox(name("post")),
        ]
    );
    let at = |wanted: fn(&Effect) -> bool| effects.iter().position(wanted).unwrap();
    assert!(
        at(|e| matches!(e, Effect::Commit(_))) < at(|e| matches!(e, Effect::Deliver { .. })),
        "stored before it is sent"
    );
    assert_eq!(delivered(&effects).len(), 3);
    let event: serde_json::Value = serde_json::from_slice(&commit.parcels[0].body).unwrap();
    assert_eq!(event["specversion"], "1.0");
    assert_eq!(event["id"], "a");
    assert_eq!(event["source"], "/fades/harbour-07");
    assert_eq!(event["type"], "fades.failure");
    assert_eq!(event["subject"], "a");
    assert_eq!(event["data"]["state"], "cancelled");
    let parcel = commit.parcels[1].parcel;
    let effects = story.step(Event::Delivered { parcel });
    let outcome = Dispatch::Delivered;
    assert_eq!(effects, [Effect::Dispatched { parcel, outcome }]);
    assert_eq!(story.step(Event::Delivered { parcel }), [], "once");
}

#[test]
fn who_asks_for_no_delivery_sends_nothing() {
    let mut story = with_courier(1 << 20);
    assert_eq!(commit(&end(&mut story, "a", &[])).parcels, []);
}

#[test]
fn a_receiver_that_is_away_is_tried_with_one_parcel_after_growing_pauses() {
    let mut story = with_courier(1 << 20);
    for n in 0..8 {
        let _ = end(&mut story, &format!("t{n}"), &["city"]);
    }
    // Four were under way; they fail together, which counts once.
    let effects = fails(&mut story, 1, None);
    let first = pause(&story, &effects);
    for parcel in 2..=4 {
        let effects = fails(&mut story, parcel, None);
        assert_eq!(delivered(&effects), [0; 0], "nothing more goes meanwhile");
    }
    assert!((PAUSE.0..=PAUSE.0 * 5 / 4).contains(&first), "{first}");
    let mut last = first;
    for _ in 0..12 {
        story.pass(Duration(PAUSE_MAX.0 * 5 / 4));
        let effects = story.step(Event::Timer(Timer::Resend));
        assert_eq!(delivered(&effects), [1], "the oldest finds out for all");
        let effects = fails(&mut story, 1, None);
        let next = pause(&story, &effects);
        assert!(next >= last && next <= PAUSE_MAX.0 * 5 / 4, "{next}");
        last = next;
    }
    assert!(last >= PAUSE_MAX.0);
    story.pass(Duration(PAUSE_MAX.0 * 5 / 4));
    let _ = story.step(Event::Timer(Timer::Resend));
    let effects = story.step(Event::Delivered { parcel: 1 });
    assert_eq!(delivered(&effects), [2, 3, 4, 5], "it is back");
}

#[test]
fn a_receiver_is_left_alone_for_as_long_as_it_asks_and_no_longer_than_a_day() {
    let mut story = with_courier(1 << 20);
    let _ = end(&mut story, "a", &["city"]);
    let hour = Duration::from_secs(3_600);
    let effects = fails(&mut story, 1, Some(hour));
    assert_eq!(pause(&story, &effects), hour.0);
    story.pass(hour);
    let _ = story.step(Event::Timer(Timer::Resend));
    let effects = fails(&mut story, 1, Some(Duration::from_secs(1_000_000)));
    assert_eq!(pause(&story, &effects), 86_400 * SECOND);
}

#[test]
fn a_receiver_that_is_away_delays_no_other() {
    let mut story = with_courier(1 << 20);
    let _ = end(&mut story, "a", &["city"]);
    let _ = fails(&mut story, 1, None);
    assert_eq!(delivered(&end(&mut story, "b", &["port"])), [2]);
}

#[test]
fn what_a_receiver_refuses_for_good_is_counted_and_does_not_come_again() {
    let mut story = with_courier(1 << 20);
    let _ = end(&mut story, "a", &["city"]);
    let why = NotDelivered {
        reason: "422: no such field".to_owned(),
        refused: true,
        after: None,
    };
    let effects = story.step(Event::NotDelivered { parcel: 1, why });
    let outcome = Dispatch::Lost("422: no such field".to_owned());
    assert_eq!(effects, [Effect::Dispatched { parcel: 1, outcome }]);
    assert_eq!(delivered(&end(&mut story, "b", &["city"])), [2]);
}

#[test]
fn a_courier_that_ends_or_says_nothing_leaves_its_parcels_to_the_next() {
    let mut story = with_courier(1 << 20);
    let _ = end(&mut story, "a", &["city"]);
    story.pass(OVERDUE);
    let effects = story.step(Event::Timer(Timer::Overdue(1)));
    assert_eq!(effects, [Effect::Kill(Part::Courier)]);
    let reason = "signal: 9 (SIGKILL)".to_owned();
    let part = Part::Courier;
    let _ = story.step(Event::Lost { part, reason });
    assert_eq!(delivered(&end(&mut story, "b", &["city"])), [0; 0]);
    let _ = story.step(Event::Timer(Timer::Restart(Part::Courier)));
    let effects = story.step(Event::Up(Part::Courier));
    assert_eq!(delivered(&effects), [1, 2]);
    let _ = story.step(Event::Delivered { parcel: 1 });
    assert_eq!(story.step(Event::Timer(Timer::Overdue(1))), []);
}

#[test]
fn a_full_outbox_loses_the_oldest_of_the_longest_line() {
    let mut story = story(1);
    let body = commit(&end(&mut story, "a0", &["city"])).parcels[0]
        .body
        .len() as u64;
    let mut story = self::story(body * 10 + body / 2);
    let lost = |effects: &[Effect]| {
        let lost = |effect: &Effect| match effect {
            Effect::Dispatched {
                parcel,
                outcome: Dispatch::Lost(reason),
            } => {
                assert!(reason.contains("the outbox is full"), "{reason}");
                Some(*parcel)
            }
            _ => None,
        };
        effects.iter().filter_map(lost).collect::<Vec<_>>()
    };
    assert_eq!(lost(&end(&mut story, "a0", &["port"])), [0; 0]);
    for n in 1..10 {
        let effects = end(&mut story, &format!("a{n}"), &["city"]);
        assert_eq!(lost(&effects), [0; 0], "{n}");
    }
    assert_eq!(lost(&end(&mut story, "b0", &["city"])), [2]);
    assert_eq!(lost(&end(&mut story, "b1", &["city"])), [3]);
    // What would push all the others out is lost itself.
    let mut huge = mtw("huge");
    huge.deliver = vec![Deliver { to: name("port") }];
    let task = story.task(huge);
    let _ = story.step(Event::Accepted(task));
    let by = "x".repeat(body as usize * 9);
    let id = name("huge");
    assert_eq!(lost(&story.step(Event::Cancel { id, by })), [13]);
}

#[test]
fn no_more_is_under_way_than_a_courier_takes() {
    let mut story = story(1 << 20);
    let most = fades_task::courier::PARCELS_MAX;
    let stored = (1..=most as u64 + 5).map(|n| StoredParcel {
        parcel: n,
        receiver: Receiver::Destination(name(&format!("r{n}"))),
        stream: name("a"),
        bytes: 1,
        created: now(),
    });
    let _ = story.step(Event::Outbox(stored.collect()));
    assert_eq!(delivered(&story.step(Event::Up(Part::Courier))).len(), most);
    assert_eq!(
        delivered(&story.step(Event::Delivered { parcel: 1 })).len(),
        1
    );
}

#[derive(Debug, Clone, Copy)]
enum Op {
    End { receivers: u8 },
    Answer { pick: usize, how: u8 },
    CourierDies,
    CourierComes,
    Wait(u32),
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    (0..12_u8, any::<usize>(), 0..8_u8).prop_map(|(op, pick, how)| match op {
        0..=3 => Op::End { receivers: how & 3 },
        4..=7 => Op::Answer { pick, how },
        8 => Op::CourierDies,
        9 => Op::CourierComes,
        10 => Op::Restart,
        _ => Op::Wait(pick as u32 % 400_000),
    })
}

/// The world around a core that only sends: what is stored, what is under way.
struct World {
    story: Story,
    /// What the store has.
    stored: BTreeMap<u64, StoredParcel>,
    under_way: BTreeSet<u64>,
    /// How each parcel left.
    left: BTreeMap<u64, Dispatch>,
    made: u64,
    up: bool,
    tasks: u32,
}

const BOUND: u64 = 8_000;

impl World {
    fn new(stored: BTreeMap<u64, StoredParcel>) -> Self {
        let mut story = story(BOUND);
        let _ = story.step(Event::Outbox(stored.values().cloned().collect()));
        Self {
            story,
            stored,
            under_way: BTreeSet::new(),
            left: BTreeMap::new(),
            made: 0,
            up: false,
            tasks: 0,
        }
    }

    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Commit(commit) => {
                    for parcel in commit.parcels {
                        self.made += 1;
                        let stored = StoredParcel {
                            parcel: parcel.parcel,
                            receiver: parcel.receiver,
                            stream: parcel.stream,
                            bytes: parcel.body.len() as u64,
                            created: commit.result.accepted,
                        };
                        let before = self.stored.insert(parcel.parcel, stored);
                        assert_eq!(before, None, "numbers are used once");
                    }
                }
                Effect::Deliver { parcel } => {
                    assert!(self.up, "only to a courier that is there");
                    let about = &self.stored[&parcel];
                    for other in self.under_way.iter().map(|p| &self.stored[p]) {
                        let same = (&other.receiver, &other.stream);
                        assert_ne!(same, (&about.receiver, &about.stream), "in order");
                    }
                    let earlier = self
                        .stored
                        .range(..parcel)
                        .any(|(_, p)| (&p.receiver, &p.stream) == (&about.receiver, &about.stream));
                    assert!(!earlier, "no earlier one of the task waits");
                    assert!(self.under_way.insert(parcel), "once at a time");
                }
                Effect::Dispatched { parcel, outcome } => {
                    assert!(self.stored.remove(&parcel).is_some());
                    self.under_way.remove(&parcel);
                    assert_eq!(self.left.insert(parcel, outcome), None, "leaves once");
                }
                _ => {}
            }
        }
        let bytes: u64 = self.stored.values().map(|p| p.bytes).sum();
        let under_way: u64 = self.under_way.iter().map(|p| self.stored[p].bytes).sum();
        assert!(bytes <= BOUND.max(under_way), "{bytes} bytes wait");
        let lost = self.left.len() as u64;
        assert_eq!(
            self.made,
            self.stored.len() as u64 + lost,
            "none is forgotten"
        );
    }

    fn step(&mut self, event: Event) {
        let effects = self.story.step(event);
        self.take(effects);
    }

    fn act(&mut self, op: Op) {
        match op {
            Op::End { receivers } => {
                self.tasks += 1;
                let mut mtw = mtw(&format!("t{}", self.tasks));
                let to = [(1, "city"), (2, "port")];
                let to = to.iter().filter(|(bit, _)| receivers & bit != 0);
                mtw.deliver = to.map(|(_, to)| Deliver { to: name(to) }).collect();
                let task = self.story.task(mtw);
                let effects = end_of(&mut self.story, task);
                self.take(effects);
            }
            Op::Answer { pick, how } => {
                let Some(&parcel) = self
                    .under_way
                    .iter()
                    .nth(pick % self.under_way.len().max(1))
                else {
                    return;
                };
                if how < 4 {
                    return self.step(Event::Delivered { parcel });
                }
                self.under_way.remove(&parcel);
                let why = NotDelivered {
                    reason: "no".to_owned(),
                    refused: how == 4,
                    after: (how == 5).then_some(Duration(SECOND)),
                };
                self.step(Event::NotDelivered { parcel, why });
            }
            Op::CourierDies if self.up => {
                self.up = false;
                self.under_way.clear();
                let reason = "gone".to_owned();
                let part = Part::Courier;
                self.step(Event::Lost { part, reason });
            }
            Op::CourierComes if !self.up => {
                self.step(Event::Timer(Timer::Restart(Part::Courier)));
                self.up = true;
                self.step(Event::Up(Part::Courier));
            }
            Op::CourierDies | Op::CourierComes => {}
            Op::Wait(ms) => {
                self.story.pass(Duration(u64::from(ms) * 1_000_000));
                self.step(Event::Timer(Timer::Resend));
            }
            Op::Restart => {
                // Numbers are of one life: what has left may lend its own.
                let stored = std::mem::take(&mut self.stored);
                *self = Self {
                    made: stored.len() as u64,
                    tasks: self.tasks,
                    ..Self::new(stored)
                };
            }
        }
    }
}

proptest! {
    #[test]
    fn every_answer_arrives_or_is_counted_as_lost(ops in prop::collection::vec(op(), 1..200)) {
        let mut world = World::new(BTreeMap::new());
        for op in ops {
            world.act(op);
        }
        world.act(Op::CourierComes);
        for _ in 0..2_000 {
            if world.stored.is_empty() {
                break;
            }
            world.act(Op::Wait(400_000));
            while !world.under_way.is_empty() {
                world.act(Op::Answer { pick: 0, how: 0 });
            }
        }
        assert!(world.stored.is_empty(), "what waits goes on");
    }
}

/// Parcels of one task keep their order across failures of the first.
#[test]
fn parcels_of_one_task_wait_for_the_one_before() {
    let mut story = story(1 << 20);
    let parcel = |parcel, stream: &str| StoredParcel {
        parcel,
        receiver: Receiver::Destination(name("city")),
        stream: name(stream),
        bytes: 10,
        created: now(),
    };
    let stored = vec![
        parcel(3, "a"),
        parcel(5, "a"),
        parcel(6, "b"),
        parcel(9, "a"),
    ];
    let _ = story.step(Event::Outbox(stored));
    assert_eq!(delivered(&story.step(Event::Up(Part::Courier))), [3, 6]);
    let _ = story.step(Event::Delivered { parcel: 6 });
    let _ = fails(&mut story, 3, None);
    story.pass(Duration(2 * SECOND));
    assert_eq!(delivered(&story.step(Event::Timer(Timer::Resend))), [3]);
    assert_eq!(delivered(&story.step(Event::Delivered { parcel: 3 })), [5]);
    assert_eq!(delivered(&story.step(Event::Delivered { parcel: 5 })), [9]);
    let new = end(&mut story, "c", &["city"]);
    assert_eq!(commit(&new).parcels[0].parcel, 10, "numbers go on");
}
