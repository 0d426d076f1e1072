//! Which crate may depend on which.
//!
//! The map is ARCHITECTURE.md's. Development dependencies are exempt: a test
//! may use what the crate must not.

use serde_json::Value;

use crate::tree::{Fault, Tree, output};

/// A crate, and the crates of this workspace that it may depend on.
const ALLOWED: [(&str, &[&str]); 15] = [
    ("fades-abi", &[]),
    ("fades-sdk", &["fades-abi"]),
    ("fades-build", &["fades-abi"]),
    ("fades-task", &[]),
    ("fades-wire", &[]),
    ("fades-tender", &["fades-abi", "fades-task", "fades-wire"]),
    ("fades-trust", &["fades-task"]),
    ("fades-outside", &["fades-task", "fades-wire"]),
    ("fades-registry", &["fades-outside", "fades-task"]),
    (
        "fades-drb",
        &["fades-abi", "fades-outside", "fades-task", "fades-wire"],
    ),
    (
        "fades-courier",
        &[
            "fades-outside",
            "fades-registry",
            "fades-task",
            "fades-wire",
        ],
    ),
    ("fades-orc", &["fades-task", "fades-trust", "fades-wire"]),
    (
        "fades",
        &[
            "fades-abi",
            "fades-build",
            "fades-courier",
            "fades-drb",
            "fades-orc",
            "fades-outside",
            "fades-registry",
            "fades-task",
            "fades-tender",
            "fades-trust",
            "fades-wire",
        ],
    ),
    (
        "fades-bench",
        &[
            "fades",
            "fades-abi",
            "fades-drb",
            "fades-orc",
            "fades-outside",
            "fades-task",
            "fades-tender",
            "fades-trust",
            "fades-wire",
        ],
    ),
    ("xtask", &[]),
];

/// Everything that the map does not allow, one line each.
pub(crate) fn check(tree: &Tree) -> Result<Vec<String>, Fault> {
    let words = ["metadata", "--format-version=1", "--no-deps", "--locked"];
    let text = output(&mut tree.cargo(&words))?;
    let metadata =
        serde_json::from_str(&text).map_err(|e| Fault::Output(format!("cargo metadata: {e}")))?;
    Ok(wrong_arrows(&metadata))
}

fn wrong_arrows(metadata: &Value) -> Vec<String> {
    let packages: Vec<&Value> = array(metadata, "packages").collect();
    let ours: Vec<&str> = packages.iter().map(|p| text(p, "name")).collect();
    let mut wrong = Vec::new();
    for package in &packages {
        let name = text(package, "name");
        let Some((_, allowed)) = ALLOWED.iter().find(|(n, _)| *n == name) else {
            wrong.push(format!(
                "{name}: no line in the map of arrows (xtask/src/arrows.rs)"
            ));
            continue;
        };
        for dependency in array(package, "dependencies") {
            let on = text(dependency, "name");
            let exempt = dependency["kind"] == "dev" || !ours.contains(&on);
            if !exempt && !allowed.contains(&on) {
                wrong.push(format!("{name} -> {on}: this arrow is not allowed"));
            }
        }
    }
    wrong
}

fn array<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value[field].as_array().into_iter().flatten()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::wrong_arrows;
    use serde_json::{Value, json};

    fn tree(name: &str, on: &str, kind: Value) -> Value {
        json!({ "packages": [
            { "name": name, "dependencies": [{ "name": on, "kind": kind }] },
            { "name": "fades-orc", "dependencies": [] },
            { "name": "fades-task", "dependencies": [] },
        ] })
    }

    #[test]
    fn only_the_command_may_depend_on_the_orchestrator() {
        assert!(wrong_arrows(&tree("fades", "fades-orc", Value::Null)).is_empty());
        let wrong = wrong_arrows(&tree("fades-drb", "fades-orc", Value::Null));
        assert_eq!(wrong, ["fades-drb -> fades-orc: this arrow is not allowed"]);
        assert_eq!(
            wrong_arrows(&tree("fades-drb", "fades-orc", json!("build"))).len(),
            1
        );
    }

    #[test]
    fn tests_may_depend_on_what_the_crate_must_not() {
        assert!(wrong_arrows(&tree("fades-drb", "fades-orc", json!("dev"))).is_empty());
    }

    #[test]
    fn a_crate_without_a_line_in_the_map_is_refused() {
        assert_eq!(
            wrong_arrows(&tree("fades-new", "serde", Value::Null)).len(),
            1
        );
    }
}
