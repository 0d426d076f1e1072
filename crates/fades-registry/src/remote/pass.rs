//! What to say at a registry's door: a user with a password, or a token that an issuer
//! gives for one.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use ureq::http::HeaderValue;
use zeroize::Zeroizing;

use super::{Login, Scope};

/// What is said.
#[derive(Clone)]
pub(super) enum Pass {
    /// Nothing.
    None,
    /// The value of the header, and the part of it that is secret.
    Said {
        header: Zeroizing<String>,
        secret: Zeroizing<String>,
    },
}

impl std::fmt::Debug for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pass")
    }
}

/// What a registry asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A user and a password.
    Basic,
    /// A token.
    Bearer(Bearer),
}

/// Where tokens are to be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bearer {
    realm: String,
    service: Option<String>,
}

/// An issuer's answer.
#[derive(Deserialize)]
struct Issued {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
}

impl Pass {
    /// A user and a password.
    pub(super) fn basic(login: &Login) -> Self {
        let pair = Zeroizing::new(format!("{}:{}", login.user(), login.password()));
        let secret = Zeroizing::new(BASE64_STANDARD.encode(pair.as_bytes()));
        let header = Zeroizing::new(format!("Basic {}", secret.as_str()));
        Self::Said { header, secret }
    }

    /// The token in an issuer's answer.
    pub(super) fn token(answer: &[u8]) -> Option<Self> {
        let issued: Issued = serde_json::from_slice(answer).ok()?;
        let secret = Zeroizing::new(issued.token.or(issued.access_token)?);
        let header = Zeroizing::new(format!("Bearer {}", secret.as_str()));
        Some(Self::Said { header, secret })
    }

    pub(super) fn header(&self) -> Option<HeaderValue> {
        let Self::Said { header, .. } = self else {
            return None;
        };
        let mut value = HeaderValue::from_str(header).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// `words` without what is secret.
    pub(super) fn conceal(&self, words: String) -> String {
        match self {
            Self::None => words,
            Self::Said { secret, .. } => words.replace(secret.as_str(), "[secret]"),
        }
    }
}

impl Challenge {
    /// Reads the value of `WWW-Authenticate` (RFC 9110, section 11.6.1).
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (word, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        if word.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !word.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service) = (None, None);
        for (key, value) in parameters(rest) {
            match key.to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value),
                "service" => service = Some(value),
                _ => {}
            }
        }
        let realm = realm?;
        Some(Self::Bearer(Bearer { realm, service }))
    }
}

impl Bearer {
    /// The address at which a token for `repository` is to be had.
    pub(super) fn question(&self, repository: &str, scope: Scope) -> String {
        let actions = match scope {
            Scope::Pull => "pull",
            Scope::Push => "pull,push",
        };
        let joint = if self.realm.contains('?') { '&' } else { '?' };
        let mut question = format!(
            "{}{joint}scope=repository:{repository}:{actions}",
            self.realm
        );
        if let Some(service) = &self.service {
            question.push_str("&service=");
            question.push_str(&encoded(service));
        }
        question
    }
}

/// `key="value", key=value`.
fn parameters(mut text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    while let Some((key, rest)) = text.split_once('=') {
        let key = key.trim_matches([' ', ',']).to_owned();
        let (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => rest.split_once(',').unwrap_or((rest, "")),
        };
        found.push((key, value.trim().to_owned()));
        text = rest;
    }
    found
}

/// For the query of an address (RFC 3986, section 2.3).
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::{Challenge, Pass};
    use crate::remote::{Login, Scope};

    #[test]
    fn what_registries_ask_for_is_understood() {
        let bearer = r#"Bearer realm="https://auth.example/token",service="registry one",scope="repository:a:pull""#;
        let Some(Challenge::Bearer(bearer)) = Challenge::parse(bearer) else {
            panic!("no token is asked for");
        };
        assert_eq!(
            bearer.question("air/summary", Scope::Push),
            "https://auth.example/token?scope=repository:air/summary:pull,push&service=registry%20one"
        );
        let plain = Challenge::parse("bearer realm=https://a.example/t?x=1");
        let Some(Challenge::Bearer(plain)) = plain else {
            panic!("no token is asked for");
        };
        assert_eq!(
            plain.question("a", Scope::Pull),
            "https://a.example/t?x=1&scope=repository:a:pull"
        );
        assert_eq!(
            Challenge::parse("Basic realm=\"x\""),
            Some(Challenge::Basic)
        );
        for nothing in [
            "",
            "Bearer",
            "Bearer service=\"x\"",
            "Digest realm=\"x\"",
            "Bearer realm",
        ] {
            assert_eq!(Challenge::parse(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn words_of_a_server_are_shown_without_what_it_was_told() {
        let login = Login::new("city".to_owned(), "rosebud".to_owned());
        let pass = Pass::basic(&login);
        let said = pass.header().unwrap();
        let words = format!("you said {}", said.to_str().unwrap());
        assert_eq!(pass.conceal(words), "you said Basic [secret]");
        let token = Pass::token(br#"{"access_token":"abcd"}"#).unwrap();
        assert_eq!(token.conceal("abcd!".to_owned()), "[secret]!");
        assert!(Pass::token(b"{}").is_none() && Pass::token(b"no").is_none());
        assert_eq!(format!("{pass:?} {login:?}"), "Pass Login(city)");
    }
}
