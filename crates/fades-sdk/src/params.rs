//! The parameters of a task, as values of the types that a function asks for.

use alloc::string::String;
use alloc::vec::Vec;
use core::cell::Cell;

use crate::cbor::{DecodeError, Item, Reader};
use crate::context::Context;
use crate::function::{Abort, Bare};

/// Parameters by name, and the [`Context`] of the task.
///
/// Whatever is asked for is remembered: parameters that nobody asked for are
/// refused when [`Function::new`](crate::function::Function::new) returns.
pub struct Params {
    /// As the host wrote them, a map in CBOR, or nothing.
    given: &'static [u8],
    /// As the host wrote it.
    context: &'static [u8],
    asked: Cell<Vec<&'static str>>,
}

/// A type that a parameter can have.
pub trait Parameter<'p>: Sized {
    /// What a message says the parameter must be.
    const WANTED: &'static str;

    /// The item as this type, when it is one.
    fn read(item: &Item<'p>) -> Option<Self>;
}

impl Params {
    /// Parameters and context as a host hands them over.
    pub(crate) const fn new(given: &'static [u8], context: &'static [u8]) -> Self {
        Self {
            given,
            context,
            asked: Cell::new(Vec::new()),
        }
    }

    /// Zone and DTO names of the task.
    ///
    /// # Errors
    /// When the host broke their layout.
    pub fn context(&self) -> Result<Context, Abort> {
        Context::read(self.context)
            .ok_or_else(|| Abort::plain(format_args!("the context of the task breaks its layout")))
    }

    /// The parameter `name`, when it is given.
    ///
    /// # Errors
    /// When it has another type.
    pub fn get<'p, T: Parameter<'p>>(&'p self, name: &'static str) -> Result<Option<T>, Abort> {
        let Some(mut value) = self.find(name)? else {
            return Ok(None);
        };
        let item = value.item().map_err(unreadable)?;
        let read = T::read(&item);
        if read.is_none() {
            return Err(mistyped(name, T::WANTED, &item));
        }
        Ok(read)
    }

    /// The parameter `name`.
    ///
    /// # Errors
    /// When it is missing or has another type.
    pub fn require<'p, T: Parameter<'p>>(&'p self, name: &'static str) -> Result<T, Abort> {
        self.get(name)?.ok_or_else(|| missing(name, T::WANTED))
    }

    /// The parameter `name`, or `default` when it is not given.
    ///
    /// # Errors
    /// When it has another type.
    pub fn or<'p, T: Parameter<'p>>(&'p self, name: &'static str, default: T) -> Result<T, Abort> {
        Ok(self.get(name)?.unwrap_or(default))
    }

    /// What stands in `choices` beside the text that parameter `name` is.
    ///
    /// # Errors
    /// When it is none of them.
    pub fn choice<T: Copy>(
        &self,
        name: &'static str,
        choices: &[(&'static str, T)],
    ) -> Result<Option<T>, Abort> {
        let Some(mut value) = self.find(name)? else {
            return Ok(None);
        };
        let names: Vec<_> = choices.iter().map(|choice| choice.0).collect();
        let chosen = choose(name, value.item(), &names)?;
        Ok(Some(choices[chosen].1))
    }

    /// What stands in `choices` beside each text of the list that parameter
    /// `name` is; a single text is a list of one.
    ///
    /// # Errors
    /// When one of them is no choice, or the list is empty.
    pub fn choices<T: Copy>(
        &self,
        name: &'static str,
        choices: &[(&'static str, T)],
    ) -> Result<Option<Vec<T>>, Abort> {
        let names: Vec<_> = choices.iter().map(|choice| choice.0).collect();
        let chosen = self.chosen(name, &names)?;
        Ok(chosen.map(|all| all.into_iter().map(|one| choices[one].1).collect()))
    }

    fn chosen(&self, name: &'static str, names: &[&str]) -> Result<Option<Vec<usize>>, Abort> {
        let Some(mut value) = self.find(name)? else {
            return Ok(None);
        };
        let chosen = match value.item() {
            Ok(Item::Array(n)) if n > 0 => {
                (0..n).map(|_| choose(name, value.item(), names)).collect()
            }
            first => choose(name, first, names).map(|one| alloc::vec![one]),
        };
        chosen.map(Some)
    }

    /// The numbers in the list that parameter `name` is.
    ///
    /// # Errors
    /// When it is something else.
    #[inline(never)]
    pub fn numbers(&self, name: &'static str) -> Result<Option<Vec<f64>>, Abort> {
        const WANTED: &str = "a list of numbers";
        let Some(mut value) = self.find(name)? else {
            return Ok(None);
        };
        let number = |item: Item<'_>| f64::read(&item).ok_or_else(|| mistyped(name, WANTED, &item));
        match value.item().map_err(unreadable)? {
            Item::Array(n) => {
                let numbers = (0..n).map(|_| number(value.item().map_err(unreadable)?));
                numbers.collect::<Result<_, _>>().map(Some)
            }
            item => Ok(Some(alloc::vec![number(item)?])),
        }
    }

    /// A reader at the value of parameter `name`, when it is given.
    #[inline(never)]
    fn find(&self, name: &'static str) -> Result<Option<Reader<'_>>, Abort> {
        let mut asked = self.asked.take();
        if !asked.contains(&name) {
            asked.push(name);
        }
        self.asked.set(asked);
        self.first(&|key| key == name)
            .map(|found| found.map(|(_, value)| value))
            .map_err(unreadable)
    }

    /// The first parameter whose name is `wanted`.
    fn first(
        &self,
        wanted: &dyn Fn(&str) -> bool,
    ) -> Result<Option<(&str, Reader<'_>)>, DecodeError> {
        let mut reader = Reader::new(self.given);
        let entries = match reader.item() {
            Ok(Item::Map(entries)) => entries,
            _ if self.given.is_empty() => 0,
            Ok(_) => return Err(DecodeError::Unsupported),
            Err(error) => return Err(error),
        };
        for _ in 0..entries {
            let key = reader.key()?;
            if wanted(key) {
                return Ok(Some((key, reader)));
            }
            reader.skip()?;
        }
        reader.end()?;
        Ok(None)
    }

    /// Refuses parameters that nobody asked for.
    pub(crate) fn finish(&self) -> Result<(), Abort> {
        let asked = self.asked.take();
        let unknown = self.first(&|name| !asked.contains(&name));
        match unknown.map_err(unreadable)? {
            None => Ok(()),
            Some((name, _)) => Err(unknown_parameter(name, &asked)),
        }
    }
}

fn unreadable(why: DecodeError) -> Abort {
    Abort::plain(format_args!("the parameters cannot be read: {why}"))
}

fn missing(name: &str, wanted: &str) -> Abort {
    let (name, wanted) = (Bare(name), Bare(wanted));
    Abort::plain(format_args!(
        "parameter `{name}` is missing: give it as {wanted}"
    ))
}

fn unknown_parameter(name: &str, asked: &[&str]) -> Abort {
    let mut known = list(asked.iter().copied());
    if known.is_empty() {
        known.push_str("none");
    }
    let (name, known) = (Bare(name), Bare(&known));
    Abort::plain(format_args!(
        "parameter `{name}` is unknown: this function takes {known}"
    ))
}

fn mistyped(name: &str, wanted: &str, item: &Item<'_>) -> Abort {
    let (but, text) = match *item {
        Item::Null => ("nothing", ""),
        Item::Bool(_) => ("true or false", ""),
        Item::Int(_) => ("this integer", ""),
        Item::Float(_) => ("this number with a fraction", ""),
        Item::Text(text) => ("the text ", text),
        Item::Bytes(_) => ("bytes", ""),
        Item::Array(_) => ("a list", ""),
        Item::Map(_) => ("a map", ""),
    };
    let (name, wanted, but, text) = (Bare(name), Bare(wanted), Bare(but), Bare(text));
    Abort::plain(format_args!(
        "parameter `{name}` must be {wanted}, not {but}{text}"
    ))
}

/// Which of `names` the item is.
#[inline(never)]
fn choose(
    parameter: &str,
    item: Result<Item<'_>, DecodeError>,
    names: &[&str],
) -> Result<usize, Abort> {
    let item = item.map_err(unreadable)?;
    let chosen = names.iter().position(|&name| item == Item::Text(name));
    chosen.ok_or_else(|| {
        let known = list(names.iter().copied());
        mistyped(parameter, &(String::from("one of ") + &known), &item)
    })
}

/// `a`, `b`, `c`.
fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut text = String::new();
    for name in names {
        text.push_str(if text.is_empty() { "`" } else { ", `" });
        text.push_str(name);
        text.push('`');
    }
    text
}

impl Parameter<'_> for f64 {
    const WANTED: &'static str = "a number";

    fn read(item: &Item<'_>) -> Option<Self> {
        match *item {
            Item::Int(i) => Some(i as Self),
            Item::Float(f) if f.is_finite() => Some(f),
            _ => None,
        }
    }
}

impl Parameter<'_> for i64 {
    const WANTED: &'static str = "an integer";

    fn read(item: &Item<'_>) -> Option<Self> {
        match *item {
            Item::Int(i) => Some(i),
            _ => None,
        }
    }
}

impl Parameter<'_> for u64 {
    const WANTED: &'static str = "an integer of at least 0";

    fn read(item: &Item<'_>) -> Option<Self> {
        match *item {
            Item::Int(i) => Self::try_from(i).ok(),
            _ => None,
        }
    }
}

impl Parameter<'_> for bool {
    const WANTED: &'static str = "true or false";

    fn read(item: &Item<'_>) -> Option<Self> {
        match *item {
            Item::Bool(b) => Some(b),
            _ => None,
        }
    }
}

impl<'p> Parameter<'p> for &'p str {
    const WANTED: &'static str = "text";

    fn read(item: &Item<'p>) -> Option<Self> {
        match *item {
            Item::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// A length of time, ns, above 0: an integer of nanoseconds or a text such as
/// `250ms`, `90s`, `15m`, `1h`, `1d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub i64);

impl Parameter<'_> for Span {
    const WANTED: &'static str = "a length of time such as `15m` or `1h`";

    fn read(item: &Item<'_>) -> Option<Self> {
        let ns = match *item {
            Item::Int(ns) => ns,
            Item::Text(text) => nanoseconds(text)?,
            _ => return None,
        };
        (ns > 0).then_some(Self(ns))
    }
}

fn nanoseconds(text: &str) -> Option<i64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        "ns" => 1,
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" => 86_400_000_000_000,
        _ => return None,
    };
    number.parse::<i64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests;
