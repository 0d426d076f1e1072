//! Random operations on a store, and the power cut at any write: what was
//! acknowledged is there, and no task ends twice.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex};

use fades_task::result::TaskState;
use fades_trust::task::VerifiedTask;

use super::disk::{Dice, Disk};
use super::{end_of, vfs};
use crate::api::types::Logs;
use crate::core::Change;
use crate::samples::{envelope, mtw_with, name, now, verified};
use crate::store::{Store, StoreError};

const TASKS: u64 = 12;

/// Tasks of different lengths, with their envelopes.
static SIGNED: LazyLock<Vec<(VerifiedTask, String)>> = LazyLock::new(|| {
    let task = |n: u64| {
        let length = (n as usize * 997) % 6000;
        let mtw = mtw_with(&format!("t{n}"), |t| {
            t["function"]["params"] = serde_json::json!({ "x": "x".repeat(length) });
        });
        (verified(&mtw), envelope(&mtw).to_json())
    };
    (0..TASKS).map(task).collect()
});

/// What is known of a task.
#[derive(Debug, Clone, PartialEq)]
enum Known {
    Open { attempts: u32 },
    Ended { answer: u8 },
}

/// What a task may be after a cut: as acknowledged, or as the operation that
/// was cut would have made it.
#[derive(Debug, Clone, Default)]
struct Belief {
    known: Option<Known>,
    maybe: Option<Known>,
}

struct Model<'a> {
    disk: &'a Mutex<Disk>,
    vfs: &'a str,
    synchronous: &'a str,
    folder: &'a Path,
    beliefs: BTreeMap<u64, Belief>,
    dice: Dice,
}

impl Model<'_> {
    fn open(&self) -> Result<Store, StoreError> {
        let store = Store::open_on(self.folder, PathBuf::from("/store.db"), Some(self.vfs))?;
        let pragma = format!("PRAGMA synchronous = {}", self.synchronous);
        store
            .connection()
            .execute_batch(&pragma)
            .map_err(|e| store.sql("setting up", e))?;
        Ok(store)
    }

    /// One operation on one task, and what it makes of it.
    fn operate(&mut self, store: &Store) -> Result<(), String> {
        let n = self.dice.roll(TASKS);
        let belief = self.beliefs.entry(n).or_default().clone();
        let id = name(&format!("t{n}"));
        let (wanted, done) = match (belief.known, self.dice.roll(6)) {
            (None, _) => {
                let (task, envelope) = &SIGNED[n as usize];
                let done = store.accept(task, envelope, now()).map(|a| a.fresh);
                if done.as_ref().is_ok_and(|fresh| !fresh) {
                    return Err(format!("{id} was there before it was accepted"));
                }
                (Known::Open { attempts: 0 }, done.map(|_| ()))
            }
            (Some(Known::Ended { answer }), _) => {
                let second = store.commit(&end_of(id.as_str(), &[9]), &Logs::default());
                if second.is_ok() {
                    return Err(format!("{id} ended twice"));
                }
                (Known::Ended { answer }, Ok(()))
            }
            (Some(Known::Open { attempts }), 0) => {
                let answer = self.dice.roll(8) as u8;
                let commit = end_of(id.as_str(), &[answer]);
                let _ = attempts;
                (
                    Known::Ended { answer },
                    store.commit(&commit, &Logs::default()),
                )
            }
            (Some(Known::Open { attempts }), 1) => {
                let attempts = attempts + 1;
                let change = Change::Running {
                    attempts,
                    at: now(),
                };
                (Known::Open { attempts }, store.persist(&id, &change))
            }
            (Some(Known::Open { attempts }), _) => {
                let change = Change::Queued { attempts };
                (Known::Open { attempts }, store.persist(&id, &change))
            }
        };
        let belief = self.beliefs.entry(n).or_default();
        match done {
            Ok(()) => belief.known = Some(wanted),
            Err(_) if vfs::locked(self.disk).is_off() => belief.maybe = Some(wanted),
            Err(e) => return Err(format!("{id}: {e:?}")),
        }
        Ok(())
    }

    /// Compares what is there with what must be.
    fn check(&mut self, store: &Store) -> Result<(), String> {
        let failed = |e: StoreError| format!("{e:?}");
        let sound: String = store
            .connection()
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .map_err(|e| e.to_string())?;
        if sound != "ok" {
            return Err(sound);
        }
        for (n, belief) in &mut self.beliefs {
            let id = name(&format!("t{n}"));
            let result = store.result(&id).map_err(failed)?;
            let found = match result {
                None => None,
                Some(r) if r.state == TaskState::Done => {
                    let answer = r.answer.and_then(|a| a.as_u64());
                    let answer = answer.ok_or(format!("{id} lost its answer"))? as u8;
                    Some(Known::Ended { answer })
                }
                Some(r) => Some(Known::Open {
                    attempts: r.attempts,
                }),
            };
            let maybe = belief.maybe.take();
            if found != belief.known && (maybe.is_none() || found != maybe) {
                return Err(format!(
                    "{id} is {found:?}, known was {:?}, maybe {maybe:?}",
                    belief.known
                ));
            }
            belief.known = found;
        }
        let open = self
            .beliefs
            .values()
            .filter(|b| matches!(b.known, Some(Known::Open { .. })));
        let queue = store.unfinished().map_err(failed)?;
        if queue.len() != open.count() {
            return Err(format!("{} tasks are unfinished", queue.len()));
        }
        Ok(())
    }

    /// Some lives of a node, each ended by a power cut.
    fn live(&mut self, lives: u64) -> Result<(), String> {
        for _ in 0..lives {
            let cut = 1 + self.dice.roll(120);
            vfs::locked(self.disk).cut_after(cut);
            // The cut may come while the store is opened.
            if let Ok(store) = self.open() {
                // Fewer when all tasks have ended and nothing is written.
                for _ in 0..100 {
                    if !vfs::locked(self.disk).is_off() {
                        self.operate(&store)?;
                    }
                }
            }
            vfs::locked(self.disk).power_on();
            let store = self.open().map_err(|e| format!("{e:?}"))?;
            self.check(&store)?;
        }
        Ok(())
    }
}

/// What went wrong, for each seed with which something did.
fn lives(vfs_name: &str, synchronous: &str, seeds: u64) -> Vec<String> {
    let disk = vfs::register(vfs_name);
    let folder = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    for seed in 0..seeds {
        *vfs::locked(disk) = Disk::new(seed);
        let mut model = Model {
            disk,
            vfs: vfs_name,
            synchronous,
            folder: folder.path(),
            beliefs: BTreeMap::new(),
            dice: Dice::new(seed + 1000),
        };
        if let Err(e) = model.live(4) {
            wrong.push(format!("seed {seed}: {e}"));
        }
    }
    wrong
}

#[test]
fn no_power_cut_loses_what_was_acknowledged_or_ends_a_task_twice() {
    let wrong = lives("fades-power-full", "EXTRA", 60);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_power_cut_test_notices_when_less_is_synced() {
    for (vfs_name, synchronous) in [("fades-power-off", "OFF"), ("fades-power-normal", "NORMAL")] {
        let wrong = lives(vfs_name, synchronous, 10);
        assert!(!wrong.is_empty(), "{synchronous}");
    }
}
