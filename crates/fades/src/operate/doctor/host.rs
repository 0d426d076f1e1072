//! What the host itself has: room for batches, memory, cores, limits, a clock.

use std::time::{Duration, Instant};

use fades_task::message::{BrokerReport, BrokerRequest, Confinement, Layer};
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
/// it can be confined; of a node that runs, how its broker is.
pub(super) fn broker(running: Option<&Confinement>) -> Vec<Finding> {
    let (place, advice, tried) = match ask_broker() {
        Ok(said) => said,
        Err(problem) => return vec![Finding::missing("batches", &problem)],
    };
    let mut findings = vec![match advice {
        None => Finding::good("batches", place),
        Some(advice) => Finding::better("batches", place, advice),
    }];
    findings.extend(layers(running.unwrap_or(&tried)));
    findings
}

/// How a broker is confined; it works without, so nothing is missing.
fn layers(confinement: &Confinement) -> Vec<Finding> {
    let layers = confinement.layers().into_iter();
    let finding = |(what, layer): (&'static str, &Layer)| match layer.enforced {
        true => Finding::good(what, format!("of the broker: {}", layer.detail)),
        false => Finding::better(what, "of the broker: not enforced", layer.detail.clone()),
    };
    layers.map(finding).collect()
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
    // It is told that somebody connects it, as in a node; it has nowhere to go.
    let (_dial, asked) = Channel::pair().or_problem(cannot)?;
    let descriptors = [std::os::fd::AsFd::as_fd(&asked)];
    here.send(&configure, b"{}", &descriptors)
        .or_problem(cannot)?;
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
    use fades_task::message::{Confinement, Layer};

    use super::super::Grade;
    use super::{clock, layers};

    #[test]
    fn each_layer_has_a_line_and_one_that_is_not_there_says_why() {
        let layer = |enforced, detail: &str| Layer {
            enforced,
            detail: detail.to_owned(),
        };
        let confinement = Confinement {
            network: layer(false, "no namespace; run as root"),
            files: layer(true, "reads /srv"),
            ..Confinement::default()
        };
        let findings = layers(&confinement);
        let words: Vec<_> = findings.iter().map(|f| f.what).collect();
        assert_eq!(words, ["network", "files", "TCP ports", "system calls"]);
        assert_eq!(findings[0].grade, Grade::Better);
        assert!(findings[0].detail.contains("not enforced"));
        let remedy = findings[0].remedy.as_deref();
        assert_eq!(remedy, Some("no namespace; run as root"));
        assert_eq!(findings[1].grade, Grade::Good);
        assert!(findings[1].detail.contains("reads /srv"));
    }

    #[test]
    fn a_clock_in_the_past_is_found_out() {
        assert_eq!(clock("2000-01-01".parse().unwrap()).grade, Grade::Missing);
        assert_eq!(clock("2026-01-01".parse().unwrap()).grade, Grade::Good);
    }
}
