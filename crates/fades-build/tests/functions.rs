//! Builds the ready-made functions as a host would.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use fades_build::{BuildError, Program, build_workspace};

fn functions() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../functions")
}

/// Builds the workspace of functions in `folder`.
fn build(folder: &Path) -> BTreeMap<String, Program> {
    let out = tempfile::tempdir().unwrap();
    let built = build_workspace(folder, out.path()).unwrap();
    for program in &built {
        assert_eq!(fs::read(&program.image).unwrap(), program.built.image);
        assert_eq!(
            fs::read_to_string(&program.symbols).unwrap(),
            program.built.symbol_file()
        );
    }
    built
        .into_iter()
        .map(|p| (p.built.name.clone(), p))
        .collect()
}

#[test]
fn ready_made_functions_are_small_and_reproducible() {
    let built = build(&functions());
    for (name, largest) in [
        ("hello", 16 * 1024),
        ("summary", 64 * 1024),
        ("air-quality", 64 * 1024),
        ("downsample", 80 * 1024),
    ] {
        let program = &built[name].built;
        let size = program.image.len();
        assert!(size <= largest, "{name} has {size} bytes");
        assert_eq!(program.warnings, [], "{name}");
        let text = String::from_utf8_lossy(&program.image);
        assert!(
            !text.contains(env!("CARGO_MANIFEST_DIR")),
            "{name} names a folder"
        );
        assert!(
            program
                .symbols
                .iter()
                .any(|s| s.name == "_start" && s.size > 0)
        );
    }
}

/// A benchmark takes the time until this instruction for the time until the
/// function runs.
#[test]
fn the_first_instruction_of_first_reads_the_time() {
    let built = &build(&functions())["first"].built;
    let start = built.symbols.iter().find(|s| s.name == "_start").unwrap();
    let [warning] = &built.warnings[..] else {
        panic!("{:?}", built.warnings);
    };
    assert_eq!(
        (warning.instruction, warning.address),
        ("rdtsc", start.address)
    );
}

#[test]
fn a_folder_without_a_function_says_so() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("src")).unwrap();
    fs::write(folder.path().join("src/lib.rs"), "").unwrap();
    let manifest = "[package]\nname = \"empty\"\nedition = \"2024\"\n[workspace]\n";
    fs::write(folder.path().join("Cargo.toml"), manifest).unwrap();
    let error = build_workspace(folder.path(), folder.path()).unwrap_err();
    assert!(matches!(error, BuildError::Nothing { .. }), "{error}");
}

#[test]
fn an_ordinary_program_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("src")).unwrap();
    fs::write(folder.path().join("src/main.rs"), "fn main() {}").unwrap();
    let manifest = "[package]\nname = \"plain\"\nedition = \"2024\"\n[workspace]\n";
    fs::write(folder.path().join("Cargo.toml"), manifest).unwrap();
    let error = build_workspace(folder.path(), folder.path()).unwrap_err();
    let BuildError::Image { program, source } = &error else {
        panic!("{error}");
    };
    assert!(program.ends_with("plain"));
    assert!(
        source.to_string().contains("fades_build::image()"),
        "{source}"
    );
}

#[test]
fn what_cargo_refuses_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let error = build_workspace(folder.path(), folder.path()).unwrap_err();
    assert!(matches!(error, BuildError::Failed { .. }), "{error}");
    let error = build_workspace(Path::new("/nonexistent"), folder.path()).unwrap_err();
    assert_eq!(error.to_string(), "there is no folder /nonexistent");
}

#[test]
fn tests_and_images_of_a_function_do_not_disturb_each_other() {
    let cargo = |words: &[&str]| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(functions()).args(words);
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("alternating");
        cargo.env("CARGO_TARGET_DIR", target);
        assert!(cargo.status().unwrap().success(), "cargo {words:?}");
    };
    cargo(&["test", "--quiet", "-p", "hello"]);
    cargo(&["build", "--quiet", "-p", "hello"]);
    cargo(&["build", "--quiet", "-p", "hello", "--all-targets"]);
    cargo(&["build", "--quiet", "-p", "hello"]);
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("alternating/debug/hello");
    let built = fades_build::image_from_elf(&fs::read(program).unwrap()).unwrap();
    assert_eq!(built.name, "hello");
}
