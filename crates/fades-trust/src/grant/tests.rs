use std::collections::BTreeMap;

use fades_task::grant::Grants as Tables;
use fades_task::identity::Name;
use fades_task::limits::Isolation;
use fades_task::mtw::Mtw;
use fades_task::resource::Device;
use serde_json::{Value, json};

use super::{Allowed, Asked, Grants, NotGranted};
use crate::samples::{NOW, mtw, name, time};

fn grants(tables: &Value) -> Grants {
    let tables: Tables = serde_json::from_value(tables.clone()).unwrap();
    Grants::compile(&tables, &[name("hall"), name("roof")]).unwrap()
}

/// A grant that allows the sample's task, changed.
fn granted(change: &Value) -> Value {
    let mut grant = json!({
        "services": ["city-*"], "functions": ["summary"], "kinds": ["pm*"], "history": "1d",
    });
    for (field, value) in change.as_object().unwrap() {
        grant[field] = value.clone();
    }
    grant
}

fn task(change: &Value) -> Mtw {
    let mut task = serde_json::to_value(mtw()).unwrap();
    for (path, value) in change.as_object().unwrap() {
        *task.pointer_mut(path).unwrap() = value.clone();
    }
    serde_json::from_value(task).unwrap()
}

fn decide(grant: &Value, mtw: &Mtw) -> Result<Allowed, NotGranted> {
    let at = time(NOW);
    let request = Asked {
        mtw,
        accepted: at,
        at,
    };
    grants(&json!({ "air": granted(grant) })).decide(request)
}

#[test]
fn a_task_inside_of_a_grant_is_allowed_and_nothing_is_without_one() {
    let allowed = decide(&json!({}), &mtw()).unwrap();
    assert_eq!(allowed.grant, name("air"));
    let request = Asked {
        mtw: &mtw(),
        accepted: time(NOW),
        at: time(NOW),
    };
    let refused = Grants::default().decide(request).unwrap_err().to_string();
    let table = "[grant.city-air], services = [\"city-air\"], functions = [\"summary\"], \
                 kinds = [\"pm10\", \"pm2.5\"], history = \"1d\"";
    assert!(
        refused.contains("names the service city-air") && refused.contains(table),
        "{refused}"
    );
}

#[test]
fn each_condition_that_is_not_met_refuses_and_is_named() {
    let digest = "summary@sha256:0000000000000000000000000000000000000000000000000000000000000000";
    for (grant, task_of, named) in [
        (
            json!({"services": ["city"]}),
            json!({}),
            "names the service city-air",
        ),
        (
            json!({"functions": ["air-quality"]}),
            json!({}),
            "function: summary@sha256:07",
        ),
        (
            json!({"functions": [digest]}),
            json!({}),
            "function: summary@sha256:07",
        ),
        (
            json!({"kinds": ["pm10"]}),
            json!({}),
            "retrieve pm, kind: \"pm10\" or \"pm2.5\" is asked for, \"pm10\" is granted (\"pm2.5\" would match as well)",
        ),
        (
            json!({"locations": ["west/**"]}),
            json!({}),
            "retrieve pm, location: any is asked for",
        ),
        (
            json!({"devices": ["a*"]}),
            json!({}),
            "retrieve pm, device: any",
        ),
        (
            json!({"sources": ["hall"]}),
            json!({}),
            "it would ask source roof as well",
        ),
        (
            json!({"history": "23h"}),
            json!({}),
            "retrieve pm, time: from 2026-11-01T12:00:00Z on is asked for, \"23h\"",
        ),
        (json!({"history": null}), json!({}), "no range is granted"),
        (
            json!({}),
            json!({"/retrieve/0": {"name": "pm", "kind": "pm10"}}),
            "everything from the first reading on is asked for",
        ),
        (
            json!({}),
            json!({"/retrieve/0": {"name": "pm", "kind": "pm10", "now": true}}),
            "retrieve pm, time: now is asked for",
        ),
        (
            json!({}),
            json!({"/retrieve/0": {"name": "pm", "kind": "pm10", "collect": {"count": 1}}}),
            "collect is asked for",
        ),
        (
            json!({"isolation": ["microvm"]}),
            json!({"/function/isolation": ["process"]}),
            "isolation: process is asked for, microvm",
        ),
        (
            json!({"limits": {"memory": "1MiB"}}),
            json!({}),
            "limits, memory: \"16MiB\" is asked for, \"1MiB\"",
        ),
    ] {
        let refused = decide(&grant, &task(&task_of)).unwrap_err().to_string();
        assert!(refused.contains(named), "{grant} {task_of}: {refused}");
    }
}

#[test]
fn a_task_that_leaves_the_image_open_is_told_so_where_one_is_granted() {
    let pinned = json!({"functions": [mtw().function.image.to_string()]});
    let open = task(&json!({"/function/image": "summary"}));
    let refused = decide(&pinned, &open).unwrap_err().to_string();
    assert!(refused.contains("does not say which image"), "{refused}");
}

#[test]
fn what_is_given_suffices() {
    let pinned = json!({"functions": [mtw().function.image.to_string()]});
    for (grant, task_of) in [
        (pinned, json!({})),
        (
            json!({"kinds": ["pm[0-9]*"]}),
            json!({"/retrieve/0/kind": "pm1*"}),
        ),
        (json!({"sources": ["*"]}), json!({})),
        (
            json!({"sources": ["ha*"]}),
            json!({"/retrieve/0": {"name": "pm", "kind": "pm1", "source": "hall", "last": "1h"}}),
        ),
        (
            json!({"history": "any"}),
            json!({"/retrieve/0": {"name": "pm", "kind": "pm10"}}),
        ),
        (
            json!({"live": true}),
            json!({"/retrieve/0": {"name": "pm", "kind": "pm10", "now": true}}),
        ),
        (json!({"isolation": ["process"]}), json!({})),
        (json!({"limits": {"memory": "16MiB"}}), json!({})),
        // What it was answered is its own.
        (
            json!({"sources": ["x"], "history": null}),
            json!({"/retrieve/0": {"name": "pm", "kind": "temperature.mean", "result": "hourly"}}),
        ),
    ] {
        decide(&grant, &task(&task_of)).unwrap();
    }
}

#[test]
fn destinations_are_given_by_name_or_not_at_all() {
    let mut with = mtw();
    with.deliver = serde_json::from_value(json!([{"to": "city"}, {"to": "log"}])).unwrap();
    let named = |grant: Value| decide(&grant, &with).unwrap_err().to_string();
    assert!(named(json!({})).contains("destination: city is asked for, none is granted"));
    assert!(named(json!({"destinations": ["city"]})).contains("destination: log is asked for"));
    decide(&json!({"destinations": ["city", "l*"]}), &with).unwrap();
}

#[test]
fn a_task_is_allowed_by_one_grant_and_not_by_two_together() {
    let both = task(&json!({"/retrieve": [
        {"name": "pm", "kind": "pm10", "last": "1h"},
        {"name": "noise", "kind": "noise", "last": "1h"},
    ]}));
    let tables = json!({
        "air": granted(&json!({"kinds": ["pm*"]})),
        "noise": granted(&json!({"kinds": ["noise"]})),
    });
    let at = time(NOW);
    let request = Asked {
        mtw: &both,
        accepted: at,
        at,
    };
    let refused = grants(&tables).decide(request).unwrap_err().to_string();
    assert!(refused.contains("nor do noise allow it"), "{refused}");
    let one = json!({"air": granted(&json!({"kinds": ["pm*", "noise"]}))});
    grants(&one).decide(request).unwrap();
}

#[test]
fn depth_counts_back_from_when_a_run_was_due() {
    let mtw = task(
        &json!({"/retrieve/0": {"name": "pm", "kind": "pm10", "from": "2026-11-01T00:00:00Z"}}),
    );
    let grants = grants(&json!({"air": granted(&json!({"history": "48h"}))}));
    let decide = |at: &str| {
        let accepted = time("2026-11-01T00:00:00Z");
        grants.decide(Asked {
            mtw: &mtw,
            accepted,
            at: time(at),
        })
    };
    decide("2026-11-02T23:59:59Z").unwrap();
    decide("2026-11-03T00:00:01Z").unwrap_err();
}

#[test]
fn the_broker_is_told_the_patterns_of_the_grant_and_not_those_of_the_task() {
    let grant = json!({"locations": ["**"], "sources": ["*"], "isolation": ["process"]});
    let allowed = decide(&grant, &mtw()).unwrap();
    let dto = &mtw().dtos(time(NOW), time(NOW))[0];
    let told = allowed.for_dto(dto);
    assert_eq!(
        (told.kinds, told.locations),
        (vec!["pm*".to_owned()], vec!["**".to_owned()])
    );
    assert_eq!((told.devices.len(), told.live), (0, false));
    assert_eq!(told.since, Some(time("2026-11-01T12:00:00Z")));
    assert!(allowed.permits(Isolation::Process) && !allowed.permits(Isolation::Microvm));
}

#[test]
fn what_is_given_without_bounds_needs_none() {
    let bounded = granted(&json!({"export": {"fields": {}, "min-devices": 5}}));
    let decide = |tables: Value| {
        let at = time(NOW);
        let asked = Asked {
            mtw: &mtw(),
            accepted: at,
            at,
        };
        grants(&tables).decide(asked).unwrap()
    };
    let allowed = decide(json!({"air": bounded, "more": granted(&json!({}))}));
    assert_eq!((allowed.grant.as_str(), allowed.export()), ("more", None));
    let allowed = decide(json!({"air": bounded, "more": granted(&json!({"kinds": ["x"]}))}));
    assert_eq!(allowed.export().unwrap().min_devices, 5);
    let dto = &mtw().dtos(time(NOW), time(NOW))[0];
    assert_eq!(allowed.for_dto(dto).least.devices, 5);
}

#[test]
fn previews_are_granted_for_themselves() {
    let ask = |grant: &Value, services: &[Name]| {
        let grants = grants(&json!({ "air": granted(grant) }));
        let preview = grants.preview(services, &mtw().retrieve, time(NOW));
        preview.map(|a| a.grant).map_err(|e| e.to_string())
    };
    let own = [name("city-air")];
    assert!(
        ask(&json!({}), &own)
            .unwrap_err()
            .contains("previews: the first readings")
    );
    assert_eq!(ask(&json!({"previews": true}), &own), Ok(name("air")));
    let beyond = ask(&json!({"previews": true, "kinds": ["pm10"]}), &own);
    assert!(beyond.unwrap_err().contains("pm2.5"));
    for other in [&[name("noise")][..], &[]] {
        let refused = ask(&json!({"previews": true}), other).unwrap_err();
        assert!(
            refused.contains("previews = true") || refused.contains("service: noise"),
            "{refused}"
        );
    }
}

#[test]
fn devices_are_seen_as_far_as_any_grant_of_the_service_reaches() {
    let device: Device = serde_json::from_value(json!({
        "source": "hall", "device": "d1", "location": "west/1",
        "series": [
            {"kind": "pm10", "unit": "", "readings": null, "oldest": null, "newest": null},
            {"kind": "noise", "unit": "", "readings": null, "oldest": null, "newest": null},
        ],
    }))
    .unwrap();
    let seen = |grant: &Value, service: &str| {
        let grants = grants(&json!({ "air": granted(grant) }));
        let seen = grants.visible(&[name(service)], &device);
        seen.map(|d| d.series.iter().map(|s| s.kind.clone()).collect::<Vec<_>>())
    };
    assert_eq!(seen(&json!({}), "city-air"), Some(vec!["pm10".to_owned()]));
    assert_eq!(seen(&json!({}), "noise"), None);
    for hidden in [
        json!({"locations": ["east/*"]}),
        json!({"devices": ["x"]}),
        json!({"sources": ["roof"]}),
    ] {
        assert_eq!(seen(&hidden, "city-air"), None, "{hidden}");
    }
}

#[test]
fn what_cannot_work_is_refused_with_its_path() {
    for (change, words) in [
        (
            json!({"services": []}),
            "grant.air.services: the list is empty",
        ),
        (
            json!({"functions": []}),
            "grant.air.functions: the list is empty",
        ),
        (
            json!({"kinds": []}),
            "grant.air.kinds: the list is empty, so nothing",
        ),
        (
            json!({"locations": ["a[b"]}),
            "grant.air.locations: \"a[b\" is no glob",
        ),
        (
            json!({"functions": ["a@sha256:1"]}),
            "grant.air.functions: \"sha256:1\" is no digest",
        ),
        (
            json!({"isolation": []}),
            "grant.air.isolation: the list is empty",
        ),
        (
            json!({"previews": true, "export": {"fields": {}}}),
            "grant.air.previews: it would show",
        ),
    ] {
        let tables = BTreeMap::from([("air", granted(&change))]);
        let tables: Tables = serde_json::from_value(json!(tables)).unwrap();
        let error = Grants::compile(&tables, &[]).unwrap_err().to_string();
        assert!(error.starts_with(words), "{error}");
    }
}
