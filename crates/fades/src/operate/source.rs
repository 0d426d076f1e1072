//! `fades source test`: what a source of a running node gives.

use clap::Subcommand;
use fades_task::coverage::Coverage;
use fades_task::identity::Name;
use fades_task::resource::SourceReport;

use crate::ask::client::Client;
use crate::ask::render;
use crate::ask::render::number::{self, count, moment};
use crate::ask::render::table::{Column, Table};
use crate::cli::shared::{NodeChoice, Output};
use crate::problem::{Outcome, Problem};
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Read a source, and show devices, the first readings and bad rows
    Test {
        /// The source
        source: Name,
        #[command(flatten)]
        output: Output,
        #[command(flatten)]
        node: NodeChoice,
    },
}

/// Carries out `fades source`.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Problem> {
    let Action::Test {
        source,
        output,
        node,
    } = &args.action;
    let client = Client::find(node, session)?;
    let report: SourceReport = client.post(&format!("/v1/sources/{source}/test"), &())?;
    let text = match output.json() {
        true => render::json(&report),
        false => text(&report, session),
    };
    session.data(&text)?;
    Ok(Outcome::Done)
}

fn text(report: &SourceReport, session: &Session) -> String {
    let series: usize = report.devices.iter().map(|d| d.series.len()).sum();
    let mut text = format!(
        "{} reads {}: {} files, {} devices, {series} series\n\n",
        report.source,
        report.reads,
        count(report.files),
        report.devices.len()
    );
    let headings = ["TIME", "DEVICE", "LOCATION", "KIND"]
        .map(Column::left)
        .into_iter();
    let mut table = Table::new(headings.chain([Column::right("VALUE"), Column::left("UNIT")]));
    for reading in &report.sample {
        table.row([
            moment(reading.time),
            reading.device.clone(),
            reading.location.clone(),
            reading.kind.clone(),
            number::float(reading.value),
            reading.unit.clone(),
        ]);
    }
    text += &table.text(session);
    text.push('\n');
    text += &losses(&report.coverage);
    text
}

fn losses(coverage: &Coverage) -> String {
    let mut text = format!("{} rows looked at", count(coverage.rows));
    match coverage.lost_total() {
        0 => text += ", no bad ones\n",
        lost => {
            text += &format!(", {} readings lost\n", count(lost));
            for (reason, n) in coverage.lost.iter().filter(|(_, n)| **n > 0) {
                text += &format!("  {} {}\n", count(*n), reason.words());
            }
            for row in &coverage.cited {
                let column = row.column.as_deref().unwrap_or("");
                text += &format!(
                    "  {}:{} {column} {}\n",
                    row.file,
                    row.line,
                    row.reason.words()
                );
            }
        }
    }
    text
}
