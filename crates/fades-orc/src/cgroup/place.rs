//! The part of a hierarchy in which a node makes groups.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Controller;

/// First part of the names of nodes' groups; the process's id follows.
const PREFIX: &str = "fades-";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// The group in which this process is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Location {
    version: Version,
    folder: PathBuf,
}

/// Finds the group of this process that has a controller, out of what
/// `/proc/self/cgroup` and `/proc/self/mountinfo` say. Version 1 has it when
/// both do.
pub(super) fn locate(own: &str, mounts: &str, controller: Controller) -> Option<Location> {
    let name = controller.name();
    let of_one = |controllers: &str| controllers.split(',').any(|c| c == name);
    let place = |version, path: &str| {
        let folder = folder(mounts, version, name, path)?;
        Some(Location { version, folder })
    };
    let lines = || {
        own.lines()
            .filter_map(|line| line.splitn(3, ':').collect::<Vec<_>>().try_into().ok())
    };
    let one = lines().find(|[_, controllers, _]: &[&str; 3]| of_one(controllers));
    let one = one.and_then(|[_, _, path]| place(Version::One, path));
    one.or_else(|| {
        let [_, _, path] = lines().find(|[number, ..]: &[&str; 3]| *number == "0")?;
        place(Version::Two, path)
    })
}

/// Where the group `path` of a hierarchy is seen.
fn folder(mounts: &str, version: Version, controller: &str, path: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (mount, system) = line.split_once(" - ")?;
        let mut system = system.split(' ');
        let (kind, options) = (system.next()?, system.nth(1)?);
        let right = match version {
            Version::One => kind == "cgroup" && options.split(',').any(|o| o == controller),
            Version::Two => kind == "cgroup2",
        };
        let mut mount = mount.split(' ').skip(3);
        let (root, point) = (mount.next()?, mount.next()?);
        let below = Path::new(path).strip_prefix(root).ok()?;
        right.then(|| Path::new(point).join(below))
    })
}

/// A group of this node's own, below the one that it is in.
#[derive(Debug)]
pub(super) struct Place {
    location: Location,
    folder: PathBuf,
    controllers: Vec<Controller>,
    /// The node is in a group of its own for the sake of the others.
    moved: bool,
}

impl Place {
    pub(super) fn make(location: Location, controller: Controller) -> Result<Self, String> {
        remove_leftovers(&location.folder);
        let folder = location
            .folder
            .join(format!("{PREFIX}{}", std::process::id()));
        match fs::create_dir(&folder) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                return Err(format!("{} cannot be made: {e}", folder.display()));
            }
            _ => {}
        }
        Ok(Self {
            location,
            folder,
            controllers: vec![controller],
            moved: false,
        })
    }

    pub(super) fn is_at(&self, location: &Location) -> bool {
        self.location == *location
    }

    pub(super) fn add(&mut self, controller: Controller) {
        self.controllers.push(controller);
    }

    pub(super) fn has(&self, controller: Controller) -> bool {
        self.controllers.contains(&controller)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) const fn memory_file(&self) -> &'static str {
        match self.location.version {
            Version::One => "memory.limit_in_bytes",
            Version::Two => "memory.max",
        }
    }

    /// Makes it fit to hold groups with its controllers.
    pub(super) fn open(&mut self) -> Result<(), String> {
        match self.location.version {
            Version::One => Ok(()),
            Version::Two => self.delegate(),
        }
    }

    fn delegate(&mut self) -> Result<(), String> {
        let own = self.location.folder.clone();
        let read = |name: &str| fs::read_to_string(own.join(name)).unwrap_or_default();
        let there = read("cgroup.controllers");
        let there: Vec<&str> = there.split_whitespace().collect();
        self.controllers.retain(|c| there.contains(&c.name()));
        if self.controllers.is_empty() {
            return Err(format!(
                "{} has neither memory nor pids: let the service manager delegate them (Delegate=yes)",
                own.display()
            ));
        }
        let shared = read("cgroup.subtree_control");
        let shared: Vec<&str> = shared.split_whitespace().collect();
        if !self.controllers.iter().all(|c| shared.contains(&c.name())) {
            self.leave_own_group()?;
        }
        let wanted = self.controllers.iter().map(|c| format!("+{}", c.name()));
        let wanted = wanted.collect::<Vec<_>>().join(" ");
        for folder in [&own, &self.folder] {
            let file = folder.join("cgroup.subtree_control");
            fs::write(&file, &wanted).map_err(|e| format!("{}: {e}", file.display()))?;
        }
        Ok(())
    }

    /// A group whose groups have controllers may hold no process itself.
    fn leave_own_group(&mut self) -> Result<(), String> {
        let (own, me) = (&self.location.folder, std::process::id().to_string());
        let others = fs::read_to_string(own.join("cgroup.procs")).unwrap_or_default();
        if others.lines().any(|pid| pid != me) {
            return Err(format!(
                "{} has other processes in it: start the node as a service of its own (Delegate=yes)",
                own.display()
            ));
        }
        let node = self.folder.join("node");
        let failed = |e: io::Error| format!("{}: {e}", node.display());
        fs::create_dir(&node).map_err(failed)?;
        fs::write(node.join("cgroup.procs"), &me).map_err(failed)?;
        self.moved = true;
        Ok(())
    }
}

impl Place {
    /// Undoes what was done for it, when it holds no group any more.
    pub(super) fn close(&self) {
        if self.moved {
            let own = &self.location.folder;
            let given = self.controllers.iter().map(|c| format!("-{}", c.name()));
            let given = given.collect::<Vec<_>>().join(" ");
            for folder in [&self.folder, own] {
                // Whatever cannot be undone is gone with the service.
                let _ = fs::write(folder.join("cgroup.subtree_control"), &given);
            }
            let me = std::process::id().to_string();
            // As above.
            let _ = fs::write(own.join("cgroup.procs"), me);
            let _ = fs::remove_dir(self.folder.join("node"));
        }
        // As above.
        let _ = fs::remove_dir(&self.folder);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.close();
    }
}

/// Removes the groups of nodes that were killed.
fn remove_leftovers(own: &Path) {
    for entry in fs::read_dir(own).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|n| n.strip_prefix(PREFIX));
        let Some(pid) = pid.and_then(|p| p.parse::<u32>().ok()) else {
            continue;
        };
        if Path::new("/proc").join(pid.to_string()).exists() {
            continue;
        }
        for group in fs::read_dir(entry.path()).into_iter().flatten().flatten() {
            if group.file_type().is_ok_and(|t| t.is_dir()) {
                // Another node may be at it as well.
                let _ = fs::remove_dir(group.path());
            }
        }
        // As above.
        let _ = fs::remove_dir(entry.path());
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::{Controller, Location, Place, Version, locate};

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";

    const UNIFIED: &str = "30 23 0:27 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate";

    const CONTAINER: &str =
        "30 23 0:27 /docker/c1 /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory";

    fn at(version: Version, folder: &str) -> Option<Location> {
        Some(Location {
            version,
            folder: PathBuf::from(folder),
        })
    }

    #[test]
    fn the_group_that_has_a_controller_is_found() {
        let hybrid = "4:memory:/api/x\n0::/user/x\n";
        let memory = locate(hybrid, HYBRID, Controller::Memory);
        assert_eq!(memory, at(Version::One, "/sys/fs/cgroup/memory/api/x"));
        let pids = locate(hybrid, HYBRID, Controller::Pids);
        assert_eq!(pids, at(Version::Two, "/sys/fs/cgroup/unified/user/x"));
        let unified = locate(
            "0::/system.slice/a:b.service\n",
            UNIFIED,
            Controller::Memory,
        );
        let folder = "/sys/fs/cgroup/system.slice/a:b.service";
        assert_eq!(unified, at(Version::Two, folder));
        let inside = locate("4:memory:/docker/c1/n\n", CONTAINER, Controller::Memory);
        assert_eq!(inside, at(Version::One, "/sys/fs/cgroup/memory/n"));
        assert_eq!(
            locate("4:memory:/other\n", CONTAINER, Controller::Memory),
            None
        );
        assert_eq!(locate("", UNIFIED, Controller::Memory), None);
    }

    /// A folder that looks like a group of version 2.
    fn unified(processes: &str, controllers: &str) -> (tempfile::TempDir, Result<Place, String>) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("cgroup.procs", processes),
            ("cgroup.controllers", controllers),
            ("cgroup.subtree_control", ""),
        ] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let location = Location {
            version: Version::Two,
            folder: folder.path().to_owned(),
        };
        let mut place = Place::make(location, Controller::Memory).unwrap();
        place.add(Controller::Pids);
        let opened = place.open();
        (folder, opened.map(|()| place))
    }

    #[test]
    fn a_node_that_is_alone_in_a_delegated_group_moves_down_and_passes_controllers_on() {
        let me = std::process::id().to_string();
        let (folder, place) = unified(&format!("{me}\n"), "cpu memory pids\n");
        let place = place.unwrap();
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        assert_eq!(read(&place.folder().join("node/cgroup.procs")), me);
        for at in [folder.path(), place.folder()] {
            assert_eq!(read(&at.join("cgroup.subtree_control")), "+memory +pids");
        }
        drop(place);
        assert_eq!(read(&folder.path().join("cgroup.procs")), me);
    }

    #[test]
    fn only_the_controllers_that_are_delegated_are_used() {
        let me = format!("{}\n", std::process::id());
        let place = unified(&me, "pids\n").1.unwrap();
        assert!(place.has(Controller::Pids) && !place.has(Controller::Memory));
        let reason = unified(&me, "cpu\n").1.unwrap_err();
        assert!(reason.contains("Delegate=yes"), "{reason}");
    }

    #[test]
    fn a_group_with_others_in_it_is_left_as_it_is() {
        let (folder, place) = unified("1\n2\n", "memory pids\n");
        let reason = place.unwrap_err();
        assert!(reason.contains("other processes"), "{reason}");
        let control = fs::read_to_string(folder.path().join("cgroup.subtree_control"));
        assert_eq!(control.unwrap(), "");
        let left = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 3, "its own group is removed again");
    }
}
