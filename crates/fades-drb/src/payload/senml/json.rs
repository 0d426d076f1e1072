//! The JSON form.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{MOST_RECORDS, PayloadError, Record, add, must_be_understood, no_senml};

pub(super) fn records(payload: &[u8]) -> Result<Vec<Record>, PayloadError> {
    let pack: Pack = serde_json::from_slice(payload).map_err(|e| {
        if e.to_string().starts_with(TOO_MANY) {
            PayloadError::TooMany
        } else {
            no_senml(e)
        }
    })?;
    Ok(pack.0)
}

const TOO_MANY: &str = "too many records";

struct Pack(Vec<Record>);

impl<'de> Deserialize<'de> for Pack {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Records;
        impl<'de> Visitor<'de> for Records {
            type Value = Pack;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of records")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Pack, A::Error> {
                let mut records = Vec::new();
                while let Some(record) = seq.next_element()? {
                    debug_assert!(records.len() <= MOST_RECORDS);
                    add(&mut records, record).map_err(|_| A::Error::custom(TOO_MANY))?;
                }
                Ok(Pack(records))
            }
        }
        deserializer.deserialize_seq(Records)
    }
}

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Record;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a record")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Record, A::Error> {
                let mut record = Record::default();
                while let Some(label) = map.next_key::<String>()? {
                    record.field(&label, &mut map)?;
                }
                Ok(record)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

impl Record {
    fn field<'de, A: MapAccess<'de>>(&mut self, label: &str, map: &mut A) -> Result<(), A::Error> {
        fn next<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
            map: &mut A,
        ) -> Result<Option<T>, A::Error> {
            map.next_value().map(Some)
        }
        match label {
            "bn" => self.base_name = next(map)?,
            "bt" => self.base_time = next(map)?,
            "bu" => self.base_unit = next(map)?,
            "bv" => self.base_value = next(map)?,
            "bs" => self.base_sum = next(map)?,
            "bver" => self.version = next(map)?,
            "n" => self.name = next(map)?,
            "u" => self.unit = next(map)?,
            "v" => self.value = next(map)?,
            "s" => self.sum = next(map)?,
            "t" => self.time = next(map)?,
            "vs" | "vb" | "vd" => {
                map.next_value::<IgnoredAny>()?;
                self.other = true;
            }
            // The update time says when the next record may be expected.
            _ => {
                map.next_value::<IgnoredAny>()?;
                if must_be_understood(label) {
                    self.must = Some(label.chars().take(32).collect());
                }
            }
        }
        Ok(())
    }
}
