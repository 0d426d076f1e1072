//! How much a shell has room for.
//!
//! A *shell* is a tender with an empty microVM (or a waiting process), made
//! ahead of need. What it has room for is fixed when it is made; what a run may
//! use is not decided here but by the run's limits, which a larger shell never
//! loosens.

use serde::{Deserialize, Serialize};

use crate::quantity::Size;

/// The size class of a shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Class {
    /// Room for images, contexts and answers of any size that the contract
    /// allows. Without it: for those of common size, at less kernel memory.
    pub bulk: bool,
    /// Most bytes of heap, one of [`Self::HEAPS`].
    pub heap: Size,
    /// Length of the input window, bytes: the longest batch. A multiple of
    /// [`Self::WINDOW_STEP`].
    pub window: Size,
}

impl Class {
    /// Heaps that shells are made with. The kernel's own memory for a heap is
    /// about 1/400 of it, so the steps are wide.
    pub const HEAPS: [Size; 6] = [
        Size(4 << 20),
        Size(16 << 20),
        Size(64 << 20),
        Size(256 << 20),
        Size(1 << 30),
        Size((8 << 30) + (4 << 20)),
    ];

    /// Windows consist of pages of this length, bytes.
    pub const WINDOW_STEP: Size = Size(2 << 20);

    /// The longest window, bytes.
    pub const WINDOW_MAX: Size = Size(8 << 30);

    /// The smallest class with room for `needs` and batches of `window` bytes;
    /// `None` when there is none.
    #[must_use]
    pub fn fitting(needs: Needs, window: Size) -> Option<Self> {
        let heap = Self::HEAPS.into_iter().find(|h| *h >= needs.heap)?;
        let window = window
            .0
            .max(1)
            .checked_next_multiple_of(Self::WINDOW_STEP.0)?;
        (window <= Self::WINDOW_MAX.0).then_some(Self {
            bulk: needs.bulk,
            heap,
            window: Size(window),
        })
    }

    /// Whether a shell of this class can run what needs `other`. A template's
    /// addresses depend on `bulk`, so that has to be the same.
    #[must_use]
    pub fn holds(self, other: Self) -> bool {
        self.bulk == other.bulk && self.heap >= other.heap && self.window >= other.window
    }
}

/// What a template needs of the shell that runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Needs {
    /// See [`Class::bulk`].
    pub bulk: bool,
    /// Bytes of heap that the limit of memory leaves.
    pub heap: Size,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(heap: u64) -> Needs {
        Needs {
            bulk: false,
            heap: Size(heap),
        }
    }

    #[test]
    fn the_smallest_class_that_fits_is_chosen() {
        let class = Class::fitting(needs(5 << 20), Size(1)).unwrap();
        assert_eq!(class.heap, Size(16 << 20));
        assert_eq!(class.window, Class::WINDOW_STEP);
        assert_eq!(Class::fitting(needs(9 << 30), Size(1)), None);
        assert_eq!(Class::fitting(needs(1), Size(u64::MAX)), None);
    }

    #[test]
    fn a_larger_shell_holds_what_a_smaller_one_does_but_for_its_addresses() {
        let small = Class::fitting(needs(1), Size(1)).unwrap();
        let large = Class::fitting(needs(20 << 20), Size(64 << 20)).unwrap();
        assert!(large.holds(small) && small.holds(small) && !small.holds(large));
        let bulk = Class {
            bulk: true,
            ..large
        };
        assert!(!bulk.holds(small));
    }
}
