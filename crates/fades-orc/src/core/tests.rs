use std::sync::Arc;

use fades_task::allowance::Allowances;
use fades_task::coverage::Coverage;
use fades_task::exit::{Clock, Exit};
use fades_task::limits::Isolation;
use fades_task::message::Refused;
use fades_task::mtw::Mtw;
use fades_task::policy::Order;
use fades_task::quantity::{Duration, Size};
use fades_task::result::{Failure, RetrievalFailure, TaskResult, TaskState};
use fades_task::time::{Time, Zone};

use super::{
    ATTEMPTS_MAX, Capacity, Change, Commit, Core, Effect, Event, Now, Part, RETRIEVE_GRACE, Rules,
    RunId, START_GRACE, STUCK_GRACE, Task, TenderEvent, Tick, Timer,
};
use crate::samples::{ended, mtw, mtw_with, name, now};

mod allowance;
mod clocks;
mod model;
mod order;
mod outbox;
mod parts;
mod resident;
mod standing;

const SECOND: u64 = 1_000_000_000;

/// A core with a clock, for tests that tell a story.
struct Story {
    core: Core,
    now: Now,
    next: i64,
}

impl Story {
    fn new(parallel: usize) -> Self {
        Self::under(parallel, Order::default())
    }

    fn under(parallel: usize, order: Order) -> Self {
        Self::allowed(parallel, order, Allowances::default())
    }

    fn allowed(parallel: usize, order: Order, allowances: Allowances) -> Self {
        let capacity = Capacity {
            parallel,
            memory: Size(8 << 20),
            input: Size(40 << 20),
            batch: Size(2 << 20),
        };
        let rules = Rules {
            capacity,
            order,
            allowances,
            grants: crate::samples::grants(),
        };
        let mut story = Self {
            core: Core::new(rules, Zone::default(), None),
            now: Now {
                time: now(),
                tick: Tick(0),
            },
            next: 1,
        };
        let started = story.step(Event::Start);
        assert_eq!(started[0], Effect::Start(Part::Broker));
        story
    }

    fn up(parallel: usize) -> Self {
        let mut story = Self::new(parallel);
        let _ = story.step(Event::Up(Part::Broker));
        story
    }

    fn step(&mut self, event: Event) -> Vec<Effect> {
        self.core.step(self.now, event)
    }

    fn pass(&mut self, d: Duration) {
        self.now.time = self.now.time.after(d);
        self.now.tick = self.now.tick.after(d);
    }

    fn task(&mut self, mtw: Mtw) -> Task {
        self.next += 1;
        Task {
            seq: self.next,
            mtw: Arc::new(mtw),
            accepted: self.now.time,
            attempts: 0,
            isolations: vec![Isolation::Microvm, Isolation::Process],
            inbox: None,
            parent: None,
            due: None,
            place: crate::core::Place::default(),
        }
    }

    fn accept(&mut self, id: &str) -> Vec<Effect> {
        let task = self.task(mtw(id));
        self.step(Event::Accepted(task))
    }

    fn tender(&mut self, run: RunId, event: TenderEvent) -> Vec<Effect> {
        self.step(Event::Tender { run, event })
    }

    fn ready(&mut self, run: RunId) -> Vec<Effect> {
        let isolation = Isolation::Microvm;
        self.tender(run, TenderEvent::Ready { isolation })
    }

    fn ends(&mut self, run: RunId, exit: Exit) -> Vec<Effect> {
        let blob = vec![0x18, 0x2a];
        let ended = Box::new(ended(exit, Isolation::Microvm, 2));
        self.tender(run, TenderEvent::Ended { ended, blob })
    }

    fn gone(&mut self, run: RunId) -> Vec<Effect> {
        let reason = "signal: 9 (SIGKILL)".to_owned();
        self.tender(run, TenderEvent::Gone { reason })
    }

    fn retrieved(&mut self, run: RunId, failure: Option<RetrievalFailure>) -> Vec<Effect> {
        self.step(Event::RetrieveEnded {
            run,
            coverage: vec![Coverage::new(name("pm"))],
            failure,
        })
    }

    fn cancel(&mut self, id: &str) -> Vec<Effect> {
        let by = "somebody".to_owned();
        self.step(Event::Cancel { id: name(id), by })
    }
}

fn started(effects: &[Effect]) -> RunId {
    let start = effects.iter().find_map(|e| match e {
        Effect::StartTender { run, .. } => Some(*run),
        _ => None,
    });
    start.unwrap_or_else(|| panic!("nothing started: {effects:?}"))
}

fn committed(effects: &[Effect]) -> &TaskResult {
    let mut commits = effects.iter().filter_map(|e| match e {
        Effect::Commit(commit) => Some(&commit.result),
        _ => None,
    });
    let result = commits.next();
    assert!(commits.next().is_none(), "{effects:?}");
    result.unwrap_or_else(|| panic!("nothing committed: {effects:?}"))
}

fn failed(effects: &[Effect]) -> Failure {
    let result = committed(effects);
    result
        .failure
        .clone()
        .unwrap_or_else(|| panic!("{result:?}"))
}

fn no_room() -> RetrievalFailure {
    RetrievalFailure::NoRoom {
        dto: name("pm"),
        reason: "full".to_owned(),
    }
}

fn queued_again(effects: &[Effect], id: &str, counted: u32) -> bool {
    effects.contains(&Effect::Persist {
        id: name(id),
        change: Change::Queued { attempts: counted },
    })
}

#[test]
fn a_task_is_stored_as_running_before_anything_is_started() {
    let mut story = Story::up(1);
    let effects = story.accept("a");
    let run = started(&effects);
    assert_eq!(
        effects[..3],
        [
            Effect::Persist {
                id: name("a"),
                change: Change::Running {
                    attempts: 1,
                    at: now()
                }
            },
            Effect::StartTender {
                run,
                id: name("a"),
                isolation: Isolation::Microvm
            },
            Effect::Retrieve { run },
        ]
    );
}

#[test]
fn an_answer_carries_coverage_and_a_breakdown_that_adds_up() {
    let mut story = Story::up(1);
    let blocker = started(&story.accept("blocker"));
    assert_eq!(story.accept("a"), []);
    story.pass(Duration(5_000_000));
    let effects = story.cancel("blocker");
    assert!(effects.contains(&Effect::KillTender { run: blocker }));
    let run = started(&story.gone(blocker));
    story.pass(Duration(2_000_000));
    let _ = story.ready(run);
    story.pass(Duration(1_000_000));
    assert_eq!(story.retrieved(run, None), []);
    let effects = story.ends(run, Exit::Done);
    let result = committed(&effects);
    assert_eq!(result.state, TaskState::Done);
    assert_eq!(result.answer, Some(42.into()));
    assert_eq!(result.coverage, [Coverage::new(name("pm"))]);
    let parts = result.breakdown;
    assert_eq!(
        (
            parts.queue_us,
            parts.boot_us,
            parts.retrieve_us,
            parts.compute_us
        ),
        (5000, 2940, 10, 20)
    );
    assert_eq!(parts.transfer_us, 30);
    assert_eq!(result.isolation, Some(Isolation::Microvm));
    assert_eq!(result.memory.unwrap().high_water, Size(4096));
}

#[test]
fn an_answer_waits_for_its_coverage_even_when_the_tender_has_gone() {
    let mut story = Story::up(1);
    let run = started(&story.accept("a"));
    let _ = story.ready(run);
    let effects = story.ends(run, Exit::Done);
    assert!(effects.contains(&Effect::CancelRetrieve { run }));
    assert_eq!(story.gone(run), []);
    assert_eq!(story.core.running(), 1);
    let effects = story.retrieved(run, None);
    assert_eq!(committed(&effects).state, TaskState::Done);
    assert_eq!(story.core.running(), 0);
}

#[test]
fn at_most_so_many_tasks_run_at_once_in_the_order_of_acceptance() {
    let mut story = Story::up(2);
    let first = started(&story.accept("a"));
    let _ = started(&story.accept("b"));
    assert_eq!(story.accept("c"), []);
    assert_eq!(story.accept("d"), []);
    let effects = story.cancel("a");
    assert!(
        !effects
            .iter()
            .any(|e| matches!(e, Effect::StartTender { .. }))
    );
    let effects = story.gone(first);
    assert!(matches!(&effects[1], Effect::StartTender { id, .. } if *id == name("c")));
}

#[test]
fn nothing_starts_without_a_broker() {
    let mut story = Story::new(1);
    assert_eq!(story.accept("a"), []);
    let _ = started(&story.step(Event::Up(Part::Broker)));
}

#[test]
fn every_state_can_be_cancelled() {
    let mut story = Story::up(1);
    let run = started(&story.accept("starting"));
    assert_eq!(story.accept("queued"), []);
    let effects = story.cancel("queued");
    assert_eq!(committed(&effects).state, TaskState::Cancelled);
    let effects = story.cancel("starting");
    assert_eq!(committed(&effects).state, TaskState::Cancelled);
    assert!(matches!(effects[0], Effect::Commit(_)));
    assert!(effects.contains(&Effect::CancelRetrieve { run }));
    assert!(effects.contains(&Effect::KillTender { run }));
    assert_eq!(story.cancel("starting"), []);
    assert_eq!(story.gone(run), []);

    let run = started(&story.accept("ended"));
    let _ = story.ready(run);
    let _ = story.ends(run, Exit::Done);
    assert_eq!(
        committed(&story.cancel("ended")).state,
        TaskState::Cancelled
    );
    assert_eq!(story.retrieved(run, None), []);
    let _ = story.gone(run);

    let run = started(&story.accept("pausing"));
    let _ = story.gone(run);
    assert_eq!(
        committed(&story.cancel("pausing")).state,
        TaskState::Cancelled
    );
    assert_eq!(story.cancel("unknown"), []);
}

#[test]
fn a_tender_that_dies_is_tried_again_until_the_attempts_are_used_up() {
    let mut story = Story::up(1);
    let mut run = started(&story.accept("a"));
    for attempt in 1..ATTEMPTS_MAX {
        let effects = story.gone(run);
        assert!(queued_again(&effects, "a", attempt), "{effects:?}");
        story.pass(Duration::from_secs(1));
        run = started(&story.step(Event::Timer(Timer::Retry)));
    }
    let effects = story.gone(run);
    assert!(
        matches!(failed(&effects), Failure::Attempts { attempts: ATTEMPTS_MAX, last } if last.contains("SIGKILL"))
    );
}

#[test]
fn a_function_that_was_killed_from_outside_is_tried_again() {
    let mut story = Story::up(1);
    let run = started(&story.accept("a"));
    let _ = story.ready(run);
    let _ = story.retrieved(run, None);
    let reason = "signal 9".to_owned();
    let effects = story.ends(run, Exit::Killed { reason });
    assert!(queued_again(&effects, "a", 1));
}

#[test]
fn a_broker_that_dies_takes_unfinished_runs_with_it_and_is_started_again() {
    let mut story = Story::up(2);
    let hit = started(&story.accept("hit"));
    let fed = started(&story.accept("fed"));
    let _ = story.retrieved(fed, None);
    let reason = "signal 9".to_owned();
    let effects = story.step(Event::Lost {
        part: Part::Broker,
        reason,
    });
    assert!(queued_again(&effects, "hit", 1));
    assert!(effects.contains(&Effect::KillTender { run: hit }));
    assert!(!effects.contains(&Effect::KillTender { run: fed }));
    let _ = story.gone(hit);
    story.pass(Duration::from_secs(1));
    let effects = story.step(Event::Timer(Timer::Restart(Part::Broker)));
    assert_eq!(effects[0], Effect::Start(Part::Broker));
    let _ = started(&story.step(Event::Up(Part::Broker)));
    let effects = story.ends(fed, Exit::Done);
    assert_eq!(committed(&effects).state, TaskState::Done);
}

#[test]
fn a_broker_that_keeps_dying_is_started_after_growing_pauses() {
    let mut story = Story::new(1);
    let mut pauses = Vec::new();
    for _ in 0..9 {
        let reason = "exit 1".to_owned();
        let effects = story.step(Event::Lost {
            part: Part::Broker,
            reason,
        });
        let [
            Effect::SetTimer {
                at,
                timer: Timer::Restart(Part::Broker),
            },
        ] = effects[..]
        else {
            panic!("{effects:?}");
        };
        pauses.push(at.micros_since(story.now.tick) / 1000);
        story.pass(Duration(at.0 as u64 - story.now.tick.0 as u64));
        let _ = story.step(Event::Timer(Timer::Restart(Part::Broker)));
    }
    assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 6400, 6400, 6400]);
}

#[test]
fn a_broker_that_answers_no_pings_is_killed() {
    let mut story = Story::up(1);
    for _ in 0..3 {
        let effects = story.step(Event::Timer(Timer::PartPing(Part::Broker, 1)));
        assert_eq!(effects[0], Effect::Ping(Part::Broker));
    }
    let _ = story.step(Event::Pong(Part::Broker));
    let effects = story.step(Event::Timer(Timer::PartPing(Part::Broker, 1)));
    assert_eq!(effects[0], Effect::Ping(Part::Broker));
    let _ = story.step(Event::Timer(Timer::PartPing(Part::Broker, 1)));
    let _ = story.step(Event::Timer(Timer::PartPing(Part::Broker, 1)));
    let effects = story.step(Event::Timer(Timer::PartPing(Part::Broker, 1)));
    assert_eq!(effects, [Effect::Kill(Part::Broker)]);
    assert_eq!(
        story.step(Event::Timer(Timer::PartPing(Part::Broker, 0))),
        []
    );
}

#[test]
fn a_broker_that_does_not_become_ready_is_killed() {
    let mut story = Story::new(1);
    assert_eq!(
        story.step(Event::Timer(Timer::PartReady(Part::Broker, 1))),
        [Effect::Kill(Part::Broker)]
    );
    let _ = story.step(Event::Up(Part::Broker));
    assert_eq!(
        story.step(Event::Timer(Timer::PartReady(Part::Broker, 1))),
        []
    );
}

#[test]
fn data_that_cannot_be_had_ends_the_task_with_the_reason() {
    let mut story = Story::up(1);
    let run = started(&story.accept("a"));
    let effects = story.retrieved(run, Some(no_room()));
    assert_eq!(failed(&effects), Failure::Retrieval(no_room()));
    assert!(effects.contains(&Effect::KillTender { run }));
    let _ = story.gone(run);

    // The tender may see its channel close before the broker's report arrives.
    let run = started(&story.accept("b"));
    let _ = story.ready(run);
    let reason = "no more data".to_owned();
    let _ = story.ends(run, Exit::Killed { reason });
    let effects = story.retrieved(run, Some(no_room()));
    assert_eq!(failed(&effects), Failure::Retrieval(no_room()));
}

#[test]
fn a_function_that_misbehaves_fails_and_is_not_tried_again() {
    let mut story = Story::up(1);
    let run = started(&story.accept("a"));
    let _ = story.ready(run);
    let exit = Exit::Panicked {
        message: "at lib.rs:3".to_owned(),
    };
    let _ = story.ends(run, exit.clone());
    let effects = story.retrieved(run, None);
    assert_eq!(failed(&effects), Failure::Function { exit });
}

#[test]
fn an_answer_that_is_none_is_a_misuse() {
    for (blob, announced) in [
        (vec![0xff], 1),
        (vec![0x18, 0x2a], 1),
        (vec![0; 70_000], 70_000),
    ] {
        let mut story = Story::up(1);
        let run = started(&story.accept("a"));
        let _ = story.retrieved(run, None);
        let ended = Box::new(ended(Exit::Done, Isolation::Microvm, announced));
        let effects = story.tender(run, TenderEvent::Ended { ended, blob });
        assert!(matches!(
            failed(&effects),
            Failure::Function {
                exit: Exit::Misuse { .. }
            }
        ));
    }
}

#[test]
fn an_isolation_other_than_the_one_asked_for_is_a_failure() {
    let mut story = Story::up(1);
    let run = started(&story.accept("a"));
    let isolation = Isolation::Process;
    let effects = story.tender(run, TenderEvent::Ready { isolation });
    assert!(matches!(failed(&effects), Failure::Isolation { .. }));
}

#[test]
fn the_next_isolation_is_tried_when_one_is_not_to_be_had() {
    let mut story = Story::up(1);
    let run = started(&story.accept("a"));
    let refused = || {
        let reason = "no /dev/kvm".to_owned();
        TenderEvent::Refused(Refused::Isolation { reason })
    };
    let _ = story.tender(run, refused());
    let effects = story.gone(run);
    assert!(effects.iter().any(|e| matches!(
        e,
        Effect::StartTender {
            isolation: Isolation::Process,
            ..
        }
    )));
    let run = started(&effects);
    assert!(matches!(
        failed(&story.tender(run, refused())),
        Failure::Isolation { .. }
    ));
}

#[test]
fn an_image_that_cannot_be_loaded_fails_at_once() {
    let mut story = Story::up(1);
    let run = started(&story.accept("a"));
    let reason = "no note".to_owned();
    let effects = story.tender(run, TenderEvent::Refused(Refused::Image { reason }));
    assert!(matches!(failed(&effects), Failure::Image { .. }));
}

#[test]
fn a_task_that_is_not_done_in_time_fails_wherever_it_is() {
    let hasty = |id: &str| mtw_with(id, |t| t["task"]["finish-within"] = "10s".into());
    let mut story = Story::up(1);
    let running = story.task(hasty("running"));
    let effects = story.step(Event::Accepted(running));
    assert!(effects.contains(&Effect::SetTimer {
        at: Tick(10 * SECOND as i64),
        timer: Timer::TooLate(name("running"))
    }));
    let queued = story.task(hasty("queued"));
    let _ = story.step(Event::Accepted(queued));
    for id in ["queued", "running"] {
        let effects = story.step(Event::Timer(Timer::TooLate(name(id))));
        assert_eq!(failed(&effects), Failure::TooLate);
    }
    let mut old = story.task(hasty("old"));
    old.accepted = Time(story.now.time.0 - 11 * SECOND as i64);
    assert_eq!(failed(&story.step(Event::Accepted(old))), Failure::TooLate);
}

#[test]
fn a_tender_that_hangs_is_killed() {
    let mut story = Story::up(1);
    let run = started(&story.accept("a"));
    story.pass(Duration::from_secs(5));
    let effects = story.tender(run, TenderEvent::Given);
    let limit = 65 * SECOND + START_GRACE.0;
    assert!(effects.contains(&Effect::SetTimer {
        at: Tick(limit as i64),
        timer: Timer::Start(run)
    }));
    let effects = story.step(Event::Timer(Timer::Start(run)));
    assert!(queued_again(&effects, "a", 1));
    assert!(effects.contains(&Effect::KillTender { run }));
    let _ = story.gone(run);

    let run = started(&story.accept("b"));
    let effects = story.ready(run);
    assert_eq!(
        effects,
        [Effect::SetTimer {
            at: Tick((65 * SECOND + STUCK_GRACE.0) as i64),
            timer: Timer::Stuck(run)
        }]
    );
    assert_eq!(story.step(Event::Timer(Timer::Start(run))), []);
    let effects = story.step(Event::Timer(Timer::Stuck(run)));
    let limit = Duration::from_secs(60);
    let clock = Clock::Time;
    assert_eq!(
        failed(&effects),
        Failure::Function {
            exit: Exit::Deadline { clock, limit }
        }
    );
    assert!(effects.contains(&Effect::KillTender { run }));
}

#[test]
fn a_tender_that_stays_after_its_last_word_is_killed() {
    let mut story = Story::up(1);
    let run = started(&story.accept("a"));
    let _ = story.retrieved(run, None);
    let effects = story.ends(run, Exit::Done);
    assert!(effects.iter().any(|e| matches!(
        e,
        Effect::SetTimer {
            timer: Timer::Leave(_),
            ..
        }
    )));
    assert_eq!(
        story.step(Event::Timer(Timer::Leave(run))),
        [Effect::KillTender { run }]
    );
}

#[test]
fn a_broker_that_does_not_end_a_retrieval_is_killed_and_the_task_tried_again() {
    let mut story = Story::up(1);
    let run = started(&story.accept("a"));
    let effects = story.ends(run, Exit::Done);
    assert!(effects.contains(&Effect::SetTimer {
        at: Tick(RETRIEVE_GRACE.0 as i64),
        timer: Timer::Retrieval(run)
    }));
    let effects = story.step(Event::Timer(Timer::Retrieval(run)));
    assert_eq!(effects[0], Effect::Kill(Part::Broker));
    assert!(queued_again(&effects, "a", 1));
}

#[test]
fn a_shutdown_queues_what_runs_without_counting_the_attempt() {
    let mut story = Story::up(1);
    let run = started(&story.accept("a"));
    assert_eq!(story.accept("b"), []);
    let effects = story.step(Event::Shutdown);
    assert!(queued_again(&effects, "a", 0));
    assert!(effects.contains(&Effect::KillTender { run }));
    // Readings that it has just recorded are to be written.
    assert!(effects.contains(&Effect::End(Part::Broker)));
    assert_eq!(story.gone(run), []);
    let reason = String::new();
    assert_eq!(
        story.step(Event::Lost {
            part: Part::Broker,
            reason
        }),
        []
    );
    assert_eq!(story.core.running(), 0);
}

#[test]
fn a_task_that_ran_in_every_earlier_life_of_the_node_is_given_up() {
    let mut story = Story::up(1);
    let mut task = story.task(mtw("a"));
    task.attempts = ATTEMPTS_MAX;
    let effects = story.step(Event::Accepted(task));
    assert!(matches!(failed(&effects), Failure::Attempts { .. }));
}

#[test]
fn a_task_whose_isolations_this_node_lost_fails() {
    let mut story = Story::up(1);
    let mut task = story.task(mtw("a"));
    task.isolations.clear();
    let effects = story.step(Event::Accepted(task));
    assert!(matches!(failed(&effects), Failure::Isolation { .. }));
}

#[test]
fn what_a_finished_run_says_comes_to_nothing() {
    let mut story = Story::up(1);
    let run = started(&story.accept("a"));
    let _ = story.cancel("a");
    assert_eq!(story.ready(run), []);
    assert_eq!(story.retrieved(run, None), []);
    assert_eq!(story.ends(run, Exit::Done), []);
    for timer in [Timer::Start(run), Timer::Stuck(run), Timer::Retrieval(run)] {
        assert_eq!(story.step(Event::Timer(timer)), []);
    }
    assert_eq!(story.gone(run), []);
    assert_eq!(story.gone(run), []);
}
