//! `modbus`: what dead units cost the others on their bus.
//!
//! Two brokers read a bus each, over TCP, as fast as it goes: 50 units of which
//! 5 never answer, and the 45 others alone. Each unit has 20 registers, which
//! are one request; an answer takes 2 ms, about as on a fast serial line behind a
//! gateway. Timed is how long a register takes, by the registers that both
//! buses gave in the same two seconds. Before that the broken units were found
//! out: until each was asked three times without an answer.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fades_task::message::{BrokerReport, BrokerRequest};
use fades_task::mtw::{Dto, Take};
use fades_task::quantity::Size;
use fades_task::time::Time;
use fades_wire::Channel;
use fades_wire::spawn::{Child, Program};
use serde_json::json;

use super::Taken;
use crate::bench::{Bench, wait_until};
use crate::fault::Fault;
use crate::figure::{Aim, Figure};
use crate::samples::Samples;

const UNITS: u8 = 50;
const DEAD: u8 = 5;
const REGISTERS: u16 = 20;
const ANSWER: Duration = Duration::from_millis(2);
const WINDOW: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(30);

/// Of the time that a register takes without dead units: 0.95 of the speed at least.
const AIM: f64 = 1.05;

pub(super) fn run(bench: &Bench, taken: &mut Taken) -> Result<(), Fault> {
    let with = Reading::start(bench, "dead", UNITS)?;
    let without = Reading::start(bench, "well", UNITS - DEAD)?;
    let found = || with.bus.unanswered.load(Ordering::Relaxed) >= 3 * u64::from(DEAD);
    if !wait_until(PATIENCE, found) {
        let why = "the dead units were not asked three times";
        return Err(Fault::Meaningless(why.to_owned()));
    }
    let (mut ours, mut theirs) = (Samples::default(), Samples::default());
    bench.rounds((15, 40), (3, 6)).each(|counts| {
        let began = Instant::now();
        let before = [with.bus.given(), without.bus.given()];
        std::thread::sleep(WINDOW);
        let spent = began.elapsed().as_secs_f64() * 1e6;
        let each = |now: u64, before: u64| spent / (now - before).max(1) as f64;
        if counts {
            ours.push(each(with.bus.given(), before[0]));
            theirs.push(each(without.bus.given(), before[1]));
        }
        Ok::<_, Fault>(())
    })?;
    let figure = Figure::new("a register, 5 of 50 units dead", None, "us", &ours);
    taken.add(figure.map(|f| {
        f.against("the same without them", &theirs)
            .aiming(Aim::Ratio(AIM))
    }));
    Ok(())
}

/// A broker that reads a bus.
struct Reading {
    bus: Arc<Bus>,
    _broker: Child,
    _control: Channel,
    _tender: Channel,
}

impl Reading {
    fn start(bench: &Bench, name: &str, units: u8) -> Result<Self, Fault> {
        let (bus, address) = Bus::start().map_err(Fault::system("listen"))?;
        let channel = || Channel::pair().map_err(Fault::system("make a channel"));
        let ((control, theirs), (tender, data)) = (channel()?, channel()?);
        let broker = Program::new(&bench.programs.fades)
            .argument("broker")
            .descriptor(theirs.as_fd())
            .spawn()
            .map_err(Fault::system("start a broker"))?;
        drop(theirs);
        let configure = BrokerRequest::Configure {
            folder: bench.subfolder(name)?.display().to_string(),
            budget: Size(64 << 20),
            chunk: Size(8 << 20),
            base: "/".to_owned(),
            readings: None,
            credentials: None,
        };
        control.send(&configure, source(&address, units).as_bytes(), &[])?;
        match control
            .receive(Some(Instant::now() + PATIENCE))?
            .map(|f| f.message)
        {
            Some(BrokerReport::Ready { .. }) => {}
            other => return Err(Fault::Node(format!("the broker said {other:?}"))),
        }
        let dto = serde_json::from_value(json!("d")).map_err(Fault::json("a name"))?;
        let collect = Dto {
            take: Take::Live { count: None },
            to: Time(i64::MAX),
            ..Dto::all(dto)
        };
        let retrieve = BrokerRequest::Retrieve {
            of: None,
            run: 1,
            dtos: vec![collect],
            window: Size(8 << 20),
            within: None,
            answers: Vec::new(),
        };
        control.send(&retrieve, &[], &[data.as_fd()])?;
        Ok(Self {
            bus,
            _broker: broker,
            _control: control,
            _tender: tender,
        })
    }
}

fn source(address: &str, units: u8) -> String {
    let unit = |id| json!({ "id": id, "device": format!("u{id}") });
    let register = |a| json!({ "table": "holding", "address": a, "kind": format!("k{a}") });
    let source = json!({
        "type": "modbus",
        "url": format!("tcp://{address}"),
        "timeout": "100ms",
        "every": "10ms",
        "units": (1..=units).map(unit).collect::<Vec<_>>(),
        "registers": (0..REGISTERS).map(register).collect::<Vec<_>>(),
    });
    json!(BTreeMap::from([("bus", source)])).to_string()
}

/// Units that answer, and dead ones.
#[derive(Default)]
struct Bus {
    given: AtomicU64,
    unanswered: AtomicU64,
}

impl Bus {
    /// The bus and its address. It ends with this process.
    fn start() -> std::io::Result<(Arc<Self>, String)> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let bus = Arc::new(Self::default());
        let serving = Arc::clone(&bus);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let bus = Arc::clone(&serving);
                // A connection ends when the broker gives it up.
                std::thread::spawn(move || bus.serve(stream));
            }
        });
        Ok((bus, address))
    }

    fn given(&self) -> u64 {
        self.given.load(Ordering::Relaxed)
    }

    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let mut request = [0; 12];
        loop {
            stream.read_exact(&mut request)?;
            let [t0, t1, .., unit, function, _, _, _, count] = request;
            if unit > UNITS - DEAD {
                self.unanswered.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            std::thread::sleep(ANSWER);
            let mut answer = vec![t0, t1, 0, 0, 0, 3 + 2 * count, unit, function, 2 * count];
            answer.resize(9 + 2 * usize::from(count), 7);
            stream.write_all(&answer)?;
            self.given.fetch_add(count.into(), Ordering::Relaxed);
        }
    }
}
