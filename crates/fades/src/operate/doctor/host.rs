//! What the host itself has: room for batches, memory, cores, limits, a clock.

use std::time::{Duration, Instant};

use fades_task::message::{BrokerReport, BrokerRequest, Confinement};
use fades_task::quantity::Size;
use fades_task::time::Time;
use fades_wire::Channel;
use fades_wire::spawn::Program;
use rustix::process::{Resource, getrlimit};

use super::Finding;
use crate::ask::render::number::bytes;
use crate::problem::{Attempt, Problem};
use crate::session::now;

/// A broker without sources is ready within this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// Descriptors that a node with many tasks needs.
const FILES: u64 = 1024;

/// No clock that is right shows an earlier time: 2025-01-01.
const THE_PAST: Time = Time(1_735_689_600_000_000_000);

/// What a broker of this program finds out: where batch files would live, and how
/// it can be confined.
pub(super) fn broker() -> Vec<Finding> {
    match ask_broker() {
        Ok((place, None, confinement)) => {
            vec![Finding::good("batches", place), confined(&confinement)]
        }
        Ok((place, Some(advice), confinement)) => vec![
            Finding::better("batches", place, advice),
            confined(&confinement),
        ],
        Err(problem) => vec![Finding::missing("batches", &problem)],
    }
}

/// How the broker is confined; it works without, so nothing is missing.
fn confined(confinement: &Confinement) -> Finding {
    let layers = [
        ("files", &confinement.files),
        ("TCP ports", &confinement.ports),
        ("system calls", &confinement.calls),
    ];
    let of = |enforced: bool| {
        let named = layers.iter().filter(|(_, l)| l.enforced == enforced);
        named.copied().collect::<Vec<_>>()
    };
    let enforced: Vec<&str> = of(true).iter().map(|(name, _)| *name).collect();
    let open = of(false);
    let enforced = match enforced.as_slice() {
        [] => "nothing is enforced".to_owned(),
        names => format!("enforced: {}", names.join(", ")),
    };
    let detail = format!("{enforced}; not enforced: which hosts it connects to");
    if open.is_empty() {
        return Finding::good("broker", detail);
    }
    let names: Vec<&str> = open.iter().map(|(name, _)| *name).collect();
    let reasons: Vec<&str> = open.iter().map(|(_, l)| l.detail.as_str()).collect();
    let detail = format!("{detail}, {}", names.join(", "));
    Finding::better("broker", detail, reasons.join("; "))
}

/// Where batches would live, what would be better, and the broker's confinement.
type Said = (String, Option<String>, Confinement);

fn ask_broker() -> Result<Said, Problem> {
    let cannot = || "cannot start a broker".to_owned();
    let program = std::env::current_exe().or_problem(cannot)?;
    let folder = tempfile::tempdir().or_problem(cannot)?;
    let (here, there) = Channel::pair().or_problem(cannot)?;
    let child = Program::new(&program)
        .argument("broker")
        .descriptor(std::os::fd::AsFd::as_fd(&there))
        .spawn()
        .or_problem(cannot)?;
    drop(there);
    let configure = BrokerRequest::Configure {
        folder: folder.path().display().to_string(),
        budget: Size(64 << 20),
        chunk: Size(8 << 20),
        base: "/".to_owned(),
        readings: None,
        credentials: None,
    };
    here.send(&configure, b"{}", &[]).or_problem(cannot)?;
    let frame = here
        .receive::<BrokerReport>(Some(Instant::now() + PATIENCE))
        .or_problem(cannot)?;
    // Dropping a child ends it.
    drop(child);
    match frame.map(|f| f.message) {
        Some(BrokerReport::Ready {
            batches,
            advice,
            confinement,
            ..
        }) => Ok((batches, advice, confinement)),
        Some(BrokerReport::Misconfigured { reason }) => Err(Problem::new(cannot()).reason(reason)),
        _ => Err(Problem::new(cannot()).reason("it said something else than that it is ready")),
    }
}

/// Memory, cores, limits, clock.
pub(super) fn machine() -> Vec<Finding> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let info = rustix::system::sysinfo();
    let unit = u64::from(info.mem_unit);
    let (total, free) = (info.totalram * unit, info.freeram * unit);
    let memory = format!(
        "{cores} cores, {} of memory, {} of it free",
        bytes(total),
        bytes(free)
    );
    vec![Finding::good("machine", memory), files(), clock(now())]
}

fn files() -> Finding {
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < FILES => Finding::better(
            "open files",
            format!("at most {limit}, a node with many tasks needs {FILES}"),
            format!("ulimit -n {FILES}"),
        ),
        Some(limit) => Finding::good("open files", format!("at most {limit}")),
        None => Finding::good("open files", "no limit"),
    }
}

fn clock(now: Time) -> Finding {
    if now < THE_PAST {
        let problem = Problem::new(format!("it shows {now}"))
            .reason("tasks would be refused or taken although they have expired")
            .remedy("set the clock, and have it kept (chrony, systemd-timesyncd)");
        return Finding::missing("clock", &problem);
    }
    Finding::good("clock", now.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::Grade;
    use super::clock;

    #[test]
    fn a_clock_in_the_past_is_found_out() {
        assert_eq!(clock("2000-01-01".parse().unwrap()).grade, Grade::Missing);
        assert_eq!(clock("2026-01-01".parse().unwrap()).grade, Grade::Good);
    }
}
