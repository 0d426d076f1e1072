//! Completion in a real shell, and manual pages.

use std::path::Path;
use std::process::Command;

use crate::stage::{Stage, fades, skipped};

fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|f| f.join(program).is_file())
}

/// What bash offers for the last of these words.
fn offered(stage: &Stage, words: &[&str]) -> Vec<String> {
    let script = stage.run(&["completions", "bash"]).good().out;
    let script = stage.write("fades.bash", script);
    // As readline does it: the words, and which of them is to be completed.
    let program = "source \"$1\"; shift; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); \
                   COMP_LINE=\"$*\"; COMP_POINT=${#COMP_LINE}; \
                   spec=$(complete -p fades); [[ $spec =~ -F\\ ([^ ]+) ]]; \
                   \"${BASH_REMATCH[1]}\" fades \"${@: -1}\" \"${@: -2:1}\"; \
                   printf '%s\\n' \"${COMPREPLY[@]}\"";
    let ended = Command::new("bash")
        .args(["--norc", "-c", program, "bash"])
        .arg(&script)
        .args(words)
        .current_dir(stage.home())
        .output()
        .unwrap();
    assert!(
        ended.status.success() && ended.stderr.is_empty(),
        "{ended:?}"
    );
    let text = String::from_utf8(ended.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_options_and_values() {
    if !has("bash") {
        skipped(
            "bash_completes_commands_options_and_values",
            "no bash; apt-get install bash",
        );
        return;
    }
    let stage = Stage::empty();
    assert_eq!(offered(&stage, &["fades", "pag"]), ["page"]);
    assert_eq!(offered(&stage, &["fades", "config", "ch"]), ["check"]);
    assert_eq!(offered(&stage, &["fades", "page", "--po"]), ["--port"]);
    assert_eq!(offered(&stage, &["fades", "ps", "-o", "j"]), ["json"]);
    let shells = offered(&stage, &["fades", "completions", ""]);
    assert!(shells.iter().any(|s| s == "fish"), "{shells:?}");
    // Nobody types what a node starts.
    let all = offered(&stage, &["fades", ""]);
    assert!(all.iter().any(|c| c == "submit"), "{all:?}");
    for hidden in ["broker", "courier", "man"] {
        assert!(!all.iter().any(|c| c == hidden), "{hidden}");
    }
}

#[test]
fn every_shell_has_a_script_and_others_are_refused() {
    let stage = Stage::empty();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = stage.run(&["completions", shell]).good().out;
        assert!(script.contains("outbox"), "{shell}");
    }
    stage
        .run(&["completions", "dos"])
        .said(2, &["dos", "possible values"]);
    for (shell, options) in [("zsh", "-n"), ("fish", "--no-execute")] {
        if !has(shell) {
            continue;
        }
        let script = stage.run(&["completions", shell]).good().out;
        let file = stage.write("script", script);
        let ended = Command::new(shell).arg(options).arg(file).status().unwrap();
        assert!(ended.success(), "{shell}");
    }
}

fn pages(folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = files
        .map(|f| f.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn manual_pages_are_there_for_every_command_and_sound() {
    let stage = Stage::empty();
    stage.run(&["man", "pages"]).good();
    let folder = stage.home().join("pages");
    let names = pages(&folder);
    for name in [
        "fades.1",
        "fades-submit.1",
        "fades-config-check.1",
        "fades-page.1",
    ] {
        assert!(names.iter().any(|n| n == name), "{name}: {names:?}");
    }
    assert!(
        !names
            .iter()
            .any(|n| n.contains("broker") || n.contains("-man")),
        "{names:?}"
    );
    let submit = std::fs::read_to_string(folder.join("fades-submit.1")).unwrap();
    for word in ["fades\\-submit", "Examples:", "finish"] {
        assert!(submit.contains(word), "{word}");
    }
    stage
        .run(&["man", "/proc/no-such-place"])
        .said(2, &["cannot write manual pages"]);
    if !has("mandoc") {
        skipped(
            "manual_pages_are_there",
            "no mandoc; apt-get install mandoc",
        );
        return;
    }
    for name in names {
        let mut lint = Command::new("mandoc");
        lint.args(["-T", "lint", "-W", "error"])
            .arg(folder.join(&name));
        let ended = lint.output().unwrap();
        assert!(
            ended.status.success(),
            "{name}: {}",
            String::from_utf8_lossy(&ended.stdout)
        );
        let shown = Command::new("mandoc")
            .args(["-T", "utf8"])
            .arg(folder.join(&name))
            .output();
        // Bold letters are printed twice, one over the other.
        let shown = String::from_utf8(shown.unwrap().stdout).unwrap();
        let shown: Vec<char> = shown.chars().collect();
        let over = |i: &usize| shown.get(i + 1) != Some(&'\u{8}') && shown[*i] != '\u{8}';
        let shown: String = (0..shown.len()).filter(over).map(|i| shown[i]).collect();
        assert!(
            shown.contains("NAME") && shown.contains("SYNOPSIS"),
            "{name}"
        );
    }
    assert_eq!(fades().file_name().unwrap(), "fades");
}
