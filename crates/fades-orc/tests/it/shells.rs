//! Templates and shells as whoever has no node uses them.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use fades_orc::shell::{MAKE_WITHIN, Shell, ShellError, Template};
use fades_task::cbor;
use fades_task::exit::Exit;
use fades_task::limits::{Isolation, Limits};
use fades_task::message::{Feed, Refused, Start, TemplateRequest, TenderReport};
use fades_task::quantity::Size;
use fades_task::shell::Class;
use fades_wire::{Channel, Frame};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::PATIENCE;
use crate::site::{IMAGE, stand_in};

const WINDOW: Size = Size(4 << 20);

/// A folder with a stand-in that behaves as told.
fn tender(how: &Value) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("tender");
    std::os::unix::fs::symlink(stand_in(), &program).unwrap();
    std::fs::write(folder.path().join("tender.json"), how.to_string()).unwrap();
    (folder, program)
}

fn request() -> TemplateRequest {
    TemplateRequest {
        isolation: Isolation::Microvm,
        limits: Limits::default(),
        context: Size(64 << 10),
    }
}

fn class() -> Class {
    Class {
        bulk: false,
        heap: Class::HEAPS[1],
        window: WINDOW,
    }
}

fn start() -> Start {
    Start {
        template: 7,
        simd: 0,
        limits: Limits::default(),
        resident: None,
        zone: "Europe/London".to_owned(),
        offsets: Vec::new(),
        dtos: Vec::new(),
    }
}

fn hear(shell: &Shell) -> Frame<TenderReport> {
    let deadline = Some(Instant::now() + PATIENCE);
    shell.control().receive(deadline).unwrap().unwrap()
}

/// Runs something to its end, and gives the answer.
fn run(shell: &Shell, template: &Template) -> Value {
    let (here, there) = Channel::pair().unwrap();
    let params = cbor::encode(&json!({ "lines": 0 }));
    shell.start(&start(), &params, &there, template).unwrap();
    here.send(&Feed::Finish, &[], &[]).unwrap();
    let ready = hear(shell).message;
    assert!(matches!(ready, TenderReport::Ready { .. }), "{ready:?}");
    let frame = hear(shell);
    let TenderReport::Ended(ended) = frame.message else {
        panic!("{:?}", frame.message);
    };
    assert_eq!(ended.exit, Exit::Done);
    cbor::decode(&frame.blob).unwrap()
}

#[test]
fn a_shell_runs_one_template_after_the_other() {
    let (_folder, program) = tender(&json!({}));
    let template = |number| {
        let made = Template::make(&program, IMAGE, Some("1000 20 main"), &request(), number);
        made.unwrap()
    };
    let (first, second) = (template(7), template(8));
    assert_eq!((first.number(), second.number()), (7, 8));
    assert_eq!(first.needs().heap, Limits::default().memory);
    assert!(first.bytes() >= IMAGE.len() as u64);
    let class = first.class(WINDOW).unwrap();
    let shell = Shell::make(&program, Isolation::Microvm, class, 2).unwrap();
    assert_eq!(
        (shell.isolation(), shell.class()),
        (Isolation::Microvm, class)
    );
    assert_eq!((shell.simd(), shell.made_us()), (2, 1));
    for template in [&first, &second, &first] {
        assert_eq!(run(&shell, template)["image"], IMAGE.len());
        let clean = hear(&shell).message;
        assert!(matches!(clean, TenderReport::Clean { .. }), "{clean:?}");
    }
    let pid = shell.child().id();
    assert!(shell.end(String::new()).starts_with("exit status: 0"));
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn what_a_tender_refuses_is_told_from_what_it_fails_at() {
    let make = |how: Value| {
        let (_folder, program) = tender(&how);
        Shell::make(&program, Isolation::Microvm, class(), 0).unwrap_err()
    };
    let refused = make(json!({ "microvms": 0 }));
    let isolation = matches!(&refused, ShellError::Refused(Refused::Isolation { .. }));
    assert!(isolation && refused.to_string().contains("/dev/kvm is gone"));
    let died = make(json!({ "shells": 0 }));
    assert!(
        matches!(&died, ShellError::Died { how } if how == "exit status: 1"),
        "{died:?}"
    );
    let (_folder, program) = tender(&json!({ "unsealed": true }));
    let open = Template::make(&program, IMAGE, None, &request(), 1).unwrap_err();
    assert!(matches!(open, ShellError::Unsealed), "{open:?}");
    let missing = Shell::make(&program.join("nothing"), Isolation::Microvm, class(), 0);
    assert!(matches!(missing, Err(ShellError::System(_))), "{missing:?}");
}

#[test]
fn a_tender_that_does_not_become_a_shell_is_given_up() {
    let (_folder, program) = tender(&json!({ "mute": true }));
    let begun = Instant::now();
    let late = Shell::make(&program, Isolation::Microvm, class(), 0);
    assert!(matches!(late, Err(ShellError::TooLate { .. })), "{late:?}");
    assert!(begun.elapsed() < MAKE_WITHIN + Duration::from_secs(5));
}

#[test]
fn more_than_any_shell_has_room_for_is_refused_by_name() {
    let (_folder, program) = tender(&json!({}));
    let template = Template::make(&program, IMAGE, None, &request(), 1).unwrap();
    let refused = template.class(Size(u64::MAX)).unwrap_err().to_string();
    assert!(refused.contains("the longest batch 8GiB"), "{refused}");
}

#[test]
fn a_shell_that_is_gone_takes_no_run() {
    let (_folder, program) = tender(&json!({}));
    let template = Template::make(&program, IMAGE, None, &request(), 1).unwrap();
    let shell = Shell::make(&program, Isolation::Process, class(), 0).unwrap();
    shell.child().kill();
    let deadline = Some(Instant::now() + PATIENCE);
    assert!(
        shell
            .control()
            .receive::<TenderReport>(deadline)
            .unwrap()
            .is_none()
    );
    let (_here, there) = Channel::pair().unwrap();
    assert!(shell.start(&start(), &[], &there, &template).is_err());
    assert!(shell.end("gone".to_owned()).contains("SIGKILL"));
}
