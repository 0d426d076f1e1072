//! A task as people write it: from options or from a file, with what the
//! command line fills in.
//!
//! What is not said is put *below* what is: a layer with id, audience, expiry
//! and service, so that errors in a file keep their lines.

use std::path::Path;

use fades_task::identity::{ImageRef, Name};
use fades_task::mtw::{Credentials, Function, Mtw, Retrieve};
use fades_task::quantity::Duration;
use fades_task::time::Time;
use serde_json::{Map, Value, json};

use super::client::random_name;
use super::target::Target;
use crate::problem::{Attempt, Problem};
use crate::session::now;
use crate::settings::layers::Layers;

/// What is filled in where a task does not say it.
#[derive(Debug, Clone)]
pub(crate) struct Defaults {
    id: Name,
    node: Name,
    service: Name,
    expires: Time,
}

impl Defaults {
    /// Those for a task to `target`.
    pub(crate) fn for_target(target: &Target) -> Result<Self, Problem> {
        Ok(Self {
            id: random_name()?,
            node: target.name.clone(),
            service: target.service.clone(),
            expires: now().after(target.expires),
        })
    }

    /// As the `task` part of a task.
    fn map(&self, name: &Name) -> Map<String, Value> {
        let fields = json!({
            "id": self.id, "name": name, "service": self.service,
            "for": [self.node], "expires": self.expires,
        });
        match fields {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }

    fn toml(&self, name: &Name) -> String {
        // Names have no character that TOML would want escaped.
        format!(
            "[task]\nid = \"{}\"\nname = \"{name}\"\nservice = \"{}\"\nfor = [\"{}\"]\nexpires = \"{}\"\n",
            self.id, self.service, self.node, self.expires
        )
    }
}

/// A task made of options.
pub(crate) fn from_options(
    image: ImageRef,
    retrieve: Option<Retrieve>,
    params: Map<String, Value>,
    defaults: &Defaults,
) -> Mtw {
    Mtw {
        task: Credentials {
            id: defaults.id.clone(),
            name: image.name.clone(),
            service: defaults.service.clone(),
            r#for: vec![defaults.node.clone()],
            expires: defaults.expires,
            priority: 0,
            finish_within: None,
            zone: fades_task::time::Zone::default(),
        },
        retrieve: retrieve.into_iter().collect(),
        function: Function {
            image,
            lifetime: fades_task::mtw::Lifetime::default(),
            isolation: vec![
                fades_task::limits::Isolation::Microvm,
                fades_task::limits::Isolation::Process,
            ],
            params,
            limits: fades_task::limits::Limits::default(),
        },
        schedule: None,
        window: None,
        replace: None,
        deliver: Vec::new(),
    }
}

/// A task in a file: JSON when its name ends so, TOML otherwise.
pub(crate) fn from_file(path: &Path, defaults: &Defaults) -> Result<Mtw, Problem> {
    let cannot = || format!("cannot read {}", path.display());
    let length = std::fs::metadata(path).or_problem(cannot)?.len();
    if length > fades_trust::envelope::ENVELOPE_MAX as u64 {
        let most = fades_trust::envelope::ENVELOPE_MAX;
        return Err(Problem::new(cannot())
            .reason(format!("it has {length} bytes, a task has at most {most}")));
    }
    let text = std::fs::read_to_string(path).or_problem(cannot)?;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let name = stem.parse().unwrap_or_else(|_| defaults.id.clone());
    let mtw = match path.extension().is_some_and(|e| e == "json") {
        true => from_json(path, &text, defaults, &name)?,
        false => from_toml(path, &text, defaults, &name)?,
    };
    mtw.check()
        .map_err(|e| Problem::new(format!("{}: {e}", path.display())))?;
    Ok(mtw)
}

fn from_toml(path: &Path, text: &str, defaults: &Defaults, name: &Name) -> Result<Mtw, Problem> {
    let mut layers = Layers::default();
    layers.push(
        Path::new("what the command line fills in"),
        &defaults.toml(name),
    );
    layers.push(path, text);
    layers.parse()
}

fn from_json(path: &Path, text: &str, defaults: &Defaults, name: &Name) -> Result<Mtw, Problem> {
    let wrong = |reason: String| Problem::new(format!("{}: {reason}", path.display()));
    let mut value: Value = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
    let part = value
        .as_object_mut()
        .map(|map| map.entry("task").or_insert(json!({})));
    if let Some(Value::Object(task)) = part {
        for (key, value) in defaults.map(name) {
            task.entry(key).or_insert(value);
        }
    }
    serde_path_to_error::deserialize(value).map_err(|e| {
        let field = e.path().to_string();
        wrong(format!("{field}: {}", e.inner()))
    })
}

/// The task as a file that can be handed in again: what the command line fills
/// in anew is left out.
pub(crate) fn to_file(mtw: &Mtw) -> Result<String, Problem> {
    let cannot = || "cannot write the task as TOML".to_owned();
    let mut table = toml::Table::try_from(mtw).or_problem(cannot)?;
    if let Some(toml::Value::Table(task)) = table.get_mut("task") {
        task.remove("id");
        task.remove("expires");
        task.remove("for");
        if task.get("priority") == Some(&toml::Value::Integer(0)) {
            task.remove("priority");
        }
    }
    let text = toml::to_string_pretty(&table).or_problem(cannot)?;
    Ok(format!(
        "# Hand it in with: fades submit -f FILE\n\
         # (id, expires and for are filled in each time unless they are written here)\n{text}"
    ))
}

/// A parameter `name=value`: a JSON value when it looks like one, and text
/// otherwise.
pub(crate) fn param(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text
        .split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| format!("{text:?} is no parameter: write NAME=VALUE"))?;
    let parsed = serde_json::from_str::<Value>(value)
        .ok()
        .filter(|v| !v.is_null());
    Ok((name.to_owned(), parsed.unwrap_or_else(|| value.into())))
}

/// A time as people write it: RFC 3339, a date, `now`, or such as `2h ago`.
pub(crate) fn moment(text: &str) -> Result<Time, String> {
    if text == "now" {
        return Ok(now());
    }
    match text.strip_suffix(" ago") {
        Some(before) => {
            let before: Duration = before.trim().parse().map_err(|e| format!("{e}"))?;
            Ok(now().before(before))
        }
        None => text
            .parse()
            .map_err(|e| format!("{e}; `now` and such as `2h ago` do as well")),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::{Defaults, from_file, moment, param, to_file};

    fn defaults() -> Defaults {
        Defaults {
            id: "id1".parse().unwrap(),
            node: "here".parse().unwrap(),
            service: "local".parse().unwrap(),
            expires: "2030-01-01".parse().unwrap(),
        }
    }

    fn file(name: &str, text: &str) -> Result<fades_task::mtw::Mtw, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let text = |p: crate::problem::Problem| {
            p.text(str::to_owned)
                .replace(&folder.path().display().to_string(), "")
        };
        from_file(&path, &defaults()).map_err(text)
    }

    const TOML: &str = "[task]\nservice = \"city\"\n\n[[retrieve]]\nname = \"pm\"\n\
        kind = [\"pm10\", \"pm2.5\"]\nlast = \"24h\"\n\n[function]\nimage = \"summary\"\n";

    #[test]
    fn what_a_file_leaves_out_is_filled_in_and_what_it_says_stays() {
        let mtw = file("air.toml", TOML).unwrap();
        assert_eq!(mtw.task.service.as_str(), "city");
        assert_eq!(mtw.task.name.as_str(), "air");
        assert_eq!(
            (mtw.task.id.as_str(), mtw.task.r#for[0].as_str()),
            ("id1", "here")
        );
        let again = file("air.toml", &to_file(&mtw).unwrap()).unwrap();
        assert_eq!(again, mtw);
    }

    #[test]
    fn a_task_may_be_json() {
        let text = json!({ "function": { "image": "hello" } }).to_string();
        assert_eq!(file("x.json", &text).unwrap().task.name.as_str(), "x");
        let bad =
            json!({ "function": { "image": "hello", "limits": { "memory": 5 } } }).to_string();
        let error = file("x.json", &bad).unwrap_err();
        assert!(
            error.contains("/x.json: function.limits.memory: "),
            "{error}"
        );
        assert!(file("x.json", "{").unwrap_err().contains("/x.json: EOF"));
    }

    #[test]
    fn errors_in_a_file_name_its_line() {
        for (from, to, named) in [
            ("service", "servcie", "/air.toml:2: unknown field `servcie`"),
            ("\"24h\"", "24", "/air.toml:7: invalid type"),
            (
                "\"24h\"",
                "\"24 hours\"",
                "/air.toml:7: \"24 hours\" is no duration",
            ),
            (
                "[function]\nimage = \"summary\"\n",
                "",
                "missing field `function`",
            ),
            (
                "last = \"24h\"",
                "last = \"24h\"\nfrom = \"2018-01-01\"",
                "excludes",
            ),
        ] {
            let error = file("air.toml", &TOML.replace(from, to)).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
        assert!(from_file(Path::new("/nonexistent"), &defaults()).is_err());
    }

    #[test]
    fn a_file_larger_than_any_task_is_not_read() {
        let large = format!("{TOML}#{}", " ".repeat(1 << 20));
        assert!(file("air.toml", &large).unwrap_err().contains("at most"));
    }

    #[test]
    fn parameters_are_values_where_they_look_like_it() {
        let value = |text| param(text).unwrap().1;
        assert_eq!(value("limit=27"), json!(27));
        assert_eq!(value("by=location"), json!("location"));
        assert_eq!(value("text=\"27\""), json!("27"));
        assert_eq!(value("on=true"), json!(true));
        assert_eq!(value("list=[1,2]"), json!([1, 2]));
        assert_eq!(value("empty="), json!(""));
        assert_eq!(value("null=null"), json!("null"));
        assert!(param("limit").is_err() && param("=1").is_err());
    }

    #[test]
    fn times_may_be_relative() {
        let day = moment("now").unwrap().0 - moment("24h ago").unwrap().0;
        assert!((day - 86_400_000_000_000).abs() < 10_000_000_000);
        assert!(moment("2018-01-01").is_ok());
        assert!(moment("yesterday").unwrap_err().contains("2h ago"));
    }
}
