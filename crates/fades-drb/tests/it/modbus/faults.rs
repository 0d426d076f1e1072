//! Devices that answer wrongly: only they fail.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use super::{ONE, asked, now, start, until};

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
