//! A disk that forgets what was not synced when the power is cut.

use std::collections::BTreeMap;

/// What a disk writes whole or not at all, bytes.
const SECTOR: usize = 512;

/// A small generator, so that a failure can be repeated.
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }
}

/// The power is off.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Off;

#[derive(Debug, Clone)]
enum Pending {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

#[derive(Debug, Default)]
struct File {
    /// As programs see it; `None` when it was deleted.
    seen: Option<Vec<u8>>,
    /// As it certainly survives.
    synced: Option<Vec<u8>>,
    /// Since it was last synced.
    pending: Vec<Pending>,
}

fn apply(content: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if content.len() < at + bytes.len() {
        content.resize(at + bytes.len(), 0);
    }
    content[at..at + bytes.len()].copy_from_slice(bytes);
}

#[derive(Debug)]
pub(super) struct Disk {
    files: BTreeMap<String, File>,
    /// Changes until the power is cut.
    left: Option<u64>,
    off: bool,
    dice: Dice,
}

impl Disk {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            files: BTreeMap::new(),
            left: None,
            off: false,
            dice: Dice::new(seed),
        }
    }

    /// The power will be cut at the nth change from now.
    pub(super) fn cut_after(&mut self, changes: u64) {
        self.left = Some(changes);
    }

    pub(super) fn is_off(&self) -> bool {
        self.off
    }

    /// Counts a change. The one at which the power is cut may still reach the
    /// disk, in parts.
    fn change(&mut self) -> Result<bool, Off> {
        if self.off {
            return Err(Off);
        }
        match &mut self.left {
            Some(0) => {
                self.off = true;
                Ok(false)
            }
            Some(left) => {
                *left -= 1;
                Ok(true)
            }
            None => Ok(true),
        }
    }

    fn file(&mut self, name: &str) -> &mut File {
        self.files.entry(name.to_owned()).or_default()
    }

    pub(super) fn exists(&self, name: &str) -> bool {
        self.files.get(name).is_some_and(|f| f.seen.is_some())
    }

    pub(super) fn create(&mut self, name: &str) -> Result<(), Off> {
        if !self.change()? {
            return Err(Off);
        }
        self.file(name).seen.get_or_insert_default();
        Ok(())
    }

    pub(super) fn size(&self, name: &str) -> usize {
        let seen = self.files.get(name).and_then(|f| f.seen.as_ref());
        seen.map_or(0, Vec::len)
    }

    /// Fills `into`, with zeros behind the end; how much was there.
    pub(super) fn read(&self, name: &str, at: usize, into: &mut [u8]) -> Result<usize, Off> {
        if self.off {
            return Err(Off);
        }
        into.fill(0);
        let seen = self.files.get(name).and_then(|f| f.seen.as_deref());
        let there = seen.and_then(|s| s.get(at..)).unwrap_or_default();
        let n = there.len().min(into.len());
        into[..n].copy_from_slice(&there[..n]);
        Ok(n)
    }

    pub(super) fn write(&mut self, name: &str, at: usize, bytes: &[u8]) -> Result<(), Off> {
        let on = self.change()?;
        let file = self.file(name);
        file.pending.push(Pending::Write(at, bytes.to_vec()));
        apply(file.seen.get_or_insert_default(), at, bytes);
        if on { Ok(()) } else { Err(Off) }
    }

    pub(super) fn truncate(&mut self, name: &str, size: usize) -> Result<(), Off> {
        let on = self.change()?;
        let file = self.file(name);
        file.pending.push(Pending::Truncate(size));
        file.seen.get_or_insert_default().truncate(size);
        if on { Ok(()) } else { Err(Off) }
    }

    pub(super) fn sync(&mut self, name: &str) -> Result<(), Off> {
        if !self.change()? {
            return Err(Off);
        }
        let file = self.file(name);
        file.synced = file.seen.clone();
        file.pending.clear();
        Ok(())
    }

    /// `for_good`: the folder is synced as well.
    pub(super) fn delete(&mut self, name: &str, for_good: bool) -> Result<(), Off> {
        if !self.change()? {
            return Err(Off);
        }
        let file = self.file(name);
        file.seen = None;
        file.pending.clear();
        if for_good {
            file.synced = None;
        }
        Ok(())
    }

    /// What is left when the power comes back.
    pub(super) fn power_on(&mut self) {
        let dice = &mut self.dice;
        for file in self.files.values_mut() {
            let survives = match (&file.synced, &file.seen) {
                (Some(_), Some(_)) => true,
                (None, None) => false,
                // A name that was made or removed and not synced.
                _ => dice.roll(2) == 0,
            };
            let mut content = file.synced.take().unwrap_or_default();
            for pending in file.pending.drain(..) {
                keep_some(&mut content, pending, dice);
            }
            file.seen = survives.then_some(content);
            file.synced.clone_from(&file.seen);
        }
        self.off = false;
        self.left = None;
    }
}

/// All of a change, none of it, or some of its sectors.
fn keep_some(content: &mut Vec<u8>, pending: Pending, dice: &mut Dice) {
    let fate = dice.roll(3);
    match pending {
        _ if fate == 0 => {}
        Pending::Truncate(size) => content.truncate(size),
        Pending::Write(at, bytes) if fate == 1 => apply(content, at, &bytes),
        Pending::Write(at, bytes) => {
            let mut from = 0;
            while from < bytes.len() {
                let to = ((at + from) / SECTOR + 1) * SECTOR - at;
                let to = to.min(bytes.len());
                if dice.roll(2) == 0 {
                    apply(content, at + from, &bytes[from..to]);
                }
                from = to;
            }
        }
    }
}

#[test]
fn what_was_synced_survives_and_the_rest_may_not() {
    let mut lost = 0;
    for seed in 0..50 {
        let mut disk = Disk::new(seed);
        disk.create("f").unwrap();
        disk.write("f", 0, b"synced").unwrap();
        disk.sync("f").unwrap();
        disk.write("f", 6, b"not").unwrap();
        disk.power_on();
        let mut bytes = [0; 9];
        let n = disk.read("f", 0, &mut bytes).unwrap();
        assert_eq!(&bytes[..6], b"synced");
        lost += u32::from(n == 6);
    }
    assert!((1..50).contains(&lost));
}
