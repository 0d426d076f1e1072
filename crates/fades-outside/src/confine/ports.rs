//! A landlock domain without TCP; or, of a process that connects by itself, with the
//! ports that the configuration names.

use std::collections::BTreeSet;

use fades_task::dial::Transport;
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, NetPort, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus,
};

use super::{ConfineError, Reach};

/// The port of name servers, which answer at length over TCP.
const NAMES: u16 = 53;

/// Enters the domain. Listening is forbidden everywhere.
///
/// # Errors
/// Why it was not entered.
pub fn enter(reach: &Reach) -> Result<String, ConfineError> {
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessNet::from_all(ABI::V4))?
        .handle_access(AccessFs::Refer)?
        .create()?;
    // Every domain forbids files to change their folder unless it says otherwise; which
    // folders are in question is what `files` decides.
    if let Ok(root) = PathFd::new("/") {
        rules = rules.add_rule(PathBeneath::new(root, AccessFs::Refer))?;
    }
    let open = open(reach);
    let names = (!open.is_empty()).then_some(NAMES);
    for port in open.iter().copied().chain(names) {
        rules = rules.add_rule(NetPort::new(port, AccessNet::ConnectTcp))?;
    }
    if rules.restrict_self()?.ruleset != RulesetStatus::FullyEnforced {
        return Err(ConfineError::NoLandlock("6.7"));
    }
    let ports: Vec<String> = open.iter().map(u16::to_string).collect();
    Ok(match ports.as_slice() {
        [] => "it connects and listens nowhere over TCP".to_owned(),
        ports => format!("TCP to port {}, of any host", ports.join(", ")),
    })
}

/// The ports to which the process may connect.
fn open(reach: &Reach) -> BTreeSet<u16> {
    let by_itself = reach.addresses.iter().filter(|_| !reach.asks);
    let tcp = by_itself.filter(|a| a.transport == Transport::Tcp);
    tcp.map(|a| a.port).collect()
}
