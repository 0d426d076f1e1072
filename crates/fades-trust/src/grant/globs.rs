//! Globs of which any may match, and whether some match no more than others.
//!
//! A glob is a regular expression, and whether one regular language lies inside of
//! another can be decided: both become automata, which are walked side by side. What
//! is found beyond comes with the shortest name that shows it. Patterns whose automata
//! would be large are not compared, which is never taken for an answer.

use std::collections::HashMap;
use std::fmt;
use std::sync::OnceLock;

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};
use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::{primitives::StateID, syntax};
use regex_automata::{Anchored, Input};

/// Most bytes of an automaton, and of what is needed to make it.
const AUTOMATON_MAX: usize = 1 << 20;

/// Most pairs of states that are looked at.
const PAIRS_MAX: usize = 8_192;

/// Matches everything, the empty name as well.
const ALL: &str = "**";

/// Globs; none match everything.
#[derive(Debug)]
pub(crate) struct Globs {
    written: Vec<String>,
    set: Option<GlobSet>,
    automaton: OnceLock<Option<dense::DFA<Vec<u32>>>>,
}

/// A text that is no glob, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoGlob(pub(crate) String);

/// Whether everything that some patterns match is matched by others.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub(crate) enum Within {
    Yes,
    /// This, for example, is not.
    Beyond(String),
    /// It cannot be told.
    Unknown(String),
}

fn glob(pattern: &str) -> Result<Glob, NoGlob> {
    let glob = GlobBuilder::new(pattern).literal_separator(true).build();
    glob.map_err(|e| NoGlob(format!("{pattern:?} is no glob: {}", e.kind())))
}

impl Globs {
    pub(crate) fn new(patterns: &[String]) -> Result<Self, NoGlob> {
        let mut set = GlobSetBuilder::new();
        for pattern in patterns {
            if pattern.is_empty() {
                return Err(NoGlob("\"\" is no glob: it is empty".to_owned()));
            }
            set.add(glob(pattern)?);
        }
        let set = set.build();
        let set = set.map_err(|e| NoGlob(format!("the globs are too long: {}", e.kind())))?;
        Ok(Self {
            written: patterns.to_vec(),
            set: (!patterns.is_empty()).then_some(set),
            automaton: OnceLock::new(),
        })
    }

    pub(crate) fn is_match(&self, name: &str) -> bool {
        self.set.as_ref().is_none_or(|set| set.is_match(name))
    }

    /// Whether whatever `asked` match is matched by these.
    pub(crate) fn hold(&self, asked: &[String]) -> Within {
        let Some(set) = &self.set else {
            return Within::Yes;
        };
        let all = [ALL.to_owned()];
        let asked = if asked.is_empty() { &all } else { asked };
        let plainly = |p: &String| self.written.contains(p) || is_name(p) && set.is_match(p);
        let others: Vec<&String> = asked.iter().filter(|p| !plainly(p)).collect();
        // A name that does not match says so itself.
        if let Some(name) = others.iter().find(|p| is_name(p)) {
            return Within::Beyond((*name).clone());
        }
        if others.is_empty() {
            return Within::Yes;
        }
        let own = self.automaton.get_or_init(|| {
            let globs = self.written.iter().filter_map(|p| glob(p).ok());
            automaton(globs)
        });
        let globs: Result<Vec<Glob>, NoGlob> = others.into_iter().map(|p| glob(p)).collect();
        let asked = match globs {
            Err(NoGlob(reason)) => return Within::Unknown(reason),
            Ok(globs) => automaton(globs.into_iter()),
        };
        let too_long = || Within::Unknown("the patterns are too complicated to compare".to_owned());
        match (own, asked) {
            (Some(own), Some(asked)) => beyond(&asked, own).unwrap_or_else(too_long),
            _ => too_long(),
        }
    }
}

impl fmt::Display for Globs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.written.as_slice() {
            [] => f.write_str("any"),
            written => f.write_str(&list(written)),
        }
    }
}

/// Patterns in words.
pub(crate) fn list(patterns: &[String]) -> String {
    let quoted: Vec<String> = patterns.iter().map(|p| format!("\"{p}\"")).collect();
    quoted.join(" or ")
}

/// Whether a pattern matches just itself.
fn is_name(pattern: &str) -> bool {
    !pattern.contains(['*', '?', '[', ']', '{', '}', '\\'])
}

/// One automaton for all of them, as a set of globs matches them; none when it would
/// be large.
fn automaton(globs: impl Iterator<Item = Glob>) -> Option<dense::DFA<Vec<u32>>> {
    let patterns: Vec<String> = globs.map(|g| g.regex().to_owned()).collect();
    let config = dense::Config::new()
        .start_kind(StartKind::Anchored)
        .dfa_size_limit(Some(AUTOMATON_MAX))
        .determinize_size_limit(Some(AUTOMATON_MAX));
    let thompson = thompson::Config::new()
        .utf8(false)
        .nfa_size_limit(Some(AUTOMATON_MAX));
    let syntax = syntax::Config::new().utf8(false).dot_matches_new_line(true);
    let mut builder = dense::Builder::new();
    let builder = builder.configure(config).thompson(thompson).syntax(syntax);
    builder.build_many(&patterns).ok()
}

/// Bytes in the order in which they are tried, so that examples are easy to read.
fn bytes() -> impl Iterator<Item = u8> {
    let nice = |b: &u8| b.is_ascii_alphanumeric();
    let first = (b'a'..=b'z').chain(b'0'..=b'9').chain(b'A'..=b'Z');
    first.chain((0..=u8::MAX).filter(move |b| !nice(b)))
}

/// Walks both automata side by side. `None` when that takes too long.
fn beyond(asked: &dense::DFA<Vec<u32>>, own: &dense::DFA<Vec<u32>>) -> Option<Within> {
    let start = Input::new("").anchored(Anchored::Yes);
    let start = (
        asked.start_state_forward(&start).ok()?,
        own.start_state_forward(&start).ok()?,
    );
    let is_beyond = |(a, o): (StateID, StateID)| {
        asked.is_match_state(asked.next_eoi_state(a)) && !own.is_match_state(own.next_eoi_state(o))
    };
    // In the order found, each with where it was come from and by which byte.
    let mut found = vec![(start, 0_usize, 0_u8)];
    let mut seen: HashMap<(StateID, StateID), ()> = HashMap::from([(start, ())]);
    let mut at = 0;
    while let Some(&(pair, ..)) = found.get(at) {
        if is_beyond(pair) {
            return Some(Within::Beyond(example(&found, at)));
        }
        for byte in bytes() {
            let next = (asked.next_state(pair.0, byte), own.next_state(pair.1, byte));
            if asked.is_dead_state(next.0) || seen.insert(next, ()).is_some() {
                continue;
            }
            found.push((next, at, byte));
        }
        if found.len() > PAIRS_MAX {
            return None;
        }
        at += 1;
    }
    Some(Within::Yes)
}

/// The name that leads to the pair at `at`.
fn example(found: &[((StateID, StateID), usize, u8)], mut at: usize) -> String {
    let mut name = Vec::new();
    while at > 0 {
        name.push(found[at].2);
        at = found[at].1;
    }
    name.reverse();
    String::from_utf8_lossy(&name).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, prop, prop_assert, proptest};

    use super::{Globs, Within};

    fn owned(patterns: &[&str]) -> Vec<String> {
        patterns.iter().map(|p| (*p).to_owned()).collect()
    }

    fn hold(own: &[&str], asked: &[&str]) -> Within {
        Globs::new(&owned(own)).unwrap().hold(&owned(asked))
    }

    #[test]
    fn what_lies_inside_is_told_from_what_reaches_beyond() {
        for (own, asked) in [
            (&[][..], &["anything", "*"][..]),
            (&["**"], &[]),
            (&["pm*"], &["pm10", "pm2.5"]),
            (&["pm*"], &["pm1*", "pm[0-9]"]),
            (&["aberdeen/**"], &["aberdeen/*", "aberdeen/1/roof"]),
            (&["{a,b}*", "c"], &["a?", "b/.."]),
            (&["*/1", "*/2"], &["x/[12]"]),
        ] {
            let expected = match own.first() {
                // A star does not cross a slash.
                Some(&"{a,b}*") => Within::Beyond("b/..".to_owned()),
                _ => Within::Yes,
            };
            assert_eq!(hold(own, asked), expected, "{own:?} {asked:?}");
        }
    }

    #[test]
    fn what_reaches_beyond_comes_with_the_shortest_name_that_shows_it() {
        for (own, asked, example) in [
            (&["pm10", "pm2.5"][..], &["pm*"][..], "pm"),
            (&["west/**"], &[], ""),
            (&["*"], &["**"], "/"),
            (&["pm?"], &["pm[0-9]", "pm??"], "pmaa"),
            (&["a"], &["a", "b"], "b"),
            (&["west/*"], &["west/**"], "west//"),
        ] {
            let said = hold(own, asked);
            assert_eq!(
                said,
                Within::Beyond(example.to_owned()),
                "{own:?} {asked:?}"
            );
        }
    }

    #[test]
    fn what_cannot_be_told_is_not_taken_for_inside() {
        let long = format!("*a{}", "?".repeat(60));
        assert!(matches!(hold(&["a*"], &[&long]), Within::Unknown(_)));
        assert!(matches!(hold(&["a*"], &["a[b"]), Within::Unknown(_)));
        assert!(Globs::new(&owned(&["a[b"])).is_err() && Globs::new(&owned(&[""])).is_err());
    }

    fn pattern() -> impl Strategy<Value = String> {
        let part = prop::sample::select(vec![
            "a", "b", "/", "*", "**", "?", "[ab]", "[!a]", "{a,b*}", "ab",
        ]);
        prop::collection::vec(part, 1..5).prop_map(|parts| parts.concat())
    }

    fn patterns() -> impl Strategy<Value = Vec<String>> {
        prop::collection::vec(pattern(), 0..3)
    }

    proptest! {
        #[test]
        fn whatever_is_inside_is_matched(own in patterns(), asked in patterns(), names in prop::collection::vec("[ab/c]{0,5}", 32)) {
            let (Ok(own), Ok(wanted)) = (Globs::new(&own), Globs::new(&asked)) else {
                return Ok(());
            };
            match own.hold(&asked) {
                Within::Yes => for name in names {
                    prop_assert!(!wanted.is_match(&name) || own.is_match(&name), "{name}");
                },
                Within::Beyond(name) => {
                    prop_assert!(wanted.is_match(&name) && !own.is_match(&name), "{name}");
                }
                Within::Unknown(reason) => prop_assert!(false, "{reason}"),
            }
        }
    }
}
