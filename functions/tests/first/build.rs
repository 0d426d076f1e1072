//! Links the function as an image. `cfg(image)` tells such a build from one for
//! tests, in which there is no gate to misuse.
fn main() {
    println!("cargo::rustc-check-cfg=cfg(image)");
    println!("cargo::rerun-if-env-changed=DEP_FADES_SDK_TESTING");
    if std::env::var_os("DEP_FADES_SDK_TESTING").is_none() {
        println!("cargo::rustc-cfg=image");
    }
    fades_build::image();
}
