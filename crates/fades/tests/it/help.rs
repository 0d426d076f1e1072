//! The words of the help, as a golden file: a change is seen in review.

use crate::stage::Stage;

const COMMANDS: [&[&str]; 32] = [
    &[],
    &["new"],
    &["build"],
    &["test"],
    &["publish"],
    &["submit"],
    &["ps"],
    &["show"],
    &["result"],
    &["logs"],
    &["cancel"],
    &["init"],
    &["node"],
    &["config"],
    &["config", "check"],
    &["config", "show"],
    &["source"],
    &["source", "test"],
    &["resources"],
    &["functions"],
    &["top"],
    &["page"],
    &["doctor"],
    &["demo"],
    &["key"],
    &["key", "new"],
    &["key", "list"],
    &["key", "trust"],
    &["sign"],
    &["verify"],
    &["completions"],
    &["schema"],
];

#[test]
fn the_help_is_what_the_golden_file_says() {
    let stage = Stage::empty();
    let mut text = String::new();
    for command in COMMANDS {
        let words = [command, &["--help"]].concat();
        let ended = stage.run(&words).good();
        assert!(ended.err.is_empty());
        text += &format!("$ fades {}\n{}\n", words.join(" "), ended.out);
    }
    golden("help.txt", &text);
}

#[test]
fn the_schemas_are_what_the_golden_files_say() {
    let stage = Stage::empty();
    for of in ["task", "node"] {
        let schema = stage.run(&["schema", of]).good();
        assert!(schema.json()["properties"].is_object());
        golden(&format!("{of}.schema.json"), &schema.out);
    }
}

/// Compares with a file beside the tests; `FADES_GOLDEN=write` writes it.
fn golden(name: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("FADES_GOLDEN").is_some_and(|v| v == "write") {
        std::fs::write(&path, text).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        known == text,
        "{name} differs; see what changed with FADES_GOLDEN=write and git diff"
    );
}
