//! Which readings: the options that make a DTO.

use std::collections::BTreeMap;

use fades_task::identity::Name;
use fades_task::mtw::{Collect, Near, Patterns, Retrieve};
use fades_task::quantity::{Duration, QuantityError, Share};
use fades_task::time::Time;

use super::{draft, show};
use crate::problem::{Attempt, Problem};

/// Which readings the function gets.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Readings (globs; `*` stays inside of a part, `**` crosses /)")]
pub(crate) struct DataArgs {
    /// Kinds of readings
    #[arg(long, value_name = "GLOB", conflicts_with = "file")]
    kind: Vec<String>,
    /// Locations
    #[arg(long, value_name = "GLOB", conflicts_with = "file")]
    location: Vec<String>,
    /// Devices
    #[arg(long, value_name = "GLOB", conflicts_with = "file")]
    device: Vec<String>,
    /// Only this source of the node
    #[arg(long, value_name = "NAME", conflicts_with = "file")]
    source: Option<Name>,
    /// What runs of this task of your service answered with
    #[arg(long, value_name = "TASK", conflicts_with_all = ["source", "label", "near", "now", "collect", "count", "file"])]
    result: Option<Name>,
    /// Labels that the operator gave devices, such as floor=3
    #[arg(long, value_name = "NAME=GLOB", value_parser = label, conflicts_with = "file")]
    label: Vec<(String, String)>,
    /// Devices near a place, such as 57.15,-2.09,2km
    #[arg(long, value_name = "LAT,LON,DISTANCE", value_parser = near, allow_hyphen_values = true, conflicts_with = "file")]
    near: Option<Near>,
    /// Convert readings to this unit, a UCUM code such as Cel
    #[arg(long, value_name = "UNIT", conflicts_with = "file")]
    unit: Option<String>,
    /// The time before now
    #[arg(long, value_name = "DURATION", conflicts_with_all = ["from", "to", "now", "collect", "count", "file"])]
    last: Option<Duration>,
    /// The newest reading of each device, asked for when the task runs
    #[arg(long, conflicts_with_all = ["from", "to", "collect", "count", "file"])]
    now: bool,
    /// Readings that arrive from now on, for this long
    #[arg(long, value_name = "DURATION", conflicts_with_all = ["from", "to", "file"])]
    collect: Option<Duration>,
    /// Readings that arrive from now on, until there are so many
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["from", "to", "file"])]
    count: Option<u64>,
    /// Start of the range
    #[arg(long, value_name = "TIME", value_parser = draft::moment, conflicts_with = "file")]
    from: Option<Time>,
    /// End of the range, itself outside
    #[arg(long, value_name = "TIME", value_parser = draft::moment, conflicts_with = "file")]
    to: Option<Time>,
    /// Share of the devices that must answer, such as 80%
    #[arg(long, value_name = "SHARE", conflicts_with = "file")]
    need: Option<Share>,
    /// Share of the readings that may be bad, such as 1%
    #[arg(long, value_name = "SHARE", conflicts_with = "file")]
    bad_rows: Option<Share>,
}

impl DataArgs {
    /// The DTO; none when nothing was said about readings.
    pub(crate) fn retrieve(&self) -> Result<Option<Retrieve>, Problem> {
        let blank = Retrieve::all(Self::name()?);
        let collect = Collect {
            r#for: self.collect,
            count: self.count,
        };
        let retrieve = Retrieve {
            kind: show::patterns(&self.kind),
            location: show::patterns(&self.location),
            device: show::patterns(&self.device),
            source: self.source.clone(),
            result: self.result.clone(),
            labels: labels(&self.label),
            near: self.near,
            unit: self.unit.clone(),
            from: self.from,
            to: self.to,
            last: self.last,
            now: self.now,
            collect: (collect.r#for.is_some() || collect.count.is_some()).then_some(collect),
            need: self.need,
            bad_rows: self.bad_rows,
            ..blank.clone()
        };
        Ok((retrieve != blank).then_some(retrieve))
    }

    /// The DTO; one that asks for everything when nothing was said.
    pub(crate) fn retrieve_or_all(&self) -> Result<Retrieve, Problem> {
        match self.retrieve()? {
            Some(retrieve) => Ok(retrieve),
            None => Ok(Retrieve::all(Self::name()?)),
        }
    }

    fn name() -> Result<Name, Problem> {
        "readings"
            .parse()
            .or_problem(|| "no name for the readings".to_owned())
    }
}

/// Globs by label.
fn labels(pairs: &[(String, String)]) -> BTreeMap<String, Patterns> {
    let mut globs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, glob) in pairs {
        globs.entry(name.clone()).or_default().push(glob.clone());
    }
    let globs = globs.into_iter();
    globs.map(|(name, g)| (name, Patterns::Any(g))).collect()
}

/// Reads `NAME=GLOB`.
fn label(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, glob) = pair.ok_or("write the label's name, = and a glob, such as floor=3")?;
    Ok((name.to_owned(), glob.to_owned()))
}

/// Reads `LAT,LON,DISTANCE`.
fn near(text: &str) -> Result<Near, String> {
    let words: Vec<&str> = text.split(',').map(str::trim).collect();
    let [lat, lon, within] = words[..] else {
        return Err("write latitude, longitude and distance, such as 57.15,-2.09,2km".to_owned());
    };
    let degrees = |word: &str| word.parse().map_err(|_| format!("{word:?} is no number"));
    Ok(Near {
        at: [degrees(lat)?, degrees(lon)?],
        within: within.parse().map_err(|e: QuantityError| e.to_string())?,
    })
}
