#![expect(unsafe_code, reason = "picks the level to test")]

use proptest::prelude::*;

use super::*;

/// What this machine can run, the portable level first.
fn levels() -> Vec<Simd> {
    let all = [
        (simd::SSE2, Simd::Sse2),
        (simd::AVX2, Simd::Avx2),
        (simd::AVX512, Simd::Avx512),
    ];
    let here = detect();
    all.into_iter()
        .filter(|l| l.0 <= here)
        .map(|l| l.1)
        .collect()
}

/// Values of very different size, so that another order of additions gives
/// another sum.
fn values(length: usize) -> Vec<f64> {
    let mut state = 1_u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state >> 33
    };
    (0..length)
        .map(|_| (next() as f64 - 1e9) * 10_f64.powi((next() % 30) as i32 - 15))
        .collect()
}

fn bits(m: Moments) -> [u64; 6] {
    let floats = [m.sum, m.min, m.max, m.mean, m.m2].map(f64::to_bits);
    let [a, b, c, d, e] = floats;
    [m.count, a, b, c, d, e]
}

#[test]
fn every_level_gives_the_same_bits_for_every_length() {
    for length in (0..70).chain([1000, 4095, 4096, 4097, 20_011]) {
        let (a, b) = (values(length), values(length + 3));
        let at = |level| {
            // SAFETY: `levels` are those of this machine.
            let sum = unsafe { sum_at(level, &a) };
            // SAFETY: as above.
            let min = unsafe { min_at(level, &a) };
            // SAFETY: as above.
            let max = unsafe { max_at(level, &a) };
            // SAFETY: as above.
            let dot = unsafe { dot_at(level, &a, &b) };
            // SAFETY: as above.
            let moments = unsafe { moments_at(level, &a) };
            ([sum, min, max, dot].map(f64::to_bits), bits(moments))
        };
        for level in levels() {
            assert_eq!(at(level), at(Simd::Sse2), "{level:?}, {length} values");
        }
    }
}

#[test]
fn lanes_are_added_in_the_documented_order() {
    let a = values(100);
    let mut lanes = [0.0; LANES];
    for (i, v) in a.iter().enumerate() {
        lanes[i % LANES] += v;
    }
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
    }
    assert_eq!(sum(&a).to_bits(), lanes[0].to_bits());
}

#[test]
fn products_are_rounded_before_they_are_added() {
    // 1 + 2^-30, squared: the last term of the product is lost when it is
    // rounded and kept by a fused multiply-add.
    let x = 1.0 + 2.0_f64.powi(-30);
    let (a, b) = ([x; 17], [x; 17]);
    let exact = (x * x) * 17.0;
    assert_eq!(dot(&a, &b), exact);
    let mut lanes = [0.0; 17];
    lanes[0] = -(x * x);
    lanes[16] = x;
    let mut other = [1.0; 17];
    other[16] = x;
    assert_eq!(dot(&lanes, &other), 0.0);
}

#[test]
fn nothing_reduces_to_neutral_values() {
    assert_eq!(sum(&[]), 0.0);
    assert_eq!((min(&[]), max(&[])), (f64::INFINITY, f64::NEG_INFINITY));
    assert_eq!(moments(&[]), Moments::default());
    assert_eq!(moments(&[]).variance(), None);
    assert_eq!(moments(&[3.0]).variance(), None);
}

#[test]
fn spread_survives_a_large_offset() {
    // Deviations -1, 0, 1 around 1e9: squares sum to 2 for each three values.
    let values: Vec<f64> = (0..9000).map(|i| 1e9 + f64::from(i % 3) - 1.0).collect();
    let m = moments(&values);
    assert_eq!((m.count, m.min, m.max), (9000, 1e9 - 1.0, 1e9 + 1.0));
    assert!((m.m2 - 6000.0).abs() < 1e-3, "{}", m.m2);
    assert_eq!(m.mean, 1e9);
}

proptest! {
    #[test]
    fn parts_merge_to_the_whole(a in prop::collection::vec(-1e6..1e6_f64, 0..300), cut in 0..300_usize) {
        let cut = cut.min(a.len());
        let mut parts = moments(&a[..cut]);
        parts.merge(&moments(&a[cut..]));
        let whole = moments(&a);
        prop_assert_eq!((parts.count, parts.min, parts.max), (whole.count, whole.min, whole.max));
        let close = |x: f64, y: f64| (x - y).abs() <= 1e-9 * (1.0 + x.abs() + y.abs());
        prop_assert!(close(parts.sum, whole.sum));
        prop_assert!(close(parts.mean, whole.mean));
        prop_assert!(close(parts.m2, whole.m2));
    }
}
