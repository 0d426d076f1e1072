//! The queue beside a plain list that is sorted for each question.

use std::sync::Arc;

use fades_task::limits::Isolation;
use fades_task::policy::{Order, Policy};
use fades_task::quantity::Duration;
use proptest::prelude::{Strategy, any, prop, proptest};

use super::{Fit, PASSED_FOR, Queue, WINDOW, key};
use crate::core::{Task, Tick, Waiting};
use crate::samples::{mtw_with, name, now};

const SECOND: i64 = 1_000_000_000;

#[derive(Debug, Clone)]
enum Op {
    Insert {
        service: usize,
        memory: u64,
        priority: i32,
        pause: i64,
    },
    Remove(usize),
    /// With so much memory free.
    Next(u64),
    Pass(i64),
}

fn op() -> impl Strategy<Value = Op> {
    let numbers = (0..3_usize, 1..5_u64, -3..4_i32, any::<u16>());
    (0..10_u8, numbers).prop_map(|(op, (service, memory, priority, pick))| match op {
        0..=4 => Op::Insert {
            service,
            memory,
            priority,
            pause: i64::from(pick % 3) * SECOND,
        },
        5 => Op::Remove(pick.into()),
        6..=8 => Op::Next(u64::from(pick % 6)),
        _ => Op::Pass(i64::from(pick % 4000) * 1_000_000),
    })
}

/// The rules in plain words.
struct Plain {
    order: Order,
    waiting: Vec<(Waiting, Option<Tick>)>,
}

impl Plain {
    fn next(&mut self, now: Tick, free: u64) -> Option<i64> {
        let order = self.order;
        self.waiting.sort_by_key(|(waiting, _)| key(order, waiting));
        let due = self.waiting.iter_mut().filter(|(w, _)| w.not_before <= now);
        for (waiting, unfit_since) in due.take(WINDOW) {
            if waiting.task.mtw.function.limits.memory.0 <= free << 20 {
                return Some(waiting.task.seq);
            }
            if unfit_since.get_or_insert(now).after(PASSED_FOR) <= now {
                return None;
            }
        }
        None
    }

    fn remove(&mut self, seq: i64) {
        self.waiting.retain(|(w, _)| w.task.seq != seq);
    }
}

fn waiting(seq: i64, now_tick: Tick, op: (usize, u64, i32, i64)) -> Waiting {
    let (service, memory, priority, pause) = op;
    let mtw = mtw_with(&format!("t{}", seq * 7919 % 100_003), |t| {
        t["task"]["service"] = format!("s{service}").into();
        t["task"]["priority"] = priority.into();
        t["task"]["finish-within"] = format!("{}m", 30 + 10 * priority).into();
        t["function"]["limits"]["memory"] = format!("{memory}MiB").into();
    });
    Waiting {
        task: Task {
            seq,
            mtw: Arc::new(mtw),
            accepted: now(),
            attempts: 0,
            isolations: vec![Isolation::Microvm],
            inbox: None,
            parent: None,
            due: None,
            place: crate::core::Place::default(),
        },
        accepted: now_tick,
        not_before: Tick(now_tick.0 + pause),
        isolation: 0,
    }
}

fn policy() -> impl Strategy<Value = Policy> {
    let all = [Policy::Fifo, Policy::Priority, Policy::Deadline, Policy::Id];
    prop::sample::select(all.to_vec())
}

proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn the_queue_answers_like_a_list_that_is_sorted_each_time(
        policy in policy(),
        ops in prop::collection::vec(op(), 1..200)
    ) {
        let order = Order { policy, ageing: Duration::from_secs(2) };
        let (mut queue, mut now, mut seq) = (Queue::new(order), Tick(0), 0);
        let mut plain = Plain { order, waiting: Vec::new() };
        for op in ops {
            match op {
                Op::Insert { service, memory, priority, pause } => {
                    seq += 1;
                    let with = (service, memory, priority, pause);
                    queue.insert(waiting(seq, now, with));
                    plain.waiting.push((waiting(seq, now, with), None));
                }
                Op::Remove(pick) if !plain.waiting.is_empty() => {
                    let task = &plain.waiting[pick % plain.waiting.len()].0.task;
                    let (id, seq) = (task.id().clone(), task.seq);
                    assert_eq!(queue.remove(&id).unwrap().task.seq, seq);
                    assert!(queue.remove(&id).is_none());
                    plain.remove(seq);
                }
                Op::Remove(_) => assert!(queue.remove(&name("none")).is_none()),
                Op::Next(free) => {
                    queue.wake(now);
                    let due = plain.waiting.iter().any(|(w, _)| w.not_before <= now);
                    assert_eq!(queue.has_ready(now), due);
                    let fits = |t: &Task| match t.mtw.function.limits.memory.0 <= free << 20 {
                true => Fit::Now,
                false => Fit::Later,
            };
                    let next = queue.next(now, fits).map(|w| w.task.seq);
                    assert_eq!(next, plain.next(now, free));
                    next.into_iter().for_each(|seq| plain.remove(seq));
                }
                Op::Pass(ns) => now.0 += ns,
            }
            assert_eq!(queue.len(), plain.waiting.len());
        }
    }

    /// Whatever arrives, and however often there is room for the small ones
    /// only: what waits is started once there is room for it.
    #[test]
    fn nothing_that_fits_alone_waits_for_ever(
        policy in prop::sample::select(vec![Policy::Fifo, Policy::Priority, Policy::Deadline]),
        priority in any::<i32>(),
        rivals in prop::collection::vec((1..3_u64, any::<i32>()), 40..41),
    ) {
        let order = Order { policy, ageing: Duration::from_secs(1) };
        let mut queue = Queue::new(order);
        let mut patient = waiting(1, Tick(0), (0, 4, 0, 0));
        Arc::make_mut(&mut patient.task.mtw).task.priority = priority;
        Arc::make_mut(&mut patient.task.mtw).task.finish_within = None;
        queue.insert(patient);
        // A run of each rival lasts until the next one comes; room for all is
        // only when nothing was started at the last look.
        let (mut now, mut seq, mut busy) = (Tick(0), 1, true);
        for round in 0..10_000_usize {
            let (memory, rival) = rivals[round % rivals.len()];
            seq += 1;
            let mut task = waiting(seq, now, (1, memory, 0, 0));
            Arc::make_mut(&mut task.task.mtw).task.priority = rival;
            queue.insert(task);
            queue.wake(now);
            let free = if busy { 2 } else { 4 };
            let fits = |t: &Task| match t.mtw.function.limits.memory.0 <= free << 20 {
                true => Fit::Now,
                false => Fit::Later,
            };
            let next = queue.next(now, fits).map(|w| w.task.seq);
            if next == Some(1) {
                break;
            }
            busy = next.is_some();
            now.0 += SECOND;
        }
        assert!(queue.remove(&name("t7919")).is_none(), "it never was its turn");
    }
}
