//! Addresses of messages (topics, paths) with placeholders: a filter for a broker,
//! and a matcher for what comes.

use std::sync::Arc;

use super::{Named, NamedBy};
use crate::config::FieldError;

/// An address with placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    levels: Vec<Level>,
    /// Whatever follows matches too.
    open: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Level {
    /// Stands for itself.
    Text(String),
    /// A name, between texts.
    Gap {
        before: String,
        name: Name,
        after: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Device,
    Location,
    Kind,
    Ignored,
}

impl Pattern {
    pub(crate) fn parse(field: &str, text: &str) -> Result<Self, FieldError> {
        let wrong = |reason: &str| FieldError::new(field, format!("{text:?}: {reason}"));
        if text.is_empty() || text.len() > 1024 || text.contains('\0') {
            return Err(wrong("it has 1 to 1024 bytes"));
        }
        if text.starts_with("$share/") {
            return Err(wrong(
                "a shared subscription would give this node only a part of the messages",
            ));
        }
        let mut topic = Self {
            levels: Vec::new(),
            open: false,
        };
        for level in text.split('/') {
            if topic.open {
                return Err(wrong(
                    "# stands for all levels that follow: it must be the last",
                ));
            }
            match level {
                "#" => topic.open = true,
                "+" => topic.levels.push(Level::gap(Name::Ignored)),
                level if level.contains(['#', '+']) => {
                    return Err(wrong("# and + stand for whole levels"));
                }
                level => topic.levels.push(Level::parse(level).map_err(wrong)?),
            }
        }
        for name in [Name::Device, Name::Kind] {
            if topic.gaps().filter(|&n| n == name).count() > 1 {
                return Err(wrong(
                    "{device} and {kind} can stand for one level each; only {location} for several",
                ));
            }
        }
        Ok(topic)
    }

    /// What the broker is asked for.
    pub(crate) fn filter(&self) -> String {
        let levels = self.levels.iter().map(|level| match level {
            Level::Text(text) => text.as_str(),
            Level::Gap { .. } => "+",
        });
        let open = self.open.then_some("#");
        levels.chain(open).collect::<Vec<_>>().join("/")
    }

    /// Whether it is one address, without placeholders.
    pub(crate) fn is_plain(&self) -> bool {
        !self.open && self.gaps().next().is_none()
    }

    /// What it names.
    pub(crate) fn names(&self) -> NamedBy {
        NamedBy {
            device: self.gaps().any(|n| n == Name::Device),
            kind: self.gaps().any(|n| n == Name::Kind),
        }
    }

    fn gaps(&self) -> impl Iterator<Item = Name> {
        self.levels.iter().filter_map(|level| match level {
            Level::Gap { name, .. } => Some(*name),
            Level::Text(_) => None,
        })
    }

    /// What an address names, if it is one of these.
    pub(crate) fn read(&self, topic: &str) -> Option<Named> {
        let mut named = Named::default();
        let mut location: Option<String> = None;
        let mut found = topic.split('/');
        for level in &self.levels {
            // An open topic also stands for the level above it.
            let text = found.next()?;
            let Level::Gap {
                before,
                name,
                after,
            } = level
            else {
                if !matches!(level, Level::Text(own) if own == text) {
                    return None;
                }
                continue;
            };
            let part = text.strip_prefix(before.as_str())?;
            let part = part.strip_suffix(after.as_str())?;
            match name {
                Name::Device => named.device = Some(Arc::from(part)),
                Name::Kind => named.kind = Some(Arc::from(part)),
                Name::Location => match &mut location {
                    Some(above) => {
                        above.push('/');
                        above.push_str(part);
                    }
                    None => location = Some(part.to_owned()),
                },
                Name::Ignored => {}
            }
        }
        named.location = location.map(Arc::from);
        (self.open || found.next().is_none()).then_some(named)
    }
}

impl Level {
    fn gap(name: Name) -> Self {
        Self::Gap {
            before: String::new(),
            name,
            after: String::new(),
        }
    }

    fn parse(level: &str) -> Result<Self, &'static str> {
        let Some((before, rest)) = level.split_once('{') else {
            return if level.contains('}') {
                Err("a '}' has no '{'")
            } else {
                Ok(Self::Text(level.to_owned()))
            };
        };
        let (name, after) = rest.split_once('}').ok_or("a '{' has no '}'")?;
        if before.contains('}') || after.contains(['{', '}']) {
            return Err("a level can have one placeholder");
        }
        let name = match name.trim() {
            "device" => Name::Device,
            "location" => Name::Location,
            "kind" => Name::Kind,
            "_" => Name::Ignored,
            _ => return Err("placeholders are {device}, {location}, {kind} and {_}"),
        };
        Ok(Self::Gap {
            before: before.to_owned(),
            name,
            after: after.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::proptest;

    use super::Pattern;

    /// Device, location and kind, as far as they are named.
    fn read(topic: &str, found: &str) -> Option<String> {
        let named = Pattern::parse("topic", topic).unwrap().read(found)?;
        let parts = [named.device, named.location, named.kind];
        Some(
            parts
                .map(|p| p.map_or("-".to_owned(), |p| p.to_string()))
                .join(" "),
        )
    }

    #[test]
    fn placeholders_become_a_filter_and_find_their_names() {
        let topic = "site/{location}/{location}/n-{device}.x/{_}/{kind}";
        let filter = Pattern::parse("topic", topic).unwrap().filter();
        assert_eq!(filter, "site/+/+/+/+/+");
        let found = read(topic, "site/b1/2/n-7.x/up/co2");
        assert_eq!(found.as_deref(), Some("7 b1/2 co2"));
        for other in [
            "site/b1/2/7/up/co2",
            "site/b1/2/n-7.x/up",
            "site/b1/2/n-7.x/up/co2/more",
            "other/b1/2/n-7.x/up/co2",
        ] {
            assert_eq!(read(topic, other), None, "{other}");
        }
        assert_eq!(
            Pattern::parse("topic", "a/{device}/#").unwrap().filter(),
            "a/+/#"
        );
        assert_eq!(read("a/{device}/#", "a/d/x/y").as_deref(), Some("d - -"));
        assert_eq!(read("a/{device}/#", "a/d").as_deref(), Some("d - -"));
        assert_eq!(read("a/+/{kind}", "a//k").as_deref(), Some("- - k"));
    }

    #[test]
    fn what_is_no_topic_says_why() {
        for (topic, words) in [
            ("", "1 to 1024"),
            ("a/#/b", "must be the last"),
            ("a#", "whole levels"),
            ("a/{device}{kind}", "one placeholder"),
            ("a/{device}/{device}", "one level each"),
            ("a/{room}", "placeholders are"),
            ("a/{device", "has no '}'"),
            ("a/device}", "has no '{'"),
            ("$share/g/a", "a part of the messages"),
        ] {
            let error = Pattern::parse("topic", topic).unwrap_err();
            assert!(error.reason.contains(words), "{words} in {}", error.reason);
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_does_no_harm(topic in ".{0,40}", found in ".{0,40}") {
            if let Ok(topic) = Pattern::parse("topic", &topic) {
                let _ = topic.read(&found);
            }
        }

        #[test]
        fn a_topic_that_is_filled_in_is_read(d in "[^/]{1,9}", l in "[^/]{1,9}", k in "[^/]{1,9}") {
            let found = read("s/{location}/{device}/{kind}", &format!("s/{l}/{d}/{k}"));
            assert_eq!(found, Some(format!("{d} {l} {k}")));
        }
    }
}
