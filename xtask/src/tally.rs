//! Reads what the test programs print: how many passed, failed, were skipped.
//!
//! A test that cannot run here prints `SKIPPED: name: reason` and passes. Which
//! reasons a host can force is [`Skip::forced`]; everything else is a failure
//! where nobody would notice it, which is in CI.

use std::fmt;

/// Reasons for skipping that lie in the host and not in how the tests were
/// called.
const FORCED: [&str; 14] = [
    "no /dev/kvm",
    "/dev/kvm cannot be used",
    "no tmpfs can be mounted here",
    "only root can become another user",
    "only root can mount a small file system",
    "only root can boot a Debian",
    "no clean Debian could be made",
    "no namespaces can be made",
    "no cgroup2 is mounted",
    "only root can make a network namespace",
    "only root can trace another process",
    // No distribution has a package of these.
    "no pyarrow",
    "no schemathesis",
    "no prometheus_client",
];

/// A test that did not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Skip {
    /// Which.
    pub(crate) name: String,
    /// Why.
    pub(crate) reason: String,
}

impl Skip {
    /// The host leaves no choice.
    pub(crate) fn forced(&self) -> bool {
        FORCED.iter().any(|f| self.reason.contains(f))
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.reason)
    }
}

/// What became of the tests so far.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Tests that passed, those that skipped themselves not counted.
    pub(crate) passed: usize,
    /// Tests and steps that failed, by name.
    pub(crate) failed: Vec<String>,
    /// Tests that did not run.
    pub(crate) skipped: Vec<Skip>,
}

impl Tally {
    /// Takes one line of a test program's output.
    pub(crate) fn line(&mut self, line: &str) {
        if let Some(at) = line.find("SKIPPED: ") {
            self.skip(&line[at + "SKIPPED: ".len()..]);
        } else if let Some(rest) = line.strip_prefix("test ") {
            self.test(rest);
        }
    }

    fn skip(&mut self, text: &str) {
        let (name, reason) = text.split_once(": ").unwrap_or((text, "no reason given"));
        let (name, reason) = (name.trim().to_owned(), reason.trim().to_owned());
        let skip = Skip { name, reason };
        if !self.skipped.contains(&skip) {
            self.skipped.push(skip);
            self.passed = self.passed.saturating_sub(1);
        }
    }

    fn test(&mut self, rest: &str) {
        let Some((name, end)) = rest.rsplit_once(" ... ") else {
            return;
        };
        let name = name.trim_end_matches(" - should panic");
        match end {
            "ok" => self.passed += 1,
            "FAILED" => self.failed.push(name.to_owned()),
            _ if end.starts_with("ignored") => {
                let reason = end.trim_start_matches("ignored").trim_start_matches(", ");
                self.passed += 1;
                self.skip(&format!("{name}: {reason}"));
            }
            _ => {}
        }
    }

    /// Skips that no host forces.
    pub(crate) fn avoidable(&self) -> Vec<&Skip> {
        self.skipped.iter().filter(|s| !s.forced()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;

    fn tally(text: &str) -> Tally {
        let mut tally = Tally::default();
        text.lines().for_each(|l| tally.line(l));
        tally
    }

    #[test]
    fn passed_failed_and_skipped_tests_are_told_apart() {
        let tally = tally(
            "running 4 tests\ntest a::b ... ok\ntest c - should panic ... ok\n\
             test d ... FAILED\ntest e ... ok\n---- e stdout ----\n\
             SKIPPED: e: FADES_TEST_DATA is not set\ntest result: FAILED. 3 passed; 1 failed",
        );
        assert_eq!(tally.passed, 2);
        assert_eq!(tally.failed, ["d"]);
        assert_eq!(
            tally.skipped[0].to_string(),
            "e: FADES_TEST_DATA is not set"
        );
    }

    #[test]
    fn only_what_the_host_forces_may_be_skipped_unnoticed() {
        let tally = tally("SKIPPED: vm: no /dev/kvm\nSKIPPED: air: FADES_TEST_DATA is not set");
        let avoidable: Vec<_> = tally.avoidable().iter().map(|s| s.name.clone()).collect();
        assert_eq!(avoidable, ["air"]);
    }

    #[test]
    fn an_ignored_test_counts_as_skipped() {
        let tally = tally("test slow ... ignored, takes an hour");
        assert_eq!(tally.passed, 0);
        assert_eq!(tally.skipped[0].to_string(), "slow: takes an hour");
    }
}
