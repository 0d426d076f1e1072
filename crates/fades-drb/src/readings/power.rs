//! Cutting the power: what is done to a folder is noted, and any state that a disk
//! could be in after the power went at any moment is made again.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Notes what is done to a folder, if it is asked to, and runs out of room.
#[derive(Debug, Default)]
pub(crate) struct Watch(Mutex<Watched>);

#[derive(Debug, Default)]
struct Watched {
    ops: Option<Vec<Op>>,
    /// Bytes that there is room for.
    room: Option<usize>,
}

/// Something that was done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Op {
    Create(PathBuf),
    Write(PathBuf, Vec<u8>),
    Cut(PathBuf, u64),
    Sync(PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    SyncFolder(PathBuf),
    /// Not of the disk: all readings up to this number are durable.
    Acknowledge(usize),
}

impl Watch {
    fn note(&self, op: Op) {
        if let Some(ops) = &mut self.0.lock().unwrap().ops {
            ops.push(op);
        }
    }

    /// From now on what is done is noted.
    pub(crate) fn begin(&self) {
        self.0.lock().unwrap().ops = Some(Vec::new());
    }

    pub(crate) fn acknowledge(&self, readings: usize) {
        self.note(Op::Acknowledge(readings));
    }

    pub(crate) fn ops(&self) -> Vec<Op> {
        self.0.lock().unwrap().ops.clone().unwrap_or_default()
    }

    /// There is room for so many more bytes; `None`: for all.
    pub(crate) fn set_room(&self, room: Option<usize>) {
        self.0.lock().unwrap().room = room;
    }

    pub(crate) fn create(&self, path: &Path) -> io::Result<()> {
        self.note(Op::Create(path.to_owned()));
        Ok(())
    }

    /// What of `bytes` there is room for.
    pub(crate) fn write<'a>(&self, path: &Path, bytes: &'a [u8]) -> io::Result<&'a [u8]> {
        let mut watched = self.0.lock().unwrap();
        let bytes = match &mut watched.room {
            Some(0) if !bytes.is_empty() => {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            Some(room) => {
                let bytes = &bytes[..bytes.len().min(*room)];
                *room -= bytes.len();
                bytes
            }
            None => bytes,
        };
        if let Some(ops) = &mut watched.ops {
            ops.push(Op::Write(path.to_owned(), bytes.to_vec()));
        }
        Ok(bytes)
    }

    pub(crate) fn cut(&self, path: &Path, length: u64) -> io::Result<()> {
        self.note(Op::Cut(path.to_owned(), length));
        Ok(())
    }

    pub(crate) fn sync(&self, path: &Path) -> io::Result<()> {
        self.note(Op::Sync(path.to_owned()));
        Ok(())
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.note(Op::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        self.note(Op::Remove(path.to_owned()));
        Ok(())
    }

    pub(crate) fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.note(Op::SyncFolder(path.to_owned()));
        Ok(())
    }
}

/// What survives of what was not made durable.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Survives {
    /// Bytes of the last writes to each file: none, half of them, or all.
    pub(crate) bytes: Share,
    /// The file is as long as it was, with zeros where bytes are lost.
    pub(crate) zeros: bool,
    /// Names.
    pub(crate) names: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Share {
    None,
    Half,
    All,
}

#[derive(Debug, Clone, Default)]
struct Inode {
    content: Vec<u8>,
    durable: Vec<u8>,
}

/// A disk as it would be.
#[derive(Debug, Default)]
pub(crate) struct Platter {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable: BTreeMap<PathBuf, usize>,
}

impl Platter {
    pub(crate) fn apply(&mut self, op: &Op) {
        match op {
            Op::Create(path) => {
                self.names.insert(path.clone(), self.inodes.len());
                self.inodes.push(Inode::default());
            }
            Op::Write(path, bytes) => self.inode(path).content.extend(bytes),
            Op::Cut(path, length) => self.inode(path).content.truncate(*length as usize),
            Op::Sync(path) => {
                let inode = self.inode(path);
                inode.durable = inode.content.clone();
            }
            Op::Rename(from, to) => {
                let inode = self.names.remove(from).unwrap();
                self.names.insert(to.clone(), inode);
            }
            Op::Remove(path) => {
                self.names.remove(path);
            }
            Op::SyncFolder(_) => self.durable = self.names.clone(),
            Op::Acknowledge(_) => {}
        }
    }

    fn inode(&mut self, path: &Path) -> &mut Inode {
        &mut self.inodes[self.names[path]]
    }

    /// Makes what is left of it after a cut below `to`; paths were below `from`.
    pub(crate) fn settle(&self, survives: Survives, from: &Path, to: &Path) {
        let names = if survives.names {
            &self.names
        } else {
            &self.durable
        };
        for (path, inode) in names {
            let Inode { content, durable } = &self.inodes[*inode];
            let common = content
                .iter()
                .zip(durable)
                .take_while(|(a, b)| a == b)
                .count();
            let mut left = match survives.bytes {
                Share::None => durable.clone(),
                Share::Half => content[..common + (content.len() - common) / 2].to_vec(),
                Share::All => content.clone(),
            };
            if survives.zeros {
                left.resize(left.len().max(content.len()), 0);
            }
            let path = to.join(path.strip_prefix(from).unwrap());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, left).unwrap();
        }
    }
}
