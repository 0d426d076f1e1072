//! Values: what parameters and answers are made of.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

/// A value of the kinds that parameters and answers may have.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A number with a fraction.
    Float(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Values in order.
    Array(Vec<Value>),
    /// Values by name.
    Map(Map),
}

/// Values by name, always in the order in which they are encoded: shorter
/// names first, names of one length by their bytes (RFC 8949, 4.2.1).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Map {
    entries: Vec<(Cow<'static, str>, Value)>,
}

impl Map {
    /// A map without entries.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            entries: Vec::new(),
        }
    }

    /// The map with `name` set.
    #[must_use]
    pub fn with(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Value>) -> Self {
        self.set(name, value);
        self
    }

    /// Sets `name`; what it was before is gone.
    pub fn set(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Value>) {
        self.put(name.into(), value.into());
    }

    fn put(&mut self, name: Cow<'static, str>, value: Value) {
        match self.position(&name) {
            Ok(at) => self.entries[at].1 = value,
            Err(at) => self.entries.insert(at, (name, value)),
        }
    }

    /// The value of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.position(name).ok().map(|at| &self.entries[at].1)
    }

    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Value> {
        self.position(name).ok().map(|at| &mut self.entries[at].1)
    }

    /// Names and values in the order of their encoding.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(name, value)| (&**name, value))
    }

    /// Number of entries.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no entries.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn position(&self, name: &str) -> Result<usize, usize> {
        let key = (name.len(), name);
        self.entries
            .binary_search_by(|(n, _)| (n.len(), &**n).cmp(&key))
    }
}

impl Value {
    /// What a message calls a value of this kind.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Int(_) => "an integer",
            Self::Float(_) => "a number with a fraction",
            Self::Text(_) => "text",
            Self::Bytes(_) => "bytes",
            Self::Array(_) => "a list",
            Self::Map(_) => "a map",
        }
    }

    /// The number, when the value is one.
    #[must_use]
    pub const fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Int(i) => Some(*i as f64),
            Self::Float(f) => Some(*f),
            _ => None,
        }
    }

    /// The text, when the value is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(t) => Some(t),
            _ => None,
        }
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Self::Int(value.into())
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Int(value.into())
    }
}

/// Counts beyond `i64::MAX` do not occur; they would be given as that.
impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Self::from(value as u64)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.into())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<Map> for Value {
    fn from(value: Map) -> Self {
        Self::Map(value)
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(value: Vec<T>) -> Self {
        Self::Array(value.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// What tests ask of an answer.
#[cfg(any(test, feature = "testing"))]
mod asked {
    use super::{Map, Value};
    use core::ops::Index;

    impl Index<&str> for Map {
        type Output = Value;

        fn index(&self, name: &str) -> &Value {
            self.get(name)
                .unwrap_or_else(|| panic!("no `{name}` in {self:?}"))
        }
    }

    impl Index<&str> for Value {
        type Output = Self;

        fn index(&self, name: &str) -> &Self {
            match self {
                Self::Map(map) => &map[name],
                other => panic!("`{name}` was asked of {other:?}"),
            }
        }
    }

    impl Index<usize> for Value {
        type Output = Self;

        fn index(&self, at: usize) -> &Self {
            match self {
                Self::Array(items) => &items[at],
                other => panic!("item {at} was asked of {other:?}"),
            }
        }
    }

    impl PartialEq<&str> for Value {
        fn eq(&self, other: &&str) -> bool {
            self.as_str() == Some(other)
        }
    }

    impl PartialEq<i64> for Value {
        fn eq(&self, other: &i64) -> bool {
            *self == Self::Int(*other)
        }
    }

    impl PartialEq<i32> for Value {
        fn eq(&self, other: &i32) -> bool {
            *self == i64::from(*other)
        }
    }

    impl PartialEq<f64> for Value {
        fn eq(&self, other: &f64) -> bool {
            *self == Self::Float(*other)
        }
    }
}
