//! The one queue of a bus: requests strictly one after the other.
//!
//! ```text
//! questions of tasks ─► waiting ─┐
//!                                ├─► one unit at a time ─► Live, and whoever asked
//! units that are due ────────────┘
//! ```
//! Questions come before what is only due. A unit that does not answer costs its
//! own time-out; once broken it is asked rarely, and all broken units together
//! never take more than a small share of the bus's time while others work.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::time::sleep_until;

use super::line::Line;
use super::plan::Block;
use super::port::{Port, ReadError};
use super::unit::{Came, Unit, is_about_registers};
use crate::breaker::{Breaker, Rule, chance};
use crate::dial::Dial;
use crate::live::{Heard, Live};

/// While others work, asking the broken ones takes one part in so many of the
/// time.
const PROBING: u32 = 40;

/// Most units that wait to be asked.
const WAITING: usize = 4096;

/// Least time for a connection.
const CONNECT: Duration = Duration::from_secs(3);

/// Connections that fail are tried again later and later; a question tries at
/// once, but not more often than this.
const EAGER: Duration = Duration::from_secs(1);

/// When connections are made again.
const RULE: Rule = Rule {
    breaks_at: 1,
    first: Duration::from_millis(500),
    longest: Duration::from_secs(30),
};

/// What a task asks of the bus.
#[derive(Debug)]
pub(super) struct Question {
    /// Units by index, and which of their registers.
    pub(super) units: Vec<(usize, Vec<usize>)>,
    pub(super) until: Instant,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) reply: std::sync::mpsc::Sender<Answer>,
}

/// What one unit says.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) unit: usize,
    pub(super) came: Result<Vec<(usize, Came)>, String>,
    pub(super) bytes: u64,
}

/// A unit that somebody asks.
struct Waiting {
    unit: usize,
    wanted: Vec<usize>,
    until: Instant,
    stop: Arc<AtomicBool>,
    reply: std::sync::mpsc::Sender<Answer>,
}

/// The bus; [`Bus::run`] serves it until nobody can ask any more.
pub(super) struct Bus {
    line: Line,
    dial: Dial,
    timeout: Duration,
    every: Duration,
    live: Arc<Live>,
    units: Vec<Unit>,
    port: Option<Port>,
    link: Breaker,
    /// When a connection was tried last, and why it failed.
    tried: Option<(Instant, String)>,
    questions: mpsc::Receiver<Question>,
    waiting: VecDeque<Waiting>,
    wanted: watch::Receiver<bool>,
    /// Before then no broken unit is asked.
    probing: Instant,
    /// Bytes of the answers so far.
    bytes: u64,
}

/// Why a unit gave nothing.
enum Failure {
    /// The bus cannot be reached.
    Link(String),
    Unit(String),
}

/// What is to be done next.
enum Next {
    Serve(Waiting),
    Poll(usize),
    Wait(Option<Instant>),
}

impl Bus {
    pub(super) fn new(
        (line, dial): (Line, Dial),
        [timeout, every]: [Duration; 2],
        live: &Arc<Live>,
        units: Vec<Unit>,
        questions: mpsc::Receiver<Question>,
    ) -> Self {
        let now = Instant::now();
        Self {
            line,
            dial,
            timeout,
            every,
            units,
            port: None,
            link: Breaker::new(RULE),
            tried: None,
            questions,
            waiting: VecDeque::new(),
            wanted: live.wanted(),
            live: Arc::clone(live),
            probing: now,
            bytes: 0,
        }
    }

    /// Serves the bus until nobody can ask any more.
    pub(super) async fn run(mut self) {
        loop {
            match self.questions.try_recv() {
                Ok(question) => {
                    self.queue(question);
                    continue;
                }
                Err(mpsc::error::TryRecvError::Disconnected) => return,
                Err(mpsc::error::TryRecvError::Empty) => {}
            }
            match self.next() {
                Next::Serve(waiting) => self.serve(waiting).await,
                Next::Poll(unit) => self.poll(unit).await,
                Next::Wait(until) => {
                    if !self.wait(until).await {
                        return;
                    }
                }
            }
        }
    }

    fn queue(&mut self, question: Question) {
        for (unit, wanted) in question.units {
            if self.waiting.len() >= WAITING {
                let reason = "too many questions wait for this bus: ask less often";
                answer(&question.reply, unit, Err(reason.to_owned()), 0);
                continue;
            }
            self.waiting.push_back(Waiting {
                unit,
                wanted,
                until: question.until,
                stop: Arc::clone(&question.stop),
                reply: question.reply.clone(),
            });
        }
    }

    /// Waits for something to do. Whether anybody can still ask.
    async fn wait(&mut self, until: Option<Instant>) -> bool {
        // Without anything due nothing but a question or a wish wakes it.
        let far = Instant::now() + Duration::from_secs(3600);
        let until = until.unwrap_or(far).into();
        tokio::select! {
            question = self.questions.recv() => match question {
                Some(question) => self.queue(question),
                None => return false,
            },
            changed = self.wanted.changed() => {
                if changed.is_err() {
                    return false;
                }
                let now = Instant::now();
                self.units.iter_mut().for_each(|u| u.due = u.due.min(now));
            }
            () = sleep_until(until) => {}
        }
        true
    }

    fn next(&mut self) -> Next {
        if let Some(waiting) = self.waiting.pop_front() {
            return Next::Serve(waiting);
        }
        if !*self.wanted.borrow_and_update() {
            return Next::Wait(None);
        }
        let now = Instant::now();
        let units = (0..self.units.len()).map(|i| (self.ready(i), i));
        match units.min() {
            Some((at, unit)) if at <= now => Next::Poll(unit),
            Some((at, _)) => Next::Wait(Some(at)),
            None => Next::Wait(None),
        }
    }

    /// When a unit is to be read next.
    fn ready(&self, unit: usize) -> Instant {
        let u = &self.units[unit];
        let link = self.link.until();
        let probing = (u.breaker.is_broken() && self.is_any_well()).then_some(self.probing);
        let later = [link, u.breaker.until(), probing];
        later.into_iter().flatten().fold(u.due, Instant::max)
    }

    fn is_any_well(&self) -> bool {
        self.units.iter().any(|u| !u.breaker.is_broken())
    }

    /// Whether a unit may be asked before it is due.
    fn may_ask(&self, unit: usize, now: Instant) -> bool {
        let breaker = &self.units[unit].breaker;
        let probing = !breaker.is_broken() || self.probing <= now || !self.is_any_well();
        breaker.may_ask(now) && probing
    }

    async fn serve(&mut self, waiting: Waiting) {
        let now = Instant::now();
        if waiting.stop.load(Ordering::Relaxed) || waiting.until <= now {
            return;
        }
        let Waiting { unit, wanted, .. } = waiting;
        let stale = self.units[unit].stale(&wanted, now);
        let before = self.bytes;
        let mut came = Ok(());
        if !stale.is_empty() {
            let why_not = self.units[unit].why_not(now);
            came = match why_not {
                Some(reason) => Err(reason),
                None if !self.may_ask(unit, now) => Err("broken; asked again soon".to_owned()),
                None => self.ask(unit, &stale, true).await,
            };
        }
        let came = came.map(|()| self.units[unit].came(&wanted, Instant::now()));
        answer(&waiting.reply, unit, came, self.bytes - before);
    }

    async fn poll(&mut self, unit: usize) {
        let all: Vec<usize> = (0..self.units[unit].registers.len()).collect();
        // The reason is noted where the unit is; nobody else waits for it.
        let _ = self.ask(unit, &all, false).await;
        let now = Instant::now();
        let unit = &mut self.units[unit];
        unit.due = (unit.due + self.every).max(now);
    }

    /// Asks a unit for these registers, and notes what comes of it.
    async fn ask(&mut self, unit: usize, wanted: &[usize], eager: bool) -> Result<(), String> {
        let began = Instant::now();
        let broken = self.units[unit].breaker.is_broken();
        let mut heard = Vec::new();
        let asked = self.read(unit, wanted, eager, &mut heard).await;
        if !heard.is_empty() {
            self.live.arrive(heard);
        }
        if broken {
            let now = Instant::now();
            self.probing = now + (now - began) * PROBING;
        }
        match asked {
            Ok(()) => {
                self.units[unit].worked();
                Ok(())
            }
            Err(Failure::Unit(reason)) => {
                self.units[unit].fail(&reason, &self.live);
                Err(reason)
            }
            Err(Failure::Link(reason)) => {
                for unit in &self.units {
                    self.live.failed(&unit.device, &reason, false);
                }
                Err(reason)
            }
        }
    }

    async fn read(
        &mut self,
        unit: usize,
        wanted: &[usize],
        eager: bool,
        heard: &mut Vec<Heard>,
    ) -> Result<(), Failure> {
        let now = Instant::now();
        for block in self.units[unit].blocks(wanted, now) {
            match self.read_block(unit, &block, eager).await? {
                Ok(words) => self.units[unit].take(&block, &words, heard),
                Err(code) => self.search(unit, block, code, eager, heard).await?,
            }
        }
        Ok(())
    }

    /// Finds out which registers of a block the unit refuses, by smaller and
    /// smaller reads.
    async fn search(
        &mut self,
        unit: usize,
        block: Block,
        code: tokio_modbus::ExceptionCode,
        eager: bool,
        heard: &mut Vec<Heard>,
    ) -> Result<(), Failure> {
        // A whole block that was refused, and how; its halves are looked at next.
        let mut refused = vec![(block, code)];
        while let Some((block, code)) = refused.pop() {
            let Some((left, right)) = block.halves(&self.units[unit].registers) else {
                self.units[unit].refuse(block.registers[0], code, Instant::now());
                continue;
            };
            let cut = right.registers[0];
            let mut both = true;
            for half in [left, right] {
                match self.read_block(unit, &half, eager).await? {
                    Ok(words) => self.units[unit].take(&half, &words, heard),
                    Err(code) => {
                        both = false;
                        refused.push((half, code));
                    }
                }
            }
            if both {
                self.units[unit].part(cut);
            }
        }
        Ok(())
    }

    /// Reads one block, connecting when need be. The inner error is about its
    /// registers.
    async fn read_block(
        &mut self,
        unit: usize,
        block: &Block,
        eager: bool,
    ) -> Result<Result<Vec<u16>, tokio_modbus::ExceptionCode>, Failure> {
        let id = self.units[unit].id;
        loop {
            let mut port = self.connected(eager).await?;
            let used = port.used;
            let read = port.read(id, block, self.timeout).await;
            if read.as_ref().err().is_none_or(|e| port.outlives(e)) {
                self.port = Some(port);
            }
            return match read {
                Ok(words) => {
                    self.bytes += 2 * words.len() as u64;
                    Ok(Ok(words))
                }
                Err(ReadError::Exception(code)) if is_about_registers(code) => Ok(Err(code)),
                // Many devices close a connection on which nothing was asked.
                Err(ReadError::Broken) if used => continue,
                Err(e) => Err(Failure::Unit(e.to_string())),
            };
        }
    }

    /// The connection, made anew when there is none.
    async fn connected(&mut self, eager: bool) -> Result<Port, Failure> {
        if let Some(port) = self.port.take() {
            return Ok(port);
        }
        let now = Instant::now();
        if let Some((at, reason)) = &self.tried
            && !self.link.may_ask(now)
            && !(eager && now - *at >= EAGER)
        {
            return Err(Failure::Link(reason.clone()));
        }
        match Port::open(&self.line, self.timeout.max(CONNECT), &self.dial).await {
            Ok(port) => {
                if self.link.is_broken() {
                    tracing::info!(
                        "source {}: {} is there again",
                        self.live.source(),
                        self.line
                    );
                }
                self.link.worked();
                self.tried = None;
                Ok(port)
            }
            Err(e) => {
                let reason = format!("{}: {e}", self.line);
                if !self.link.is_broken() {
                    tracing::warn!("source {}: {reason}", self.live.source());
                }
                let now = Instant::now();
                self.link.failed(now, chance());
                self.tried = Some((now, reason.clone()));
                Err(Failure::Link(reason))
            }
        }
    }
}

/// Answers, unless nobody waits any more.
fn answer(
    reply: &std::sync::mpsc::Sender<Answer>,
    unit: usize,
    came: Result<Vec<(usize, Came)>, String>,
    bytes: u64,
) {
    if reply.send(Answer { unit, came, bytes }).is_err() {
        tracing::trace!("an answer came after its question");
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc::{TryRecvError, channel};
    use std::time::{Duration, Instant};

    use tokio::sync::mpsc;

    use super::{Bus, Unit, Waiting};
    use crate::config::ModbusSource;
    use crate::dial::Dial;
    use crate::live::Live;
    use crate::modbus::line::Line;
    use crate::notes::Notes;

    #[tokio::test]
    async fn a_question_that_is_late_or_given_up_costs_the_bus_nothing() {
        // Nobody listens there: whoever is asked fails at once.
        let port = TcpListener::bind("127.0.0.1:0").unwrap();
        let config: ModbusSource = serde_json::from_value(serde_json::json!({
            "url": format!("tcp://{}", port.local_addr().unwrap()),
            "units": [{ "id": 1, "device": "m" }],
            "registers": [{ "table": "holding", "address": 0, "kind": "t" }],
        }))
        .unwrap();
        drop(port);
        let notes = Arc::new(Notes::new(&[]));
        let live = Arc::new(Live::new(&"plant".parse().unwrap(), &notes, None));
        let (_ask, questions) = mpsc::channel(1);
        let mut bus = Bus::new(
            (Line::parse(&config).unwrap(), Dial::Direct),
            [Duration::from_secs(1); 2],
            &live,
            vec![Unit::new(&config, &config.units[0])],
            questions,
        );
        let (reply, answers) = channel();
        let now = Instant::now();
        let later = now + Duration::from_secs(60);
        for (until, stop, is_asked) in [
            (now, false, false),
            (later, true, false),
            (later, false, true),
        ] {
            let waiting = Waiting {
                unit: 0,
                wanted: vec![0],
                until,
                stop: Arc::new(AtomicBool::new(stop)),
                reply: reply.clone(),
            };
            bus.serve(waiting).await;
            assert_eq!(bus.tried.is_some(), is_asked);
            match answers.try_recv() {
                Ok(answer) => assert!(is_asked && answer.came.is_err()),
                Err(e) => assert!(!is_asked && e == TryRecvError::Empty),
            }
        }
    }
}
