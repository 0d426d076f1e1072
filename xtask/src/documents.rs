//! Checks README.md and docs/ against the tree: links lead somewhere, and
//! every `fades` command shown there has the subcommand and options it uses, and
//! every test that is named is there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tree::{Fault, Tree};

/// Everything that is wrong, one line each.
pub(crate) fn check(tree: &Tree) -> Result<Vec<String>, Fault> {
    let mut wrong = Vec::new();
    let mut help = Help::new(tree.binary("debug", "fades"));
    let tests = test_names(&tree.root.join("crates"))?;
    for path in pages(tree)? {
        let text = std::fs::read_to_string(&path).map_err(|e| Fault::File(path.clone(), e))?;
        let name = path
            .strip_prefix(&tree.root)
            .unwrap_or(&path)
            .display()
            .to_string();
        for link in links(&text) {
            if !leads_somewhere(&path, &link)? {
                wrong.push(format!("{name}: the link {link} leads nowhere"));
            }
        }
        for test in named_tests(&text) {
            if !tests.contains(&test) {
                wrong.push(format!("{name}: no test is called {test}"));
            }
        }
        for command in commands(&text) {
            if let Some(reason) = help.refuses(&command)? {
                wrong.push(format!("{name}: `{command}`: {reason}"));
            }
        }
    }
    Ok(wrong)
}

fn pages(tree: &Tree) -> Result<Vec<PathBuf>, Fault> {
    let mut pages = vec![
        tree.root.join("README.md"),
        tree.root.join("ARCHITECTURE.md"),
    ];
    let docs = tree.root.join("docs");
    let entries = std::fs::read_dir(&docs).map_err(|e| Fault::File(docs.clone(), e))?;
    for entry in entries {
        let path = entry.map_err(|e| Fault::File(docs.clone(), e))?.path();
        if path.extension().is_some_and(|e| e == "md") {
            pages.push(path);
        }
    }
    pages.sort();
    Ok(pages)
}

/// Words in backticks that can only be the name of a test.
fn named_tests(text: &str) -> BTreeSet<String> {
    let words = text
        .lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2));
    let is_test = |word: &&str| {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        // Metrics have long names as well.
        let is_metric = word.starts_with("fades_");
        word.chars().all(plain) && word.matches('_').count() > 2 && !is_metric
    };
    words.filter(is_test).map(str::to_owned).collect()
}

/// Names of functions below a folder, and what tests with a `main` of their own
/// call theirs.
fn test_names(folder: &Path) -> Result<BTreeSet<String>, Fault> {
    let fault = |e| Fault::File(folder.to_owned(), e);
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(folder).map_err(fault)? {
        let path = entry.map_err(fault)?.path();
        if path.is_dir() {
            names.extend(test_names(&path)?);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path).map_err(fault)?;
            let after = |mark: &str, end: char| {
                let found = text.split(mark).skip(1);
                let names = found.filter_map(|rest| rest.split(end).next());
                names.map(str::to_owned).collect::<Vec<_>>()
            };
            names.extend(after("fn ", '('));
            names.extend(after("\"", '"'));
        }
    }
    Ok(names)
}

/// Targets of Markdown links that stay inside the tree.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("](") {
        rest = &rest[at + 2..];
        let Some(end) = rest.find(')') else { break };
        let target = &rest[..end];
        let outside = target.contains("://") || target.contains(char::is_whitespace);
        if !outside && !target.is_empty() {
            found.push(target.to_owned());
        }
    }
    found
}

fn leads_somewhere(page: &Path, link: &str) -> Result<bool, Fault> {
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let folder = page.parent().unwrap_or(page);
    let target = if file.is_empty() {
        page.to_owned()
    } else {
        folder.join(file)
    };
    if !target.exists() {
        return Ok(false);
    }
    if anchor.is_empty() || target.is_dir() {
        return Ok(true);
    }
    let text = std::fs::read_to_string(&target).map_err(|e| Fault::File(target, e))?;
    Ok(text
        .lines()
        .filter(|l| l.starts_with('#'))
        .any(|l| heading_anchor(l) == anchor))
}

/// The anchor that Markdown viewers give to a heading.
fn heading_anchor(heading: &str) -> String {
    heading
        .trim_start_matches('#')
        .trim()
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

/// Lines of shell blocks that call `fades`, continued lines joined.
fn commands(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut shell = false;
    let mut begun = String::new();
    for line in text.lines() {
        if let Some(language) = line.trim().strip_prefix("```") {
            shell = !shell && matches!(language, "sh" | "console");
            continue;
        }
        let line = line.trim();
        begun.push_str(line.strip_prefix("$ ").unwrap_or(line));
        if shell && begun.ends_with('\\') {
            begun.pop();
            continue;
        }
        let call = std::mem::take(&mut begun);
        if shell && call.starts_with("fades ") {
            found.push(call);
        }
    }
    found
}

/// The help texts of the command, each asked for once.
struct Help {
    program: PathBuf,
    texts: BTreeMap<String, Option<String>>,
}

impl Help {
    fn new(program: PathBuf) -> Self {
        Self {
            program,
            texts: BTreeMap::new(),
        }
    }

    /// Why `command` cannot be right.
    fn refuses(&mut self, command: &str) -> Result<Option<String>, Fault> {
        let command = command.split(" #").next().unwrap_or(command);
        let command = command
            .split(['|', '>', ';', '&'])
            .next()
            .unwrap_or(command);
        let words: Vec<&str> = command.split_whitespace().skip(1).collect();
        let sub: Vec<&str> = words.iter().copied().take_while(|w| is_word(w)).collect();
        // The longest run of words that is a subcommand; what follows are names.
        for length in (1..=sub.len().min(2)).rev() {
            let Some(text) = self.text(&sub[..length])? else {
                continue;
            };
            let unknown = words
                .iter()
                .filter_map(|w| option(w))
                .find(|o| !offers(&text, o));
            return Ok(unknown.map(|o| format!("the command has no option {o}")));
        }
        let options_only = words.first().is_some_and(|w| w.starts_with('-'));
        Ok((!options_only).then(|| "no such subcommand".to_owned()))
    }

    fn text(&mut self, sub: &[&str]) -> Result<Option<String>, Fault> {
        let key = sub.join(" ");
        if let Some(text) = self.texts.get(&key) {
            return Ok(text.clone());
        }
        let output = Command::new(&self.program).args(sub).arg("--help").output();
        let output = output.map_err(|e| Fault::Program(self.program.display().to_string(), e))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let text = (output.status.success() && is_help_of(&text, &key)).then_some(text);
        self.texts.insert(key, text.clone());
        Ok(text)
    }
}

/// `fades ps extra --help` prints the help of `ps`: that is no subcommand.
fn is_help_of(text: &str, sub: &str) -> bool {
    let usage = format!("Usage: fades {sub}");
    let end = |l: &str| {
        l.strip_prefix(&usage)
            .is_some_and(|r| r.is_empty() || r.starts_with(' '))
    };
    text.lines().any(end)
}

fn is_word(word: &str) -> bool {
    word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-')
}

fn option(word: &str) -> Option<&str> {
    let option = word.split('=').next().unwrap_or(word);
    (option.starts_with('-') && option.len() > 1).then_some(option)
}

fn offers(help: &str, option: &str) -> bool {
    help.split(|c: char| c.is_whitespace() || matches!(c, ',' | '[' | ']' | '<' | '=' | '`'))
        .any(|w| w == option)
}

#[cfg(test)]
mod tests {
    use super::{commands, heading_anchor, is_help_of, links, named_tests, offers, test_names};

    #[test]
    fn links_inside_the_tree_are_found() {
        let text = "See [a](docs/a.md#one), [b](https://example.org) and [c](#two).";
        assert_eq!(links(text), ["docs/a.md#one", "#two"]);
        assert_eq!(heading_anchor("## Bad input, by file"), "bad-input-by-file");
    }

    #[test]
    fn a_test_that_is_named_is_looked_for() {
        let text = "`a_name_of_a_test`, `fades_a_b_c`, `some_word` and plain_words_are_none";
        let named: Vec<String> = named_tests(text).into_iter().collect();
        assert_eq!(named, ["a_name_of_a_test"]);
        let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let there = test_names(&here).unwrap();
        assert!(there.contains("a_test_that_is_named_is_looked_for"));
        assert!(!there.contains(&["a_name", "that_nobody", "has"].join("_")));
    }

    #[test]
    fn commands_are_taken_from_shell_blocks_only() {
        let text = "`fades x`\n```sh\nfades ps -o json\n$ fades submit a \\\n  --wait\nls\n```\n\
                    ```toml\nfades no\n```\n";
        assert_eq!(
            commands(text),
            ["fades ps -o json", "fades submit a --wait"]
        );
    }

    #[test]
    fn a_help_text_is_of_one_subcommand_and_offers_its_options() {
        let text = "Usage: fades submit [OPTIONS]\n  -f, --file <FILE>  a file\n";
        assert!(is_help_of(text, "submit") && !is_help_of(text, "sub"));
        assert!(offers(text, "--file") && offers(text, "-f") && !offers(text, "--fil"));
    }
}
