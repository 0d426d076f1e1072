//! Reductions that give the same bits on every host.
//!
//! A sum of floating-point numbers depends on the order of the additions, and
//! wider vectors mean another order. Here the order is fixed: row `i` goes to
//! lane `i % 16`, lanes are combined pairwise at the end, and products are
//! rounded before they are added (no fused multiply-add). SSE2 works on the
//! lanes two at a time, AVX2 four, AVX-512 eight, with equal results; which of
//! them runs is what the host has tested to work.
//!
//! Values must be finite, as those of batches are.
#![expect(
    unsafe_code,
    reason = "calls code for instructions that not every machine has"
)]

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use fades_abi::boot::simd;

/// Number of lanes, on every machine.
pub const LANES: usize = 16;

/// Rows over which a mean is taken before deviations from it are summed.
const BLOCK: usize = 4096;

/// Widest vectors that may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Simd {
    /// 128 bits: every x86-64.
    Sse2,
    /// 256 bits.
    Avx2,
    /// 512 bits.
    Avx512,
}

/// What the host has tested, one of [`mod@simd`].
static LEVEL: AtomicU32 = AtomicU32::new(simd::SSE2);

/// Says what the host has tested; levels from a later contract include those
/// that are known here.
pub(crate) fn set_level(level: u32) {
    LEVEL.store(level, Relaxed);
}

/// Widest vectors that may be used here.
#[must_use]
#[inline]
pub fn simd() -> Simd {
    match LEVEL.load(Relaxed) {
        simd::SSE2 => Simd::Sse2,
        simd::AVX2 => Simd::Avx2,
        _ => Simd::Avx512,
    }
}

/// Makes `$name` of `$kernel`, compiled once for each level.
///
/// All of it is `inline`, so that it is optimised as the function that uses it
/// and not as the SDK, which is built for size.
macro_rules! leveled {
    ($(#[$doc:meta])* $name:ident, $at:ident: $kernel:ident($($arg:ident: $type:ty),*) -> $out:ty) => {
        $(#[$doc])*
        #[must_use]
        #[inline]
        pub fn $name($($arg: $type),*) -> $out {
            // SAFETY: the host has tested what `simd` says.
            unsafe { $at(simd(), $($arg),*) }
        }

        /// # Safety
        /// The machine must have `level`.
        #[inline]
        unsafe fn $at(level: Simd, $($arg: $type),*) -> $out {
            #[target_feature(enable = "avx2")]
            #[inline]
            fn avx2($($arg: $type),*) -> $out {
                $kernel($($arg),*)
            }

            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
            #[inline]
            fn avx512($($arg: $type),*) -> $out {
                $kernel($($arg),*)
            }

            match level {
                Simd::Sse2 => $kernel($($arg),*),
                // SAFETY: the caller's.
                Simd::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: the caller's.
                Simd::Avx512 => unsafe { avx512($($arg),*) },
            }
        }
    };
}

leveled! {
    /// Sum; 0 of no values.
    sum, sum_at: sum_lanes(values: &[f64]) -> f64
}

leveled! {
    /// Smallest value; infinity of no values.
    min, min_at: min_lanes(values: &[f64]) -> f64
}

leveled! {
    /// Largest value; minus infinity of no values.
    max, max_at: max_lanes(values: &[f64]) -> f64
}

leveled! {
    /// Sum of the products of `a[i]` and `b[i]`, as far as both go.
    dot, dot_at: dot_lanes(a: &[f64], b: &[f64]) -> f64
}

leveled! {
    /// Count, sum, extremes, mean and spread in one go.
    moments, moments_at: moments_lanes(values: &[f64]) -> Moments
}

/// What describes values without keeping them; parts are merged by
/// [`merge`](Moments::merge).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moments {
    /// Number of values.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// The smallest; infinity of no values.
    pub min: f64,
    /// The largest; minus infinity of no values.
    pub max: f64,
    /// Their mean; 0 of no values.
    pub mean: f64,
    /// Sum of the squares of their deviations from the mean.
    pub m2: f64,
}

impl Default for Moments {
    fn default() -> Self {
        Self {
            count: 0,
            sum: 0.0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            mean: 0.0,
            m2: 0.0,
        }
    }
}

impl Moments {
    /// Adds the values that `other` describes.
    ///
    /// Chan, Golub, LeVeque: *Updating Formulae and a Pairwise Algorithm for
    /// Computing Sample Variances*, Stanford CS-TR-79-773, equations 2.1.
    #[inline]
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        let (a, b) = (self.count as f64, other.count as f64);
        let (total, delta) = (a + b, other.mean - self.mean);
        self.mean += delta * (b / total);
        self.m2 += other.m2 + delta * delta * (a * b / total);
        self.count += other.count;
        self.sum += other.sum;
        self.min = smaller(self.min, other.min);
        self.max = larger(self.max, other.max);
    }

    /// Sample variance (divided by the count less one); `None` below two
    /// values.
    #[must_use]
    #[inline]
    pub fn variance(&self) -> Option<f64> {
        (self.count > 1).then(|| self.m2 / (self.count - 1) as f64)
    }
}

/// Written out, because `f64::min` has rules for NaN that vectors do not.
#[inline(always)]
fn smaller(a: f64, b: f64) -> f64 {
    if b < a { b } else { a }
}

#[inline(always)]
fn larger(a: f64, b: f64) -> f64 {
    if b > a { b } else { a }
}

/// Folds each value into its lane, and the lanes pairwise.
#[inline(always)]
fn fold(values: &[f64], start: f64, step: impl Fn(f64, f64) -> f64) -> f64 {
    combine(into_lanes(values, start, &step), step)
}

#[inline(always)]
fn into_lanes(values: &[f64], start: f64, step: impl Fn(f64, f64) -> f64) -> [f64; LANES] {
    let mut lanes = [start; LANES];
    let (whole, rest) = values.as_chunks::<LANES>();
    for row in whole {
        for lane in 0..LANES {
            lanes[lane] = step(lanes[lane], row[lane]);
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        *lane = step(*lane, value);
    }
    lanes
}

#[inline(always)]
fn combine(mut lanes: [f64; LANES], with: impl Fn(f64, f64) -> f64) -> f64 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] = with(lanes[lane], lanes[lane + half]);
        }
        half /= 2;
    }
    lanes[0]
}

#[inline(always)]
fn sum_lanes(values: &[f64]) -> f64 {
    fold(values, 0.0, |sum, v| sum + v)
}

#[inline(always)]
fn min_lanes(values: &[f64]) -> f64 {
    fold(values, f64::INFINITY, smaller)
}

#[inline(always)]
fn max_lanes(values: &[f64]) -> f64 {
    fold(values, f64::NEG_INFINITY, larger)
}

#[inline(always)]
fn dot_lanes(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0.0; LANES];
    let length = a.len().min(b.len());
    let (a, a_rest) = a[..length].as_chunks::<LANES>();
    let (b, b_rest) = b[..length].as_chunks::<LANES>();
    for (x, y) in a.iter().zip(b) {
        for lane in 0..LANES {
            lanes[lane] += x[lane] * y[lane];
        }
    }
    for (lane, (x, y)) in lanes.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        *lane += x * y;
    }
    combine(lanes, |a, b| a + b)
}

/// Two passes over blocks that stay in the first-level cache: the second sums
/// squares of deviations from the block's own mean, which loses no digits.
#[inline(always)]
fn moments_lanes(values: &[f64]) -> Moments {
    let mut all = Moments::default();
    for block in values.chunks(BLOCK) {
        let count = block.len() as f64;
        let sum = sum_lanes(block);
        let mean = sum / count;
        let square = |sum: f64, v: f64| {
            let deviation = v - mean;
            sum + deviation * deviation
        };
        all.merge(&Moments {
            count: block.len() as u64,
            sum,
            min: min_lanes(block),
            max: max_lanes(block),
            mean,
            m2: combine(into_lanes(block, 0.0, square), |a, b| a + b),
        });
    }
    all
}

/// What this machine has, as a host would test it.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn detect() -> u32 {
    let has_512 = std::is_x86_feature_detected!("avx512f")
        && std::is_x86_feature_detected!("avx512bw")
        && std::is_x86_feature_detected!("avx512dq")
        && std::is_x86_feature_detected!("avx512vl");
    if has_512 {
        simd::AVX512
    } else if std::is_x86_feature_detected!("avx2") {
        simd::AVX2
    } else {
        simd::SSE2
    }
}

#[cfg(test)]
mod tests;
