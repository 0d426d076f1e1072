//! How many shells shall wait for runs.
//!
//! As many as were lately used at one time, and one more, as far as memory for
//! waiting shells and the number of runs at once allow. A peak counts for the
//! period in which it was and for the next one.

use std::collections::BTreeMap;

use fades_task::limits::{Isolation, Limits};
use fades_task::quantity::Size;
use fades_task::shell::{Class, Needs};

/// What a waiting shell takes, bytes: its process and its machine, without
/// what depends on its class.
const SHELL_COST: u64 = 768 << 10;

/// The kernel keeps tables for a machine's memory: about so many times less.
const TABLES: u64 = 400;

/// What shells are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Kind {
    pub(super) isolation: Isolation,
    pub(super) class: Class,
}

impl Kind {
    /// Memory that one takes while it waits, bytes.
    pub(super) const fn cost(self) -> u64 {
        SHELL_COST + (self.class.heap.0 + self.class.window.0) / TABLES
    }

    /// Whether a shell of this kind can run what needs `other`.
    pub(super) fn holds(self, other: Self) -> bool {
        self.isolation == other.isolation && self.class.holds(other.class)
    }
}

/// What runs use now, and used lately.
#[derive(Debug)]
pub(super) struct Demand {
    parallel: usize,
    /// The class that most runs fit; spares of it wait at all times.
    common: Option<Class>,
    strongest: Option<Isolation>,
    kinds: BTreeMap<Kind, Use>,
}

#[derive(Debug, Default)]
struct Use {
    now: usize,
    peak: usize,
    peak_before: usize,
}

impl Demand {
    /// At most `parallel` runs at once, of batches of at most `window` bytes.
    pub(super) fn new(parallel: usize, strongest: Option<Isolation>, window: Size) -> Self {
        let needs = Needs {
            bulk: false,
            heap: Limits::default().memory,
        };
        Self {
            parallel,
            common: Class::fitting(needs, window),
            strongest,
            kinds: BTreeMap::new(),
        }
    }

    /// At most so many runs at once from now on.
    pub(super) const fn bound(&mut self, parallel: usize) {
        self.parallel = parallel;
    }

    /// The kind of shells for runs that need at least `class`: few kinds, so
    /// that a spare fits most.
    pub(super) fn kind(&self, isolation: Isolation, class: Class) -> Kind {
        let common = self.common.filter(|common| common.holds(class));
        Kind {
            isolation,
            class: common.unwrap_or(class),
        }
    }

    fn base(&self) -> Option<Kind> {
        let (isolation, class) = (self.strongest?, self.common?);
        Some(Kind { isolation, class })
    }

    /// One more run wants a shell of this kind.
    pub(super) fn begins(&mut self, kind: Kind) {
        let used = self.kinds.entry(kind).or_default();
        used.now += 1;
        used.peak = used.peak.max(used.now);
    }

    /// One run less does.
    pub(super) fn ends(&mut self, kind: Kind) {
        if let Some(used) = self.kinds.get_mut(&kind) {
            used.now = used.now.saturating_sub(1);
        }
    }

    /// All kinds of which some shall wait, the most used first.
    pub(super) fn kinds(&self) -> Vec<Kind> {
        let mut kinds: Vec<Kind> = self.kinds.keys().copied().collect();
        if let Some(base) = self.base().filter(|base| !kinds.contains(base)) {
            kinds.push(base);
        }
        kinds.sort_by_key(|kind| std::cmp::Reverse(self.peak(*kind)));
        kinds
    }

    fn peak(&self, kind: Kind) -> usize {
        let used = self.kinds.get(&kind);
        used.map_or(0, |u| u.peak.max(u.peak_before))
    }

    /// How many shells of this kind shall wait at the moment.
    pub(super) fn spares(&self, kind: Kind) -> usize {
        let least = usize::from(self.base() == Some(kind));
        let now = self.kinds.get(&kind).map_or(0, |u| u.now);
        match (self.peak(kind), kind.isolation) {
            (0, _) => least,
            // Those that work come back.
            (peak, Isolation::Microvm) => (peak + 1).min(self.parallel).saturating_sub(now),
            // Those that work do not come back, and runs follow on them.
            (peak, Isolation::Process) => peak.min(self.parallel).max(least),
        }
    }

    /// A period has passed: what was before it is forgotten.
    pub(super) fn forget(&mut self) {
        self.kinds.retain(|_, used| {
            used.peak_before = used.peak;
            used.peak = used.now;
            used.peak_before > 0
        });
    }

    /// Nothing is left to forget.
    pub(super) fn is_calm(&self) -> bool {
        self.kinds.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Size = Size(64 << 20);

    fn demand(parallel: usize) -> Demand {
        Demand::new(parallel, Some(Isolation::Microvm), WINDOW)
    }

    fn kind(demand: &Demand, isolation: Isolation, heap: u64) -> Kind {
        let needs = Needs {
            bulk: false,
            heap: Size(heap),
        };
        demand.kind(isolation, Class::fitting(needs, WINDOW).unwrap())
    }

    #[test]
    fn one_shell_of_the_common_kind_waits_without_any_demand() {
        let demand = demand(8);
        let common = kind(&demand, Isolation::Microvm, 1);
        assert_eq!(demand.kinds(), [common]);
        assert_eq!(demand.spares(common), 1);
        assert_eq!(demand.spares(kind(&demand, Isolation::Process, 1)), 0);
        assert_eq!(
            demand.spares(kind(&demand, Isolation::Microvm, 60 << 20)),
            0
        );
        assert!(demand.is_calm());
    }

    #[test]
    fn what_fits_the_common_class_is_of_the_common_kind() {
        let demand = demand(1);
        let common = kind(&demand, Isolation::Microvm, 16 << 20);
        assert_eq!(kind(&demand, Isolation::Microvm, 1 << 20), common);
        assert_ne!(kind(&demand, Isolation::Microvm, 17 << 20), common);
        let bulk = Class {
            bulk: true,
            ..common.class
        };
        assert_ne!(demand.kind(Isolation::Microvm, bulk), common);
    }

    #[test]
    fn machines_follow_the_peak_up_to_the_number_of_runs_at_once() {
        let mut demand = demand(4);
        let kind = kind(&demand, Isolation::Microvm, 1);
        demand.begins(kind);
        assert_eq!(demand.spares(kind), 1);
        demand.begins(kind);
        demand.begins(kind);
        assert_eq!(demand.spares(kind), 1);
        demand.begins(kind);
        assert_eq!(demand.spares(kind), 0, "nobody could use one");
        for _ in 0..4 {
            demand.ends(kind);
        }
        assert_eq!(demand.spares(kind), 4);
    }

    #[test]
    fn processes_are_kept_ready_beside_those_that_work() {
        let mut demand = demand(4);
        let kind = kind(&demand, Isolation::Process, 1);
        demand.begins(kind);
        demand.begins(kind);
        assert_eq!(demand.spares(kind), 2);
        demand.ends(kind);
        assert_eq!(demand.spares(kind), 2);
    }

    #[test]
    fn a_peak_is_forgotten_after_two_periods() {
        let mut demand = demand(4);
        let kind = kind(&demand, Isolation::Microvm, 1);
        demand.begins(kind);
        demand.begins(kind);
        demand.ends(kind);
        demand.forget();
        assert_eq!(demand.spares(kind), 2);
        demand.ends(kind);
        demand.forget();
        assert_eq!(demand.spares(kind), 2, "one worked in the last period");
        demand.forget();
        assert_eq!(demand.spares(kind), 1);
        assert!(demand.is_calm());
    }

    #[test]
    fn larger_classes_cost_more() {
        let demand = demand(1);
        let small = kind(&demand, Isolation::Microvm, 1).cost();
        let large = kind(&demand, Isolation::Microvm, 1 << 30).cost();
        assert!(small < 1 << 20 && large > small + (2 << 20));
    }
}
