//! What runs take of the node, and what there is.

use fades_task::quantity::Size;

use super::Task;
use super::queue::Fit;

/// What may run at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Most runs: the share of the cores.
    pub parallel: usize,
    /// Most memory of all functions together.
    pub memory: Size,
    /// Most bytes of batch files together.
    pub input: Size,
    /// Longest batch of a run, bytes.
    pub batch: Size,
}

/// What a run takes until its tender is clean again or gone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Need {
    /// Of the memory for functions: `function.limits.memory`.
    pub memory: Size,
    /// Of the room for batch files: two batches, one being filled while the
    /// function works on the other. Nothing when nothing is retrieved.
    pub input: Size,
}

impl Capacity {
    /// What a run of this task takes.
    #[must_use]
    pub fn need(&self, mtw: &fades_task::mtw::Mtw) -> Need {
        let input = match mtw.retrieve.is_empty() {
            true => 0,
            false => self.batch.0.saturating_mul(2),
        };
        Need {
            memory: mtw.function.limits.memory,
            input: Size(input),
        }
    }
}

/// What runs take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub(super) capacity: Capacity,
    runs: usize,
    memory: u64,
    input: u64,
    /// Of `memory`, what functions at rest have.
    asleep: u64,
}

impl Room {
    pub(super) const fn new(capacity: Capacity) -> Self {
        Self {
            capacity,
            runs: 0,
            memory: 0,
            input: 0,
            asleep: 0,
        }
    }

    /// Whether there is room for one more run of any kind.
    pub(super) const fn has_slot(&self) -> bool {
        self.runs < self.capacity.parallel
    }

    pub(super) fn fits(&self, need: Need) -> Fit {
        let Capacity { memory, input, .. } = self.capacity;
        if need.memory > memory || need.input > input {
            return Fit::Never;
        }
        let fits = self.has_slot()
            && self.memory.saturating_add(need.memory.0) <= memory.0
            && self.input.saturating_add(need.input.0) <= input.0;
        match fits {
            true => Fit::Now,
            false => Fit::Later,
        }
    }

    pub(super) const fn take(&mut self, need: Need) {
        self.runs += 1;
        self.memory += need.memory.0;
        self.input += need.input.0;
    }

    pub(super) const fn give_back(&mut self, need: Need) {
        self.runs -= 1;
        self.memory -= need.memory.0;
        self.input -= need.input.0;
    }

    /// A function that stays has nothing to do: it keeps its memory only.
    pub(super) const fn rest(&mut self, need: Need) {
        self.runs -= 1;
        self.input -= need.input.0;
        self.asleep += need.memory.0;
    }

    /// It has something to do again.
    pub(super) const fn wake(&mut self, need: Need) {
        self.runs += 1;
        self.input += need.input.0;
        self.asleep -= need.memory.0;
    }

    /// A function is gone that was at rest.
    pub(super) const fn leave(&mut self, need: Need) {
        self.memory -= need.memory.0;
        self.asleep -= need.memory.0;
    }

    /// As if there were no functions at rest.
    pub(super) const fn without_rest(mut self) -> Self {
        self.memory -= self.asleep;
        self
    }
}

impl Task {
    pub(super) fn need(&self, capacity: &Capacity) -> Need {
        capacity.need(&self.mtw)
    }
}
