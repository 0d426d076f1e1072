//! `fades read`: what a DTO means on a node, and its first readings.

use std::path::{Path, PathBuf};

use fades_orc::api::types::{PreviewRequest, Previews};
use fades_task::identity::Name;
use fades_task::mtw::Retrieve;
use fades_task::resource::{Device, Preview, Reading};
use serde::Deserialize;

use crate::ask::client::Client;
use crate::ask::data::DataArgs;
use crate::ask::render;
use crate::ask::render::number::{self, bytes, count, moment};
use crate::ask::render::table::{Column, Table, visible};
use crate::cli::shared::{NodeChoice, Output};
use crate::problem::{Attempt, Outcome, Problem};
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Take the retrieve entries of a task file, TOML or JSON
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    data: DataArgs,
    /// The service that would ask; counts with --result
    #[arg(long, value_name = "NAME")]
    service: Option<Name>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    node: NodeChoice,
}

/// The part of a task that says what is read.
#[derive(Debug, Deserialize)]
struct TaskFile {
    #[serde(default)]
    retrieve: Vec<Retrieve>,
}

/// Most series that are listed.
const SERIES_SHOWN: usize = 40;

/// Carries out `fades read`.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Problem> {
    let retrieve = match &args.file {
        Some(file) => of_file(file)?,
        None => vec![args.data.retrieve_or_all()?],
    };
    let client = Client::find(&args.node, session)?;
    let request = PreviewRequest {
        service: args
            .service
            .clone()
            .or_else(|| Some(client.target.service.clone())),
        retrieve,
    };
    let previews: Previews = client.post("/v1/preview", &request)?;
    if args.output.json() {
        session.data(&render::json(&previews.retrieve))?;
        return Ok(Outcome::Done);
    }
    let texts: Vec<String> = previews.retrieve.iter().map(|p| text(p, session)).collect();
    session.data(&texts.join("\n"))?;
    Ok(Outcome::Done)
}

fn of_file(path: &Path) -> Result<Vec<Retrieve>, Problem> {
    let what = || format!("cannot use {}", path.display());
    let text = std::fs::read_to_string(path).or_problem(what)?;
    let is_json = path.extension().is_some_and(|e| e == "json");
    let task: TaskFile = if is_json {
        serde_json::from_str(&text).or_problem(what)?
    } else {
        toml::from_str(&text).or_problem(what)?
    };
    if task.retrieve.is_empty() {
        return Err(Problem::new(what())
            .reason("it has no retrieve entry")
            .remedy("add one: [[retrieve]]"));
    }
    Ok(task.retrieve)
}

fn text(preview: &Preview, session: &Session) -> String {
    let Preview {
        name,
        devices,
        readings,
        batch_bytes,
        exact,
        sample,
        absent,
    } = preview;
    let series: usize = devices.iter().map(|d| d.series.len()).sum();
    let more = if *exact { "" } else { "more than " };
    let mut text = format!(
        "{name}: {} devices, {series} series, {more}{} readings, {} of input\n\n",
        devices.len(),
        count(*readings),
        bytes(*batch_bytes),
    );
    text += &listed(devices).text(session);
    if series > SERIES_SHOWN {
        text += &format!("and {} more\n", series - SERIES_SHOWN);
    }
    for device in absent {
        text += &format!("{}\n", visible(&device.to_string()));
    }
    if !sample.is_empty() {
        text += &format!("\n{}", readings_table(sample).text(session));
    }
    text
}

fn listed(devices: &[Device]) -> Table {
    let mut columns: Vec<Column> = ["DEVICE", "LOCATION", "SOURCE", "KIND", "UNIT"]
        .map(Column::left)
        .into();
    columns.push(Column::right("READINGS"));
    let mut table = Table::new(columns);
    let series = devices
        .iter()
        .flat_map(|d| d.series.iter().map(move |s| (d, s)));
    for (device, series) in series.take(SERIES_SHOWN) {
        table.row([
            device.device.clone(),
            device.location.clone(),
            device.source.to_string(),
            series.kind.clone(),
            series.unit.clone(),
            series.readings.map(count).unwrap_or_default(),
        ]);
    }
    table
}

/// Readings, one a row.
pub(crate) fn readings_table(readings: &[Reading]) -> Table {
    let headings = ["TIME", "DEVICE", "LOCATION", "KIND"]
        .map(Column::left)
        .into_iter();
    let mut table = Table::new(headings.chain([Column::right("VALUE"), Column::left("UNIT")]));
    for reading in readings {
        table.row([
            moment(reading.time),
            reading.device.clone(),
            reading.location.clone(),
            reading.kind.clone(),
            number::float(reading.value),
            reading.unit.clone(),
        ]);
    }
    table
}
