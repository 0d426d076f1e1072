//! Templates such as `aberdeen/{location}`, and their reverse: the shape of a
//! file's name.

use crate::config::FieldError;

/// A text with named gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

/// A piece of a [`Template`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// Stands for itself.
    Text(String),
    /// A gap, by name.
    Name(String),
}

impl Template {
    /// Parses a template; `{{` and `}}` stand for braces.
    pub(crate) fn parse(field: &str, text: &str) -> Result<Self, FieldError> {
        let wrong = |reason: &str| FieldError::new(field, format!("{text:?}: {reason}"));
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if rest.starts_with("{{") || rest.starts_with("}}") {
                literal.push(c);
                rest = &rest[2..];
            } else if c == '{' {
                let end = rest
                    .find('}')
                    .ok_or_else(|| wrong("a '{' has no '}'; write {{ for a brace"))?;
                let name = rest[1..end].trim();
                if name.is_empty() {
                    return Err(wrong("write the name of a column between { and }"));
                }
                if !literal.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut literal)));
                }
                parts.push(Part::Name(name.to_owned()));
                rest = &rest[end + 1..];
            } else if c == '}' {
                return Err(wrong("a '}' has no '{'; write }} for a brace"));
            } else {
                literal.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Self(parts))
    }

    /// The pieces, in order.
    pub(crate) fn parts(&self) -> &[Part] {
        &self.0
    }
}

/// The shape of a file's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NameShape(Vec<Part>);

impl NameShape {
    pub(crate) fn parse(field: &str, text: &str) -> Result<Self, FieldError> {
        let Template(parts) = Template::parse(field, text)?;
        let adjacent = parts
            .windows(2)
            .any(|w| matches!(w, [Part::Name(_), Part::Name(_)]));
        if adjacent {
            let reason = format!("{text:?}: two names need a text between them");
            return Err(FieldError::new(field, reason));
        }
        Ok(Self(parts))
    }

    /// The named parts of `name`, or `None` when it has another shape. A part
    /// ends where the text after it is found first.
    pub(crate) fn parts_of<'a>(&'a self, name: &str) -> Option<Vec<(&'a str, String)>> {
        let mut found = Vec::new();
        let mut rest = name;
        let mut parts = self.0.iter().peekable();
        while let Some(part) = parts.next() {
            match part {
                Part::Text(text) => rest = rest.strip_prefix(text.as_str())?,
                Part::Name(gap) => {
                    let end = match parts.peek() {
                        Some(Part::Text(text)) => rest.find(text.as_str())?,
                        _ => rest.len(),
                    };
                    if end == 0 {
                        return None;
                    }
                    found.push((gap.as_str(), rest[..end].to_owned()));
                    rest = &rest[end..];
                }
            }
        }
        rest.is_empty().then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::{NameShape, Part, Template};

    #[test]
    fn a_template_has_texts_and_names() {
        let t = Template::parse("device", "a/{ x }-{{b}}").unwrap();
        let expected = [
            Part::Text("a/".into()),
            Part::Name("x".into()),
            Part::Text("-{b}".into()),
        ];
        assert_eq!(t.parts(), expected);
        for bad in ["{", "}", "{}", "a{b", "{ }"] {
            let error = Template::parse("device", bad).unwrap_err();
            assert_eq!(error.field, "device", "{bad}");
        }
    }

    #[test]
    fn a_file_name_is_taken_apart() {
        let shape = NameShape::parse("file-name", "{date}_sds011_sensor_{id}").unwrap();
        let parts = shape.parts_of("2018-01-01_sds011_sensor_5331").unwrap();
        assert_eq!(
            parts,
            [("date", "2018-01-01".into()), ("id", "5331".into())]
        );
        for other in [
            "",
            "x",
            "2018_sds011_sensor_",
            "_sds011_sensor_1",
            "2018_bme_sensor_1",
        ] {
            assert_eq!(shape.parts_of(other), None, "{other}");
        }
        assert!(NameShape::parse("file-name", "{a}{b}").is_err());
    }
}
