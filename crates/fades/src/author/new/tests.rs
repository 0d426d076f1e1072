use std::process::Command;

use super::*;

#[test]
fn a_name_that_cannot_be_one_is_refused_with_the_reason() {
    for (wrong, why) in [
        ("Overheat", "small letter"),
        ("9lives", "small letter"),
        ("", "small letter"),
        ("over_heat", "small letters, digits and `-` only"),
        ("test", "taken"),
        ("a-name-that-is-longer-than-images-carry", "at most 32"),
    ] {
        let text = name(Path::new(wrong)).unwrap_err().text(str::to_owned);
        assert!(text.contains(why), "{text}");
    }
    assert_eq!(
        name(Path::new("some/where/over-heat2")).unwrap(),
        "over-heat2"
    );
}

#[test]
fn nothing_that_exists_is_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let made = folder.path().join("overheat");
    write(&made, "overheat").unwrap();
    let error = write(&made, "overheat").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
}

#[test]
fn the_manifests_ask_for_what_this_workspace_uses() {
    let read = |path: &str| -> toml::Table {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        toml::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    };
    let root = read("../../Cargo.toml");
    let root = &root["workspace"];
    for (name, manifest) in MANIFESTS {
        let ours: toml::Table = toml::from_str(manifest).unwrap();
        let original = read(&format!("../{name}/Cargo.toml"));
        for field in ["version", "edition", "rust-version", "license"] {
            assert_eq!(ours["package"][field], root["package"][field], "{name}");
        }
        assert_eq!(
            ours["package"].get("links"),
            original["package"].get("links")
        );
        let used = original.get("dependencies").and_then(|d| d.as_table());
        let used = used
            .into_iter()
            .flatten()
            .filter(|(_, d)| d.get("optional").is_none());
        let empty = toml::Table::new();
        let given = ours.get("dependencies").and_then(|d| d.as_table());
        let given = given.unwrap_or(&empty);
        let names: Vec<_> = used.map(|(dependency, _)| dependency).collect();
        assert_eq!(names, given.keys().collect::<Vec<_>>(), "{name}");
        for (dependency, how) in given {
            if how.get("path").is_none() {
                assert_eq!(
                    how, &root["dependencies"][dependency],
                    "{name}: {dependency}"
                );
            }
        }
    }
}

/// Runs cargo in `folder`, with a target folder that tests share.
fn cargo(folder: &Path, words: &[&str]) {
    let target = Path::new(env!("OUT_DIR")).join("new-project");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(folder).args(words);
    cargo
        .env("CARGO_TARGET_DIR", target)
        .env_remove("RUSTFLAGS");
    assert!(cargo.status().unwrap().success(), "cargo {words:?}");
}

#[test]
fn a_new_project_passes_its_tests_without_warnings_and_becomes_an_image() {
    let folder = tempfile::tempdir().unwrap();
    let made = folder.path().join("overheat");
    write(&made, "overheat").unwrap();
    cargo(&made, &["test", "--quiet"]);
    cargo(
        &made,
        &["clippy", "--quiet", "--all-targets", "--", "-Dwarnings"],
    );
    let out = folder.path().join("out");
    let built = fades_build::build_workspace(&made, &out).unwrap();
    let [program] = &built[..] else {
        panic!("{built:?}");
    };
    assert_eq!(program.built.name, "overheat");
    assert!(program.built.warnings.is_empty());
    let symbols = fs::read_to_string(out.join("overheat.sym")).unwrap();
    assert!(symbols.starts_with(&format!("sha256:{}\n", program.built.sha256)));
    assert!(fs::metadata(out.join("overheat.fades")).unwrap().len() < 64 * 1024);
}
