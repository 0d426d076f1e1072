//! Quantities as people write them: `"250ms"`, `"64MiB"`, `"80%"`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Why a text is no quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not a duration.
    #[error(
        "{0:?} is no duration: write a number and ns, us, ms, s, m, h, d or w, such as \"250ms\" or \"1h30m\""
    )]
    Duration(String),
    /// Not a size.
    #[error(
        "{0:?} is no size: write a number and B, KiB, MiB, GiB, kB, MB or GB, such as \"64MiB\""
    )]
    Size(String),
    /// Not a distance.
    #[error("{0:?} is no distance: write a number and m or km, such as \"2km\"")]
    Distance(String),
    /// Not a share.
    #[error("{0:?} is no share: write a percentage between \"0%\" and \"100%\"")]
    Share(String),
    /// Too large to represent.
    #[error("{0:?} is too large")]
    Range(String),
}

/// A length of time, nanoseconds; written `"250ms"`, `"1h30m"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Duration(pub u64);

const DURATION_UNITS: [(&str, u64); 8] = [
    ("w", 604_800_000_000_000),
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

impl Duration {
    /// Whole seconds.
    #[must_use]
    pub const fn from_secs(s: u64) -> Self {
        Self(s * 1_000_000_000)
    }

    /// As the standard library's type.
    #[must_use]
    pub const fn as_std(self) -> std::time::Duration {
        std::time::Duration::from_nanos(self.0)
    }
}

impl FromStr for Duration {
    type Err = QuantityError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let wrong = || QuantityError::Duration(s.to_owned());
        let large = || QuantityError::Range(s.to_owned());
        let mut rest = s.trim();
        let mut total = 0_u64;
        if rest.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() {
            let number = rest
                .find(|c: char| !c.is_ascii_digit() && c != '.')
                .ok_or_else(wrong)?;
            let (number, after) = rest.split_at(number);
            let unit = after
                .find(|c: char| !c.is_ascii_alphabetic())
                .unwrap_or(after.len());
            let (unit, after) = after.split_at(unit);
            let scale = DURATION_UNITS
                .iter()
                .find(|(u, _)| *u == unit)
                .map(|u| u.1)
                .ok_or_else(wrong)?;
            let part = scaled(number, scale).ok_or_else(wrong)?.ok_or_else(large)?;
            total = total.checked_add(part).ok_or_else(large)?;
            rest = after;
        }
        Ok(Self(total))
    }
}

/// `number` (digits with at most one point) times `scale`, exactly; the inner
/// `None` is an overflow.
fn scaled(number: &str, scale: u64) -> Option<Option<u64>> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let fraction = fraction.trim_end_matches('0');
    if whole.is_empty() || fraction.len() > 18 {
        return None;
    }
    let digits = |d: &str| {
        if d.is_empty() {
            Some(0)
        } else {
            d.parse::<u128>().ok()
        }
    };
    let (whole, parts) = (digits(whole)?, digits(fraction)?);
    let ten = 10_u128.pow(fraction.len() as u32);
    let exact = whole
        .checked_mul(ten)
        .and_then(|w| w.checked_add(parts))
        .and_then(|w| w.checked_mul(scale.into()))?;
    if !exact.is_multiple_of(ten) {
        return None;
    }
    Some(u64::try_from(exact / ten).ok())
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return write!(f, "0s");
        }
        let mut rest = self.0;
        for (unit, scale) in DURATION_UNITS {
            if rest >= scale {
                write!(f, "{}{unit}", rest / scale)?;
                rest %= scale;
            }
        }
        Ok(())
    }
}

/// A length, metres; written `"2km"`, `"500m"`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Distance(f64);

impl Distance {
    /// Metres; finite and not negative.
    #[must_use]
    pub const fn metres(self) -> f64 {
        self.0
    }
}

impl FromStr for Distance {
    type Err = QuantityError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let wrong = || QuantityError::Distance(s.to_owned());
        let text = s.trim();
        let (number, scale) = match text.strip_suffix("km") {
            Some(number) => (number, 1000.0),
            None => (text.strip_suffix('m').ok_or_else(wrong)?, 1.0),
        };
        let number: f64 = number.trim_end().parse().map_err(|_| wrong())?;
        let metres = number * scale;
        if metres.is_finite() && metres >= 0.0 {
            Ok(Self(metres))
        } else {
            Err(wrong())
        }
    }
}

impl fmt::Display for Distance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 >= 1000.0 {
            write!(f, "{}km", self.0 / 1000.0)
        } else {
            write!(f, "{}m", self.0)
        }
    }
}

/// A number of bytes; written `"64MiB"`.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Size(pub u64);

const SIZE_UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

impl FromStr for Size {
    type Err = QuantityError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let wrong = || QuantityError::Size(s.to_owned());
        let text = s.trim();
        let split = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(wrong)?;
        let (number, unit) = text.split_at(split);
        let unit = unit.trim_start();
        let scale = SIZE_UNITS
            .iter()
            .find(|(u, _)| *u == unit)
            .map(|u| u.1)
            .ok_or_else(wrong)?;
        let bytes = scaled(number, scale).ok_or_else(wrong)?;
        bytes
            .map(Self)
            .ok_or_else(|| QuantityError::Range(s.to_owned()))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = SIZE_UNITS
            .iter()
            .find(|(_, s)| self.0 >= *s && self.0.is_multiple_of(*s));
        match exact {
            Some((unit, scale)) => write!(f, "{}{unit}", self.0 / scale),
            None => write!(f, "{}B", self.0),
        }
    }
}

/// A share between 0 and 1; written `"80%"`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Share(f64);

impl Share {
    /// None at all.
    pub const NONE: Self = Self(0.0);

    /// The share as a number between 0 and 1.
    #[must_use]
    pub const fn fraction(self) -> f64 {
        self.0
    }
}

impl FromStr for Share {
    type Err = QuantityError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let percent = s
            .trim()
            .strip_suffix('%')
            .and_then(|p| p.trim().parse::<f64>().ok());
        match percent {
            Some(p) if (0.0..=100.0).contains(&p) => Ok(Self(p / 100.0)),
            _ => Err(QuantityError::Share(s.to_owned())),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Multiplying 0.07 by 100 leaves a tail that nobody wrote.
        write!(f, "{}%", (self.0 * 1e8).round() / 1e6)
    }
}

macro_rules! text_form {
    ($type:ty, $name:literal, $pattern:literal) => {
        impl TryFrom<String> for $type {
            type Error = QuantityError;

            fn try_from(s: String) -> Result<Self, Self::Error> {
                s.parse()
            }
        }

        impl From<$type> for String {
            fn from(q: $type) -> Self {
                q.to_string()
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}

text_form!(
    Duration,
    "Duration",
    r"^([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h|d|w))+$"
);
text_form!(
    Size,
    "Size",
    r"^[0-9]+(\.[0-9]+)? ?(B|KiB|MiB|GiB|kB|MB|GB)$"
);
text_form!(Distance, "Distance", r"^[0-9]+(\.[0-9]+)? ?k?m$");
text_form!(Share, "Share", r"^[0-9]+(\.[0-9]+)? ?%$");

#[cfg(test)]
mod tests {
    use super::{Distance, Duration, Share, Size};

    #[test]
    fn distances_survive_the_way_to_text_and_back() {
        for text in ["2km", "500m", "0m", "2.5km"] {
            assert_eq!(text.parse::<Distance>().unwrap().to_string(), text);
        }
        for bad in ["", "2", "km", "-1m", "2 miles", "nanm", "infm"] {
            assert!(bad.parse::<Distance>().is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_survive_the_way_to_text_and_back() {
        for text in ["250ms", "1h30m", "2w3d", "1ns", "0s", "10s"] {
            assert_eq!(text.parse::<Duration>().unwrap().to_string(), text);
        }
        assert_eq!("1.5s".parse::<Duration>().unwrap(), Duration(1_500_000_000));
        for bad in ["", "1", "s", "1x", "-1s", "1 s", "0.5ns", "99999999999w"] {
            assert!(bad.parse::<Duration>().is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_survive_the_way_to_text_and_back() {
        for text in ["64MiB", "4KiB", "1B", "1GiB", "0B", "5MB"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text, "{text}");
        }
        assert_eq!("1.5 KiB".parse::<Size>().unwrap(), Size(1536));
        for bad in ["", "1", "MiB", "1M", "1.0001KiB", "99999999999GiB"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }

    #[test]
    fn shares_survive_the_way_to_text_and_back() {
        for text in ["80%", "0%", "100%", "7%", "0.1%"] {
            assert_eq!(text.parse::<Share>().unwrap().to_string(), text);
        }
        for bad in ["101%", "-1%", "80", "x%", "nan%"] {
            assert!(bad.parse::<Share>().is_err(), "{bad}");
        }
    }
}
