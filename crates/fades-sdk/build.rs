//! Tells the build scripts of functions whether this is a build for tests.

#[expect(clippy::print_stdout, reason = "cargo reads a build script's output")]
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_TESTING").is_some() {
        println!("cargo::metadata=testing=1");
    }
}
