//! A landlock domain with the TCP ports that the sources name.

use landlock::{
    ABI, Access, AccessNet, CompatLevel, Compatible, NetPort, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus,
};

use super::{ConfineError, Reach};

/// The port of name servers, which answer at length over TCP.
const NAMES: u16 = 53;

/// Enters the domain. Listening is forbidden everywhere.
pub(super) fn enter(reach: &Reach) -> Result<String, ConfineError> {
    if let Some(address) = reach.unknown.first() {
        return Err(ConfineError::UnknownPort(address.clone()));
    }
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessNet::from_all(ABI::V4))?
        .create()?;
    let names = reach.network.then_some(NAMES);
    for port in reach.ports.iter().copied().chain(names) {
        rules = rules.add_rule(NetPort::new(port, AccessNet::ConnectTcp))?;
    }
    if rules.restrict_self()?.ruleset != RulesetStatus::FullyEnforced {
        return Err(ConfineError::NoLandlock("6.7"));
    }
    let ports: Vec<String> = reach.ports.iter().map(u16::to_string).collect();
    let ports = match ports.as_slice() {
        [] => "no TCP connections".to_owned(),
        ports => format!("TCP to port {}, of any host", ports.join(", ")),
    };
    Ok(if reach.udp {
        format!("{ports}; UDP to any address")
    } else {
        ports
    })
}
