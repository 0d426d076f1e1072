//! What an operator asks: resources, sources, the node itself.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::request::Parts;
use fades_task::courier::Receiver;
use fades_task::identity::Name;
use fades_task::message::BrokerReport;
use fades_task::mtw::{Mtw, Retrieve};
use fades_task::quantity;
use fades_task::resource::SourceReport;
use tokio::sync::oneshot;

use super::plan;
use super::problem::{BUSY, FAILED, MALFORMED, UNREADABLE};
use super::server::{Api, Shelf, blocking, body, name};
use super::types::{
    BODY_MAX, BrokerInfo, CgroupInfo, CourierInfo, EndingKey, NodeInfo, PreviewRequest, Previews,
    Problem, ReceiverInfo, Resources, ShellsInfo, TrustState,
};
use crate::driver::{Ask, Input};
use crate::store::Dispatched;

/// A broker has answered within this time; reading a whole source takes some.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);

/// Asks the broker.
pub(super) async fn ask(api: &Api, ask: Ask) -> Result<BrokerReport, Problem> {
    ask_within(api, ask, ANSWER_WITHIN).await
}

/// Asks the broker, which has that long.
pub(super) async fn ask_within(
    api: &Api,
    ask: Ask,
    within: Duration,
) -> Result<BrokerReport, Problem> {
    let (reply, answer) = oneshot::channel();
    api.tell(Input::Ask { ask, reply })?;
    match tokio::time::timeout(within, answer).await {
        Ok(Ok(report)) => Ok(report),
        Ok(Err(_)) => {
            let live = api.shared.live();
            let last = live.broker.last_end.as_ref();
            let last = last.map_or_else(String::new, |l| format!(" ({l})"));
            let detail = match &live.broker.stopped {
                Some(stopped) => format!("the broker was given up: {stopped}"),
                None => {
                    format!("the broker is not there{last}; it is started again: try in a moment")
                }
            };
            Err(Problem::new(BUSY, detail))
        }
        Err(_) => {
            let detail = format!("the broker gave no answer within {} s", within.as_secs());
            Err(Problem::new(BUSY, detail))
        }
    }
}

/// A broker of this build answers what was asked.
pub(super) fn confused() -> Problem {
    Problem::new(FAILED, "the broker answered something else than was asked")
}

/// `GET /v1/resources`
pub(super) async fn resources(State(api): Shelf, parts: Parts) -> Result<Json<Resources>, Problem> {
    let services = blocking(&api, move |api| {
        let caller = api.caller(&parts)?;
        caller.may_plan()?;
        caller.services()
    });
    let services = services.await?;
    match ask(&api, Ask::Resources).await? {
        BrokerReport::Resources {
            devices, recording, ..
        } => {
            let all = Resources { devices, recording };
            Ok(Json(match services {
                None => all,
                Some(services) => granted(&api, all, &services),
            }))
        }
        _ => Err(confused()),
    }
}

/// What is granted to any of these services, and nothing that tells of more.
fn granted(api: &Api, all: Resources, services: &[Name]) -> Resources {
    let grants = &api.current().grants;
    let devices = all.devices.iter();
    let devices: Vec<_> = devices
        .filter_map(|d| grants.visible(services, d))
        .collect();
    let mut recording = all.recording;
    recording.retain(|source, _| devices.iter().any(|d| d.source == *source));
    Resources { devices, recording }
}

/// `POST /v1/sources/{name}/test`
pub(super) async fn test_source(
    State(api): Shelf,
    Path(source): Path<String>,
    parts: Parts,
) -> Result<Json<SourceReport>, Problem> {
    let source = name(&source)?;
    // It shows readings, whatever is granted to anybody.
    blocking(&api, move |api| api.caller(&parts)?.may_operate()).await?;
    match ask(&api, Ask::TestSource(source)).await? {
        BrokerReport::Tested { report, .. } => report
            .map(|r| Json(*r))
            .map_err(|reason| Problem::new(UNREADABLE, reason)),
        _ => Err(confused()),
    }
}

/// `POST /v1/preview`
pub(super) async fn preview(
    State(api): Shelf,
    request: Request,
) -> Result<Json<Previews>, Problem> {
    let (parts, content) = request.into_parts();
    let asked = Request::from_parts(parts.clone(), content);
    let caller = blocking(&api, move |api| {
        let caller = api.caller(&parts)?;
        caller.may_plan()?;
        Ok(caller)
    });
    let caller = caller.await?;
    let bytes = body(asked, BODY_MAX).await?;
    let malformed = |e: &dyn std::fmt::Display| Problem::new(MALFORMED, format!("preview: {e}"));
    let wanted: PreviewRequest = serde_json::from_slice(&bytes).map_err(|e| malformed(&e))?;
    if !(1..=Mtw::RETRIEVE_MAX).contains(&wanted.retrieve.len()) {
        let entries = format!("retrieve: write 1 to {} entries", Mtw::RETRIEVE_MAX);
        return Err(malformed(&entries));
    }
    wanted
        .retrieve
        .iter()
        .try_for_each(Retrieve::check)
        .map_err(|e| malformed(&e))?;
    let now = api.shared.clock().now();
    let mut dtos: Vec<_> = wanted.retrieve.iter().map(|r| r.resolve(now)).collect();
    if caller.may_operate().is_err() {
        let services = caller.asks_for(wanted.service.as_ref())?;
        let grants = &api.current().grants;
        let allowed = grants.preview(&services, &wanted.retrieve, now)?;
        plan::grant(&allowed, &mut dtos);
    }
    match plan::preview(&api, wanted.service, dtos).await? {
        Ok(retrieve) => Ok(Json(Previews { retrieve })),
        Err(failure) => Err(Problem::new(UNREADABLE, failure.to_string())),
    }
}

/// `GET /v1/node`
pub(super) async fn node(State(api): Shelf, parts: Parts) -> Result<Json<NodeInfo>, Problem> {
    blocking(&api, move |api| {
        let caller = api.caller(&parts)?;
        caller.may_plan()?;
        let info = describe(api)?;
        match caller.services()? {
            None => Ok(Json(info)),
            Some(services) => Ok(Json(for_services(api, info, &services)?)),
        }
    })
    .await
}

pub(super) fn describe(api: &Api) -> Result<NodeInfo, Problem> {
    let config = api.current();
    let tasks = api.store.counts();
    let functions = api.store.functions()?.len() as u64;
    let held = api.trusted.look()?;
    let trust = &held.table;
    let now = api.shared.clock().now();
    let development = trust.keys().iter().filter(|k| k.development);
    let development = development.filter(|k| trust.usable(k, now).is_ok());
    let ending = trust.keys().iter().filter_map(|key| {
        let not_after = key.ends_soon(now)?;
        let name = key.name.clone();
        Some(EndingKey { name, not_after })
    });
    let uptime = api.started.1.elapsed().as_nanos();
    let dispatched = api.store.dispatched()?;
    let live = api.shared.live();
    let courier = config.courier.as_ref();
    let courier = courier.map(|_| courier_info(live.courier.clone(), dispatched));
    Ok(NodeInfo {
        name: config.name.clone(),
        labels: config.labels.clone(),
        version: config.version.clone(),
        pid: std::process::id(),
        started: api.started.0,
        uptime: quantity::Duration(u64::try_from(uptime).unwrap_or(u64::MAX)),
        isolation: config.isolation.clone(),
        parallel: config.parallel,
        memory: config.memory,
        caps: config.caps,
        broker: live.broker.clone(),
        courier,
        tenders: live.tenders.values().cloned().collect(),
        shells: live.shells.clone(),
        cgroup: live.cgroup.clone(),
        tasks,
        functions,
        development_keys: development.map(|k| k.name.clone()).collect(),
        ending_keys: ending.collect(),
        trust: super::trust::state(api, &held),
        store_error: live.store_error.clone(),
        clock: live.clock.clone(),
        draining: live.draining,
    })
}

/// What concerns whoever asks for these services: what the node is and takes,
/// and nothing that tells what others do.
fn for_services(api: &Api, info: NodeInfo, services: &[Name]) -> Result<NodeInfo, Problem> {
    let own = |task: &Name| {
        let summary = api.store.summary(task).ok().flatten();
        summary.is_some_and(|s| services.contains(&s.service))
    };
    Ok(NodeInfo {
        broker: BrokerInfo {
            up: info.broker.up,
            ..BrokerInfo::default()
        },
        courier: None,
        tenders: info.tenders.into_iter().filter(|t| own(&t.task)).collect(),
        shells: ShellsInfo::default(),
        cgroup: CgroupInfo::default(),
        tasks: api.store.counts_of(services)?,
        development_keys: Vec::new(),
        ending_keys: Vec::new(),
        trust: TrustState::default(),
        ..info
    })
}

/// With how many answers went which way.
fn courier_info(mut info: CourierInfo, dispatched: Vec<(Receiver, Dispatched)>) -> CourierInfo {
    for (receiver, counts) in dispatched {
        let new = ReceiverInfo::new(&receiver);
        let same = |r: &ReceiverInfo| (&r.kind, &r.name) == (&new.kind, &new.name);
        let at = info.receivers.iter().position(same).unwrap_or_else(|| {
            info.receivers.push(new);
            info.receivers.len() - 1
        });
        let known = &mut info.receivers[at];
        known.delivered = counts.delivered;
        known.lost = counts.lost;
        known.lost_reason = counts.reason;
    }
    info
}
