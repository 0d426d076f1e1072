//! What the build script of a function calls: one line, [`image`].
//!
//! ```text
//! // build.rs
//! fn main() {
//!     fades_build::image();
//! }
//! ```
//! It writes the linker script into the build folder and hands the linker the
//! arguments that turn a program into a function image: static, at a fixed
//! address, without the C library, with text, constants and data in segments
//! of their own. Building for tests links an ordinary program instead.
//!
//! With the feature `images` the crate also has what a host needs to make
//! images of such programs: [`image_from_elf`] and [`build_workspace`]; and what says
//! of what programs are made: [`Materials`].
//!
//! Start reading at [`image`]; the layout is in `image.ld`.

use std::path::Path;
use std::{env, fs, io};

#[cfg(feature = "images")]
mod cargo;
#[cfg(feature = "images")]
mod elf;
#[cfg(feature = "images")]
mod instructions;
#[cfg(feature = "images")]
mod materials;
#[cfg(feature = "images")]
mod symbols;

#[cfg(feature = "images")]
pub use cargo::{BuildError, Program, build_workspace};
#[cfg(feature = "images")]
pub use elf::{Built, ImageError, image_from_elf};
#[cfg(feature = "images")]
pub use instructions::Irreproducible;
#[cfg(feature = "images")]
pub use materials::Materials;
#[cfg(feature = "images")]
pub use symbols::Symbol;

/// Sections and segments of an image.
const SCRIPT: &str = include_str!("image.ld");

/// Arguments of the compiler driver that links an image, without the script.
const ARGUMENTS: [&str; 9] = [
    "-nostartfiles",
    "-nostdlib",
    "-static",
    "-no-pie",
    "-Wl,--nmagic",
    "-Wl,--build-id=none",
    "-Wl,--gc-sections",
    "-Wl,-z,max-page-size=4096",
    "-Wl,-z,noexecstack",
];

/// Set by cargo for packages that depend directly on `fades-sdk`, when that
/// was built with its feature `testing`.
const TESTING: &str = "DEP_FADES_SDK_TESTING";

/// Links the programs of this package as function images.
///
/// Does nothing when the build is for tests, which is when `fades-sdk` has its
/// feature `testing` (a development dependency turns it on).
///
/// # Panics
/// When it is called outside of a build script, or cannot write into the build
/// folder: a build script has nobody else to tell.
pub fn image() {
    tell_cargo("rerun-if-changed=build.rs");
    if env::var_os(TESTING).is_some() {
        return;
    }
    let folder = env::var_os("OUT_DIR").expect("fades_build::image is called by a build script");
    let script = write_script(Path::new(&folder)).expect("the build folder can be written");
    for argument in ARGUMENTS.into_iter().chain([script.as_str()]) {
        tell_cargo(&format!("rustc-link-arg-bins={argument}"));
    }
}

/// Writes the linker script and returns the argument that names it.
fn write_script(folder: &Path) -> io::Result<String> {
    let path = folder.join("fades-image.ld");
    fs::write(&path, SCRIPT)?;
    Ok(format!("-Wl,-T,{}", path.display()))
}

#[expect(clippy::print_stdout, reason = "cargo reads a build script's output")]
fn tell_cargo(instruction: &str) {
    println!("cargo::{instruction}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_lands_in_the_build_folder_and_is_named_to_the_linker() {
        let folder = tempfile::tempdir().unwrap();
        let argument = write_script(folder.path()).unwrap();
        let path = argument.strip_prefix("-Wl,-T,").unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), SCRIPT);
    }
}
