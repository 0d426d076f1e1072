//! Supervision of a process: started again after a pause that grows while it
//! keeps dying, killed when it no longer answers, given up when it dies again
//! and again.
//!
//! ```text
//!           start          Up            ping missed, overdue
//!  Down ──────────▶ Starting ───▶ Up ─────────────────────────▶ Dying
//!   ▲  └─ DEATHS_MAX ─▶ Stopped ──┐ └──────────┐                  │
//!   └─ pause ◀──────── Lost ◀─────┼────────────┴──────────────────┘
//!   └──── the operator has it started again ┘
//! ```

use std::collections::VecDeque;

use fades_task::quantity::Duration;

use super::{Effect, Part, Tick, Timer};

/// A part has this long to become ready.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// Time between two pings.
const PING_EVERY: Duration = Duration::from_secs(10);

/// Pings without answer after which a part is killed.
const PINGS_MISSED_MAX: u32 = 3;

/// Pause before a part is started again; doubled each time.
const PAUSE: Duration = Duration(100_000_000);

/// The pause is doubled as often as this: 6.4 s.
const DOUBLINGS_MAX: u32 = 6;

/// A part that was up for this long starts with the first pause again.
const HEALTHY_AFTER: Duration = Duration::from_secs(30);

/// A part that died so often within [`LOOP_WITHIN`] is not started again before
/// the operator says so: starting it once more only costs.
pub const DEATHS_MAX: usize = 10;

/// See [`DEATHS_MAX`].
pub const LOOP_WITHIN: Duration = Duration::from_secs(600);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Down,
    Starting,
    Up {
        since: Tick,
        missed: u32,
    },
    /// Killed; its end has not arrived yet.
    Dying,
    /// Given up.
    Stopped,
}

#[derive(Debug)]
pub(super) struct Supervised {
    part: Part,
    state: State,
    /// How often it was started.
    starts: u32,
    /// How often in a row it died early.
    failures: u32,
    /// Deaths that count, the oldest first.
    deaths: VecDeque<Tick>,
}

impl Supervised {
    pub(super) const fn new(part: Part) -> Self {
        Self {
            part,
            state: State::Down,
            starts: 0,
            failures: 0,
            deaths: VecDeque::new(),
        }
    }

    pub(super) const fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    pub(super) fn start(&mut self, now: Tick) -> Vec<Effect> {
        if self.state != State::Down {
            return Vec::new();
        }
        self.state = State::Starting;
        self.starts += 1;
        let overdue = Effect::SetTimer {
            at: now.after(READY_WITHIN),
            timer: Timer::PartReady(self.part, self.starts),
        };
        vec![Effect::Start(self.part), overdue]
    }

    pub(super) fn up(&mut self, now: Tick) -> Option<Effect> {
        if self.state != State::Starting {
            return None;
        }
        self.state = State::Up {
            since: now,
            missed: 0,
        };
        Some(self.next_ping(now))
    }

    pub(super) fn pong(&mut self) {
        if let State::Up { missed, .. } = &mut self.state {
            *missed = 0;
        }
    }

    /// It is gone. A death that is `blamed` on the task for which it worked
    /// counts against that task and not against the part.
    pub(super) fn lost(&mut self, now: Tick, blamed: bool) -> Option<Effect> {
        match self.state {
            State::Down | State::Stopped => return None,
            State::Up { since, .. } if since.after(HEALTHY_AFTER) <= now => self.failures = 0,
            State::Up { .. } | State::Starting | State::Dying => {}
        }
        if !blamed && self.is_in_a_loop(now) {
            self.state = State::Stopped;
            return Some(Effect::GiveUp(self.part));
        }
        self.state = State::Down;
        let pause = Duration(PAUSE.0 << self.failures.min(DOUBLINGS_MAX));
        self.failures += 1;
        Some(Effect::SetTimer {
            at: now.after(pause),
            timer: Timer::Restart(self.part),
        })
    }

    /// Counts one death more.
    fn is_in_a_loop(&mut self, now: Tick) -> bool {
        self.deaths.retain(|death| death.after(LOOP_WITHIN) > now);
        self.deaths.push_back(now);
        self.deaths.len() >= DEATHS_MAX
    }

    /// Starts a part anew that was given up.
    pub(super) fn revive(&mut self, now: Tick) -> Vec<Effect> {
        if self.state != State::Stopped {
            return Vec::new();
        }
        self.state = State::Down;
        self.failures = 0;
        self.deaths.clear();
        self.start(now)
    }

    /// Has it end in an orderly way.
    pub(super) fn end(&mut self) -> Option<Effect> {
        if matches!(self.state, State::Down | State::Stopped) {
            return None;
        }
        self.state = State::Dying;
        Some(Effect::End(self.part))
    }

    pub(super) fn kill(&mut self) -> Option<Effect> {
        if matches!(self.state, State::Down | State::Dying | State::Stopped) {
            return None;
        }
        self.state = State::Dying;
        Some(Effect::Kill(self.part))
    }

    pub(super) fn ready_overdue(&mut self, start: u32) -> Option<Effect> {
        let overdue = self.state == State::Starting && self.starts == start;
        overdue.then(|| self.kill()).flatten()
    }

    pub(super) fn ping(&mut self, start: u32, now: Tick) -> Vec<Effect> {
        let State::Up { missed, .. } = &mut self.state else {
            return Vec::new();
        };
        if self.starts != start {
            return Vec::new();
        }
        if *missed >= PINGS_MISSED_MAX {
            return self.kill().into_iter().collect();
        }
        *missed += 1;
        vec![Effect::Ping(self.part), self.next_ping(now)]
    }

    fn next_ping(&self, now: Tick) -> Effect {
        Effect::SetTimer {
            at: now.after(PING_EVERY),
            timer: Timer::PartPing(self.part, self.starts),
        }
    }
}
