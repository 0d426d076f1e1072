//! Vectors: what a function is told works, and computes the same everywhere.

use fades_abi::boot::simd;
use fades_task::limits::Isolation;

use crate::on_every_isolation;
use crate::tending::Deed;

on_every_isolation! {
    a_function_really_uses_the_vectors_it_is_told_of,
    a_lower_level_than_the_host_offers_is_respected,
}

/// Each level adds the same powers of two, in all of its lanes.
fn assert_vectors(deed: Deed) -> u64 {
    let mut told = Deed::new(deed.start.isolation, "boot-info");
    told.start.start.simd = deed.start.start.simd;
    let level = told.run().answer()["simd"].as_u64().unwrap();
    let outcome = deed.run();
    let lanes = match level as u32 {
        simd::AVX512 => 8.0,
        simd::AVX2 => 4.0,
        _ => 2.0,
    };
    let sum = outcome.answer()["vectors"].as_f64().unwrap();
    assert_eq!(sum, lanes, "level {level}");
    assert_eq!(u64::from(outcome.ready.unwrap().1), level);
    level
}

fn a_function_really_uses_the_vectors_it_is_told_of(on: Isolation) {
    let level = assert_vectors(Deed::new(on, "vectors"));
    // Every processor that an emulated machine has here, and nearly every one
    // that runs this, has AVX2; then a function must be told so.
    if is_x86_feature_detected!("avx2") {
        assert!(level >= u64::from(simd::AVX2), "level {level}");
    }
}

fn a_lower_level_than_the_host_offers_is_respected(on: Isolation) {
    for level in [simd::SSE2, simd::AVX2] {
        let mut deed = Deed::new(on, "vectors");
        deed.start.start.simd = level;
        assert!(assert_vectors(deed) <= u64::from(level));
    }
}
