//! A landlock domain with what the configuration names, and nothing else.

use std::os::fd::BorrowedFd;

use landlock::{
    ABI, Access, AccessFs, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetStatus,
};

use super::{ConfineError, Reach};

/// What a process reads that resolves names itself.
const NAMES: [&str; 5] = [
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/nsswitch.conf",
    "/etc/resolv.conf",
];

/// The rights of landlock that are taken away where they are not given.
const RIGHTS: ABI = ABI::V5;

/// Enters the domain. `roots`: folders without a name in which files are made and
/// read again.
///
/// # Errors
/// Why it was not entered, or that it keeps out less than it should.
pub fn enter(reach: &Reach, roots: &[BorrowedFd<'_>]) -> Result<String, ConfineError> {
    let reads = AccessFs::ReadFile | AccessFs::ReadDir;
    let makes = reads
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Refer;
    let device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev;
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(RIGHTS))?
        .create()?;
    let names = NAMES.iter().filter(|_| !reach.asks);
    for path in reach
        .subject
        .system
        .iter()
        .map(|(path, _)| path)
        .chain(names)
    {
        rules = allow(rules, path.as_ref(), reads)?;
    }
    for path in &reach.read {
        rules = allow(rules, path, reads)?;
    }
    for path in &reach.write {
        rules = allow(rules, path, makes)?;
    }
    for path in &reach.serial {
        rules = allow(rules, path, device)?;
    }
    for root in roots {
        rules = rules.add_rule(PathBeneath::new(root, makes))?;
    }
    let status = rules.restrict_self()?.ruleset;
    if let Some(own) = &reach.own {
        return Err(ConfineError::OwnFolder {
            of: reach.subject.owner,
            folder: own.display().to_string(),
        });
    }
    match status {
        RulesetStatus::NotEnforced => Err(ConfineError::NoLandlock("5.13")),
        RulesetStatus::PartiallyEnforced => {
            Ok(format!("{}, as far as this kernel can", words(reach)))
        }
        RulesetStatus::FullyEnforced => Ok(words(reach)),
    }
}

/// Adds a rule; what does not exist needs none.
fn allow(
    rules: RulesetCreated,
    path: &std::path::Path,
    rights: BitFlags<AccessFs>,
) -> Result<RulesetCreated, ConfineError> {
    let Ok(opened) = PathFd::new(path) else {
        tracing::debug!("{} is not there", path.display());
        return Ok(rules);
    };
    let rights = if path.is_dir() {
        rights
    } else {
        // Files have no entries.
        rights & AccessFs::from_file(RIGHTS)
    };
    Ok(rules.add_rule(PathBeneath::new(opened, rights))?)
}

fn words(reach: &Reach) -> String {
    let list = |paths: &std::collections::BTreeSet<std::path::PathBuf>| {
        let shown: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
        if shown.is_empty() {
            "nothing".to_owned()
        } else {
            shown.join(", ")
        }
    };
    let mut words = format!("reads {}; writes {}", list(&reach.read), list(&reach.write));
    if !reach.serial.is_empty() {
        words = format!("{words}; serial ports {}", list(&reach.serial));
    }
    words
}
