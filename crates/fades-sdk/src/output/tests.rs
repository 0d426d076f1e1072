use fades_abi::batch::Batch;

use super::*;
use crate::cbor::decode;

fn name(kind: &'static str) -> SeriesName<'static> {
    SeriesName {
        device: "d",
        kind,
        unit: "Cel",
        location: "hall",
    }
}

/// A window as a host maps it, with the bytes of an earlier answer.
fn window(words: usize) -> &'static mut [u8] {
    use zerocopy::IntoBytes;
    vec![u64::MAX; words].leak().as_mut_bytes()
}

#[test]
fn values_and_readings_lie_where_the_contract_says() {
    let mut output = Output::default();
    output.set("a", 1);
    output.set("a", 2);
    output.push("rows", Map::new().with("x", 1));
    output.push("rows", Map::new().with("x", 2));
    output
        .series(name("t"), vec![1, 2], vec![0.5, 1.5])
        .unwrap();
    output.series(name("u"), vec![3], vec![-1.0]).unwrap();
    let window = window(200);
    let written = output.write(window).unwrap();
    let values = decode(&window[..written.values]).unwrap();
    assert_eq!(values["a"], 2);
    assert_eq!(values["rows"][1]["x"], 2);
    assert_eq!(written.readings % 64, 0);
    let batch = &window[written.readings..][..written.readings_length];
    let batch = Batch::open(batch).unwrap();
    let series: Vec<_> = batch.series().collect();
    assert_eq!(
        (series[0].id, series[0].kind, series[0].unit),
        (0, "t", "Cel")
    );
    assert_eq!(
        (series[0].time, series[0].value),
        (&[1, 2][..], &[0.5, 1.5][..])
    );
    assert_eq!((series[1].id, series[1].value), (1, &[-1.0][..]));
    assert!(series.iter().all(|s| s.complete && s.mark.is_none()));
    assert!(output.is_empty(), "the next answer begins anew");
}

#[test]
fn an_answer_without_readings_has_none() {
    let mut output = Output::default();
    let window = window(1);
    let written = output.write(window).unwrap();
    assert_eq!(
        (written.values, written.readings, written.readings_length),
        (1, 0, 0)
    );
    assert_eq!(window[0], 0xa0);
}

#[test]
fn a_window_that_is_too_small_says_how_much_the_whole_answer_needs() {
    let answer = || {
        let mut output = Output::default();
        output.set("text", "long enough to matter");
        output
            .series(name("t"), vec![1, 2], vec![0.5, 1.5])
            .unwrap();
        output
    };
    let written = answer().write(window(200)).unwrap();
    let needed = written.readings + written.readings_length;
    for length in 0..needed {
        let window = &mut window(200)[..length];
        assert_eq!(answer().write(window), Err(Full { needed }), "{length}");
    }
    assert_eq!(answer().write(&mut window(200)[..needed]), Ok(written));
}

#[test]
fn readings_that_no_batch_may_have_are_refused() {
    let mut output = Output::default();
    let mut text = |time: Vec<i64>, value: Vec<f64>| {
        let refused = output.series(name("t"), time, value).unwrap_err();
        assert!(
            refused.text().contains("tests.rs:"),
            "the place is the caller's"
        );
        refused.text().to_owned()
    };
    assert!(text(vec![2, 1], vec![0.0, 0.0]).contains("do not ascend"));
    assert!(text(vec![1], vec![0.0, 0.0]).contains("one time for each value"));
    assert!(text(vec![1], vec![f64::NAN]).contains("not a finite number"));
    assert!(output.is_empty());
}
