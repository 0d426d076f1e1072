//! What surrounds a task: the calendar of its zone and the names of its DTOs.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use fades_abi::boot::{self, DtoName, Text, ZoneOffset};
use zerocopy::FromBytes;

/// Nanoseconds of a second.
pub const SECOND: i64 = 1_000_000_000;

/// Zone and DTO names of the task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// The zone in which the task counts days.
    pub zone: Zone,
    /// Names of the DTOs, in the order of their numbers.
    pub dtos: Vec<String>,
}

/// A time zone over the range of the task: UTC and local time into each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// IANA name, such as `Europe/London`.
    pub name: String,
    /// From this time on (ns since 1970 UTC), local time is UTC plus so many
    /// seconds. Sorted; never empty.
    offsets: Vec<(i64, i32)>,
}

impl Zone {
    /// UTC.
    #[must_use]
    pub fn utc() -> Self {
        Self {
            name: String::from("UTC"),
            offsets: vec![(i64::MIN, 0)],
        }
    }

    /// A zone from its offsets: from each time on (ns since 1970 UTC), local
    /// time is UTC plus so many seconds. `None` unless they begin with
    /// `i64::MIN` and ascend.
    #[must_use]
    pub fn new(name: &str, offsets: Vec<(i64, i32)>) -> Option<Self> {
        let starts = offsets.first()?.0 == i64::MIN;
        let ascends = offsets.windows(2).all(|w| w[0].0 < w[1].0);
        (starts && ascends).then(|| Self {
            name: String::from(name),
            offsets,
        })
    }

    /// Seconds that local time is ahead of UTC at `time`, ns since 1970 UTC.
    #[must_use]
    pub fn offset(&self, time: i64) -> i32 {
        let after = self.offsets.partition_point(|&(from, _)| from <= time);
        self.offsets[after.saturating_sub(1)].1
    }

    /// Local time, ns since 1970-01-01T00:00 on the zone's clocks.
    #[must_use]
    pub fn local(&self, time: i64) -> i64 {
        time.saturating_add(i64::from(self.offset(time)) * SECOND)
    }

    /// Number of the local day of `time`, counted from 1970-01-01.
    #[must_use]
    pub fn day(&self, time: i64) -> i64 {
        self.local(time).div_euclid(24 * 3600 * SECOND)
    }

    /// The first moment at which the zone's clocks show `local` or later, ns
    /// since 1970 UTC: where clocks are set forward over it, the moment of
    /// that; where they show it twice, the first time.
    #[must_use]
    pub fn utc_of(&self, local: i64) -> i64 {
        for (i, &(from, seconds)) in self.offsets.iter().enumerate() {
            let until = self.offsets.get(i + 1).map_or(i64::MAX, |next| next.0);
            let utc = local.saturating_sub(i64::from(seconds) * SECOND);
            if utc < until {
                return utc.max(from);
            }
        }
        local
    }
}

impl Context {
    /// Reads the context that a host wrote; `None` when it breaks the layout.
    #[must_use]
    #[inline(never)]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (head, rest) = boot::Context::ref_from_prefix(bytes).ok()?;
        let (offsets, rest) =
            <[ZoneOffset]>::ref_from_prefix_with_elems(rest, head.offsets as usize).ok()?;
        let (names, _) = <[DtoName]>::ref_from_prefix_with_elems(rest, head.dtos as usize).ok()?;
        let offsets = offsets.iter().map(|o| (o.from, o.seconds)).collect();
        let dtos = names.iter().map(|n| Some(text(bytes, n.name)?.into()));
        Some(Self {
            zone: Zone::new(text(bytes, head.zone)?, offsets)?,
            dtos: dtos.collect::<Option<_>>()?,
        })
    }
}

fn text(bytes: &[u8], text: Text) -> Option<&str> {
    let start = text.offset as usize;
    let end = start.checked_add(text.length as usize)?;
    core::str::from_utf8(bytes.get(start..end)?).ok()
}

/// The date of a day counted from 1970-01-01: year, month, day of the month in
/// the proleptic Gregorian calendar.
///
/// Counts in eras of 400 years that begin on the first of March, so that the
/// leap day is the last of its year.
#[must_use]
pub const fn date(day: i64) -> (i64, u8, u8) {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (year + era * 400 + next, month as u8, of_month as u8)
}

/// Zone and DTO names in the layout of the boot info, as a host writes them.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn encode(zone: &Zone, dtos: &[String]) -> Vec<u8> {
    use zerocopy::IntoBytes;
    let tables = size_of::<boot::Context>()
        + zone.offsets.len() * size_of::<ZoneOffset>()
        + dtos.len() * size_of::<DtoName>();
    let mut texts = Vec::new();
    let mut place = |text: &str| {
        let offset = (tables + texts.len()) as u32;
        texts.extend_from_slice(text.as_bytes());
        Text {
            offset,
            length: text.len() as u32,
        }
    };
    let head = boot::Context {
        offsets: zone.offsets.len() as u32,
        dtos: dtos.len() as u32,
        zone: place(&zone.name),
    };
    let mut bytes = Vec::from(head.as_bytes());
    for &(from, seconds) in &zone.offsets {
        let entry = ZoneOffset {
            from,
            seconds,
            reserved: 0,
        };
        bytes.extend_from_slice(entry.as_bytes());
    }
    for name in dtos {
        bytes.extend_from_slice(DtoName { name: place(name) }.as_bytes());
    }
    bytes.append(&mut texts);
    bytes
}

#[cfg(test)]
mod tests;
