//! Options of a Modbus source.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use fades_task::quantity::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::FieldError;

/// A Modbus source: one bus, that is one TCP address or one serial port, with
/// all units on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ModbusSource {
    /// Address of a device or gateway that speaks Modbus TCP, such as
    /// `tcp://10.0.4.9:502`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Instead of `url`: path of the serial port of an RTU bus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Bits a second of the serial port; default 19200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baud: Option<u32>,
    /// Parity of the serial port; default even.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parity: Option<Parity>,
    /// Stop bits of the serial port, 1 or 2; default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_bits: Option<u8>,
    /// Data bits of the serial port; RTU needs 8, the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_bits: Option<u8>,
    /// How long a unit may take for one answer.
    #[serde(default = "default_timeout")]
    pub timeout: Duration,
    /// How often units are read while their readings are recorded or collected.
    #[serde(default = "default_every")]
    pub every: Duration,
    /// Registers nobody wants that may be read to save a request.
    #[serde(default = "default_gap")]
    pub gap: u16,
    /// Most registers of one request, 4 to 125.
    #[serde(default = "default_most")]
    pub most: u16,
    /// Most coils or discrete inputs of one request, 1 to 2000.
    #[serde(default = "default_most_coils")]
    pub most_coils: u16,
    /// The units on the bus.
    pub units: Vec<ModbusUnit>,
    /// What is read of each unit that has no registers of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub registers: Vec<ModbusRegister>,
}

/// A unit on a bus.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ModbusUnit {
    /// Its number, 1 to 247; with `url` 0 and 255 too, which mean the device
    /// that is connected to itself.
    pub id: u8,
    /// Name of the device.
    pub device: String,
    /// Where it is; levels are separated by `/`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub location: String,
    /// What is read of it, instead of the registers of the source.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub registers: Vec<ModbusRegister>,
}

/// A value in the registers of a unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ModbusRegister {
    /// The table that it is in.
    pub table: Table,
    /// Its first address as it is in requests, from 0: what manuals call 40001
    /// is 0 of `holding`.
    pub address: u16,
    /// How it is coded; default `u16`, of coils and discrete inputs `bool`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub coding: Option<Coding>,
    /// Order of its bytes and words.
    #[serde(default, skip_serializing_if = "Order::is_usual")]
    pub order: Order,
    /// The value is raw · scale + offset.
    #[serde(default = "one")]
    pub scale: f64,
    /// See `scale`.
    #[serde(default)]
    pub offset: f64,
    /// What is measured.
    pub kind: String,
    /// UCUM code of the value's unit.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit: String,
    /// Least and greatest valid value; readings outside are marked, not dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid: Option<[f64; 2]>,
    /// Raw value that means "not measured".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<f64>,
}

/// Parity of a serial port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Parity {
    /// None; devices then have two stop bits.
    None,
    /// Even, as the standard wants.
    #[default]
    Even,
    /// Odd.
    Odd,
}

/// A table of a unit.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Table {
    /// Bits that can be written.
    Coil,
    /// Bits that cannot.
    Discrete,
    /// Registers that can be written.
    Holding,
    /// Registers that cannot.
    Input,
}

/// How a value is coded in registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names are those of Rust's types")]
pub enum Coding {
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F32,
    F64,
    /// 1 when any bit is set, else 0.
    Bool,
}

/// Order of bytes and words, by the example of a value of four bytes whose most
/// significant is `a`. Two words: as said; four words: likewise; one word: only
/// whether its bytes are swapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// As the standard has it.
    #[default]
    Abcd,
    /// The bytes of each word are swapped.
    Badc,
    /// The least significant word is first.
    Cdab,
    /// Both.
    Dcba,
}

impl Order {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
    fn is_usual(&self) -> bool {
        *self == Self::Abcd
    }
}

const fn default_timeout() -> Duration {
    Duration(500_000_000)
}

const fn default_every() -> Duration {
    Duration::from_secs(10)
}

const fn default_gap() -> u16 {
    4
}

const fn default_most() -> u16 {
    125
}

const fn default_most_coils() -> u16 {
    2000
}

const fn one() -> f64 {
    1.0
}

/// Least time for an answer, and least time between reads.
const LEAST: Duration = Duration(10_000_000);

/// Most time for an answer.
const MOST: Duration = Duration::from_secs(60);

impl Table {
    /// Whether its entries are single bits.
    #[must_use]
    pub const fn is_bits(self) -> bool {
        matches!(self, Self::Coil | Self::Discrete)
    }

    /// As the configuration names it.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Coil => "coil",
            Self::Discrete => "discrete",
            Self::Holding => "holding",
            Self::Input => "input",
        }
    }
}

impl Coding {
    /// Registers that a value takes.
    #[must_use]
    pub const fn width(self) -> u16 {
        match self {
            Self::U16 | Self::I16 | Self::Bool => 1,
            Self::U32 | Self::I32 | Self::F32 => 2,
            Self::U64 | Self::I64 | Self::F64 => 4,
        }
    }

    /// Whether a raw value can be this number.
    fn holds(self, raw: f64) -> bool {
        let whole = |least: f64, most: f64| raw.fract() == 0.0 && (least..=most).contains(&raw);
        match self {
            Self::U16 => whole(0.0, u16::MAX.into()),
            Self::I16 => whole(i16::MIN.into(), i16::MAX.into()),
            Self::U32 => whole(0.0, u32::MAX.into()),
            Self::I32 => whole(i32::MIN.into(), i32::MAX.into()),
            Self::U64 => whole(0.0, u64::MAX as f64),
            Self::I64 => whole(i64::MIN as f64, i64::MAX as f64),
            Self::F32 | Self::F64 => raw.is_finite(),
            Self::Bool => whole(0.0, 1.0),
        }
    }
}

impl ModbusSource {
    /// Checks what the types cannot.
    pub(super) fn check(&self) -> Result<(), FieldError> {
        crate::modbus::Line::parse(self)?;
        if !(LEAST..=MOST).contains(&self.timeout) {
            return Err(FieldError::new(
                "timeout",
                "must be from \"10ms\" to \"60s\"",
            ));
        }
        if self.every < LEAST {
            return Err(FieldError::new("every", "must be \"10ms\" at least"));
        }
        if !(4..=125).contains(&self.most) {
            return Err(FieldError::new("most", "must be from 4 to 125"));
        }
        if !(1..=2000).contains(&self.most_coils) {
            return Err(FieldError::new("most-coils", "must be from 1 to 2000"));
        }
        for (i, register) in self.registers.iter().enumerate() {
            register.check(&format!("registers[{i}]"))?;
        }
        distinct(&self.registers, "registers")?;
        self.check_units()
    }

    fn check_units(&self) -> Result<(), FieldError> {
        if self.units.is_empty() {
            let reason =
                "is empty: name the units on the bus, such as { id = 1, device = \"meter\" }";
            return Err(FieldError::new("units", reason));
        }
        let (mut ids, mut devices) = (BTreeSet::new(), BTreeSet::new());
        for (i, unit) in self.units.iter().enumerate() {
            let field = format!("units[{i}]");
            FieldError::plain(&format!("{field}.location"), Some(&unit.location))?;
            let direct = self.url.is_some() && matches!(unit.id, 0 | 255);
            if !(direct || (1..=247).contains(&unit.id)) {
                let reason = "must be from 1 to 247 (with url also 0 or 255)";
                return Err(FieldError::new(format!("{field}.id"), reason));
            }
            if !ids.insert(unit.id) {
                let reason = "is there twice: write all its registers into one entry";
                return Err(FieldError::new(format!("{field}.id"), reason));
            }
            if unit.device.is_empty() || !devices.insert(&unit.device) {
                let reason = "must be a name that no other unit has";
                return Err(FieldError::new(format!("{field}.device"), reason));
            }
            if unit.registers.is_empty() && self.registers.is_empty() {
                let reason = "has none, and the source has none for all: name what is read";
                return Err(FieldError::new(format!("{field}.registers"), reason));
            }
            for (j, register) in unit.registers.iter().enumerate() {
                register.check(&format!("{field}.registers[{j}]"))?;
            }
            distinct(&unit.registers, &format!("{field}.registers"))?;
        }
        Ok(())
    }
}

fn distinct(registers: &[ModbusRegister], field: &str) -> Result<(), FieldError> {
    let mut kinds = BTreeSet::new();
    for (i, register) in registers.iter().enumerate() {
        if !kinds.insert(&register.kind) {
            let reason = format!(
                "{:?} is the kind of another register already",
                register.kind
            );
            return Err(FieldError::new(format!("{field}[{i}].kind"), reason));
        }
    }
    Ok(())
}

impl ModbusRegister {
    /// How it is coded.
    #[must_use]
    pub fn coding(&self) -> Coding {
        let usual = if self.table.is_bits() {
            Coding::Bool
        } else {
            Coding::U16
        };
        self.coding.unwrap_or(usual)
    }

    fn check(&self, field: &str) -> Result<(), FieldError> {
        let wrong =
            |name: &str, reason: &str| Err(FieldError::new(format!("{field}.{name}"), reason));
        if self.kind.is_empty() {
            return wrong("kind", "is empty: say what is measured");
        }
        if self.table.is_bits() && self.coding() != Coding::Bool {
            return wrong(
                "type",
                "must be \"bool\": this table has bits, no registers",
            );
        }
        if u32::from(self.address) + u32::from(self.coding().width()) > 1 << 16 {
            return wrong("address", "is too large: the value ends after 65535");
        }
        if !(self.scale.is_finite() && self.scale != 0.0) {
            return wrong("scale", "must be a number other than 0");
        }
        if !self.offset.is_finite() {
            return wrong("offset", "must be a number");
        }
        if let Some([least, greatest]) = self.valid
            && least.partial_cmp(&greatest).is_none_or(Ordering::is_gt)
        {
            return wrong("valid", "must be [least, greatest]");
        }
        if self.missing.is_some_and(|m| !self.coding().holds(m)) {
            return wrong("missing", "is no raw value (before scale) of this type");
        }
        Ok(())
    }
}
