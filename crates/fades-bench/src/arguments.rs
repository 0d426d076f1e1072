//! What the program is told on its command line.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use crate::figures::Name;

pub(crate) const HELP: &str = "\
Takes figures of FADES; `cargo xtask bench` builds what is measured and calls this.

  fades-bench --images DIR --natively DIR --out DIR --commit HASH [--quick] [NAME…]

  --images DIR     the functions' images
  --natively DIR   the functions built as ordinary programs
  --out DIR        where NAME.json goes
  --commit HASH    the commit that was built
  --quick          fewer rounds and lower density; ends within a minute
";

/// The command line, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// Folder of the functions' images.
    pub(crate) images: PathBuf,
    /// Folder of the functions built as ordinary programs.
    pub(crate) natively: PathBuf,
    /// Folder of the results.
    pub(crate) out: PathBuf,
    /// The commit that was built.
    pub(crate) commit: String,
    /// Fewer rounds.
    pub(crate) quick: bool,
    /// What to take, in the order in which figures are taken.
    pub(crate) names: Vec<Name>,
}

/// Why the command line cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Misuse {
    /// No such figure.
    #[error("there is no figure {0:?}; there are: {all}", all = all())]
    Name(String),
    /// No such option.
    #[error("there is no option {0:?}; see --help")]
    Option(String),
    /// An option without its value.
    #[error("{0} needs a value")]
    Value(&'static str),
    /// An option that must be given.
    #[error("{0} must be given; `cargo xtask bench` does so")]
    Missing(&'static str),
}

fn all() -> String {
    Name::ALL.map(Name::word).join(", ")
}

impl Arguments {
    /// Reads the words behind the program's name.
    pub(crate) fn parse(words: impl IntoIterator<Item = String>) -> Result<Self, Misuse> {
        let (mut images, mut natively, mut out, mut commit) = (None, None, None, None);
        let (mut quick, mut named) = (false, Vec::new());
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let mut value = |option| words.next().ok_or(Misuse::Value(option));
            match word.as_str() {
                "--images" => images = Some(value("--images")?),
                "--natively" => natively = Some(value("--natively")?),
                "--out" => out = Some(value("--out")?),
                "--commit" => commit = Some(value("--commit")?),
                "--quick" => quick = true,
                option if option.starts_with('-') => return Err(Misuse::Option(word)),
                name => named.push(Name::parse(name).ok_or_else(|| Misuse::Name(word.clone()))?),
            }
        }
        let chosen = |name: &Name| named.is_empty() || named.contains(name);
        Ok(Self {
            images: images.ok_or(Misuse::Missing("--images"))?.into(),
            natively: natively.ok_or(Misuse::Missing("--natively"))?.into(),
            out: out.ok_or(Misuse::Missing("--out"))?.into(),
            commit: commit.ok_or(Misuse::Missing("--commit"))?,
            quick,
            names: Name::ALL.into_iter().filter(chosen).collect(),
        })
    }
}

impl Arguments {
    /// A command line that says the same.
    pub(crate) fn words(&self) -> Vec<OsString> {
        let named: [(&str, &OsStr); 4] = [
            ("--images", self.images.as_os_str()),
            ("--natively", self.natively.as_os_str()),
            ("--out", self.out.as_os_str()),
            ("--commit", self.commit.as_ref()),
        ];
        let named = named
            .into_iter()
            .flat_map(|(name, value)| [name.into(), value.to_owned()]);
        let quick = self.quick.then(|| "--quick".into());
        let names = self.names.iter().map(|name| name.word().into());
        named.chain(quick).chain(names).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDED: &str = "--images i --natively n --out o --commit c";

    fn parsed(rest: &str) -> Result<Arguments, Misuse> {
        let line = format!("{NEEDED} {rest}");
        Arguments::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn without_names_all_figures_are_taken() {
        let all = parsed("").unwrap();
        assert_eq!(all.names, Name::ALL);
        assert!(!all.quick);
    }

    #[test]
    fn names_are_taken_once_and_in_their_own_order() {
        let some = parsed("tasks --quick start tasks").unwrap();
        assert_eq!(some.names, [Name::Start, Name::Tasks]);
        assert!(some.quick);
    }

    #[test]
    fn what_was_read_can_be_said_again() {
        for rest in ["", "--quick start tasks"] {
            let read = parsed(rest).unwrap();
            let words = read.words().into_iter().map(|w| w.into_string().unwrap());
            assert_eq!(Arguments::parse(words), Ok(read.clone()));
        }
    }

    #[test]
    fn what_is_not_understood_is_named_with_what_there_is() {
        let error = parsed("strat").unwrap_err().to_string();
        assert!(
            error.contains("strat") && error.contains("start-cold"),
            "{error}"
        );
        assert_eq!(parsed("--slow"), Err(Misuse::Option("--slow".to_owned())));
        assert_eq!(parsed("--commit"), Err(Misuse::Value("--commit")));
        let nothing = Arguments::parse(["--quick".to_owned()]);
        assert_eq!(nothing, Err(Misuse::Missing("--images")));
    }
}
