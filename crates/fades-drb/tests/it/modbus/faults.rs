//! Devices that answer wrongly: only they fail.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use fades_task::coverage::LossReason;

use super::{ONE, asked, now, resources, start, until};

/// What a unit does when it is asked; unit 1 always answers well.
#[derive(Clone, Copy)]
enum Fault {
    OtherUnit,
    OtherTransaction,
    Garbage,
    Short,
    Cut,
    Closed,
    Endless,
    Long,
    /// A good answer, when nobody waits for it any more.
    Late,
    /// An exception with this code.
    Exception(u8),
}

/// A server whose unit 2 has a fault.
fn serve(fault: Fault) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // It ends with the process; each connection when its peer's does.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || connection(stream, fault));
        }
    });
    format!("url = \"tcp://{address}\"\ntimeout = \"300ms\"")
}

fn connection(mut stream: TcpStream, fault: Fault) {
    let mut request = [0; 12];
    while stream.read_exact(&mut request).is_ok() {
        let good = [request[0], request[1], 0, 0, 0, 5, request[6], 3, 2, 0, 215];
        let mut answer = good;
        if request[6] != 2 {
            if stream.write_all(&good).is_err() {
                return;
            }
            continue;
        }
        let sent = match fault {
            Fault::OtherUnit => {
                answer[6] = 1;
                stream.write_all(&answer)
            }
            Fault::OtherTransaction => {
                answer[1] ^= 0x55;
                stream.write_all(&answer)
            }
            Fault::Garbage => stream.write_all(&[0xA5; 300]),
            Fault::Short => stream.write_all(&[request[0], request[1], 0, 0, 0, 3, 2, 3, 0]),
            Fault::Cut => {
                let _ = stream.write_all(&good[..9]);
                return;
            }
            Fault::Closed => return,
            Fault::Late => {
                std::thread::sleep(std::time::Duration::from_millis(500));
                stream.write_all(&good)
            }
            Fault::Long => {
                let head = [request[0], request[1], 0, 0, 0, 7, 2, 3, 4];
                stream.write_all(&[&head[..], &[0, 215, 0, 215]].concat())
            }
            Fault::Exception(code) => {
                stream.write_all(&[request[0], request[1], 0, 0, 0, 3, 2, 0x83, code])
            }
            Fault::Endless => {
                // The length says 64 KiB; what follows never ends.
                answer[4..6].copy_from_slice(&[0xFF, 0xFF]);
                let mut sent = stream.write_all(&answer);
                while sent.is_ok() {
                    sent = stream.write_all(&[3; 4096]);
                }
                sent
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

fn fails(fault: Fault, expected: &str) {
    let broker = start(&serve(fault), &[2, 1, 3], ONE);
    let (coverage, totals) = asked(&broker, now(), "10s");
    assert_eq!((coverage.answered, coverage.failed), (2, 1), "{coverage:?}");
    assert_eq!(coverage.absent[0].device, "meter-2");
    let reason = &coverage.absent[0].reason;
    assert!(reason.contains(expected), "{reason}");
    assert_eq!(totals.of("meter-3", "t").values, [21.5]);
    until(&broker, |c| {
        assert_eq!((c.answered, c.failed), (2, 1), "{c:?}");
        c.absent[0].reason.contains("asked again")
    });
}

#[test]
fn an_answer_of_another_unit_is_none() {
    fails(Fault::OtherUnit, "an answer of another unit");
}

#[test]
fn an_answer_to_another_question_is_none() {
    fails(Fault::OtherTransaction, "to another question");
}

#[test]
fn garbage_is_no_answer() {
    fails(Fault::Garbage, "no answer within");
}

#[test]
fn a_short_answer_is_none() {
    fails(Fault::Short, "a short answer: 0 of 1 values");
}

#[test]
fn a_connection_may_close_in_the_middle_of_an_answer() {
    fails(Fault::Cut, "the connection broke");
}

#[test]
fn a_connection_may_close_instead_of_an_answer() {
    fails(Fault::Closed, "the connection broke");
}

#[test]
fn an_endless_answer_is_none() {
    fails(Fault::Endless, "unit 2: ");
}

#[test]
fn a_long_answer_is_none() {
    fails(Fault::Long, "a long answer: 2 values instead of 1");
}

#[test]
fn an_answer_that_comes_too_late_is_not_taken_for_the_next_one() {
    fails(Fault::Late, "no answer within");
}

#[test]
fn a_device_that_closes_after_each_answer_is_asked_anew() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 12];
            if stream.read_exact(&mut request).is_ok() {
                let good = [request[0], request[1], 0, 0, 0, 5, request[6], 3, 2, 0, 215];
                let _ = stream.write_all(&good);
            }
        }
    });
    let broker = start(&format!("url = \"tcp://{address}\""), &[1, 2, 3], ONE);
    let (coverage, _) = asked(&broker, now(), "10s");
    assert_eq!((coverage.answered, coverage.failed), (3, 0), "{coverage:?}");
}

#[test]
fn exceptions_about_the_unit_are_failures_of_the_unit() {
    // Acknowledge, busy, no path to it, no answer from it.
    for code in [5, 6, 10, 11] {
        fails(Fault::Exception(code), "the unit answers: ");
    }
}

#[test]
fn exceptions_about_registers_cost_these_and_the_unit_is_well() {
    for code in [1, 2, 3, 4, 8] {
        let broker = start(&serve(Fault::Exception(code)), &[2, 1, 3], ONE);
        for _ in 0..4 {
            let (coverage, _) = asked(&broker, now(), "10s");
            assert_eq!((coverage.answered, coverage.failed), (2, 1));
            assert_eq!(coverage.lost, [(LossReason::Refused, 1)].into());
            let reason = &coverage.absent[0].reason;
            assert!(reason.contains("unit 2: holding 0: "), "{reason}");
        }
        let state = |device: &str| {
            let found = resources(&broker);
            found.into_iter().find(|d| d.0 == device).unwrap().1
        };
        assert_ne!(state("meter-2"), "broken", "{code}");
    }
}
