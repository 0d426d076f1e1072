//! What is in a file: its columns, and whose rows are in which row group.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use fades_task::coverage::LossReason;
use parquet::data_type::ByteArray;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescriptor;

use super::column::{Column, is_number, is_text, time_unit, wrong};
use super::layout::{Layout, Names};
use super::{ParquetError, identity};
use crate::columns::{Blob, BlobError, guarded};
use crate::csv::{Identity, Part, Template};
use crate::selector::Selector;
use crate::series::MAX_SERIES;

/// Rows that are decoded at a time.
pub(super) const PIECE: usize = 16 << 10;

/// Longest name of a device, location, kind or unit, bytes.
const LONGEST: usize = 256;

/// What is in a file.
#[derive(Debug)]
pub(super) struct FileIndex {
    pub(super) path: PathBuf,
    pub(super) state: Identity,
    pub(super) metadata: ParquetMetaData,
    time: usize,
    unit: i64,
    texts: Vec<usize>,
    /// Columns of the layout's points.
    pub(super) points: Vec<usize>,
    /// The column of marks, if there is one.
    pub(super) mark: Option<usize>,
    groups: Vec<OnceLock<Arc<GroupIndex>>>,
}

/// What is in a row group.
#[derive(Debug, Default)]
pub(super) struct GroupIndex {
    pub(super) spans: Vec<Span>,
    /// Rows that cannot be used.
    pub(super) lost: BTreeMap<LossReason, u64>,
}

/// The rows of one owner in a row group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) owner: u32,
    pub(super) rows: u64,
    pub(super) oldest: i64,
    pub(super) newest: i64,
}

/// Numbers for those whom rows belong to: device, location, and in the long form
/// kind and unit.
#[derive(Debug, Default)]
pub(super) struct Owners(Mutex<Numbered>);

#[derive(Debug, Default)]
struct Numbered {
    numbers: HashMap<Names, u32>,
    names: Vec<Names>,
}

impl Owners {
    fn number(&self, names: Names) -> Option<u32> {
        let mut owners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&number) = owners.numbers.get(&names) {
            return Some(number);
        }
        let number = u32::try_from(owners.names.len()).ok()?;
        (owners.names.len() < MAX_SERIES).then(|| {
            owners.names.push(names.clone());
            owners.numbers.insert(names, number);
            number
        })
    }

    /// The names of an owner that has a number.
    pub(super) fn names(&self, owner: u32) -> Names {
        let owners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        owners.names[owner as usize].clone()
    }
}

impl FileIndex {
    pub(super) fn open(
        path: &Path,
        state: Identity,
        layout: &Layout,
    ) -> Result<Self, ParquetError> {
        let failed = |reason| ParquetError::File {
            path: path.to_owned(),
            reason,
        };
        let metadata = Blob::open(path)
            .and_then(|b| b.metadata())
            .map_err(failed)?;
        let columns = metadata.file_metadata().schema_descr().columns();
        let unusable = |column: &str, reason| ParquetError::Column {
            path: path.to_owned(),
            column: column.to_owned(),
            reason,
        };
        let find = |name: &str, usable: &dyn Fn(&ColumnDescriptor) -> bool| {
            let mut all = columns.iter();
            let index = all.position(|c| c.path().string() == name);
            let index = index.ok_or_else(|| ParquetError::NoColumn {
                path: path.to_owned(),
                column: name.to_owned(),
                have: list(columns.iter().map(|c| c.path().string())),
            })?;
            let column = &columns[index];
            if column.max_rep_level() > 0 || column.max_def_level() > 1 {
                return Err(unusable(name, "it is nested"));
            }
            match usable(column) {
                true => Ok(index),
                false => Err(unusable(name, "its type fits neither a text nor a number")),
            }
        };
        let time = find(&layout.time, &|_| true)?;
        let unit = time_unit(&columns[time], layout.time_unit);
        let texts = layout.texts.iter().map(|name| find(name, &is_text));
        let points = layout.points.iter().map(|p| find(&p.column, &is_number));
        let is_there = |name: &&String| columns.iter().any(|c| c.path().string() == **name);
        let mark = layout.mark.as_ref().filter(is_there);
        let mark = mark.map(|name| find(name, &is_number));
        Ok(Self {
            unit: unit.map_err(|reason| unusable(&layout.time, reason))?,
            texts: texts.collect::<Result<_, _>>()?,
            points: points.collect::<Result<_, _>>()?,
            mark: mark.transpose()?,
            time,
            path: path.to_owned(),
            state,
            groups: vec![OnceLock::new(); metadata.num_row_groups()],
            metadata,
        })
    }

    /// Opens the file, if it is still the one that was indexed.
    pub(super) fn blob(&self) -> Result<Arc<Blob>, ParquetError> {
        let blob = Blob::open(&self.path).map_err(|e| self.failed(e))?;
        if identity(&self.path)? != self.state {
            return Err(ParquetError::Changed(self.path.clone()));
        }
        Ok(Arc::new(blob))
    }

    pub(super) fn failed(&self, reason: BlobError) -> ParquetError {
        let path = self.path.clone();
        ParquetError::File { path, reason }
    }

    /// Row groups that can have times in the range of `selector`, and which times
    /// they can have.
    pub(super) fn groups(&self, selector: &Selector) -> impl Iterator<Item = (usize, (i64, i64))> {
        let all = (0..self.groups.len()).map(|group| {
            let times = self.extent(group);
            (group, times.unwrap_or((i64::MIN, i64::MAX)))
        });
        all.filter(|(_, (oldest, newest))| selector.overlaps(*oldest, *newest))
    }

    /// The times of a row group, as its statistics have them.
    fn extent(&self, group: usize) -> Option<(i64, i64)> {
        let chunk = self.metadata.row_group(group).columns().get(self.time)?;
        let Statistics::Int64(times) = chunk.statistics()? else {
            return None;
        };
        let nanos = |time: &i64| time.checked_mul(self.unit);
        Some((nanos(times.min_opt()?)?, nanos(times.max_opt()?)?))
    }

    /// Bytes of the columns that are read of a row group.
    pub(super) fn bytes(&self, group: usize, points: &[usize]) -> u64 {
        let columns = self.metadata.row_group(group).columns();
        let read = self.texts.iter().chain([&self.time]).chain(&self.mark);
        let read = read.chain(points);
        let bytes = read
            .filter_map(|&c| columns.get(c))
            .map(|c| c.compressed_size());
        bytes.filter_map(|b| u64::try_from(b).ok()).sum()
    }

    /// Whose rows are in a row group.
    pub(super) fn group(
        &self,
        group: usize,
        layout: &Layout,
        owners: &Owners,
    ) -> Result<Arc<GroupIndex>, ParquetError> {
        if let Some(index) = self.groups[group].get() {
            return Ok(Arc::clone(index));
        }
        let mut spans: BTreeMap<u32, Span> = BTreeMap::new();
        let mut lost: BTreeMap<LossReason, u64> = BTreeMap::new();
        self.rows(group, layout, owners, |_, row| {
            match row {
                Ok((owner, time)) => {
                    let span = spans.entry(owner).or_insert(Span {
                        owner,
                        rows: 0,
                        oldest: time,
                        newest: time,
                    });
                    span.rows += 1;
                    span.oldest = span.oldest.min(time);
                    span.newest = span.newest.max(time);
                }
                Err(reason) => *lost.entry(reason).or_default() += 1,
            }
            Ok(())
        })?;
        let index = GroupIndex {
            spans: spans.into_values().collect(),
            lost,
        };
        Ok(Arc::clone(
            self.groups[group].get_or_init(|| Arc::new(index)),
        ))
    }

    /// Tells `each` owner and time of each row of a row group, with its number.
    pub(super) fn rows(
        &self,
        group: usize,
        layout: &Layout,
        owners: &Owners,
        mut each: impl FnMut(usize, Result<(u32, i64), LossReason>) -> Result<(), BlobError>,
    ) -> Result<(), ParquetError> {
        let blob = self.blob()?;
        let mut naming = Naming {
            layout,
            owners,
            path: &self.path,
            last: None,
            known: HashMap::new(),
            is_full: false,
        };
        let read = guarded(|| {
            let open = |column| Column::open(&blob, &self.metadata, group, column);
            let mut time = open(self.time)?;
            let texts = self.texts.iter().map(|&c| open(c));
            let mut texts = texts.collect::<Result<Vec<_>, _>>()?;
            let rows = usize::try_from(self.metadata.row_group(group).num_rows());
            let rows = rows.map_err(|_| wrong("a row group has less than no rows"))?;
            let mut at = 0;
            while at < rows {
                let piece = PIECE.min(rows - at);
                let times = time.times(piece)?;
                let names = texts.iter_mut().map(|column| column.texts(piece));
                let names = names.collect::<Result<Vec<_>, _>>()?;
                for (i, time) in times.into_iter().enumerate() {
                    let time = time.and_then(|t| t.checked_mul(self.unit));
                    let owner = naming.owner(&names, i);
                    let row = owner.and_then(|o| Ok((o, time.ok_or(LossReason::BadTime)?)));
                    each(at + i, row)?;
                }
                at += piece;
            }
            Ok(())
        });
        if naming.is_full {
            return Err(ParquetError::TooManySeries);
        }
        read.map_err(|e| self.failed(e))
    }
}

/// What a row says, by column.
type Said = Vec<Option<ByteArray>>;

/// Finds the owners of rows.
struct Naming<'a> {
    layout: &'a Layout,
    owners: &'a Owners,
    path: &'a Path,
    /// What the row before said, and whose it was.
    last: Option<(Said, Result<u32, LossReason>)>,
    known: HashMap<Vec<Option<Vec<u8>>>, Result<u32, LossReason>>,
    is_full: bool,
}

impl Naming<'_> {
    fn owner(&mut self, names: &[Vec<Option<ByteArray>>], row: usize) -> Result<u32, LossReason> {
        if let Some((last, owner)) = &self.last
            && last
                .iter()
                .zip(names)
                .all(|(last, column)| *last == column[row])
        {
            return *owner;
        }
        let said: Said = names.iter().map(|c| c[row].clone()).collect();
        let bytes = |text: &ByteArray| text.data().to_vec();
        let key: Vec<Option<Vec<u8>>> = said.iter().map(|s| s.as_ref().map(bytes)).collect();
        let owner = match self.known.get(&key) {
            Some(owner) => *owner,
            None => {
                let owner = self.number(&said);
                // Rows that name nobody may each do so in another way.
                if self.known.len() < MAX_SERIES {
                    self.known.insert(key, owner);
                }
                owner
            }
        };
        self.last = Some((said, owner));
        owner
    }

    fn number(&mut self, said: &[Option<ByteArray>]) -> Result<u32, LossReason> {
        let [device, location, kind, unit] = &self.layout.names;
        let device = self.render(device, said)?;
        let kind = self.render(kind, said)?;
        let is_long = self.layout.is_long();
        if device.is_empty() || (is_long && kind.is_empty()) {
            return Err(LossReason::Unnamed);
        }
        let location = self.render(location, said)?;
        let unit = self.render(unit, said)?;
        let names = [device, location, kind, crate::units::code(&unit).to_owned()];
        let number = self.owners.number(names.map(Arc::from));
        number.ok_or_else(|| {
            self.is_full = true;
            LossReason::Unnamed
        })
    }

    fn render(&self, name: &Template, said: &[Option<ByteArray>]) -> Result<String, LossReason> {
        let mut text = String::new();
        for part in name.parts() {
            match part {
                Part::Text(fixed) => text += fixed,
                Part::Name(gap) => {
                    let mut columns = self.layout.texts.iter();
                    match columns.position(|c| c == gap) {
                        // What is not said is empty.
                        Some(column) => {
                            let said = said[column].as_ref().map_or(&[][..], ByteArray::data);
                            let said = std::str::from_utf8(said);
                            text += said.map_err(|_| LossReason::BadText)?;
                        }
                        None => text += &of_path(self.path, gap),
                    }
                }
            }
        }
        if text.len() > LONGEST {
            return Err(LossReason::Unnamed);
        }
        Ok(text)
    }
}

/// What `{file}` or `{folder}` stands for.
fn of_path(path: &Path, gap: &str) -> String {
    let part = match gap {
        "file" => path.file_stem(),
        _ => path.parent().and_then(Path::file_name),
    };
    part.map(|p| p.to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn list(names: impl Iterator<Item = String>) -> String {
    let names: Vec<String> = names.take(50).collect();
    names.join(", ")
}
