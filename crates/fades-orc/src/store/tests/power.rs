//! Random operations on a store, and the power cut at any write: what was
//! acknowledged is there, and no task ends twice.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex};

use fades_task::identity::Name;
use fades_task::result::TaskState;
use fades_trust::task::VerifiedTask;

use super::disk::{Dice, Disk};
use super::{ending, vfs};
use crate::core::Change;
use crate::samples::{envelope, mtw_with, name, now, verified};
use crate::store::group::{Ending, Newcomer, Write};
use crate::store::{Store, StoreError};

const TASKS: u64 = 12;

/// Tasks of different lengths.
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

/// Operations that are stored together.
#[derive(Default)]
struct Group {
    changes: Vec<(u64, Change)>,
    endings: Vec<Ending>,
    newcomers: Vec<Newcomer>,
    /// What each task is afterwards.
    wanted: Vec<(u64, Known)>,
    /// Tasks that had ended before.
    ended: Vec<Name>,
}

fn id(n: u64) -> Name {
    name(&format!("t{n}"))
}

struct Model<'a> {
    disk: &'a Mutex<Disk>,
    vfs: &'a str,
    synchronous: &'a str,
    folder: &'a Path,
    beliefs: BTreeMap<u64, Belief>,
    /// Most operations of a group, less one.
    group: u64,
    /// A group of several operations was cut: all of it is there, or nothing.
    whole: bool,
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

    /// One group of operations on different tasks, and what it makes of them.
    fn operate(&mut self, store: &Store) -> Result<(), String> {
        let mut group = Group::default();
        for _ in 0..=self.dice.roll(self.group) {
            let n = self.dice.roll(TASKS);
            if group.wanted.iter().all(|(other, _)| *other != n) {
                self.plan(n, &mut group);
            }
        }
        let ids: Vec<Name> = group.changes.iter().map(|(n, _)| id(*n)).collect();
        let changes = ids.iter().zip(&group.changes);
        let mut writes: Vec<Write<'_>> = changes.map(|(id, (_, c))| Write::State(id, c)).collect();
        writes.extend(group.endings.into_iter().map(|e| Write::End(Box::new(e))));
        match store.store(&writes, &group.newcomers) {
            Ok(stored) => {
                for (write, applied) in writes.iter().zip(&stored.applied) {
                    if *applied == write.id().is_some_and(|id| group.ended.contains(id)) {
                        return Err(format!("{:?}: applied is {applied}", write.id()));
                    }
                }
                for accepted in stored.accepted {
                    accepted
                        .ok()
                        .filter(|a| a.fresh)
                        .ok_or("a task was there before it was accepted")?;
                }
                for (n, wanted) in group.wanted {
                    self.beliefs.entry(n).or_default().known = Some(wanted);
                }
            }
            Err(_) if vfs::locked(self.disk).is_off() => {
                self.whole = group.wanted.len() > 1;
                for (n, wanted) in group.wanted {
                    self.beliefs.entry(n).or_default().maybe = Some(wanted);
                }
            }
            Err(e) => return Err(format!("{e:?}")),
        }
        Ok(())
    }

    /// One operation on one task, and what it would make of it.
    fn plan(&mut self, n: u64, group: &mut Group) {
        let known = self.beliefs.entry(n).or_default().known.clone();
        let wanted = match (known, self.dice.roll(6)) {
            (None, dice) => {
                let (task, envelope) = SIGNED[n as usize].clone();
                let started = (dice < 3).then(now);
                group.newcomers.push(Newcomer {
                    task,
                    envelope,
                    accepted: now(),
                    inbox: None,
                    started,
                });
                let attempts = u32::from(started.is_some());
                Known::Open { attempts }
            }
            (Some(Known::Ended { answer }), _) => {
                group.ended.push(id(n));
                group.endings.push(ending(id(n).as_str(), &[9]));
                Known::Ended { answer }
            }
            (Some(Known::Open { .. }), 0) => {
                let answer = self.dice.roll(8) as u8;
                group.endings.push(ending(id(n).as_str(), &[answer]));
                Known::Ended { answer }
            }
            (Some(Known::Open { attempts }), 1) => {
                let attempts = attempts + 1;
                let at = now();
                group.changes.push((n, Change::Running { attempts, at }));
                Known::Open { attempts }
            }
            (Some(Known::Open { attempts }), _) => {
                group.changes.push((n, Change::Queued { attempts }));
                Known::Open { attempts }
            }
        };
        group.wanted.push((n, wanted));
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
        let (mut made, mut unmade) = (Vec::new(), Vec::new());
        for (n, belief) in &mut self.beliefs {
            let id = id(*n);
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
            if maybe.is_some() && maybe != belief.known {
                if found == maybe {
                    &mut made
                } else {
                    &mut unmade
                }
                .push(id);
            }
            belief.known = found;
        }
        if std::mem::take(&mut self.whole) && !made.is_empty() && !unmade.is_empty() {
            return Err(format!("half a group: {made:?} without {unmade:?}"));
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
fn lives(vfs_name: &str, synchronous: &str, group: u64, seeds: u64) -> Vec<String> {
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
            group,
            whole: false,
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
    let wrong = lives("fades-power-full", "EXTRA", 1, 60);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_power_cut_in_a_group_leaves_half_of_it() {
    let wrong = lives("fades-power-group", "EXTRA", 8, 60);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_power_cut_test_notices_when_less_is_synced() {
    for (synchronous, group) in [("OFF", 1), ("NORMAL", 1), ("OFF", 8), ("NORMAL", 8)] {
        let vfs_name = format!("fades-power-{synchronous}-{group}");
        let wrong = lives(&vfs_name, synchronous, group, 10);
        assert!(!wrong.is_empty(), "{synchronous}, groups of {group}");
    }
}
