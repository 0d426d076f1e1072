//! Shells: one tender that runs one function after the other, and one that
//! rests in between.

use std::fs::File;
use std::time::{Duration, Instant};

use fades_task::exit::{Clock, Exit};
use fades_task::limits::Isolation;
use fades_task::message::{Ended, Feed, Refused, Release, Resident, TenderReport, TenderRequest};
use fades_task::quantity::{Duration as Span, Size};
use fades_task::shell::Class;
use fades_wire::Channel;
use serde_json::{Value, json};

use crate::images::image;
use crate::on_every_isolation;
use crate::tending::{Run, Shell, Template, batch, soon, spawn, start};

on_every_isolation! {
    a_template_for_another_isolation_or_none_at_all_is_refused,
    a_function_at_rest_uses_up_no_time_and_a_busy_one_does,
}

fn template(run: &Run, name: &str) -> Template {
    Template::make(&File::open(image(name)).unwrap(), run).unwrap()
}

fn shell(run: &Run, template: &Template) -> Shell {
    let class = Class::fitting(template.needs, Size(run.window)).unwrap();
    Shell::make(run.isolation, class, run.start.simd)
}

/// Reports until the last one about the run.
fn ended(shell: &Shell) -> (Ended, Vec<u8>) {
    loop {
        let frame = shell.control.receive::<TenderReport>(soon()).unwrap();
        let frame = frame.expect("the tender is gone");
        match frame.message {
            TenderReport::Ended(ended) => return (*ended, frame.blob),
            TenderReport::Ready { .. } | TenderReport::Log { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

/// The number of the window for which a function has answered.
fn answered_window(shell: &Shell) -> u64 {
    loop {
        let frame = shell.control.receive::<TenderReport>(soon()).unwrap();
        match frame.expect("the tender is gone").message {
            TenderReport::Window { id, .. } => return id,
            TenderReport::Ready { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Feeds one batch and hears the answer.
fn answered(shell: &Shell, data: &Channel) -> Value {
    let file = batch(0, &[1.0, 2.0]);
    let feed = Feed::Batch {
        dto: 0,
        length: 2 << 20,
    };
    data.send(&feed, &[], &[std::os::fd::AsFd::as_fd(&file)])
        .unwrap();
    data.send(&Feed::Finish, &[], &[]).unwrap();
    let (ended, blob) = ended(shell);
    assert_eq!(ended.exit, Exit::Done);
    fades_task::cbor::decode(&blob).unwrap()
}

fn open_descriptors(shell: &Shell) -> usize {
    let folder = format!("/proc/{}/fd", shell.child.id());
    std::fs::read_dir(folder).unwrap().count()
}

fn resident_kilobytes(shell: &Shell) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", shell.child.id())).unwrap();
    let line = text.lines().find(|l| l.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_shell_runs_different_functions_as_if_it_were_new() {
    let test = "a_shell_runs_different_functions_as_if_it_were_new";
    if !crate::has_kvm(test) {
        return;
    }
    let mut run = start(Isolation::Microvm);
    let (hello, misbehave) = (template(&run, "hello"), template(&run, "misbehave"));
    let shell = shell(&run, &misbehave);
    let mut before = None;
    for round in 0..60_u64 {
        let dirty = json!({ "do": "dirty-memory" });
        let (number, template, params) = match round % 3 {
            0 => (1, &hello, json!({})),
            // The same one twice.
            _ => (2, &misbehave, dirty),
        };
        run.start.template = number;
        let params = fades_task::cbor::encode(&params);
        let data = shell.start(template, &run.start, &params);
        let answer = answered(&shell, &data);
        match number {
            1 => assert_eq!(answer["rows"], 2),
            _ => assert_eq!(answer["dirty"], 0, "round {round}"),
        }
        shell.wait_until_clean();
        // The broker hears of the end by that of its channel.
        while data.receive::<Release>(soon()).unwrap().is_some() {}
        if round == 9 {
            before = Some((open_descriptors(&shell), resident_kilobytes(&shell)));
        }
    }
    let (descriptors, kilobytes) = before.unwrap();
    assert_eq!(open_descriptors(&shell), descriptors);
    let now = resident_kilobytes(&shell);
    assert!(now <= kilobytes + 64, "{kilobytes} kB became {now} kB");
}

#[test]
fn a_shell_in_which_a_function_ended_badly_ends() {
    let test = "a_shell_in_which_a_function_ended_badly_ends";
    for on in crate::all_isolations(test) {
        for deed in ["ud2", "abort", "panic", "gate-unknown"] {
            let run = start(on);
            let misbehave = template(&run, "misbehave");
            let mut shell = shell(&run, &misbehave);
            let params = fades_task::cbor::encode(&json!({ "do": deed }));
            let _data = shell.start(&misbehave, &run.start, &params);
            let (ended, _) = ended(&shell);
            assert_ne!(ended.exit, Exit::Done);
            assert!(
                shell
                    .control
                    .receive::<TenderReport>(soon())
                    .unwrap()
                    .is_none()
            );
            shell.ends_well();
        }
    }
}

#[test]
fn a_process_is_used_once() {
    let run = start(Isolation::Process);
    let hello = template(&run, "hello");
    let mut shell = shell(&run, &hello);
    let data = shell.start(&hello, &run.start, &[0xa0]);
    assert_eq!(answered(&shell, &data)["rows"], 2);
    shell.ends_well();
}

fn a_template_for_another_isolation_or_none_at_all_is_refused(on: Isolation) {
    let run = start(on);
    let other = match on {
        Isolation::Microvm => Isolation::Process,
        Isolation::Process => Isolation::Microvm,
    };
    let good = template(&run, "hello");
    let wrong = template(&start(other), "hello");
    let none = Template {
        file: File::open(image("hello")).unwrap().into(),
        needs: good.needs,
    };
    for template in [wrong, none] {
        let mut shell = shell(&run, &good);
        let _data = shell.start(&template, &run.start, &[0xa0]);
        let frame = shell.control.receive::<TenderReport>(soon()).unwrap();
        let refused = frame.unwrap().message;
        assert!(
            matches!(refused, TenderReport::Refused(Refused::Isolation { .. })),
            "{refused:?}"
        );
        shell.ends_well();
    }
}

#[test]
fn a_run_without_a_shell_is_no_request() {
    let (mut child, control) = spawn();
    let run = start(Isolation::Process);
    let request = TenderRequest::Start(Box::new(run.start));
    control.send(&request, &[], &[]).unwrap();
    let status = child.wait(soon()).unwrap().unwrap();
    assert_eq!(status.code(), Some(2));
}

fn a_function_at_rest_uses_up_no_time_and_a_busy_one_does(on: Isolation) {
    let limit = Duration::from_millis(60);
    let mut run = start(on);
    run.start.resident = Some(Resident::default());
    run.start.limits.time = Span(limit.as_nanos() as u64);
    let misbehave = template(&run, "misbehave");
    let rested = |deed: &str| {
        let shell = shell(&run, &misbehave);
        let params = fades_task::cbor::encode(&json!({ "do": deed }));
        let data = shell.start(&misbehave, &run.start, &params);
        for id in 0..3 {
            // Longer than the limit, which is what this test is about.
            let until = Instant::now() + 2 * limit;
            std::thread::sleep(until - Instant::now());
            let window = Feed::WindowEnd { id, from: 0, to: 1 };
            data.send(&window, &[], &[]).unwrap();
            assert_eq!(answered_window(&shell), id);
        }
        (shell, data)
    };
    let (shell, data) = rested("nothing");
    assert_eq!(answered(&shell, &data)["rows"], 2);
    let (shell, data) = rested("loop-with-input");
    let file = batch(0, &[1.0]);
    let feed = Feed::Batch {
        dto: 0,
        length: 2 << 20,
    };
    data.send(&feed, &[], &[std::os::fd::AsFd::as_fd(&file)])
        .unwrap();
    let (ended, _) = ended(&shell);
    let exit = ended.exit;
    assert!(
        matches!(
            exit,
            Exit::Deadline {
                clock: Clock::Time,
                ..
            }
        ),
        "{exit}"
    );
}
