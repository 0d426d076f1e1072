//! The self-test tells the truth about this host.

use std::process::Command;

use fades_task::limits::Isolation;
use fades_tender::probe::Probe;

fn probe() -> Probe {
    let output = Command::new(crate::tending::tender())
        .arg("--probe")
        .output()
        .unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn processes_work_here() {
    let probe = probe();
    let offer = probe.offer(Isolation::Process).unwrap();
    assert!(offer.works, "{}", offer.detail);
    assert!(offer.detail.contains("seccomp"), "{}", offer.detail);
}

#[test]
fn microvm_works_where_kvm_is_there() {
    if !crate::has_kvm("microvm_works_where_kvm_is_there") {
        return;
    }
    let probe = probe();
    let offer = probe.offer(Isolation::Microvm).unwrap();
    assert!(offer.works, "{}", offer.detail);
    // In the emulated machine it must be the kind of KVM that is to be tried
    // there, set up as that kind wants it.
    if let Ok(kind) = std::env::var("FADES_EMULATED") {
        assert!(offer.detail.starts_with(&kind), "{}", offer.detail);
        assert!(
            offer.detail.contains("OSXSAVE set, XCR0 0x7"),
            "{}",
            offer.detail
        );
    }
}

#[test]
fn a_tender_that_nobody_feeds_says_how_it_is_started() {
    let output = Command::new(crate::tending::tender()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("descriptor 3"), "{said}");
}
