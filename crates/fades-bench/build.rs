//! Builds `spawned/main.rs`, which a cargo target cannot be: it has no standard
//! library, and panics of this workspace unwind.

use std::path::PathBuf;
use std::process::Command;

const SOURCE: &str = "spawned/main.rs";

fn main() {
    println!("cargo::rerun-if-changed={SOURCE}");
    let set = |name| std::env::var_os(name).unwrap_or_default();
    let program = PathBuf::from(set("OUT_DIR")).join("spawned");
    let mut compile = Command::new(set("RUSTC"));
    compile.args(["--edition=2024", "--crate-name=spawned", "-Copt-level=3"]);
    compile.args(["-Cpanic=abort", "-Crelocation-model=static"]);
    for argument in ["-nostartfiles", "-nostdlib", "-static", "-no-pie"] {
        compile.arg(format!("-Clink-arg={argument}"));
    }
    compile.arg("--target").arg(set("TARGET"));
    compile.arg("-o").arg(&program).arg(SOURCE);
    let built = compile.status().is_ok_and(|status| status.success());
    assert!(built, "{SOURCE} could not be compiled by {compile:?}");
    println!("cargo::rustc-env=FADES_BENCH_SPAWNED={}", program.display());
}
