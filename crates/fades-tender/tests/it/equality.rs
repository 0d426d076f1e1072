//! The ready-made functions answer the same to the bit with all vectors that
//! this host has, and on all isolations.
//!
//! Their readings have digits down to the last bit, so that another order of
//! additions, or a product that is not rounded before it is added, shows.

use std::os::fd::OwnedFd;

use fades_abi::batch::{Draft, SeriesSpec, encoded_length, order};
use fades_abi::boot::simd;
use fades_task::exit::Exit;
use fades_task::message::Feed;
use fades_task::quantity::Size;
use serde_json::{Value, json};

use crate::images::image;
use crate::tending::{Tending, read_only, start};

/// Readings of a long series, one a minute: two weeks.
const LONG: usize = 14 * 24 * 60;

/// Series whose sums are so short that the last bit of each square shows.
const SHORT: usize = 60;

/// Readings of one series in one batch.
struct Piece {
    device: String,
    kind: &'static str,
    rows: std::ops::Range<usize>,
    complete: bool,
}

fn piece(
    device: impl ToString,
    kind: &'static str,
    rows: std::ops::Range<usize>,
    complete: bool,
) -> Piece {
    let device = device.to_string();
    Piece {
        device,
        kind,
        rows,
        complete,
    }
}

impl Piece {
    fn spec(&self) -> SeriesSpec<'_> {
        SeriesSpec {
            id: self.device.parse().unwrap(),
            device: &self.device,
            kind: self.kind,
            unit: "ug/m3",
            location: "harbour",
            rows: self.rows.len() as u64,
            complete: self.complete,
        }
    }
}

/// Long series whole and in two pieces, and short ones.
fn batches() -> [Vec<Piece>; 2] {
    let part = LONG / 3;
    let first = vec![
        piece(1000, "pm10", 0..LONG, true),
        piece(1001, "pm2.5", 0..part, false),
    ];
    let mut second = vec![
        piece(1001, "pm2.5", part..LONG, true),
        piece(1002, "pm2.5", 0..LONG, true),
    ];
    second.extend((0..SHORT).map(|n| piece(2000 + n, "pm10", 0..20 + n, true)));
    [first, second]
}

/// A reading between 0 and 60 ug/m3, with all 53 bits of a number in use.
fn reading(device: &str, at: usize) -> f64 {
    let mut bits = (at as u64) << 16 | device.parse::<u64>().unwrap();
    for _ in 0..3 {
        bits = (bits ^ bits >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    }
    let slow = (at as f64 / 700.0).sin() + 1.0;
    ((bits >> 11) as f64 / (1_u64 << 53) as f64 + slow) * 20.0
}

fn batch(sequence: u32, pieces: &[Piece]) -> OwnedFd {
    let series: Vec<_> = pieces.iter().map(Piece::spec).collect();
    let mut words = vec![0_u64; encoded_length(&series, false).div_ceil(8)];
    let bytes = zerocopy::IntoBytes::as_mut_bytes(words.as_mut_slice());
    let draft = Draft::new(bytes, 0, sequence, order::SERIES, &series, false).unwrap();
    let rows = pieces.iter().flat_map(|piece| {
        let rows = piece.rows.clone();
        rows.map(|at| (at, reading(&piece.device, at)))
    });
    for (i, (at, value)) in rows.enumerate() {
        draft.time[i] = (1_700_000_000 + 60 * at as i64) * 1_000_000_000;
        draft.value[i] = value;
    }
    let length = (bytes.len() as u64).next_multiple_of(2 << 20);
    read_only(bytes, length)
}

/// Levels that this processor has.
fn levels() -> Vec<u32> {
    let mut levels = vec![simd::SSE2];
    levels.extend(is_x86_feature_detected!("avx2").then_some(simd::AVX2));
    levels.extend(is_x86_feature_detected!("avx512f").then_some(simd::AVX512));
    levels
}

fn answers_the_same_everywhere(test: &str, function: &str, params: &Value) {
    let mut first: Option<(Vec<u8>, Vec<u8>)> = None;
    for isolation in crate::all_isolations(test) {
        for level in levels() {
            let mut run = start(isolation);
            run.start.simd = level;
            run.start.limits.output = Size(1 << 20);
            let tending = Tending::begin(&image(function), &run, params);
            for (sequence, pieces) in (0..).zip(batches()) {
                tending.feed_batch(&batch(sequence, &pieces));
            }
            tending.feed(&Feed::End { dto: 0 });
            tending.feed(&Feed::Finish);
            let outcome = tending.outcome();
            assert_eq!(outcome.ended().exit, Exit::Done);
            // What is compared really ran here, and with these vectors; not
            // every KVM lets a guest use the widest.
            let (on, with, _) = outcome.ready.unwrap();
            assert_eq!(on, isolation);
            assert!(
                with == level || level == simd::AVX512,
                "{with}, not {level}"
            );
            let answer = (outcome.values, outcome.readings);
            let expected = first.get_or_insert_with(|| answer.clone());
            assert!(
                *expected == answer,
                "{function} answers differently with level {level} on {isolation:?}"
            );
        }
    }
}

#[test]
fn summary_answers_the_same_with_all_vectors_and_isolations() {
    let name = "summary_answers_the_same_with_all_vectors_and_isolations";
    for by in ["device", "kind"] {
        answers_the_same_everywhere(name, "summary", &json!({ "by": by }));
    }
}

#[test]
fn downsample_answers_the_same_with_all_vectors_and_isolations() {
    let name = "downsample_answers_the_same_with_all_vectors_and_isolations";
    let aggregates = ["mean", "min", "max", "last"];
    let params = json!({ "every": "1h", "aggregates": aggregates });
    answers_the_same_everywhere(name, "downsample", &params);
}

#[test]
fn air_quality_answers_the_same_with_all_vectors_and_isolations() {
    let name = "air_quality_answers_the_same_with_all_vectors_and_isolations";
    answers_the_same_everywhere(name, "air-quality", &json!({}));
}

/// Otherwise the tests above could not see what they are there to see.
#[test]
fn the_readings_show_another_order_and_a_fused_product() {
    let long: Vec<f64> = (0..LONG).map(|at| reading("1000", at)).collect();
    let forwards: f64 = long.iter().sum();
    let backwards: f64 = long.iter().rev().sum();
    assert_ne!(forwards, backwards);
    let shown = (2000..2000 + SHORT).filter(|device| {
        let rows = 0..device - 1980;
        let values = rows.map(|at| reading(&device.to_string(), at));
        let mean = values.clone().sum::<f64>() / (device - 1980) as f64;
        let deviations = values.map(|value| value - mean);
        let rounded = deviations.clone().fold(0.0, |sum, d| sum + d * d);
        let fused = deviations.fold(0.0_f64, |sum, d| d.mul_add(d, sum));
        rounded.sqrt() != fused.sqrt()
    });
    let shown = shown.count();
    assert!(shown > SHORT / 10, "{shown} of {SHORT}");
}
