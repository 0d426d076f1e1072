//! `fades source test`: what a source of a running node gives.

use clap::Subcommand;
use fades_task::coverage::Coverage;
use fades_task::identity::Name;
use fades_task::resource::SourceReport;

use super::read::readings_table;
use super::{recording, resources};
use crate::ask::client::Client;
use crate::ask::render;
use crate::ask::render::number::count;
use crate::ask::render::table::visible;
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
    // Whoever asks in a script wants to know.
    let Coverage {
        answered,
        failed,
        late,
        ..
    } = report.coverage;
    match answered == 0 && failed + late > 0 {
        true => Ok(Outcome::No),
        false => Ok(Outcome::Done),
    }
}

fn text(report: &SourceReport, session: &Session) -> String {
    let series: usize = report.devices.iter().map(|d| d.series.len()).sum();
    let files = match report.files {
        0 => String::new(),
        files => format!("{} files, ", count(files)),
    };
    let mut text = format!(
        "{} reads {}: {files}{} devices, {series} series\n\n",
        report.source,
        report.reads,
        report.devices.len()
    );
    if report.files == 0 {
        text += &resources::table(&report.devices).text(session);
        text.push('\n');
    }
    text += &readings_table(&report.sample).text(session);
    text.push('\n');
    text += &losses(&report.coverage);
    text += &report
        .recording
        .as_ref()
        .map(recording::whole)
        .unwrap_or_default();
    text
}

fn losses(coverage: &Coverage) -> String {
    let absent = coverage.absent.iter();
    let mut text: String = absent
        .map(|a| format!("{}\n", visible(&a.to_string())))
        .collect();
    text += &match coverage.rows {
        0 => format!("{} readings", count(coverage.used)),
        rows => format!("{} rows looked at", count(rows)),
    };
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
