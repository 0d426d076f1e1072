//! Figures of FADES, each beside what it is compared with.

fn main() {}
