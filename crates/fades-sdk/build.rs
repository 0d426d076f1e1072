//! Tells the build scripts of functions whether this is a build for tests.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_TESTING").is_some() {
        println!("cargo::metadata=testing=1");
    }
}
