//! What has changed, in order, for those who watch.
//!
//! The store tells of tasks after it has stored them, the driver of the node's
//! health. The last [`KEPT`] changes are kept once for all watchers; each
//! watcher keeps the number of the change that it saw last and reads on from
//! there. One that is too slow finds that what comes next is no longer there:
//! nothing is ever gathered for it alone.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::api::types::{NodeHealth, TaskSummary};

/// Changes that are kept.
pub(crate) const KEPT: usize = 4_096;

/// Most changes that are handed out at once.
const AT_ONCE: usize = 256;

/// Something that has changed.
#[derive(Debug)]
pub(crate) enum News {
    /// A task has this state now.
    Task(TaskSummary),
    /// The node is like this now.
    Node(NodeHealth),
}

/// A place in the order of changes: the life of the node, and the number of a
/// change in that life, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    life: u64,
    number: u64,
}

impl Place {
    /// The place of the change with this number, in the same life.
    pub(crate) const fn at(self, number: u64) -> Self {
        Self { number, ..self }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{}", self.life, self.number)
    }
}

/// A text that is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("that is no id of an event")]
pub(crate) struct NoPlace;

impl FromStr for Place {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Self, NoPlace> {
        let (life, number) = text.split_once('-').ok_or(NoPlace)?;
        let life = u64::from_str_radix(life, 16).map_err(|_| NoPlace)?;
        let number = number.parse().map_err(|_| NoPlace)?;
        Ok(Self { life, number })
    }
}

/// What follows a place is no longer known, or never was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Missed;

/// The changes of one life of a node.
#[derive(Debug)]
pub(crate) struct Feed {
    life: u64,
    ring: Mutex<Ring>,
    last: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Ring {
    /// Number of the last change.
    last: u64,
    news: VecDeque<Arc<News>>,
    health: NodeHealth,
}

impl Ring {
    fn push(&mut self, news: News) {
        self.last += 1;
        self.news.push_back(Arc::new(news));
        if self.news.len() > KEPT {
            self.news.pop_front();
        }
    }
}

impl Feed {
    /// `life` differs from that of every earlier start of the node.
    pub(crate) fn new(life: u64) -> Self {
        Self {
            life,
            ring: Mutex::default(),
            last: watch::Sender::new(0),
        }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        // It is changed in one piece.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds new states of tasks, which are stored.
    pub(crate) fn tasks(&self, tasks: Vec<TaskSummary>) {
        if tasks.is_empty() {
            return;
        }
        let mut ring = self.ring();
        tasks.into_iter().for_each(|t| ring.push(News::Task(t)));
        self.last.send_replace(ring.last);
    }

    /// Adds the node's health, when it is another than before.
    pub(crate) fn node(&self, health: NodeHealth) {
        let mut ring = self.ring();
        if ring.health != health {
            ring.health = health.clone();
            ring.push(News::Node(health));
            self.last.send_replace(ring.last);
        }
    }

    /// How the node is.
    pub(crate) fn health(&self) -> NodeHealth {
        self.ring().health.clone()
    }

    /// The place of the last change.
    pub(crate) fn now(&self) -> Place {
        let number = self.ring().last;
        let life = self.life;
        Place { life, number }
    }

    /// The changes after `place` with their numbers, the oldest first; not all
    /// of them at once.
    pub(crate) fn after(&self, place: Place) -> Result<Vec<(u64, Arc<News>)>, Missed> {
        let ring = self.ring();
        let first = ring.last + 1 - ring.news.len() as u64;
        if place.life != self.life || place.number > ring.last || place.number + 1 < first {
            return Err(Missed);
        }
        let skipped = place.number + 1 - first;
        let news = ring
            .news
            .iter()
            .skip(usize::try_from(skipped).unwrap_or(usize::MAX));
        let numbered = (place.number + 1..).zip(news.cloned());
        Ok(numbered.take(AT_ONCE).collect())
    }

    /// Tells whenever something has changed.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::{AT_ONCE, Feed, KEPT, Missed, News, Place};
    use crate::api::types::NodeHealth;

    fn shaken(feed: &Feed, times: u64) {
        for n in 0..times {
            feed.node(NodeHealth {
                broker: n % 2 == 0,
                store_error: Some(n.to_string()),
                ..NodeHealth::default()
            });
        }
    }

    #[test]
    fn a_watcher_reads_on_where_it_was_and_one_that_is_too_slow_learns_it() {
        let feed = Feed::new(7);
        let begin = feed.now();
        assert!(feed.after(begin).unwrap().is_empty());
        shaken(&feed, 3);
        let numbers: Vec<u64> = feed.after(begin).unwrap().iter().map(|n| n.0).collect();
        assert_eq!(numbers, [1, 2, 3]);
        assert_eq!(feed.after(begin.at(2)).unwrap()[0].0, 3);
        shaken(&feed, KEPT as u64 - 3);
        assert_eq!(feed.after(begin).unwrap().len(), AT_ONCE);
        shaken(&feed, 1);
        assert!(matches!(feed.after(begin), Err(Missed)));
        assert_eq!(feed.ring().news.len(), KEPT);
        let last = feed.now().at(KEPT as u64);
        assert_eq!(feed.after(last).unwrap().len(), 1);
    }

    #[test]
    fn a_place_of_another_life_or_of_the_future_is_not_here() {
        let feed = Feed::new(7);
        shaken(&feed, 2);
        for elsewhere in ["8-1", "7-3"] {
            let place: Place = elsewhere.parse().unwrap();
            assert!(matches!(feed.after(place), Err(Missed)), "{elsewhere}");
        }
        assert_eq!("7-2".parse(), Ok(feed.now()));
        for bad in ["", "7", "7-", "-7", "g-1", "7-18446744073709551616"] {
            assert!(bad.parse::<Place>().is_err(), "{bad}");
        }
    }

    #[test]
    fn health_is_news_only_when_it_has_changed() {
        let feed = Feed::new(1);
        let ill = NodeHealth {
            store_error: Some("full".to_owned()),
            ..NodeHealth::default()
        };
        feed.node(NodeHealth::default());
        feed.node(ill.clone());
        feed.node(ill.clone());
        let news = feed.after("1-0".parse().unwrap()).unwrap();
        assert_eq!(news.len(), 1);
        assert!(matches!(&*news[0].1, News::Node(health) if *health == ill));
        assert_eq!(feed.health(), ill);
    }
}
