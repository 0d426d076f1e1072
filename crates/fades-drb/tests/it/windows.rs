//! Windows of a function that stays: one after the other, over one channel.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use fades_abi::batch::Batch;
use fades_task::message::{BrokerReport, BrokerRequest, Feed, Release, Span};
use fades_task::quantity::Size;
use fades_task::time::Time;
use fades_wire::{Channel, WireError};

use crate::broker::{Broker, bytes, content, dto, soon, sources};

const SECOND: i64 = 1_000_000_000;

/// A device with a reading a second, for a minute.
fn hall() -> (tempfile::TempDir, Broker) {
    let folder = tempfile::tempdir().unwrap();
    let rows: String = (0..60).map(|i| format!("{i},{i}\n")).collect();
    fs::write(folder.path().join("hall.csv"), format!("time,t\n{rows}")).unwrap();
    let sources = sources(
        "[source.hall]\ntype = \"csv\"\nfiles = \"hall.csv\"\n\
         time = { column = \"time\", format = \"unix-s\" }\ndevice = \"{file}\"\n\
         points = [{ column = \"t\", kind = \"temperature\" }]",
    );
    let broker = Broker::with_memory(&sources, folder.path(), 8 << 20, 2 << 20);
    (folder, broker)
}

/// Asks for ten seconds; window `id` of run 5.
fn ask(broker: &Broker, id: u64, kind: &str, end: &[BorrowedFd<'_>]) {
    let (from, to) = (id as i64 * 10 * SECOND, (id as i64 + 1) * 10 * SECOND);
    let (from, to) = (Time(from), Time(to));
    let mut dto = dto("rooms");
    dto.kind = vec![kind.to_owned()];
    (dto.from, dto.to) = (from, to);
    let request = BrokerRequest::Retrieve {
        of: Some(Span { id, from, to }),
        run: 5,
        dtos: vec![dto],
        window: Size(2 << 20),
        within: None,
        answers: Vec::new(),
    };
    broker.control.send(&request, &[], end).unwrap();
}

/// The rows of a window, and whether it came to its end; its batch is not given
/// back as yet.
fn window(channel: &Channel, id: u64) -> usize {
    let mut rows = 0;
    while let Some(frame) = channel.receive::<Feed>(soon()).unwrap() {
        match frame.message {
            Feed::Batch { dto: 0, length } => {
                let memory = content(&frame.descriptors[0], length);
                rows += Batch::open(bytes(&memory)).unwrap().rows();
            }
            Feed::WindowEnd {
                id: ended,
                from,
                to,
            } => {
                assert_eq!(ended, id);
                assert_eq!(to - from, 10 * SECOND);
                return rows;
            }
            other => panic!("{other:?}"),
        }
    }
    panic!("the channel has ended")
}

fn ended(broker: &Broker) -> (bool, bool) {
    match broker.report() {
        BrokerReport::RetrieveEnded {
            run: 5,
            failure,
            stopped,
            ..
        } => (failure.is_some(), stopped),
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_window_follows_the_other_over_the_same_channel() {
    let (_folder, broker) = hall();
    let (channel, theirs) = Channel::pair().unwrap();
    ask(&broker, 0, "temperature", &[theirs.as_fd()]);
    drop(theirs);
    for id in 0..6 {
        assert_eq!(window(&channel, id), 10);
        assert_eq!(ended(&broker), (false, false));
        if id < 5 {
            // The tender may give its batch back before that, or after.
            let give_back = || channel.send(&Release::Batch, &[], &[]).unwrap();
            if id % 2 == 0 {
                give_back();
            }
            ask(&broker, id + 1, "temperature", &[]);
            if id % 2 == 1 {
                give_back();
            }
        }
    }
    let briefly = Some(Instant::now() + Duration::from_millis(100));
    let more = channel.receive::<Feed>(briefly);
    assert!(matches!(more, Err(WireError::Deadline)), "{more:?}");
    assert!(broker.stop());
}

#[test]
fn a_window_that_fails_ends_the_channel_and_so_does_nobody_at_the_other_end() {
    let (_folder, broker) = hall();
    let (channel, theirs) = Channel::pair().unwrap();
    ask(&broker, 0, "temperature", &[theirs.as_fd()]);
    drop(theirs);
    assert_eq!(window(&channel, 0), 10);
    assert_eq!(ended(&broker), (false, false));
    ask(&broker, 1, "pressure", &[]);
    assert_eq!(ended(&broker), (true, false));
    assert!(channel.receive::<Feed>(soon()).unwrap().is_none());
    // There is nothing left that could go on.
    ask(&broker, 2, "temperature", &[]);
    assert_eq!(ended(&broker), (false, true));

    let (channel, theirs) = Channel::pair().unwrap();
    ask(&broker, 0, "temperature", &[theirs.as_fd()]);
    drop(theirs);
    assert_eq!(window(&channel, 0), 10);
    assert_eq!(ended(&broker), (false, false));
    drop(channel);
    ask(&broker, 1, "temperature", &[]);
    // Either it has seen that nobody is there, or it finds out.
    assert_eq!(ended(&broker), (false, true));
    assert!(broker.stop());
}
