use fades_task::identity::Digest;
use fades_task::limits::{Isolation, Limits};
use fades_task::mtw::Mtw;
use fades_task::quantity::Size;
use serde_json::{Value, json};

use super::{Admitted, Refusal, admit};
use crate::api::types::FunctionInfo;
use crate::config::NodeConfig;
use crate::samples::{config, digest, envelope, mtw_with, name, now, trust};

fn function() -> FunctionInfo {
    FunctionInfo {
        name: name("summary"),
        digest: digest(),
        size: Size(16),
        signer: name("plant"),
        signer_key: crate::samples::key().public().id(),
        published: now(),
        last_use: None,
        symbols: false,
    }
}

fn decide(
    configure: impl FnOnce(&mut NodeConfig),
    change: impl FnOnce(&mut Value),
) -> Result<Admitted, Refusal> {
    let mut config = config("/nowhere".as_ref());
    configure(&mut config);
    let envelope = envelope(&mtw_with("t1", change));
    let find = |wanted: Digest| Ok((wanted == digest()).then(function));
    admit(&envelope, &trust(), &config, now(), find)
}

fn refusal(change: impl FnOnce(&mut Value)) -> Refusal {
    decide(|_| (), change).unwrap_err()
}

#[test]
fn a_task_is_admitted_with_the_strongest_isolation_that_works() {
    let admitted = decide(|_| (), |_| ()).unwrap();
    assert_eq!(admitted.isolations, [Isolation::Process]);
    let admitted = decide(|c| c.isolation[0].works = true, |_| ()).unwrap();
    assert_eq!(
        admitted.isolations,
        [Isolation::Microvm, Isolation::Process]
    );
}

#[test]
fn a_task_without_an_isolation_that_works_is_refused_with_the_reason() {
    let refused = refusal(|t| t["function"]["isolation"] = json!(["microvm"]));
    assert!(matches!(refused, Refusal::Isolation { .. }));
    assert!(refused.to_string().contains("no /dev/kvm"), "{refused}");
}

#[test]
fn limits_above_the_nodes_are_refused_by_name() {
    let cap = |c: &mut NodeConfig| {
        c.caps = Limits {
            output: Size(1024),
            ..Limits::MAX
        };
    };
    let refused = decide(cap, |_| ()).unwrap_err();
    assert!(matches!(
        refused,
        Refusal::Limits {
            field: "output",
            ..
        }
    ));
    let refused = decide(|c| c.memory = Size(1 << 19), |_| ()).unwrap_err();
    assert!(matches!(refused, Refusal::Memory { .. }));
    assert!(
        refused.to_string().contains("raise node.memory"),
        "{refused}"
    );
    assert!(decide(|c| c.memory = Size(1 << 20), |_| ()).is_ok());
}

#[test]
fn a_task_whose_input_never_fits_is_refused_and_one_without_input_is_not() {
    let tight = |c: &mut NodeConfig| {
        c.broker.budget = Size(100 << 20);
        c.broker.chunk = Size(64 << 20);
    };
    let refused = decide(tight, |_| ()).unwrap_err();
    assert!(matches!(
        refused,
        Refusal::Input {
            asked: Size(0x800_0000),
            ..
        }
    ));
    assert!(
        refused.to_string().contains("raise node.batches"),
        "{refused}"
    );
    assert!(decide(tight, |t| t["retrieve"] = json!([])).is_ok());
    assert!(decide(|c| c.broker.budget = Size(128 << 20), |_| ()).is_ok());
}

#[test]
fn parameters_that_a_function_cannot_take_are_refused() {
    let length =
        |n: usize| move |t: &mut Value| t["function"]["params"] = json!({ "x": "x".repeat(n) });
    assert!(matches!(
        refusal(length(Mtw::PARAMS_MAX)),
        Refusal::ParamsLength { .. }
    ));
    assert!(decide(|_| (), length(Mtw::PARAMS_MAX - 100)).is_ok());
    let deep = (0..40).fold(json!(1), |v, _| json!([v]));
    assert!(matches!(
        refusal(|t| t["function"]["params"] = json!({ "x": deep })),
        Refusal::Params(_)
    ));
    assert_eq!(Mtw::PARAMS_MAX, fades_abi::PARAMS_MAX);
}

#[test]
fn functions_and_destinations_that_are_not_here_are_refused() {
    let unknown = format!("summary@{}", Digest([9; 32]));
    assert!(matches!(
        refusal(|t| t["function"]["image"] = unknown.into()),
        Refusal::UnknownFunction(_)
    ));
    let renamed = format!("mean@{}", digest());
    assert!(matches!(
        refusal(|t| t["function"]["image"] = renamed.into()),
        Refusal::OtherName { .. }
    ));
    assert!(matches!(
        refusal(|t| t["deliver"] = json!([{ "to": "city" }])),
        Refusal::Destination { .. }
    ));
}

#[test]
fn trust_comes_first() {
    assert!(matches!(
        refusal(|t| t["task"]["for"] = json!(["harbour-08"])),
        Refusal::Trust(_)
    ));
}
