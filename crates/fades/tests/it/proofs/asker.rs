//! Somebody who may hand in tasks at a node, and signs them himself.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fades_trust::key::SecretKey;
use fades_trust::task::sign_task;
use serde_json::Value;

use crate::stage::Stage;

#[derive(Debug)]
pub(crate) struct Asker {
    key: SecretKey,
    /// A task as the command makes it.
    template: Value,
}

impl Asker {
    /// Of a node that runs; publishes `hello`, which all tasks run.
    pub(crate) fn new(stage: &Stage) -> Self {
        stage.publish(&["hello"]);
        let words = ["submit", "hello", "--kind", "temperature"];
        let more = ["--isolation", "process", "--save", "task.toml", "--dry-run"];
        stage.run(&[&words[..], &more].concat()).good();
        let key = "fades-node/keys/development-ask.key";
        let sign = ["sign", "task.toml", "--to", "task.dsse", "--key", key];
        stage.run(&sign).good();
        let envelope = std::fs::read(stage.home().join("task.dsse")).unwrap();
        let envelope: Value = serde_json::from_slice(&envelope).unwrap();
        let payload = STANDARD.decode(envelope["payload"].as_str().unwrap());
        let key = std::fs::read_to_string(stage.home().join(key)).unwrap();
        Self {
            key: SecretKey::from_text(&key).unwrap(),
            template: serde_json::from_slice(&payload.unwrap()).unwrap(),
        }
    }

    /// The envelope of the task `id`, with `change` applied to it.
    pub(crate) fn signed(&self, id: &str, change: impl FnOnce(&mut Value)) -> String {
        self.signed_by(&self.key, id, change)
    }

    /// The same, signed by somebody else.
    pub(crate) fn signed_by(
        &self,
        key: &SecretKey,
        id: &str,
        change: impl FnOnce(&mut Value),
    ) -> String {
        let mut task = self.template.clone();
        task["task"]["id"] = id.into();
        task["task"]["expires"] = "2100-01-01T00:00:00Z".into();
        change(&mut task);
        let task = serde_json::from_value(task).unwrap();
        sign_task(&task, key).to_json()
    }
}
