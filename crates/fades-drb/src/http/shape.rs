//! What the operator wrote, resolved: addresses, and how their answers are read.

use std::collections::BTreeSet;
use std::sync::Arc;

use ureq::http::{HeaderName, HeaderValue};

use crate::client::checked;
use crate::config::{Auth, FieldError, HttpSource, PayloadFormat, Tls, Values};
use crate::payload::{Meaning, Named, NamedBy, Names};
use crate::selector::Selector;
use crate::series::SeriesKey;

/// Most addresses of a source: each may need a thread for as long as it is slow.
const MOST_ADDRESSES: usize = 256;

/// Most pages of an answer.
const MOST_PAGES: u32 = 100;

/// What stands for a device in an address.
const DEVICE: &str = "{device}";

/// How a source is asked and read.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(super) addresses: Vec<Address>,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) meaning: Meaning,
    /// JSON pointer to a list.
    pub(super) items: Option<String>,
    pub(super) accept: &'static str,
    /// Names that no answer changes.
    device: Option<Arc<str>>,
    location: Option<Arc<str>>,
    kinds: Option<Vec<Arc<str>>>,
}

/// One address, and the device that is behind it when that is known.
#[derive(Debug, Clone)]
pub(super) struct Address {
    pub(super) url: String,
    pub(super) named: Named,
}

impl Shape {
    /// What is asked.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.addresses.iter().map(|a| a.url.clone()).collect()
    }

    pub(crate) fn compile(config: &HttpSource) -> Result<Self, FieldError> {
        let addresses = addresses(config)?;
        let named = addresses.iter().all(|a| a.named.device.is_some());
        let meaning = Meaning::compile(&Names {
            format: config.format,
            value: config.value.as_ref(),
            time: config.time.as_ref(),
            device: config.device.as_deref(),
            location: config.location.as_deref(),
            kind: config.kind.as_deref(),
            unit: config.unit.as_deref(),
            units: &config.units,
            valid: &config.valid,
            named: NamedBy {
                device: named,
                kind: false,
            },
        })?;
        check(config)?;
        let headers = config
            .headers
            .iter()
            .map(|(name, value)| header(name, value));
        let fixed = |text: &Option<String>| {
            let text = text.as_deref().filter(|t| !t.starts_with('/'));
            text.map(Arc::from)
        };
        let is_json = config.format == PayloadFormat::Json;
        let kinds = match &config.value {
            Some(Values::Kinds(kinds)) => Some(kinds.keys().map(|k| k.as_str().into()).collect()),
            _ => fixed(&config.kind).map(|kind| vec![kind]),
        };
        let location = match &config.location {
            None if is_json => Some(Arc::default()),
            location => fixed(location),
        };
        Ok(Self {
            headers: headers.collect::<Result<_, _>>()?,
            addresses,
            meaning,
            items: config.items.clone(),
            accept: match config.format {
                PayloadFormat::Json => "application/json",
                PayloadFormat::SenmlJson => "application/senml+json",
                PayloadFormat::SenmlCbor => "application/senml+cbor",
                PayloadFormat::Number => "text/plain",
            },
            device: fixed(&config.device),
            location,
            kinds,
        })
    }

    /// The device behind an address, when it is known without asking.
    pub(super) fn device<'a>(&'a self, address: &'a Address) -> Option<&'a Arc<str>> {
        address.named.device.as_ref().or(self.device.as_ref())
    }

    /// Whether the answer of an address can match.
    pub(super) fn may_match(&self, address: &Address, selector: &Selector) -> bool {
        let device = self.device(address);
        let kinds = self.kinds.as_ref();
        device.is_none_or(|d| selector.device(d))
            && self.location.as_ref().is_none_or(|l| selector.location(l))
            && kinds.is_none_or(|kinds| kinds.iter().any(|k| selector.kind(k)))
    }

    /// Series that are known without asking, but for their units.
    pub(super) fn known(&self, address: &Address) -> Vec<SeriesKey> {
        let (Some(device), Some(location), Some(kinds)) =
            (self.device(address), &self.location, &self.kinds)
        else {
            return Vec::new();
        };
        let keys = kinds.iter().map(|kind| SeriesKey {
            device: Arc::clone(device),
            location: Arc::clone(location),
            kind: Arc::clone(kind),
            unit: self.meaning.unit_of(kind),
        });
        keys.collect()
    }
}

fn addresses(config: &HttpSource) -> Result<Vec<Address>, FieldError> {
    let mut addresses = Vec::new();
    for url in config.url.as_slice() {
        checked(&url.replace(DEVICE, "0"))?;
        if !url.contains(DEVICE) {
            addresses.push(Address {
                url: url.clone(),
                named: Named::default(),
            });
            continue;
        }
        if config.ask.is_empty() {
            let reason = "is missing: say which devices {device} stands for";
            return Err(FieldError::new("ask", reason));
        }
        for device in &config.ask {
            let url = url.replace(DEVICE, &part(device)?);
            checked(&url)?;
            let named = Named {
                device: Some(device.as_str().into()),
                ..Named::default()
            };
            addresses.push(Address { url, named });
        }
    }
    let different: BTreeSet<&str> = addresses.iter().map(|a| a.url.as_str()).collect();
    if addresses.is_empty() || different.len() < addresses.len() {
        let reason = "name one address at least, and none twice";
        return Err(FieldError::new("url", reason));
    }
    if addresses.len() > MOST_ADDRESSES {
        let reason = format!("more than {MOST_ADDRESSES} addresses: make several sources");
        return Err(FieldError::new("url", reason));
    }
    if !config.ask.is_empty() && addresses.iter().all(|a| a.named.device.is_none()) {
        let reason = "no address says {device}: remove ask, or write {device} into url";
        return Err(FieldError::new("ask", reason));
    }
    Ok(addresses)
}

/// A device's name in an address.
fn part(device: &str) -> Result<String, FieldError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~:[]".contains(c);
    if device.is_empty() || device.len() > 256 || !device.chars().all(plain) {
        let reason = format!("{device:?} cannot stand in an address: letters, digits and -._~ can");
        return Err(FieldError::new("ask", reason));
    }
    Ok(device.to_owned())
}

fn check(config: &HttpSource) -> Result<(), FieldError> {
    if let Some(items) = &config.items {
        if config.format != PayloadFormat::Json {
            return Err(FieldError::new(
                "items",
                "only JSON has lists: remove items",
            ));
        }
        if !items.is_empty() && !items.starts_with('/') {
            let reason = "no JSON pointer: begin with /, or write \"\" for the whole answer";
            return Err(FieldError::new("items", reason));
        }
    }
    if config.every.0 == 0 || config.timeout.0 == 0 {
        return Err(FieldError::new(
            "every",
            "every and timeout must be longer than nothing",
        ));
    }
    if !(1..=MOST_PAGES).contains(&config.pages) {
        let reason = format!("write a number from 1 to {MOST_PAGES}");
        return Err(FieldError::new("pages", reason));
    }
    config.auth.as_ref().map_or(Ok(()), Auth::check)?;
    config.tls.as_ref().map_or(Ok(()), Tls::check)
}

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), FieldError> {
    let wrong = |reason: &str| FieldError::new(format!("headers.{name}"), reason);
    let known = name
        .parse::<HeaderName>()
        .map_err(|_| wrong("no name of a header"))?;
    if [
        "authorization",
        "cookie",
        "host",
        "content-length",
        "transfer-encoding",
    ]
    .contains(&known.as_str())
    {
        return Err(wrong(
            "cannot be written here; secrets have their place in auth",
        ));
    }
    let value = value.parse().map_err(|_| wrong("no value of a header"))?;
    Ok((known, value))
}
