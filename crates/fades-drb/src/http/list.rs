//! A list in a document: its entries one after the other, as they stand.
//!
//! The document is never held as values, which can take a hundred times the memory
//! of its text: what is not wanted is passed over, and each entry is given on as a
//! piece of the text.

use std::borrow::Cow;
use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;

use crate::payload::PayloadError;

/// Gives the entries of the list at `pointer` (RFC 6901) to `each`.
pub(super) fn each(
    document: &[u8],
    pointer: &str,
    mut each: impl FnMut(&[u8]) -> Result<(), PayloadError>,
) -> Result<(), PayloadError> {
    let steps = pointer.split('/').skip(1);
    let steps: Vec<String> = steps
        .map(|s| s.replace("~1", "/").replace("~0", "~"))
        .collect();
    let (mut found, mut refused) = (false, None);
    let mut reader = serde_json::Deserializer::from_slice(document);
    let walked = Walk {
        steps: &steps,
        found: &mut found,
        each: &mut |entry| each(entry).map_err(|e| refused = Some(e)).is_ok(),
    }
    .deserialize(&mut reader)
    .and_then(|()| reader.end());
    if let Some(e) = refused {
        return Err(e);
    }
    let reason = match walked {
        Ok(()) if found => return Ok(()),
        Err(e) if !e.is_data() => {
            // Not the error's own words: they can repeat the document.
            format!("wrong at line {}, column {}", e.line(), e.column())
        }
        _ => format!("no list at {pointer:?}"),
    };
    Err(PayloadError::NoJson { reason })
}

/// A walk along the steps of a pointer.
struct Walk<'a> {
    steps: &'a [String],
    /// Whether there is a list at the end.
    found: &'a mut bool,
    /// Takes an entry; whether it wants more.
    each: &'a mut dyn FnMut(&[u8]) -> bool,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((step, rest)) = self.steps.split_first() else {
            return Err(A::Error::custom("no list"));
        };
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if key != step.as_str() {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            map.next_value_seed(Walk {
                steps: rest,
                found: self.found,
                each: self.each,
            })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        if let Some((step, rest)) = self.steps.split_first() {
            let number: usize = step.parse().map_err(A::Error::custom)?;
            for _ in 0..number {
                seq.next_element::<IgnoredAny>()?;
            }
            seq.next_element_seed(Walk {
                steps: rest,
                found: self.found,
                each: self.each,
            })?;
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(());
        }
        *self.found = true;
        while let Some(entry) = seq.next_element::<&'de RawValue>()? {
            if !(self.each)(entry.get().as_bytes()) {
                return Err(A::Error::custom("enough"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop, prop_assert_eq, proptest};
    use serde_json::Value;

    use super::each;
    use crate::payload::PayloadError;

    fn read(document: &str, pointer: &str) -> Result<Vec<String>, PayloadError> {
        let mut entries = Vec::new();
        each(document.as_bytes(), pointer, |entry| {
            entries.push(String::from_utf8_lossy(entry).into_owned());
            Ok(())
        })?;
        Ok(entries)
    }

    #[test]
    fn a_list_is_found_wherever_it_is() {
        let document = r#"{"x":[0,{"a/b":[{"v": 1.50},"~",null]}],"y":{"a":1}}"#;
        let entries = read(document, "/x/1/a~1b").unwrap();
        assert_eq!(entries, [r#"{"v": 1.50}"#, "\"~\"", "null"]);
        assert_eq!(read("[1]", "").unwrap(), ["1"]);
        assert_eq!(read("[]", "").unwrap(), [""; 0]);
        for (document, pointer) in [
            (document, "/y"),
            (document, "/y/a"),
            (document, "/none"),
            (document, "/x/7"),
            (document, "/x/one"),
            ("7", ""),
        ] {
            let error = read(document, pointer).unwrap_err().to_string();
            assert!(error.contains("no list at"), "{pointer}: {error}");
        }
        for document in ["[1,", "[1] 2", "[1]]", "", "[\u{1}]"] {
            let error = read(document, "").unwrap_err().to_string();
            assert!(error.contains("wrong at line"), "{document}: {error}");
        }
    }

    proptest! {
        #[test]
        fn what_it_finds_is_what_the_pointer_means(
            document in r#"(\{"a":)?(\[|\{"b":)?\[(1|"x"|\{\}|\[2\])?(,3)?\](\]|\})?\}?"#,
            pointer in "(/a)?(/0|/b)?",
        ) {
            let whole: Result<Value, _> = serde_json::from_str(&document);
            let list = whole.ok().and_then(|w| w.pointer(&pointer)?.as_array().cloned());
            let list = list.map(|l| l.iter().map(Value::to_string).collect::<Vec<_>>());
            prop_assert_eq!(read(&document, &pointer).ok(), list);
        }

        #[test]
        fn no_bytes_do_harm(bytes in prop::collection::vec(proptest::prelude::any::<u8>(), 0..60)) {
            let _ = each(&bytes, "/0/a", |_| Ok(()));
        }
    }
}
