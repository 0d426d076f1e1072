//! `fades trust show`.

use fades_orc::api::types::{TrustInfo, TrustState};

use crate::ask::client::Client;
use crate::ask::render;
use crate::ask::render::table::{Column, Table};
use crate::cli::shared::{NodeChoice, Output};
use crate::problem::{Outcome, Problem};
use crate::session::Session;

pub(super) fn run(
    output: &Output,
    node: &NodeChoice,
    session: &Session,
) -> Result<Outcome, Problem> {
    let client = Client::find(node, session)?;
    let info: TrustInfo = client.get("/v1/trust")?;
    if output.json() {
        session.data(&render::json(&info))?;
        return Ok(Outcome::Done);
    }
    session.talk(&in_short(&info.state));
    for (what, by) in [
        ("the table is", &info.update_signers),
        ("the revocations are", &info.revocation_signers),
    ] {
        if !by.is_empty() {
            let by: Vec<&str> = by.iter().map(|n| n.as_str()).collect();
            session.talk(&format!("{what} signed by {}", by.join(", ")));
        }
    }
    let mut table = Table::new(["KEY", "ID", "MAY", "SERVICES", ""].map(Column::left));
    for key in &info.keys {
        let services: Vec<&str> = key.services.iter().map(|n| n.as_str()).collect();
        table.row([
            key.name.to_string(),
            key.id.short(),
            key.roles.join(" "),
            services.join(" "),
            remark(key),
        ]);
    }
    session.data(&table.text(session))?;
    if !info.revoked.is_empty() {
        let mut table = Table::new(["REVOKED KEY", "SINCE", "REASON"].map(Column::left));
        for revoked in &info.revoked {
            table.row([
                revoked.key.to_string(),
                revoked.since.to_string(),
                revoked.reason.clone(),
            ]);
        }
        session.data(&format!("\n{}", table.text(session)))?;
    }
    Ok(Outcome::Done)
}

fn remark(key: &fades_orc::api::types::TrustKeyInfo) -> String {
    match (&key.refused, key.not_after) {
        // The reason alone: what helps is not for whoever looks.
        (Some(refused), _) => {
            let end = refused.find("; ").or_else(|| refused.find(": "));
            format!("NOT TAKEN: {}", &refused[..end.unwrap_or(refused.len())])
        }
        (None, Some(end)) => format!("until {end}"),
        (None, None) if key.development => "DEVELOPMENT".to_owned(),
        (None, None) => String::new(),
    }
}

/// Which table is in force, in a line.
pub(crate) fn in_short(state: &TrustState) -> String {
    let origin = match state.update {
        true => "signed by administrators",
        false => "trust.toml",
    };
    let next = match state.administrators {
        0 => "nobody can change it by signing".to_owned(),
        n => format!("{} of {n} administrators sign the next", state.threshold),
    };
    format!(
        "version {} ({origin}), {next}; revoked keys: {}, counter {}",
        state.version, state.revoked, state.counter
    )
}
