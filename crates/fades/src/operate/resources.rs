//! `fades resources`: the devices that a node knows, and how recording goes.

use fades_orc::api::types::Resources;
use fades_task::quantity::Duration;
use fades_task::resource::{Device, DeviceState, Liveness};
use globset::{Glob, GlobMatcher};

use super::recording;
use crate::ask::client::Client;
use crate::ask::render;
use crate::ask::render::number::{count, moment};
use crate::ask::render::table::{Column, Table};
use crate::cli::shared::{NodeChoice, Output};
use crate::problem::{Attempt, Outcome, Problem};
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only these kinds of readings
    #[arg(long, value_name = "GLOB")]
    kind: Option<String>,
    /// Only devices at these locations
    #[arg(long, value_name = "GLOB")]
    location: Option<String>,
    /// Only these devices
    #[arg(long, value_name = "GLOB")]
    device: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    node: NodeChoice,
}

/// Carries out `fades resources`.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Problem> {
    let filter = Filter::new(args)?;
    let client = Client::find(&args.node, session)?;
    let Resources {
        devices,
        mut recording,
    } = client.get("/v1/resources")?;
    let devices: Vec<Device> = devices.into_iter().filter_map(|d| filter.keep(d)).collect();
    if !filter.takes_all() {
        recording.retain(|source, _| devices.iter().any(|d| d.source == *source));
    }
    if args.output.json() {
        session.data(&render::json(&devices))?;
        // The list is one of devices; a disk that is full should be seen all the same.
        recording.retain(|_, r| r.trouble.is_some());
        if !recording.is_empty() {
            session.talk(recording::overview(&recording).trim_end());
        }
        return Ok(Outcome::Done);
    }
    let mut text = table(&devices).text(session);
    if !recording.is_empty() {
        text += &format!("\n{}", recording::overview(&recording));
    }
    session.data(&text)?;
    session.talk(&format!("{} devices", devices.len()));
    Ok(Outcome::Done)
}

/// What shall be shown.
struct Filter {
    kind: Option<GlobMatcher>,
    location: Option<GlobMatcher>,
    device: Option<GlobMatcher>,
}

impl Filter {
    fn new(args: &Args) -> Result<Self, Problem> {
        let glob = |given: &Option<String>| {
            let compile = |text: &String| {
                Glob::new(text)
                    .map(|g| g.compile_matcher())
                    .or_problem(|| format!("{text:?} is no pattern"))
            };
            given.as_ref().map(compile).transpose()
        };
        let (kind, location, device) = (
            glob(&args.kind)?,
            glob(&args.location)?,
            glob(&args.device)?,
        );
        Ok(Self {
            kind,
            location,
            device,
        })
    }

    /// Whether nothing is left out.
    const fn takes_all(&self) -> bool {
        self.kind.is_none() && self.location.is_none() && self.device.is_none()
    }

    /// The device with the series that shall be shown.
    fn keep(&self, mut device: Device) -> Option<Device> {
        let fits =
            |glob: &Option<GlobMatcher>, text: &str| glob.as_ref().is_none_or(|g| g.is_match(text));
        device.series.retain(|s| fits(&self.kind, &s.kind));
        let here = fits(&self.location, &device.location) && fits(&self.device, &device.device);
        (here && !device.series.is_empty()).then_some(device)
    }
}

/// Devices, one series a row.
pub(crate) fn table(devices: &[Device]) -> Table {
    let mut columns: Vec<Column> = ["DEVICE", "LOCATION", "SOURCE", "KIND", "UNIT"]
        .map(Column::left)
        .into();
    columns.push(Column::right("READINGS"));
    columns.extend(["OLDEST", "NEWEST"].map(Column::left));
    // Columns that say something of no device would only take room.
    let live = devices.iter().any(|d| d.liveness.is_some());
    let noted = devices
        .iter()
        .any(|d| !d.labels.is_empty() || d.at.is_some());
    columns.extend(live.then(|| Column::left("STATE")));
    columns.extend(noted.then(|| Column::left("NOTES")));
    let mut table = Table::new(columns);
    for device in devices {
        for series in &device.series {
            let mut cells = vec![
                device.device.clone(),
                device.location.clone(),
                device.source.to_string(),
                series.kind.clone(),
                series.unit.clone(),
                series.readings.map(count).unwrap_or_default(),
                series.oldest.map(moment).unwrap_or_default(),
                series.newest.map(moment).unwrap_or_default(),
            ];
            cells.extend(live.then(|| device.liveness.as_ref().map_or_else(String::new, state)));
            cells.extend(noted.then(|| notes(device)));
            table.row(cells);
        }
    }
    table
}

/// How a device does, in a few words.
fn state(liveness: &Liveness) -> String {
    /// A device's clock that is so far off is worth a word, ns.
    const FAR: u64 = 60_000_000_000;
    let mut words = liveness.state.word().to_owned();
    let silent = matches!(liveness.state, DeviceState::Silent | DeviceState::Broken);
    if silent && let Some(seen) = liveness.last_seen {
        words += &format!(" since {}", moment(seen));
    }
    if let Some(ahead) = liveness.clock_ahead.filter(|a| a.unsigned_abs() > FAR) {
        let off = Duration(ahead.unsigned_abs() / 1_000_000_000 * 1_000_000_000);
        let way = if ahead > 0 { "ahead" } else { "behind" };
        words += &format!(", clock {off} {way}");
    }
    if let Some(error) = &liveness.error {
        words += &format!(": {error}");
    }
    words
}

/// Labels and place of a device.
fn notes(device: &Device) -> String {
    let mut words: Vec<String> = device
        .labels
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    words.extend(device.at.map(|[lat, lon]| format!("{lat},{lon}")));
    words.join(" ")
}
