//! Which parts of a configuration a node takes while it runs.

use std::fmt;
use std::sync::Arc;

use fades_task::quantity::Size;

use super::NodeConfig;
use crate::api::types::Reloaded;

/// What a node takes while it runs, by the fields of `node.toml`; a field that
/// ends with a dot stands for all in its table.
const LIVE: [&str; 8] = [
    "queue.",
    "limits.",
    "grant.",
    "node.parallel",
    "node.memory",
    "node.limits.",
    "node.drain",
    "node.tls.",
];

/// Whether a change of this field of `node.toml` needs no restart.
#[must_use]
pub fn is_live(field: &str) -> bool {
    LIVE.iter().any(|live| match live.ends_with('.') {
        true => field.starts_with(live),
        false => field == *live,
    })
}

/// Reads a node's configuration anew, and says which fields changed; what is
/// wrong with it otherwise, in words.
#[derive(Clone)]
pub struct Reread(pub Arc<Reader>);

/// See [`Reread`].
pub type Reader = dyn Fn() -> Result<(NodeConfig, Reloaded), String> + Send + Sync;

impl fmt::Debug for Reread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reread")
    }
}

impl NodeConfig {
    /// This configuration with what may change while a node runs taken from
    /// `new`. The rest of `new` is for the next start.
    #[must_use]
    pub fn taking(&self, new: &Self) -> Self {
        let mut taken = self.clone();
        taken.order = new.order;
        taken.allowances = new.allowances.clone();
        taken.grants = new.grants.clone();
        taken.parallel = new.parallel;
        taken.memory = new.memory;
        taken.caps = new.caps;
        taken.drain = new.drain;
        if let (Some(listen), Some(new)) = (&mut taken.listen, &new.listen) {
            listen.tls = new.tls.clone();
        }
        taken.broker.chunk = self.chunk_beside(new);
        taken
    }

    /// The chunk for runs from now on. More runs at once get shorter batches,
    /// so that there is room for two of each. Fewer keep what they have:
    /// tenders were made for batches that are no longer.
    fn chunk_beside(&self, new: &Self) -> Size {
        match new.parallel > self.parallel && new.broker.budget == self.broker.budget {
            true => self.broker.chunk.min(new.broker.chunk),
            false => self.broker.chunk,
        }
    }
}

#[cfg(test)]
mod tests {
    use fades_task::policy::Policy;
    use fades_task::quantity::Size;

    use super::is_live;
    use crate::samples::{config, name};

    #[test]
    fn what_may_change_is_taken_and_nothing_else() {
        let old = config("/nowhere".as_ref());
        let mut new = old.clone();
        new.order.policy = Policy::Priority;
        new.parallel = 9;
        new.memory = Size(1 << 30);
        new.caps.memory = Size(1 << 21);
        new.drain = std::time::Duration::from_secs(99);
        new.allowances
            .0
            .insert(name("air"), fades_task::allowance::Allowance::default());
        new.broker.chunk = Size(8 << 20);
        new.name = name("other");
        new.socket = "/other".into();
        let taken = old.taking(&new);
        assert_eq!((taken.order, taken.parallel), (new.order, 9));
        assert_eq!((taken.memory, taken.caps), (new.memory, new.caps));
        assert_eq!(
            (taken.allowances, taken.drain),
            (new.allowances.clone(), new.drain)
        );
        assert_eq!(taken.broker.chunk, Size(8 << 20));
        assert_eq!((&taken.name, &taken.socket), (&old.name, &old.socket));
    }

    #[test]
    fn batches_never_become_longer_than_tenders_were_made_for() {
        let old = config("/nowhere".as_ref());
        let mut new = old.clone();
        new.parallel = 1;
        new.broker.chunk = Size(128 << 20);
        assert_eq!(old.taking(&new).broker.chunk, old.broker.chunk);
        new.parallel = 9;
        assert_eq!(old.taking(&new).broker.chunk, old.broker.chunk);
    }

    #[test]
    fn fields_that_need_a_restart_are_told_from_others() {
        for live in [
            "queue.policy",
            "limits.air.runs",
            "grant.air.kinds",
            "node.parallel",
            "node.limits.memory",
            "node.tls.key-file",
        ] {
            assert!(is_live(live), "{live}");
        }
        for other in [
            "node.name",
            "node.memory-of-old",
            "source.hall.url",
            "node.batches",
            "node.listen",
        ] {
            assert!(!is_live(other), "{other}");
        }
    }
}
