//! `GET /metrics`: the node in numbers, for a collector. `docs/metrics.md` has
//! the meaning of each.

use std::path::Path;
use std::time::Duration;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use fades_task::gauge::{Gauges, SourceGauge};
use fades_task::identity::Name;
use fades_task::message::BrokerReport;
use rustix::param::{clock_ticks_per_second, page_size};

use super::operator::ask_within;
use super::problem::FAILED;
use super::server::{Api, Shelf, blocking};
use super::types::{CourierInfo, NodeInfo, Problem};
use crate::driver::Ask;
use crate::metrics::{Labels, MEDIA, Page};

/// A collector waits for some seconds: a broker that takes longer is told by
/// what is missing.
const BROKER_WITHIN: Duration = Duration::from_secs(3);

/// `GET /metrics`
pub(super) async fn metrics(State(api): Shelf, parts: Parts) -> Result<Response, Problem> {
    blocking(&api, move |api| api.caller(&parts)?.may_read()).await?;
    let broker = match ask_within(&api, Ask::Gauge, BROKER_WITHIN).await {
        Ok(BrokerReport::Gauged { gauges, .. }) => Some(gauges),
        _ => None,
    };
    let text = blocking(&api, move |api| page(api, broker.as_ref())).await?;
    Ok(([(CONTENT_TYPE, MEDIA)], text).into_response())
}

fn page(api: &Api, broker: Option<&Gauges>) -> Result<String, Problem> {
    let info = super::operator::describe(api)?;
    let mut page = Page::new(&api.shared.metrics);
    node(&mut page, &info, api);
    keys(&mut page, api)?;
    pool(&mut page, &info);
    store(&mut page, api, &info);
    processes(&mut page, &info);
    if let Some(courier) = &info.courier {
        mail(&mut page, api, courier);
    }
    let up = f64::from(broker.is_some());
    page.gauge("broker_up", "The broker answers", &[(&[], up)]);
    let courier = info.courier.as_ref().map(|c| c.restarts);
    let restarts = [("broker", Some(info.broker.restarts)), ("courier", courier)];
    let restarts: Vec<_> = restarts
        .into_iter()
        .filter_map(|(process, n)| Some(([("process", process)], f64::from(n?))))
        .collect();
    let help = "Times that a part of the node was started again";
    page.counter("restarts", help, &lent(&restarts));
    if let Some(gauges) = broker {
        batches(&mut page, gauges);
        sources(&mut page, gauges);
    }
    page.text()
        .map_err(|_| Problem::new(FAILED, "the metrics cannot be written"))
}

fn node(page: &mut Page, info: &NodeInfo, api: &Api) {
    let build = [
        ("version", info.version.as_str()),
        ("node", info.name.as_str()),
    ];
    page.gauge("build_info", "Always 1; what runs", &[(&build, 1.0)]);
    let started = info.started.0 as f64 / 1e9;
    page.gauge(
        "start_time_seconds",
        "When the node started, seconds since 1970",
        &[(&[], started)],
    );
    let tasks = &info.tasks;
    let states = [
        ("standing", tasks.standing),
        ("queued", tasks.queued),
        ("running", tasks.running),
        ("done", tasks.done),
        ("failed", tasks.failed),
        ("cancelled", tasks.cancelled),
    ];
    let labels = states.map(|(state, n)| ([("state", state)], n as f64));
    let series: Vec<_> = labels.iter().map(|(l, n)| (&l[..], *n)).collect();
    page.gauge("tasks", "Tasks in the store, by state", &series);
    page.gauge(
        "queue_limit",
        "Most tasks that may wait",
        &[(&[], crate::config::QUEUE_MAX as f64)],
    );
    page.gauge(
        "functions",
        "Functions that can be asked for",
        &[(&[], info.functions as f64)],
    );
    if let Some(tls) = api.shared.tls() {
        let until = tls.not_after.0 as f64 / 1e9;
        let help = "When the API's certificate expires, seconds since 1970";
        page.gauge("certificate_expiry_seconds", help, &[(&[], until)]);
    }
}

/// When trusted keys end, of those that do.
fn keys(page: &mut Page, api: &Api) -> Result<(), Problem> {
    let trust = api.trust()?;
    let ends = trust.keys().iter().filter_map(|key| {
        let until = key.not_after?.0 as f64 / 1e9;
        Some(([("key", key.name.as_str())], until))
    });
    let ends: Vec<_> = ends.collect();
    let help = "When a trusted key ends, seconds since 1970";
    page.gauge("key_expiry_seconds", help, &lent(&ends));
    let revocations = trust.revocations();
    for (name, help, value) in [
        (
            "trust_version",
            "Version of the table of trusted keys; 0 when nobody counts",
            trust.version(),
        ),
        (
            "revocations_counter",
            "Counter of the list of revoked keys; 0 when there is none",
            revocations.counter(),
        ),
        (
            "revoked_keys",
            "Keys that are trusted no longer, whatever the table says",
            revocations.iter().len() as u64,
        ),
    ] {
        page.gauge(name, help, &[(&[], value as f64)]);
    }
    Ok(())
}

fn pool(page: &mut Page, info: &NodeInfo) {
    let shells = &info.shells;
    let states = [
        ("idle", shells.idle),
        ("busy", shells.busy),
        ("making", shells.making),
        ("leaving", shells.leaving),
    ];
    let labels = states.map(|(state, n)| ([("state", state)], n as f64));
    let series: Vec<_> = labels.iter().map(|(l, n)| (&l[..], *n)).collect();
    page.gauge("tenders", "Tenders, by what they do", &series);
    let waiting = [(&[][..], shells.waiting as f64)];
    page.gauge(
        "tenders_wanted",
        "Runs that wait for a tender or a template",
        &waiting,
    );
    let short = f64::from(shells.shortage.is_some());
    page.gauge(
        "shortage",
        "The system lacks something for making tenders",
        &[(&[], short)],
    );
    page.gauge(
        "templates",
        "Templates at hand",
        &[(&[], shells.templates as f64)],
    );
    let bytes = [(&[][..], shells.template_bytes.0 as f64)];
    page.gauge("templates_bytes", "Memory of templates", &bytes);
    page.gauge(
        "tasks_limit",
        "Most tasks that run at once",
        &[(&[], info.parallel as f64)],
    );
}

fn batches(page: &mut Page, gauges: &Gauges) {
    let used = [(&[][..], gauges.batches.0 as f64)];
    page.gauge("batches_bytes", "Bytes of batch files", &used);
    let limit = [(&[][..], gauges.budget.0 as f64)];
    page.gauge("batches_limit_bytes", "Most bytes of batch files", &limit);
}

/// A number of each source that has it.
fn each<T>(
    gauges: &Gauges,
    number: impl Fn(&SourceGauge) -> Option<T>,
    tell: impl Fn(T) -> f64,
) -> Vec<([(&'static str, &str); 1], f64)> {
    let sources = gauges.sources.iter();
    sources
        .filter_map(|(name, source)| Some(([("source", name.as_str())], tell(number(source)?))))
        .collect()
}

fn sources(page: &mut Page, gauges: &Gauges) {
    let connected = each(gauges, |s| Some(s.connected), f64::from);
    page.gauge(
        "source_connected",
        "Devices of the source can be heard",
        &lent(&connected),
    );
    let devices: Vec<_> = gauges
        .sources
        .iter()
        .flat_map(|(name, source)| {
            let labels = |state| [("source", name.as_str()), ("state", state)];
            let all = source.devices.all();
            all.map(|(state, n)| (labels(state.word()), n as f64))
        })
        .collect();
    page.gauge(
        "source_devices",
        "Devices of a source, by how they do",
        &lent(&devices),
    );
    let recording = |number: fn(&fades_task::resource::Recording) -> u64| {
        each(gauges, |s| s.recording.as_ref().map(number), |n| n as f64)
    };
    let numbers = recording(|r| r.recorded);
    page.counter(
        "recorded_readings",
        "Readings that became durable",
        &lent(&numbers),
    );
    let numbers = recording(|r| r.lost);
    page.gauge(
        "recording_lost_readings",
        "Readings lost in gaps that are known",
        &lent(&numbers),
    );
    let numbers = recording(|r| r.expired);
    page.counter(
        "expired_readings",
        "Readings removed for age or room",
        &lent(&numbers),
    );
    let numbers = recording(|r| r.waiting);
    page.gauge(
        "recording_waiting_readings",
        "Readings that are not durable yet",
        &lent(&numbers),
    );
    let numbers = recording(|r| r.bytes);
    page.gauge(
        "recording_bytes",
        "Bytes on disk of a source's readings",
        &lent(&numbers),
    );
    let numbers = recording(|r| u64::from(r.trouble.is_some()));
    page.gauge(
        "recording_trouble",
        "Something is wrong with recording",
        &lent(&numbers),
    );
}

fn lent<'a, const N: usize>(
    series: &'a [([(&'static str, &'a str); N], f64)],
) -> Vec<(Labels<'a>, f64)> {
    series.iter().map(|(labels, n)| (&labels[..], *n)).collect()
}

/// Inboxes and destinations, as far as they are configured now.
fn mail(page: &mut Page, api: &Api, info: &CourierInfo) {
    page.gauge(
        "courier_up",
        "The courier works",
        &[(&[], f64::from(info.up))],
    );
    let config = api.current();
    let Some(courier) = &config.courier else {
        return;
    };
    let known = |kind: &str, name: &Name| match kind {
        "inbox" => courier.inboxes.contains(name),
        _ => courier.destinations.contains(name),
    };
    let receivers = info.receivers.iter().filter(|r| known(&r.kind, &r.name));
    let receivers: Vec<_> = receivers
        .map(|r| ([("kind", r.kind.as_str()), ("name", r.name.as_str())], r))
        .collect();
    let number = |tell: fn(&super::types::ReceiverInfo) -> f64| -> Vec<_> {
        receivers
            .iter()
            .map(|(labels, r)| (&labels[..], tell(r)))
            .collect()
    };
    page.gauge(
        "outbox_waiting",
        "Answers that wait for a receiver",
        &number(|r| r.waiting as f64),
    );
    page.gauge(
        "outbox_bytes",
        "Bytes of answers that wait",
        &number(|r| r.bytes.0 as f64),
    );
    page.counter(
        "outbox_delivered",
        "Answers that a receiver has",
        &number(|r| r.delivered as f64),
    );
    page.counter(
        "outbox_lost",
        "Answers that a receiver will never have",
        &number(|r| r.lost as f64),
    );
    let failing = number(|r| f64::from(r.error.is_some()));
    page.gauge(
        "outbox_failing",
        "The last attempt to deliver failed",
        &failing,
    );
    let inboxes: Vec<_> = info
        .inboxes
        .iter()
        .map(|i| ([("name", i.name.as_str())], f64::from(i.error.is_none())))
        .collect();
    page.gauge(
        "inbox_up",
        "The inbox could be asked the last time",
        &lent(&inboxes),
    );
}

fn store(page: &mut Page, api: &Api, info: &NodeInfo) {
    let folder = api.store.folder();
    let length = |name: &str| std::fs::metadata(folder.join(name)).map_or(0, |m| m.len());
    let images = std::fs::read_dir(folder.join("images"));
    let images = images.into_iter().flatten().flatten();
    let images: u64 = images.filter_map(|e| Some(e.metadata().ok()?.len())).sum();
    let sizes = [
        ("database", length("store.db")),
        ("log", length("store.db-wal")),
        ("images", images),
    ];
    let labels = sizes.map(|(part, bytes)| ([("part", part)], bytes as f64));
    page.gauge("store_bytes", "Bytes on disk of the store", &lent(&labels));
    if let Ok(room) = rustix::fs::statvfs(folder) {
        let free = room.f_bavail.saturating_mul(room.f_frsize) as f64;
        page.gauge(
            "store_free_bytes",
            "Bytes free where the store is",
            &[(&[], free)],
        );
    }
    let writable = f64::from(info.store_error.is_none());
    page.gauge(
        "store_writable",
        "The store can be written",
        &[(&[], writable)],
    );
}

/// What a process has used: processor time in seconds, memory in bytes.
fn used(pid: u32) -> Option<(f64, f64)> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    // The name before may have spaces and brackets.
    let stat = stat.ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<f64>().ok();
    let ticks = number(11)? + number(12)?;
    let cpu = ticks / clock_ticks_per_second() as f64;
    Some((cpu, number(21)? * page_size() as f64))
}

fn processes(page: &mut Page, info: &NodeInfo) {
    let courier = info.courier.as_ref().and_then(|c| c.pid);
    let all = [
        ("node", Some(info.pid)),
        ("broker", info.broker.pid),
        ("courier", courier),
    ];
    let all: Vec<_> = all
        .into_iter()
        .filter_map(|(name, pid)| Some(([("process", name)], used(pid?)?)))
        .collect();
    let series = |which: fn(&(f64, f64)) -> f64| -> Vec<_> {
        all.iter()
            .map(|(labels, used)| (&labels[..], which(used)))
            .collect()
    };
    let help = "Processor time of the node's processes, tenders left out";
    page.counter("process_cpu_seconds", help, &series(|u| u.0));
    let help = "Resident memory of the node's processes, tenders left out";
    page.gauge("process_resident_memory_bytes", help, &series(|u| u.1));
}
