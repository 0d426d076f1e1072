//! One row into readings.

use std::collections::HashMap;

use fades_abi::batch::mark;
use fades_task::coverage::LossReason;

use super::clock::Clock;
use super::fields::Fields;
use super::format::{Format, KnownKind, Missing, Shape};
use super::layout::Layout;
use super::lines::Line;
use super::number::Number;
use crate::config::Encoding;
use crate::series::SeriesKey;

/// Longest name of a device, location, kind or unit, bytes.
const MAX_NAME: usize = 256;

/// Takes what a [`RowParser`] finds.
pub(crate) trait Sink {
    /// The rows that follow are of this block of the file.
    fn enter(&mut self, _block: usize) {}

    /// Where the readings of a series go; `None` when they are not wanted.
    /// Asked once for each series and parser.
    fn place(&mut self, key: &SeriesKey) -> Result<Option<u32>, TooManySeries>;

    /// Readings of this time are wanted.
    fn within(&self, time: i64) -> bool;

    /// A reading that is wanted.
    fn reading(&mut self, found: Found);

    /// A reading that was there and cannot be used.
    fn lost(&mut self, lost: Lost);
}

/// The source has more series than it may.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TooManySeries;

/// A reading.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Found {
    pub(crate) place: u32,
    pub(crate) time: i64,
    pub(crate) value: f64,
    /// Bits of [`fades_abi::batch::mark`].
    pub(crate) mark: u8,
    pub(crate) line: u64,
}

/// A reading that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lost {
    /// Of which series, when the row says so.
    pub(crate) place: Option<u32>,
    /// Which of the columns of readings.
    pub(crate) point: u32,
    /// When, if the row says so.
    pub(crate) time: Option<i64>,
    pub(crate) line: u64,
    pub(crate) reason: LossReason,
    pub(crate) blame: Blame,
}

/// What of a row is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blame {
    Row,
    Time,
    Value,
}

impl Format {
    /// Readings that a whole row has.
    pub(crate) fn points(&self) -> usize {
        match &self.shape {
            Shape::Wide(points) => points.len(),
            Shape::Long { .. } => 1,
        }
    }

    /// The name of the column to blame, when one is.
    pub(crate) fn column_blamed(&self, blame: Blame, point: u32) -> Option<String> {
        match (blame, &self.shape) {
            (Blame::Row, _) => None,
            (Blame::Time, _) => self.time.first().cloned(),
            (Blame::Value, Shape::Long { value, .. }) => Some(value.clone()),
            (Blame::Value, Shape::Wide(points)) => {
                points.get(point as usize).map(|p| p.column.clone())
            }
        }
    }
}

/// Whose row it is.
#[derive(Debug)]
struct Subject {
    /// For each point, where its readings go.
    places: Vec<Option<u32>>,
    wanted: bool,
    /// Index of what is known of the kind (long form).
    known: Option<usize>,
}

/// Parses the rows of one file, or of a part of it.
pub(crate) struct RowParser<'a> {
    format: &'a Format,
    layout: &'a Layout,
    clock: Clock<'a>,
    row: Fields,
    /// Key fields of the row at hand, one after the other.
    key: Vec<u8>,
    joined: Vec<u8>,
    /// Index of what was met, by key.
    keys: HashMap<Vec<u8>, usize>,
    met: Vec<Met>,
    /// Whose the row before was.
    last: usize,
}

/// What a key stands for.
struct Met {
    key: Vec<u8>,
    /// `None`: rows of this key name no device or no kind.
    subject: Option<Subject>,
    /// Whose row came next, when there was one of this key before: loggers write
    /// their devices in the same order again and again.
    next: usize,
}

impl<'a> RowParser<'a> {
    pub(crate) fn new(format: &'a Format, layout: &'a Layout) -> Self {
        Self {
            format,
            layout,
            clock: format.clock.clock(),
            row: Fields::default(),
            key: Vec::new(),
            joined: Vec::new(),
            keys: HashMap::new(),
            met: Vec::new(),
            last: 0,
        }
    }

    /// Takes one line; says whether it is a row.
    pub(crate) fn line(
        &mut self,
        line: &Line<'_>,
        number: u64,
        sink: &mut impl Sink,
    ) -> Result<bool, TooManySeries> {
        let text = match line {
            Line::TooLong => {
                self.lose_row(number, LossReason::BadText, sink);
                return Ok(true);
            }
            Line::Text(text) => *text,
        };
        if is_nothing(self.format, text) {
            return Ok(false);
        }
        if self.format.encoding == Encoding::Utf8
            && !text.is_ascii()
            && std::str::from_utf8(text).is_err()
        {
            self.lose_row(number, LossReason::BadText, sink);
            return Ok(true);
        }
        self.row.split(
            text,
            self.format.delimiter,
            self.format.quote,
            self.layout.last,
        );
        let whose = match self.whose(text) {
            Some(whose) => whose,
            None => {
                self.lose_row(number, LossReason::Truncated, sink);
                return Ok(true);
            }
        };
        let met = match whose {
            Whose::Seen(met) => met,
            Whose::New => self.meet(sink)?,
        };
        if self.met[met].subject.is_none() {
            self.lose_row(number, LossReason::Unnamed, sink);
        } else {
            self.readings(text, number, met, sink);
        }
        Ok(true)
    }

    /// All readings of the row are lost, and whose they are is not known.
    fn lose_row(&self, line: u64, reason: LossReason, sink: &mut impl Sink) {
        for point in 0..self.format.points() as u32 {
            sink.lost(Lost {
                place: None,
                point,
                time: None,
                line,
                reason,
                blame: Blame::Row,
            });
        }
    }

    /// Whose row it is; `None` when the row ends before a key field.
    fn whose(&mut self, line: &[u8]) -> Option<Whose> {
        if let Some(last) = self.met.get(self.last) {
            let next = last.next;
            for guess in [self.last, next] {
                if self.is_of(line, guess) {
                    return Some(self.seen(guess));
                }
            }
        }
        self.key.clear();
        for &column in &self.layout.keys {
            self.key.extend_from_slice(self.row.field(line, column)?);
            self.key.push(b'\n');
        }
        let Some(&met) = self.keys.get(&self.key) else {
            return Some(Whose::New);
        };
        Some(self.seen(met))
    }

    /// Whether the row has this key.
    fn is_of(&self, line: &[u8], met: usize) -> bool {
        let mut rest = self.met[met].key.as_slice();
        let has = self.layout.keys.iter().all(|&column| {
            let field = self.row.field(line, column);
            let after = field.and_then(|f| rest.strip_prefix(f)?.strip_prefix(b"\n"));
            rest = after.unwrap_or_default();
            after.is_some()
        });
        has && rest.is_empty()
    }

    fn seen(&mut self, met: usize) -> Whose {
        self.met[self.last].next = met;
        self.last = met;
        Whose::Seen(met)
    }

    /// Meets a key that was never seen.
    fn meet(&mut self, sink: &mut impl Sink) -> Result<usize, TooManySeries> {
        let decode = |field: &[u8]| match self.format.encoding {
            // Lines that are no UTF-8 do not get this far.
            Encoding::Utf8 => String::from_utf8_lossy(field).into_owned(),
            Encoding::Latin1 => field.iter().map(|&b| char::from(b)).collect(),
        };
        let keys: Vec<String> = self.key.split(|&b| b == b'\n').map(decode).collect();
        let met = self.met.len();
        self.met.push(Met {
            key: self.key.clone(),
            subject: subject(self.format, self.layout, &keys, sink)?,
            next: met,
        });
        self.keys.insert(self.key.clone(), met);
        self.seen(met);
        Ok(met)
    }

    fn readings(&mut self, line: &[u8], number: u64, met: usize, sink: &mut impl Sink) {
        let Some(subject) = self.met[met].subject.as_ref().filter(|s| s.wanted) else {
            return;
        };
        let wanted = (0_u32..)
            .zip(&subject.places)
            .filter_map(|(point, place)| Some((point, (*place)?)));
        let time = match time(
            self.layout,
            &self.row,
            line,
            &mut self.joined,
            &mut self.clock,
        ) {
            Ok(time) => time,
            Err(reason) => {
                for (point, place) in wanted {
                    sink.lost(Lost {
                        place: Some(place),
                        point,
                        time: None,
                        line: number,
                        reason,
                        blame: Blame::Time,
                    });
                }
                return;
            }
        };
        if !sink.within(time) {
            return;
        }
        for (point, place) in wanted {
            let field = self.row.field(line, self.layout.values[point as usize]);
            let (missing, valid) = rules(self.format, point as usize, subject.known);
            match reading(self.format, field, missing) {
                Ok(None) => {}
                Ok(Some(value)) => sink.reading(Found {
                    place,
                    time,
                    value,
                    mark: outside(value, valid),
                    line: number,
                }),
                Err(reason) => sink.lost(Lost {
                    place: Some(place),
                    point,
                    time: Some(time),
                    line: number,
                    reason,
                    blame: Blame::Value,
                }),
            }
        }
    }
}

enum Whose {
    Seen(usize),
    New,
}

/// A line that is empty, a comment, or holds nothing but delimiters is no row.
fn is_nothing(format: &Format, line: &[u8]) -> bool {
    match line.first() {
        None => true,
        Some(first) if Some(*first) == format.comment => true,
        Some(first) if *first == format.delimiter || first.is_ascii_whitespace() => line
            .iter()
            .all(|b| *b == format.delimiter || b.is_ascii_whitespace()),
        Some(_) => false,
    }
}

fn subject(
    format: &Format,
    layout: &Layout,
    keys: &[String],
    sink: &mut impl Sink,
) -> Result<Option<Subject>, TooManySeries> {
    let device = layout.device.render(keys);
    let location = layout.location.render(keys);
    if device.is_empty() || [&device, &location].iter().any(|t| t.len() > MAX_NAME) {
        return Ok(None);
    }
    let mut places = Vec::new();
    let mut known = None;
    let mut key = SeriesKey {
        device: device.into(),
        location: location.into(),
        kind: "".into(),
        unit: "".into(),
    };
    match (&format.shape, &layout.long) {
        (Shape::Wide(points), _) => {
            for point in points {
                key.kind = point.kind.as_str().into();
                key.unit = point.unit.as_str().into();
                places.push(sink.place(&key)?);
            }
        }
        (Shape::Long { kinds, .. }, long) => {
            let (kind, unit) = long.as_ref().map_or_else(Default::default, |(kind, unit)| {
                (kind.render(keys), unit.render(keys))
            });
            if kind.is_empty() || kind.len() > MAX_NAME || unit.len() > MAX_NAME {
                return Ok(None);
            }
            known = kinds.iter().position(|k| k.kind == kind);
            let configured = known.map_or("", |i| kinds[i].unit.as_str());
            key.unit = if configured.is_empty() {
                unit.into()
            } else {
                configured.into()
            };
            key.kind = kind.into();
            places.push(sink.place(&key)?);
        }
    }
    let wanted = places.iter().any(Option::is_some);
    Ok(Some(Subject {
        places,
        wanted,
        known,
    }))
}

fn rules(format: &Format, point: usize, known: Option<usize>) -> (&Missing, Option<[f64; 2]>) {
    match &format.shape {
        Shape::Wide(points) => (&points[point].missing, points[point].valid),
        Shape::Long { kinds, missing, .. } => match known.map(|i| &kinds[i]) {
            Some(KnownKind { missing, valid, .. }) => (missing, *valid),
            None => (missing, None),
        },
    }
}

fn time(
    layout: &Layout,
    row: &Fields,
    line: &[u8],
    joined: &mut Vec<u8>,
    clock: &mut Clock<'_>,
) -> Result<i64, LossReason> {
    let text = match layout.time.as_slice() {
        [column] => row.field(line, *column).ok_or(LossReason::Truncated)?,
        columns => {
            joined.clear();
            for &column in columns {
                if !joined.is_empty() {
                    joined.push(b' ');
                }
                let field = row.field(line, column).ok_or(LossReason::Truncated)?;
                joined.extend_from_slice(field);
            }
            joined
        }
    };
    clock.read(text).ok_or(LossReason::BadTime)
}

/// A field's value; `Ok(None)` when it was not measured.
fn reading(
    format: &Format,
    field: Option<&[u8]>,
    missing: &Missing,
) -> Result<Option<f64>, LossReason> {
    let field = field.ok_or(LossReason::Truncated)?;
    if missing.text(field) {
        return Ok(None);
    }
    if field.is_empty() {
        return Err(LossReason::Empty);
    }
    match format.numbers.read(field) {
        Number::Finite(value) if missing.number(value) => Ok(None),
        Number::Finite(value) => Ok(Some(value)),
        Number::NotFinite => Err(LossReason::NotFinite),
        Number::Unreadable => Err(LossReason::NotANumber),
    }
}

fn outside(value: f64, valid: Option<[f64; 2]>) -> u8 {
    match valid {
        Some([low, high]) if value < low || value > high => mark::OUTSIDE,
        _ => 0,
    }
}
