//! Topics with names in them.

use fades_outside::field::FieldError;
use fades_task::courier::Parcel;
use fades_task::identity::Name;

/// A topic of MQTT in which names stand for what is delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Topic(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Node,
    Service,
    Name,
    Task,
}

/// Longest topic as it is written, bytes. MQTT has room for 65,535; each name is
/// shorter than this.
const LONGEST: usize = 1024;

impl Topic {
    /// Reads a topic; an error when nothing can be published to it.
    pub(crate) fn parse(text: &str) -> Result<Self, FieldError> {
        let wrong = |reason: String| FieldError::new("topic", reason);
        if text.is_empty() || text.len() > LONGEST {
            return Err(wrong(format!("has 1 to {LONGEST} bytes")));
        }
        if text.contains(['+', '#']) || text.chars().any(char::is_control) {
            return Err(wrong(
                "is one topic to publish to: write it without +, # and control characters"
                    .to_owned(),
            ));
        }
        if text.starts_with('$') {
            return Err(wrong("begins with $, which is the broker's own".to_owned()));
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after
                .split_once('}')
                .ok_or_else(|| wrong("has a { without its }".to_owned()))?;
            parts.push(Part::Text(before.to_owned()));
            parts.push(match name {
                "node" => Part::Node,
                "service" => Part::Service,
                "name" => Part::Name,
                "task" => Part::Task,
                _ => {
                    return Err(wrong(format!(
                        "{{{name}}} is not known; there is {{node}}, {{service}}, {{name}}, {{task}}"
                    )));
                }
            });
            rest = after;
        }
        if rest.contains('}') {
            return Err(wrong("has a } without its {".to_owned()));
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Self(parts))
    }

    /// The topic of a parcel. A [`Name`] has nothing in it that means more in a topic.
    pub(crate) fn of(&self, node: &Name, parcel: &Parcel) -> String {
        let parts = self.0.iter().map(|part| match part {
            Part::Text(text) => text.clone(),
            Part::Node => node.to_string(),
            Part::Service => parcel.service.to_string(),
            Part::Name => parcel.name.to_string(),
            Part::Task => parcel.task.to_string(),
        });
        parts.collect()
    }
}

#[cfg(test)]
mod tests {
    use fades_task::courier::{Parcel, Receiver};

    use super::Topic;

    fn parcel() -> Parcel {
        Parcel {
            parcel: 1,
            to: Receiver::Destination("hall".parse().unwrap()),
            event: "e".to_owned(),
            task: "0a1b".parse().unwrap(),
            name: "aberdeen-air".parse().unwrap(),
            service: "city.air".parse().unwrap(),
        }
    }

    #[test]
    fn names_stand_where_they_are_asked_for() {
        let of = |text: &str| {
            let topic = Topic::parse(text).unwrap();
            topic.of(&"harbour-07".parse().unwrap(), &parcel())
        };
        assert_eq!(of("answers"), "answers");
        assert_eq!(
            of("f/{node}/{service}/{name}/{task}/x"),
            "f/harbour-07/city.air/aberdeen-air/0a1b/x"
        );
        assert_eq!(of("{task}{task}"), "0a1b0a1b");
    }

    #[test]
    fn what_is_no_topic_to_publish_to_says_why() {
        let long = "x".repeat(1025);
        for (text, why) in [
            ("", "1 to 1024"),
            (long.as_str(), "1 to 1024"),
            ("a/+/b", "without +"),
            ("a/#", "without +"),
            ("a\u{0}b", "control"),
            ("$SYS/x", "the broker's own"),
            ("{device}", "{node}, {service}, {name}, {task}"),
            ("{node", "without its }"),
            ("node}", "without its {"),
        ] {
            let error = Topic::parse(text).unwrap_err();
            assert_eq!(error.field, "topic");
            assert!(error.reason.contains(why), "{text}: {}", error.reason);
        }
    }
}
