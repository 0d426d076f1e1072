//! What is counted while a node runs, and the text in which all its numbers
//! are told (OpenMetrics).
//!
//! Labels are words of the program or names out of the configuration, never
//! what a task or a device brings: the number of series does not grow with use.

use std::sync::atomic::AtomicU64;

use fades_task::exit::Exit;
use fades_task::limits::Isolation;
use fades_task::result::{Breakdown, Failure, TaskResult};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Media type of the text.
pub(crate) const MEDIA: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Labels whose values are words of the program.
type Words<const N: usize> = [(&'static str, &'static str); N];

/// A counter of what is not whole.
type Sum = Counter<f64, AtomicU64>;

/// Most series of one name: more names in the configuration than that are left
/// out, and the number of series stays what a collector can take.
const SERIES_MAX: usize = 1_000;

/// Counters, from the start of the process.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    ended: Family<Words<2>, Counter>,
    phases: Family<Words<1>, Histogram, fn() -> Histogram>,
    input: Counter,
    cpu: Sum,
    store_errors: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            ended: Family::default(),
            // 100 µs to 27 minutes.
            phases: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(1e-4, 4.0, 13))
            }),
            input: Counter::default(),
            cpu: Counter::default(),
            store_errors: Counter::default(),
        }
    }
}

impl Metrics {
    /// A task has ended, and that is stored.
    pub(crate) fn ended(&self, result: &TaskResult) {
        let labels = [
            ("end", end_of(result)),
            ("isolation", isolation_of(result.isolation)),
        ];
        self.ended.get_or_create(&labels).inc();
        self.input.inc_by(result.input_bytes);
        self.cpu.inc_by(seconds(result.cpu_us));
        if result.started.is_some() {
            for (phase, us) in phases(&result.breakdown) {
                let histogram = self.phases.get_or_create(&[("phase", phase)]);
                histogram.observe(seconds(us));
            }
        }
    }

    /// The store could not be written.
    pub(crate) fn store_failed(&self) {
        self.store_errors.inc();
    }
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

const fn phases(breakdown: &Breakdown) -> [(&'static str, u64); 5] {
    [
        ("queue", breakdown.queue_us),
        ("retrieve", breakdown.retrieve_us),
        ("boot", breakdown.boot_us),
        ("transfer", breakdown.transfer_us),
        ("compute", breakdown.compute_us),
    ]
}

const fn isolation_of(isolation: Option<Isolation>) -> &'static str {
    match isolation {
        Some(Isolation::Microvm) => "microvm",
        Some(Isolation::Process) => "process",
        None => "none",
    }
}

const fn end_of(result: &TaskResult) -> &'static str {
    match &result.failure {
        None => "done",
        Some(Failure::Function { exit }) => exit_word(exit),
        Some(Failure::Retrieval(_)) => "retrieval",
        Some(Failure::Isolation { .. }) => "isolation",
        Some(Failure::Image { .. }) => "image",
        Some(Failure::TooLate) => "too-late",
        Some(Failure::Withheld { .. }) => "withheld",
        Some(Failure::NotGranted { .. }) => "not-granted",
        Some(Failure::Attempts { .. }) => "attempts",
        Some(Failure::Cancelled { .. }) => "cancelled",
        Some(Failure::Withdrawn { .. }) => "withdrawn",
    }
}

const fn exit_word(exit: &Exit) -> &'static str {
    match exit {
        Exit::Done => "done",
        Exit::Aborted { .. } => "aborted",
        Exit::Panicked { .. } => "panicked",
        Exit::OutOfMemory { .. } => "out-of-memory",
        Exit::Fault(_) => "fault",
        Exit::Deadline { .. } => "deadline",
        Exit::OutputOverflow { .. } => "output-overflow",
        Exit::Misuse { .. } => "misuse",
        Exit::Killed { .. } => "killed",
    }
}

/// Labels of one series.
pub(crate) type Labels<'a> = &'a [(&'static str, &'a str)];

/// The numbers of one moment, in the order in which they are told.
#[derive(Debug)]
pub(crate) struct Page {
    registry: Registry,
}

impl Page {
    /// Begins with what was counted.
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let mut registry = Registry::with_prefix("fades");
        let Metrics {
            ended,
            phases,
            input,
            cpu,
            store_errors,
        } = metrics.clone();
        registry.register(
            "tasks_ended",
            "Tasks that have ended, by end and isolation",
            ended,
        );
        let help = "Parts of the time from a task's acceptance to its answer";
        registry.register_with_unit("task_phase", help, Unit::Seconds, phases);
        let help = "Bytes of batches that functions were given";
        registry.register_with_unit("task_input", help, Unit::Bytes, input);
        let help = "Processor time of functions";
        registry.register_with_unit("task_cpu", help, Unit::Seconds, cpu);
        let help = "Writes to the store that failed";
        registry.register("store_errors", help, store_errors);
        Self { registry }
    }

    /// A number that goes up and down. The name ends with its unit, if any.
    pub(crate) fn gauge(&mut self, name: &str, help: &str, series: &[(Labels<'_>, f64)]) {
        if let [([], value)] = series {
            let gauge = Gauge::<f64, AtomicU64>::default();
            gauge.set(*value);
            return self.registry.register(name, help, gauge);
        }
        let family = Family::<Owned, Gauge<f64, AtomicU64>>::default();
        for (labels, value) in series.iter().take(SERIES_MAX) {
            family.get_or_create(&owned(labels)).set(*value);
        }
        self.registry.register(name, help, family);
    }

    /// A number that only grows, as it is now; `_total` is added to its name.
    pub(crate) fn counter(&mut self, name: &str, help: &str, series: &[(Labels<'_>, f64)]) {
        let family = Family::<Owned, Sum>::default();
        for (labels, value) in series.iter().take(SERIES_MAX) {
            family.get_or_create(&owned(labels)).inc_by(*value);
        }
        self.registry.register(name, help, family);
    }

    /// All of it.
    pub(crate) fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

type Owned = Vec<(String, String)>;

fn owned(labels: Labels<'_>) -> Owned {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    labels.iter().map(owned).collect()
}
