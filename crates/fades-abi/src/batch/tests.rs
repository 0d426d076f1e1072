extern crate std;
use std::vec::Vec;

use super::{Batch, BatchError, Draft, Header, SeriesSpec, encoded_length, order};
use zerocopy::IntoBytes;

fn two_series() -> [SeriesSpec<'static>; 2] {
    let a = SeriesSpec {
        id: 7,
        device: "board-1",
        kind: "temperature",
        unit: "Cel",
        location: "hall/1",
        rows: 3,
        complete: true,
    };
    [
        a,
        SeriesSpec {
            id: 8,
            device: "board-2",
            rows: 1,
            complete: false,
            ..a
        },
    ]
}

fn written(marks: bool) -> Vec<u64> {
    let series = two_series();
    let mut memory = std::vec![0_u64; encoded_length(&series, marks).div_ceil(8)];
    let draft = Draft::new(memory.as_mut_bytes(), 1, 2, order::SERIES, &series, marks).unwrap();
    draft.time.copy_from_slice(&[1, 2, 3, 10]);
    draft.value.copy_from_slice(&[20.0, 20.5, 21.0, -3.0]);
    if let Some(mark) = draft.mark {
        mark[3] = 1;
    }
    memory
}

#[test]
fn what_was_written_is_read() {
    for marks in [false, true] {
        let memory = written(marks);
        let batch = Batch::open(memory.as_bytes()).unwrap();
        assert_eq!((batch.dto(), batch.sequence(), batch.rows()), (1, 2, 4));
        let series: Vec<_> = batch.series().collect();
        assert_eq!(series.len(), 2);
        assert_eq!(series[0].device, "board-1");
        assert_eq!(series[0].location, "hall/1");
        assert!(series[0].complete && !series[1].complete);
        assert_eq!(series[0].time, [1, 2, 3]);
        assert_eq!(series[1].value, [-3.0]);
        assert_eq!(series[1].mark, marks.then_some(&[1_u8][..]));
    }
}

#[test]
fn every_single_corrupted_header_word_is_refused_or_harmless() {
    let good = written(true);
    for word in 0..good.len().min(60) {
        for value in [0, 1, u64::MAX, u64::MAX / 2, 1 << 32, 0xffff_ffff, 8, 4096] {
            let mut bad = good.clone();
            bad[word] = value;
            if let Ok(batch) = Batch::open(bad.as_bytes()) {
                let rows: usize = batch.series().map(|s| s.time.len()).sum();
                assert_eq!(rows, batch.rows());
            }
        }
    }
}

#[test]
fn a_cut_or_shifted_batch_is_refused() {
    let good = written(false);
    let bytes = good.as_bytes();
    let used = encoded_length(&two_series(), false);
    for n in 0..used {
        assert!(Batch::open(&bytes[..n]).is_err(), "{n} bytes were accepted");
    }
    assert_eq!(Batch::open(&bytes[1..]).unwrap_err(), BatchError::Unaligned);
    assert_eq!(Batch::open(&[]).unwrap_err(), BatchError::Short);
}

#[test]
fn another_version_is_refused_by_name() {
    let mut bad = written(false);
    bad[1] = 2 | (bad[1] & !0xffff);
    assert_eq!(
        Batch::open(bad.as_bytes()).unwrap_err(),
        BatchError::Version(2)
    );
}

#[test]
fn too_little_room_says_how_much_is_needed() {
    let series = two_series();
    let mut memory = [0_u64; 16];
    let need = encoded_length(&series, false);
    let error = Draft::new(memory.as_mut_bytes(), 0, 0, 0, &series, false).unwrap_err();
    assert_eq!(error, BatchError::Full(need));
    assert!(need > size_of::<Header>());
}
