//! NAME: which devices were above a limit, how often, and how far.
//!
//! Parameter `limit`: values above it count.
#![cfg_attr(not(test), no_std, no_main)]

use fades_sdk::prelude::*;

struct Overheat {
    limit: f64,
    /// By kind and device.
    devices: BTreeMap<(String, String), Above>,
}

/// What is known of one device.
#[derive(Default)]
struct Above {
    readings: u64,
    above: u64,
    highest: Option<f64>,
}

impl Function for Overheat {
    fn new(params: &Params) -> Result<Self, Abort> {
        Ok(Self {
            limit: params.require("limit")?,
            devices: BTreeMap::new(),
        })
    }

    /// Called with some rows at a time, as often as there are more.
    fn batch(&mut self, batch: &Batch<'_>, _: &mut Output) -> Result<(), Abort> {
        for series in batch.series() {
            let name = (series.kind.to_owned(), series.device.to_owned());
            let device = self.devices.entry(name).or_default();
            device.readings += series.value.len() as u64;
            for &value in series.value.iter().filter(|&&value| value > self.limit) {
                device.above += 1;
                if device.highest.is_none_or(|highest| value > highest) {
                    device.highest = Some(value);
                }
            }
        }
        Ok(())
    }

    /// Called once, after all rows: a list of maps becomes a table.
    fn finish(&mut self, output: &mut Output) -> Result<(), Abort> {
        for ((kind, name), device) in &self.devices {
            let row = Map::new()
                .with("kind", kind.as_str())
                .with("device", name.as_str())
                .with("readings", device.readings)
                .with("above", device.above)
                .with("highest", device.highest);
            output.push("devices", row);
        }
        output.set("limit", self.limit);
        Ok(())
    }
}

function!(Overheat);

#[cfg(test)]
mod tests {
    use super::*;
    use fades_sdk::testing::{Failure, Run, Series};

    #[test]
    fn counts_what_is_above_the_limit() {
        let hall = Series::new("board-1", "temperature", "Cel", "hall");
        let yard = Series::new("board-2", "temperature", "Cel", "yard");
        let rows = [hall.row(0, 26.0).row(60, 28.5), yard.row(0, 11.0)];
        let run = Run::new().param("limit", 27).batch(&rows);
        let answer = run.answer::<Overheat>().unwrap();
        let devices = &answer.values["devices"];
        assert_eq!(devices[0]["device"], "board-1");
        assert_eq!(devices[0]["readings"], 2);
        assert_eq!(devices[0]["above"], 1);
        assert_eq!(devices[0]["highest"], 28.5);
        assert_eq!(devices[1]["above"], 0);
    }

    #[test]
    fn wants_a_limit() {
        let failure = Run::new().answer::<Overheat>().unwrap_err();
        let Failure::Abort(text) = failure else {
            panic!("{failure:?}");
        };
        assert!(text.contains("`limit` is missing"));
    }
}
