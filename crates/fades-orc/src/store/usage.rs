//! What services used, by day: what their allowances of a day are held against
//! after a restart.
//!
//! A table beside those of the schema, made when it is not there: it means
//! nothing to a program that does not know it, and nothing else refers to it.

use std::collections::BTreeMap;

use fades_task::identity::Name;
use fades_task::quantity::{Duration, Size};
use fades_task::time::Time;
use rusqlite::Connection;

use super::{Store, StoreError};
use crate::core::{Charge, Used};

/// Days that are kept: someone may ask about last year.
const KEPT: i64 = 400 * 86_400_000_000_000;

/// `day`: its first moment, ns since 1970 UTC. `cpu`: microseconds.
const TABLE: &str = "
CREATE TABLE IF NOT EXISTS usage (
    day     INTEGER NOT NULL,
    service TEXT    NOT NULL,
    cpu     INTEGER NOT NULL,
    bytes   INTEGER NOT NULL,
    PRIMARY KEY (day, service)
) STRICT, WITHOUT ROWID;
";

/// Makes the table, and forgets days that are long past.
pub(super) fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(TABLE)?;
    let sql = "DELETE FROM usage WHERE day < (SELECT max(day) FROM usage) - ?1";
    connection.execute(sql, [KEPT]).map(drop)
}

/// The charges of one group, added up: one row for a service and a day.
#[derive(Debug, Default)]
pub(super) struct Charges(BTreeMap<(i64, Name), Used>);

impl Charges {
    pub(super) fn add(&mut self, service: &Name, charge: &Charge) {
        if charge.used.is_nothing() {
            return;
        }
        let key = (charge.day.0, service.clone());
        let sum = self
            .0
            .get(&key)
            .map_or(charge.used, |sum| sum.and(charge.used));
        self.0.insert(key, sum);
    }

    pub(super) fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        for ((day, service), used) in &self.0 {
            let column = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
            connection
                .prepare_cached(
                    "INSERT INTO usage (day, service, cpu, bytes) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (day, service) DO UPDATE
                     SET cpu = cpu + excluded.cpu, bytes = bytes + excluded.bytes",
                )?
                .execute(rusqlite::params![
                    day,
                    service.as_str(),
                    column(used.cpu.0 / 1_000),
                    column(used.bytes.0)
                ])?;
        }
        Ok(())
    }
}

impl Store {
    /// What services used on the day that begins at `day`.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn used(&self, day: Time) -> Result<Vec<(Name, Used)>, StoreError> {
        let connection = self.connection();
        let sql = |e| self.sql("reading what services used", e);
        let mut statement = connection
            .prepare("SELECT service, cpu, bytes FROM usage WHERE day = ?1")
            .map_err(sql)?;
        let rows = statement.query_map([day.0], |row| {
            let number = |column| row.get::<_, i64>(column).map(i64::unsigned_abs);
            let used = Used {
                cpu: Duration(number(1)?.saturating_mul(1_000)),
                bytes: Size(number(2)?),
            };
            Ok((row.get::<_, String>(0)?, used))
        });
        let rows = rows.and_then(Iterator::collect::<rusqlite::Result<Vec<_>>>);
        let named = rows.map_err(sql)?.into_iter().map(|(service, used)| {
            let name = service
                .parse()
                .map_err(|e| self.damaged(format!("a service: {e}")))?;
            Ok((name, used))
        });
        named.collect()
    }
}

#[cfg(test)]
mod tests {
    use fades_task::quantity::{Duration, Size};
    use fades_task::time::{Time, Zone};

    use super::KEPT;
    use crate::core::Used;
    use crate::samples::{name, now};
    use crate::store::Store;
    use crate::store::group::Write;
    use crate::store::tests::{accept, end, ending};

    fn today() -> Time {
        Zone::default().day(now()).0
    }

    fn used(store: &Store) -> Vec<(String, Used)> {
        let used = store.used(today()).unwrap();
        used.into_iter()
            .map(|(s, used)| (s.to_string(), used))
            .collect()
    }

    fn of_air(cpu_us: u64, bytes: u64) -> Vec<(String, Used)> {
        let (cpu, bytes) = (Duration(cpu_us * 1_000), Size(bytes));
        vec![("city-air".to_owned(), Used { cpu, bytes })]
    }

    #[test]
    fn what_tasks_used_is_added_up_once_for_each_and_survives_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        for id in ["a", "b", "c", "open"] {
            accept(&store, id);
        }
        assert_eq!(used(&store), []);
        assert!(end(&store, "a", &[0x18, 0x2a]).unwrap());
        assert_eq!(used(&store), of_air(5, 2));
        // The second end of a task does not stand, and is not charged.
        assert!(!end(&store, "a", &[0x18, 0x2a]).unwrap());
        let both = [
            Write::End(Box::new(ending("b", &[1]))),
            Write::End(Box::new(ending("c", &[]))),
            Write::End(Box::new(ending("c", &[1]))),
        ];
        store.store(&both, &[]).unwrap();
        assert_eq!(used(&store), of_air(15, 3));
        drop(store);
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(used(&store), of_air(15, 3));
        assert_eq!(store.used(Time(today().0 + 1)).unwrap(), []);
    }

    #[test]
    fn days_that_are_long_past_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let days = [today().0, today().0 - KEPT, today().0 - KEPT - 1];
        for day in days {
            let sql = "INSERT INTO usage VALUES (?1, 'city-air', 1, 1)";
            store.connection().execute(sql, [day]).unwrap();
        }
        drop(store);
        let store = Store::open(folder.path()).unwrap();
        let count = |day| store.used(Time(day)).unwrap().len();
        assert_eq!(days.map(count), [1, 1, 0]);
        assert!(
            store
                .used(today())
                .unwrap()
                .iter()
                .all(|u| u.0 == name("city-air"))
        );
    }
}
