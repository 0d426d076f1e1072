//! Units of measure: their UCUM codes, and the conversion between those of the
//! same quantity.
//!
//! Codes and factors are those of the Unified Code for Units of Measure
//! (<https://ucum.org/ucum>), as far as sensors use them.

use fades_task::coverage::LossReason;

use crate::chunk::Chunk;
use crate::tally::Tally;

/// Other spellings that devices use, and the UCUM code.
const SPELLINGS: &[(&str, &str)] = &[
    ("°C", "Cel"),
    ("℃", "Cel"),
    ("C", "Cel"),
    ("degC", "Cel"),
    ("celsius", "Cel"),
    ("°F", "[degF]"),
    ("℉", "[degF]"),
    ("degF", "[degF]"),
    ("µg/m³", "ug/m3"),
    ("μg/m³", "ug/m3"),
    ("µg/m3", "ug/m3"),
    ("μg/m3", "ug/m3"),
    ("ug/m³", "ug/m3"),
    ("mg/m³", "mg/m3"),
    ("m³", "m3"),
    ("m³/h", "m3/h"),
    ("ppm", "[ppm]"),
    ("ppb", "[ppb]"),
    ("lux", "lx"),
    ("%RH", "%"),
    ("psi", "[psi]"),
    ("mmHg", "mm[Hg]"),
    ("kWh", "kW.h"),
    ("Wh", "W.h"),
    ("mph", "[mi_i]/h"),
    ("knots", "[kn_i]"),
    ("rpm", "{rpm}"),
    ("Ω", "Ohm"),
    ("°", "deg"),
];

/// The UCUM code of a unit as a device spells it.
pub(crate) fn code(unit: &str) -> &str {
    let unit = unit.trim();
    let mut spellings = SPELLINGS.iter();
    let found = spellings.find(|(spelling, _)| *spelling == unit);
    found.map_or(unit, |(_, code)| code)
}

/// What is measured: units of the same can be converted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quantity {
    Temperature,
    Pressure,
    Density,
    Speed,
    Length,
    Mass,
    Volume,
    Flow,
    Time,
    Power,
    Energy,
    Voltage,
    Current,
    Fraction,
    Angle,
    Frequency,
}

/// Code, quantity, factor and offset: value · factor + offset is in the
/// quantity's own unit.
const UNITS: &[(&str, Quantity, f64, f64)] = &[
    ("K", Quantity::Temperature, 1.0, 0.0),
    ("Cel", Quantity::Temperature, 1.0, 273.15),
    (
        "[degF]",
        Quantity::Temperature,
        5.0 / 9.0,
        459.67 * 5.0 / 9.0,
    ),
    ("Pa", Quantity::Pressure, 1.0, 0.0),
    ("hPa", Quantity::Pressure, 1e2, 0.0),
    ("kPa", Quantity::Pressure, 1e3, 0.0),
    ("MPa", Quantity::Pressure, 1e6, 0.0),
    ("mbar", Quantity::Pressure, 1e2, 0.0),
    ("bar", Quantity::Pressure, 1e5, 0.0),
    ("[psi]", Quantity::Pressure, 6_894.757_293_168_361, 0.0),
    ("mm[Hg]", Quantity::Pressure, 133.322_387_415, 0.0),
    ("atm", Quantity::Pressure, 101_325.0, 0.0),
    ("g/m3", Quantity::Density, 1.0, 0.0),
    ("mg/m3", Quantity::Density, 1e-3, 0.0),
    ("ug/m3", Quantity::Density, 1e-6, 0.0),
    ("kg/m3", Quantity::Density, 1e3, 0.0),
    ("m/s", Quantity::Speed, 1.0, 0.0),
    ("km/h", Quantity::Speed, 1.0 / 3.6, 0.0),
    ("[mi_i]/h", Quantity::Speed, 0.447_04, 0.0),
    ("[kn_i]", Quantity::Speed, 1852.0 / 3600.0, 0.0),
    ("m", Quantity::Length, 1.0, 0.0),
    ("mm", Quantity::Length, 1e-3, 0.0),
    ("cm", Quantity::Length, 1e-2, 0.0),
    ("km", Quantity::Length, 1e3, 0.0),
    ("[in_i]", Quantity::Length, 0.0254, 0.0),
    ("[ft_i]", Quantity::Length, 0.3048, 0.0),
    ("[mi_i]", Quantity::Length, 1_609.344, 0.0),
    ("kg", Quantity::Mass, 1.0, 0.0),
    ("g", Quantity::Mass, 1e-3, 0.0),
    ("mg", Quantity::Mass, 1e-6, 0.0),
    ("t", Quantity::Mass, 1e3, 0.0),
    ("m3", Quantity::Volume, 1.0, 0.0),
    ("L", Quantity::Volume, 1e-3, 0.0),
    ("mL", Quantity::Volume, 1e-6, 0.0),
    ("m3/s", Quantity::Flow, 1.0, 0.0),
    ("m3/h", Quantity::Flow, 1.0 / 3600.0, 0.0),
    ("L/s", Quantity::Flow, 1e-3, 0.0),
    ("L/min", Quantity::Flow, 1e-3 / 60.0, 0.0),
    ("s", Quantity::Time, 1.0, 0.0),
    ("ms", Quantity::Time, 1e-3, 0.0),
    ("min", Quantity::Time, 60.0, 0.0),
    ("h", Quantity::Time, 3600.0, 0.0),
    ("d", Quantity::Time, 86_400.0, 0.0),
    ("W", Quantity::Power, 1.0, 0.0),
    ("mW", Quantity::Power, 1e-3, 0.0),
    ("kW", Quantity::Power, 1e3, 0.0),
    ("MW", Quantity::Power, 1e6, 0.0),
    ("J", Quantity::Energy, 1.0, 0.0),
    ("kJ", Quantity::Energy, 1e3, 0.0),
    ("MJ", Quantity::Energy, 1e6, 0.0),
    ("W.h", Quantity::Energy, 3.6e3, 0.0),
    ("kW.h", Quantity::Energy, 3.6e6, 0.0),
    ("MW.h", Quantity::Energy, 3.6e9, 0.0),
    ("V", Quantity::Voltage, 1.0, 0.0),
    ("mV", Quantity::Voltage, 1e-3, 0.0),
    ("kV", Quantity::Voltage, 1e3, 0.0),
    ("A", Quantity::Current, 1.0, 0.0),
    ("mA", Quantity::Current, 1e-3, 0.0),
    ("1", Quantity::Fraction, 1.0, 0.0),
    ("%", Quantity::Fraction, 1e-2, 0.0),
    ("[ppth]", Quantity::Fraction, 1e-3, 0.0),
    ("[ppm]", Quantity::Fraction, 1e-6, 0.0),
    ("[ppb]", Quantity::Fraction, 1e-9, 0.0),
    ("rad", Quantity::Angle, 1.0, 0.0),
    ("deg", Quantity::Angle, std::f64::consts::PI / 180.0, 0.0),
    ("Hz", Quantity::Frequency, 1.0, 0.0),
    ("kHz", Quantity::Frequency, 1e3, 0.0),
    ("MHz", Quantity::Frequency, 1e6, 0.0),
    ("/min", Quantity::Frequency, 1.0 / 60.0, 0.0),
];

/// From one unit to another: value · factor + offset.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Conversion {
    factor: f64,
    offset: f64,
}

impl Conversion {
    pub(crate) fn of(self, value: f64) -> f64 {
        value * self.factor + self.offset
    }
}

/// Converts the readings of a chunk; those of series that cannot be are counted as
/// lost.
pub(crate) fn convert(chunk: &mut Chunk, unit: &str, tally: &mut Tally) {
    for series in &mut chunk.series {
        if &*series.key.unit == unit {
            continue;
        }
        let rows = series.rows() as u64;
        match conversion(&series.key.unit, unit) {
            Some(convert) => {
                let values = series.segments.iter_mut().flat_map(|s| &mut s.value);
                values.for_each(|v| *v = convert.of(*v));
            }
            None => {
                let marks = series.segments.iter().flat_map(|s| &s.mark);
                tally.marked -= marks.filter(|&&m| m != 0).count() as u64;
                tally.used -= rows;
                tally.lose(LossReason::Unit, rows);
                series.segments.clear();
            }
        }
        series.key.unit = unit.into();
    }
}

/// How to convert between two codes; `None` when they measure different things,
/// or one is not known.
pub(crate) fn conversion(from: &str, to: &str) -> Option<Conversion> {
    if from == to {
        return Some(Conversion {
            factor: 1.0,
            offset: 0.0,
        });
    }
    let find = |code: &str| UNITS.iter().find(|(known, ..)| *known == code);
    let (_, quantity, factor, offset) = find(from)?;
    let (_, same, by, less) = find(to)?;
    (quantity == same).then(|| Conversion {
        factor: factor / by,
        offset: (offset - less) / by,
    })
}

#[cfg(test)]
mod tests {
    use super::{SPELLINGS, UNITS, code, conversion};

    #[test]
    fn known_points_are_met() {
        let points = [
            ("[degF]", "Cel", 212.0, 100.0),
            ("Cel", "[degF]", -40.0, -40.0),
            ("Cel", "K", 0.0, 273.15),
            ("hPa", "[psi]", 1013.25, 14.695_948_775_5),
            ("mm[Hg]", "hPa", 760.0, 1_013.250_144_354),
            ("ug/m3", "mg/m3", 25.0, 0.025),
            ("[ppm]", "%", 10_000.0, 1.0),
            ("kW.h", "MJ", 1.0, 3.6),
            ("km/h", "m/s", 36.0, 10.0),
            ("L/min", "m3/h", 1000.0, 60.0),
        ];
        for (from, to, value, expected) in points {
            let got = conversion(from, to).unwrap().of(value);
            let error = (got - expected).abs();
            assert!(error < 1e-9 * expected.abs().max(1.0), "{from} {to} {got}");
        }
        assert_eq!(conversion("Cel", "Pa"), None);
        assert_eq!(conversion("Cel", "furlong"), None);
        assert!(conversion("furlong", "furlong").is_some());
    }

    #[test]
    fn spellings_lead_to_codes() {
        assert_eq!(code(" °C "), "Cel");
        assert_eq!(code("µg/m³"), "ug/m3");
        assert_eq!(code("whatever"), "whatever");
        for (_, code) in SPELLINGS {
            let known = UNITS.iter().any(|(known, ..)| known == code);
            assert!(known || ["lx", "{rpm}", "Ohm"].contains(code), "{code}");
        }
    }
}
