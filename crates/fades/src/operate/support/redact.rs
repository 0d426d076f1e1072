//! Looks for a node's secrets in text, and replaces them.

use std::collections::BTreeSet;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
use fades_outside::connection::SecretFile;
use fades_outside::secret::Secrets;
use serde_json::Value;

use crate::problem::{Attempt, Problem};
use crate::settings::node_file::NodeFile;

/// A text that is shorter stands in too many places by chance, characters.
const SHORTEST: usize = 6;

/// What stands for a secret.
const REDACTED: &str = "[redacted]";

/// Groups of base64 that a secret determines whole, in characters, at the least.
const GROUPS: usize = 8;

/// Knows the secrets of a node, in the forms in which they could be shown.
#[derive(Debug, Default)]
pub(super) struct Redactor {
    /// The longest first, so that no part of one stays.
    forms: Vec<String>,
    secrets: usize,
    /// Files whose secrets are not known, and why.
    pub(super) unread: Vec<String>,
}

impl Redactor {
    /// What is in the files that the configuration of the node in `folder` names
    /// for secrets, and in its keys.
    pub(super) fn of_node(folder: &Path, credentials: Option<&Path>) -> Self {
        let mut redactor = Self::default();
        let mut forms = BTreeSet::new();
        let values = match NodeFile::read(folder) {
            Ok(file) => serde_json::to_value(file).unwrap_or_default(),
            Err(problem) => {
                let line = problem.line();
                redactor
                    .unread
                    .push(format!("secrets that node.toml names: {line}"));
                Value::Null
            }
        };
        let mut named = Vec::new();
        secret_files(&values, None, &mut named);
        let secrets = Secrets::new(folder, credentials);
        for (user, file) in named {
            let path = secrets.path(&file);
            redactor.learn(&path, user.as_deref(), &mut forms);
        }
        for entry in std::fs::read_dir(folder.join("keys"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let path = entry.path();
            if path.extension().is_some_and(|e| e == "key") {
                redactor.learn(&path, None, &mut forms);
            }
        }
        redactor.forms = forms.into_iter().collect();
        redactor
            .forms
            .sort_by_key(|form| std::cmp::Reverse(form.len()));
        redactor
    }

    fn learn(&mut self, path: &Path, user: Option<&str>, forms: &mut BTreeSet<String>) {
        match read(path) {
            Ok(text) => {
                self.secrets += 1;
                forms.extend(shown(&text, user));
            }
            Err(problem) => self.unread.push(problem.line()),
        }
    }

    /// How many secrets it looks for.
    pub(super) const fn known(&self) -> usize {
        self.secrets
    }

    /// The text without secrets, and how many there were.
    pub(super) fn redact(&self, text: &str) -> (String, u64) {
        let (mut text, mut found) = without_passwords(text);
        for form in &self.forms {
            let times = text.matches(form.as_str()).count();
            if times > 0 {
                found += times as u64;
                text = text.replace(form.as_str(), REDACTED);
            }
        }
        (text, found)
    }
}

fn read(path: &Path) -> Result<String, Problem> {
    let cannot = || {
        format!(
            "secrets like {}, which cannot be looked for",
            path.display()
        )
    };
    let bytes = std::fs::read(path).or_problem(cannot)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Files for secrets, each with the user that the same table names.
fn secret_files(value: &Value, user: Option<&str>, found: &mut Vec<(Option<String>, SecretFile)>) {
    match value {
        Value::Object(table) => {
            let user = table.get("user").and_then(Value::as_str).or(user);
            for (key, value) in table {
                match value.as_str().filter(|_| key.ends_with("-file")) {
                    // Certificates are public, and long.
                    Some(_) if key == "ca-file" || key == "certificate-file" => {}
                    Some(file) => {
                        found.push((user.map(str::to_owned), SecretFile(file.to_owned())));
                    }
                    None => secret_files(value, user, found),
                }
            }
        }
        Value::Array(items) => items
            .iter()
            .for_each(|item| secret_files(item, user, found)),
        _ => {}
    }
}

/// The forms in which a secret could be shown: as it is, line by line, in JSON, in
/// a URL, in base64 alone and behind a user's name.
fn shown(text: &str, user: Option<&str>) -> BTreeSet<String> {
    let mut forms = BTreeSet::new();
    // The frame of a key is no secret.
    for line in text
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with("-----"))
    {
        forms.insert(line.to_owned());
        let json = Value::from(line).to_string();
        forms.insert(json.trim_matches('"').to_owned());
        forms.insert(in_url(line));
        let plain = [
            Some(line.to_owned()),
            user.map(|user| format!("{user}:{line}")),
        ];
        for plain in plain.into_iter().flatten() {
            // What follows in the same text changes the last group only.
            let whole = BASE64_STANDARD_NO_PAD.encode(&plain.as_bytes()[..plain.len() / 3 * 3]);
            if whole.len() >= GROUPS {
                forms.insert(whole);
            }
            forms.insert(BASE64_STANDARD.encode(&plain));
        }
    }
    forms.retain(|form| form.chars().count() >= SHORTEST);
    forms
}

/// Text as it stands in a URL.
fn in_url(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    text.bytes()
        .map(|b| match plain(b) {
            true => char::from(b).to_string(),
            false => format!("%{b:02X}"),
        })
        .collect()
}

/// The text without `user:password@` of addresses.
fn without_passwords(text: &str) -> (String, u64) {
    let (mut clean, mut found, mut rest) = (String::new(), 0, text);
    while let Some((before, after)) = rest.split_once("://") {
        clean += before;
        clean += "://";
        let end = after
            .find(|c: char| c.is_whitespace() || "/?#\"'<>".contains(c))
            .unwrap_or(after.len());
        rest = after;
        if let Some(at) = after[..end].rfind('@') {
            clean += REDACTED;
            rest = &after[at..];
            found += 1;
        }
    }
    clean += rest;
    (clean, found)
}

#[cfg(test)]
mod tests {
    use super::{REDACTED, Redactor, shown, without_passwords};
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;

    fn redactor(secret: &str, user: Option<&str>) -> Redactor {
        let mut forms: Vec<String> = shown(secret, user).into_iter().collect();
        forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
        Redactor {
            forms,
            secrets: 1,
            unread: vec![],
        }
    }

    #[test]
    fn a_secret_is_found_in_every_form() {
        let secret = "pa\"ss wörd/1";
        let redactor = redactor(&format!("{secret}\n"), Some("me"));
        let basic = BASE64_STANDARD.encode(format!("me:{secret}"));
        let longer = BASE64_STANDARD.encode(format!("me:{secret} and more"));
        for form in [
            secret,
            "pa\\\"ss wörd/1",
            "pa%22ss%20w%C3%B6rd%2F1",
            &basic,
            &BASE64_STANDARD.encode(secret),
        ] {
            let (text, found) = redactor.redact(&format!("<{form}> and <{form}>"));
            assert_eq!(
                (text.as_str(), found),
                (&*format!("<{REDACTED}> and <{REDACTED}>"), 2)
            );
        }
        let (text, found) = redactor.redact(&longer);
        assert!(found == 1 && !text.contains(&longer[..12]), "{text}");
        let plain = "nothing of it";
        assert_eq!(redactor.redact(plain), (plain.to_owned(), 0));
    }

    #[test]
    fn of_a_key_every_line_is_a_secret_and_its_frame_is_none() {
        let key =
            "-----BEGIN PRIVATE KEY-----\nAAAABBBBCCCC\nDDDDEEEEFFFF\n-----END PRIVATE KEY-----\n";
        let redactor = redactor(key, None);
        let (text, found) = redactor.redact(key);
        assert_eq!(found, 2);
        assert!(
            text.contains("BEGIN PRIVATE KEY") && !text.contains("DDDD"),
            "{text}"
        );
    }

    #[test]
    fn a_secret_of_a_few_letters_does_not_blacken_the_text() {
        let redactor = redactor("a\nab12\n", Some("b"));
        let text = "a banana, ab12";
        assert_eq!(redactor.redact(text).1, 0);
    }

    #[test]
    fn an_address_has_no_password() {
        let text = "at http://me:word@host/a@b, mqtt://host:1883 and \"x://u:p@h\"";
        let (clean, found) = without_passwords(text);
        assert_eq!(found, 2);
        assert_eq!(
            clean,
            "at http://[redacted]@host/a@b, mqtt://host:1883 and \"x://[redacted]@h\""
        );
    }
}
