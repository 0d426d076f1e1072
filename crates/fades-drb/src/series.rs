//! The series of a source, numbered.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most series of one source: a template that names a column with a new value
/// in every row must not fill the memory.
pub(crate) const MAX_SERIES: usize = 100_000;

/// What makes a series: readings of one kind, of one device at one place.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SeriesKey {
    pub(crate) device: Arc<str>,
    pub(crate) location: Arc<str>,
    pub(crate) kind: Arc<str>,
    pub(crate) unit: Arc<str>,
}

/// Numbers for the series of one source; a number stays as long as the broker
/// lives.
#[derive(Debug, Default)]
pub(crate) struct SeriesTable(Mutex<Numbered>);

#[derive(Debug, Default)]
struct Numbered {
    numbers: HashMap<SeriesKey, u32>,
    keys: Vec<SeriesKey>,
}

impl SeriesTable {
    /// The number of a series, a new one when it was never seen; `None` when
    /// there are too many.
    pub(crate) fn number(&self, key: &SeriesKey) -> Option<u32> {
        let mut table = self.lock();
        if let Some(&number) = table.numbers.get(key) {
            return Some(number);
        }
        let number = u32::try_from(table.keys.len()).ok()?;
        if table.keys.len() >= MAX_SERIES {
            return None;
        }
        table.keys.push(key.clone());
        table.numbers.insert(key.clone(), number);
        Some(number)
    }

    /// All series seen so far; the index is the number.
    pub(crate) fn keys(&self) -> Vec<SeriesKey> {
        self.lock().keys.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Numbered> {
        // Every change is complete when the lock is given back.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_SERIES, SeriesKey, SeriesTable};

    fn key(device: &str) -> SeriesKey {
        SeriesKey {
            device: device.into(),
            location: "".into(),
            kind: "t".into(),
            unit: "".into(),
        }
    }

    #[test]
    fn a_series_keeps_its_number() {
        let table = SeriesTable::default();
        assert_eq!(table.number(&key("a")), Some(0));
        assert_eq!(table.number(&key("b")), Some(1));
        assert_eq!(table.number(&key("a")), Some(0));
        assert_eq!(table.keys().len(), 2);
    }

    #[test]
    fn there_is_an_end_to_new_series() {
        let table = SeriesTable::default();
        for i in 0..MAX_SERIES {
            assert!(table.number(&key(&i.to_string())).is_some());
        }
        assert_eq!(table.number(&key("one more")), None);
        assert_eq!(table.number(&key("0")), Some(0));
    }
}
