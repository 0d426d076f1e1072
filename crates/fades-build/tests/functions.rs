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

#[test]
fn a_bill_names_what_is_linked_and_nothing_else() {
    let out = tempfile::tempdir().unwrap();
    let built = build_workspace(&functions(), out.path()).unwrap();
    let summary = built.iter().find(|p| p.built.name == "summary").unwrap();
    let text = fs::read_to_string(&summary.materials).unwrap();
    let bill: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(bill["bomFormat"], "CycloneDX");
    let whole = &bill["metadata"]["component"];
    assert_eq!(whole["hashes"][0]["content"], summary.built.sha256.as_str());
    let components = bill["components"].as_array().unwrap();
    let has = |name: &str| components.iter().any(|c| c["name"] == name);
    assert!(has("summary") && has("fades-sdk") && has("talc"), "{text}");
    // Links the program, and is no part of it.
    assert!(!has("fades-build") && !has("serde_json"), "{text}");
    // Everything that something depends on is in the list.
    let refs: Vec<_> = components.iter().map(|c| &c["bom-ref"]).collect();
    for node in bill["dependencies"].as_array().unwrap() {
        for on in node["dependsOn"].as_array().unwrap() {
            assert!(refs.contains(&on), "{on}");
        }
    }
    assert!(
        !text.contains(env!("CARGO_MANIFEST_DIR")),
        "it names a folder"
    );
}

/// A tree with one function and all that it is built of, below `folder`.
fn tree(folder: &Path) -> PathBuf {
    let root = functions().join("..");
    let copy = |what: &str| {
        let to = folder.join(what);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        let copied = Command::new("cp")
            .arg("-r")
            .arg(root.join(what))
            .arg(to)
            .status();
        assert!(copied.unwrap().success(), "{what}");
    };
    for what in [
        "crates/fades-abi",
        "crates/fades-build",
        "crates/fades-sdk",
        "functions/hello",
    ] {
        copy(what);
    }
    let members = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let (head, rest) = members.split_once("members = ").unwrap();
    let (_, rest) = rest.split_once("exclude").unwrap();
    let members = "members = [\"crates/*\"]\nexclude";
    fs::write(folder.join("Cargo.toml"), format!("{head}{members}{rest}")).unwrap();
    copy("functions/Cargo.lock");
    let manifest = fs::read_to_string(functions().join("Cargo.toml")).unwrap();
    let (head, rest) = manifest.split_once("members = [").unwrap();
    let (_, rest) = rest.split_once(']').unwrap();
    let manifest = format!("{head}members = [\"hello\"]{rest}");
    fs::write(folder.join("functions/Cargo.toml"), manifest).unwrap();
    folder.join("functions")
}

#[test]
fn the_same_sources_give_the_same_image_wherever_they_lie() {
    let parent = tempfile::tempdir().unwrap();
    let near = build(&tree(&parent.path().join("a")));
    let far = build(&tree(&parent.path().join("some/where/else")));
    let here = build(&functions());
    assert_eq!(near["hello"].built.sha256, far["hello"].built.sha256);
    // All functions of a workspace at once do not change one of them either.
    assert_eq!(near["hello"].built.sha256, here["hello"].built.sha256);
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
