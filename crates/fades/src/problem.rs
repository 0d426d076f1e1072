//! What the command tells people when something does not work.
//!
//! A [`Problem`] is three things in words: what could not be done, because of
//! what, and what to try. It is the only error type that leaves a subcommand.

use std::error::Error;
use std::process::ExitCode;

/// How the command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It did what was asked: exit code 0.
    Done,
    /// It did, and the answer is no: a task failed, a node refused, a signature
    /// is wrong. Exit code 1.
    No,
    /// It could not do what was asked: exit code 2.
    CouldNotRun,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(match outcome {
            Outcome::Done => 0,
            Outcome::No => 1,
            Outcome::CouldNotRun => 2,
        })
    }
}

/// Why a subcommand ended without doing what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// How the command ends because of it.
    pub(crate) outcome: Outcome,
    what: String,
    because: Vec<String>,
    remedies: Vec<String>,
}

impl Problem {
    /// Something could not be done.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self {
            outcome: Outcome::CouldNotRun,
            what: what.into(),
            because: Vec::new(),
            remedies: Vec::new(),
        }
    }

    /// The answer is no.
    pub(crate) fn refused(what: impl Into<String>) -> Self {
        Self {
            outcome: Outcome::No,
            ..Self::new(what)
        }
    }

    /// A reason in words.
    pub(crate) fn reason(mut self, text: impl Into<String>) -> Self {
        self.because.push(text.into());
        self
    }

    /// An error and what is below it.
    pub(crate) fn because(mut self, error: &dyn Error) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            let text = error.to_string();
            // Some libraries repeat the source in their own text.
            if self
                .because
                .last()
                .is_none_or(|last| !last.ends_with(&text))
            {
                self.because.push(text);
            }
            next = error.source();
        }
        self
    }

    /// Something that may help.
    pub(crate) fn remedy(mut self, text: impl Into<String>) -> Self {
        self.remedies.push(text.into());
        self
    }

    /// What, and the first reason, in one line.
    pub(crate) fn line(&self) -> String {
        match self.because.first() {
            Some(because) => format!("{}: {because}", self.what),
            None => self.what.clone(),
        }
    }

    /// The text, without a final line break; `paint` colours the labels.
    pub(crate) fn text(&self, paint: impl Fn(&str) -> String) -> String {
        let mut text = format!("{} {}", paint("error:"), indented(&self.what));
        for reason in &self.because {
            text += &format!("\n  {} {}", paint("because:"), indented(reason));
        }
        for remedy in &self.remedies {
            text += &format!("\n  {} {}", paint("try:"), indented(remedy));
        }
        text
    }
}

/// Lines after the first keep clear of the labels.
fn indented(text: &str) -> String {
    text.trim_end().replace('\n', "\n    ")
}

/// Attempts on files, with words for what was attempted.
pub(crate) trait Attempt<T> {
    /// Says what could not be done when it was not.
    fn or_problem(self, what: impl FnOnce() -> String) -> Result<T, Problem>;
}

impl<T, E: Error> Attempt<T> for Result<T, E> {
    fn or_problem(self, what: impl FnOnce() -> String) -> Result<T, Problem> {
        self.map_err(|e| Problem::new(what()).because(&e))
    }
}

#[cfg(test)]
mod tests {
    use super::{Attempt, Outcome, Problem};

    #[test]
    fn a_problem_says_what_why_and_what_helps() {
        let file = std::fs::File::open("/nonexistent/x");
        let problem = file
            .or_problem(|| "cannot read the key".to_owned())
            .unwrap_err();
        let text = problem.remedy("fades key new").text(str::to_owned);
        assert_eq!(
            text,
            "error: cannot read the key\n  because: No such file or directory (os error 2)\n  try: fades key new"
        );
    }

    #[test]
    fn a_refusal_ends_otherwise_than_a_fault() {
        assert_eq!(Problem::refused("no").outcome, Outcome::No);
        assert_eq!(Problem::new("broken").outcome, Outcome::CouldNotRun);
    }
}
