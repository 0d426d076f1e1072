//! A control group for each tender, where the node may make some.
//!
//! A tender enforces a function's limits itself; its group holds the tender
//! to them, should a function ever become it. Both versions of the interface
//! are used: where version 1 has a controller, that hierarchy, else version 2
//! when the controller is delegated to the node.
//!
//! ```text
//! version 1                       version 2
//! …/own/fades-PID/shell-N         …/own/fades-PID/shell-N
//!                                 …/own/fades-PID/node      the node itself, for a group
//!                                                           with groups may hold no process
//! ```

mod place;

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::api::types::CgroupInfo;

use self::place::Place;

/// Processes of a tender: itself, its child, and what the kernel runs for a
/// machine in its name.
const PIDS_MAX: u64 = 16;

/// Something that a group can bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Controller {
    Memory,
    Pids,
}

impl Controller {
    const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Pids => "pids",
        }
    }
}

/// Where groups are made.
#[derive(Debug)]
pub(crate) struct Groups {
    places: Vec<Place>,
    info: CgroupInfo,
}

impl Groups {
    /// Finds out, by trying, what this process may make.
    pub(crate) fn find() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let own = read("/proc/self/cgroup");
        let mounts = read("/proc/self/mountinfo");
        let (mut places, mut reasons) = (Vec::<Place>::new(), Vec::new());
        for controller in [Controller::Memory, Controller::Pids] {
            let Some(location) = place::locate(&own, &mounts, controller) else {
                reasons.push(format!(
                    "{}: this host has no such hierarchy",
                    controller.name()
                ));
                continue;
            };
            if let Some(place) = places.iter_mut().find(|p| p.is_at(&location)) {
                place.add(controller);
                continue;
            }
            match Place::make(location, controller) {
                Ok(place) => places.push(place),
                Err(reason) => reasons.push(format!("{}: {reason}", controller.name())),
            }
        }
        places.retain_mut(|place| match place.open() {
            Ok(()) => true,
            Err(reason) => {
                reasons.push(reason);
                false
            }
        });
        let has = |controller| places.iter().any(|p| p.has(controller));
        let folders = places.iter().map(|p| p.folder().display().to_string());
        let detail = folders.chain(reasons).collect::<Vec<_>>().join("; ");
        let info = CgroupInfo {
            memory: has(Controller::Memory),
            pids: has(Controller::Pids),
            detail,
        };
        Self { places, info }
    }

    /// What is enforced, and where, or why not.
    pub(crate) fn info(&self) -> &CgroupInfo {
        &self.info
    }

    /// Removes what was made for groups. None is made after that.
    pub(crate) fn close(&self) {
        self.places.iter().for_each(Place::close);
    }

    /// Makes a group; `None` where none can be made.
    pub(crate) fn make(self: &Arc<Self>) -> io::Result<Option<Group>> {
        /// Of groups in the life of the process: nodes in one share a folder.
        static COUNT: AtomicU64 = AtomicU64::new(0);
        if self.places.is_empty() {
            return Ok(None);
        }
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut group = Group {
            folders: Vec::new(),
            groups: Arc::clone(self),
            memory: None,
        };
        for place in &self.places {
            let folder = place.folder().join(format!("shell-{number}"));
            fs::create_dir(&folder)?;
            group.folders.push(folder.clone());
            if place.has(Controller::Pids) {
                fs::write(folder.join("pids.max"), PIDS_MAX.to_string())?;
            }
        }
        Ok(Some(group))
    }
}

/// The group of one tender. It is removed when this is dropped, which must
/// not be before the tender is gone.
#[derive(Debug)]
pub(crate) struct Group {
    folders: Vec<PathBuf>,
    /// They stay as long as one of them is there.
    groups: Arc<Groups>,
    /// The bound that was set last, bytes.
    memory: Option<u64>,
}

impl Group {
    /// Puts a process, and all that it starts from now on, into the group.
    pub(crate) fn enter(&self, pid: u32) -> io::Result<()> {
        let pid = pid.to_string();
        let mut folders = self.folders.iter();
        folders.try_for_each(|folder| fs::write(folder.join("cgroup.procs"), &pid))
    }

    /// Bounds its memory, bytes.
    pub(crate) fn bound(&mut self, memory: u64) -> io::Result<()> {
        if self.memory == Some(memory) {
            return Ok(());
        }
        for (place, folder) in self.groups.places.iter().zip(&self.folders) {
            if place.has(Controller::Memory) {
                let file = folder.join(place.memory_file());
                fs::write(file, memory.to_string())?;
            }
        }
        self.memory = Some(memory);
        Ok(())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for folder in &self.folders {
            // One that is still in use goes when the next node starts.
            let _ = fs::remove_dir(folder);
        }
    }
}
