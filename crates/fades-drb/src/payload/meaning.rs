//! What a message means: the names in its address, joined with what it says.

use std::collections::BTreeMap;
use std::sync::Arc;

use fades_abi::batch::mark;
use fades_task::coverage::LossReason;

use super::json::Layout;
use super::{Decoded, Loss, MOST_NAME, PayloadError, Said, bounded, plain, senml};
use crate::config::{FieldError, PayloadFormat, TimeAt, Values};
use crate::live::Heard;
use crate::series::SeriesKey;
use crate::units;

/// What an operator says of a source's messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Names<'a> {
    pub(crate) format: PayloadFormat,
    pub(crate) value: Option<&'a Values>,
    pub(crate) time: Option<&'a TimeAt>,
    /// A text, or, when it begins with `/`, a JSON pointer.
    pub(crate) device: Option<&'a str>,
    pub(crate) location: Option<&'a str>,
    pub(crate) kind: Option<&'a str>,
    pub(crate) unit: Option<&'a str>,
    pub(crate) units: &'a BTreeMap<String, String>,
    pub(crate) valid: &'a BTreeMap<String, [f64; 2]>,
    /// What addresses always name.
    pub(crate) named: NamedBy,
}

/// What the address of every message of a source names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NamedBy {
    pub(crate) device: bool,
    pub(crate) kind: bool,
}

/// How the messages of a source are understood.
#[derive(Debug, Clone)]
pub(crate) struct Meaning {
    form: Form,
    device: Option<Arc<str>>,
    location: Arc<str>,
    kind: Option<Arc<str>>,
    unit: Arc<str>,
    units: BTreeMap<String, Arc<str>>,
    valid: BTreeMap<String, [f64; 2]>,
}

#[derive(Debug, Clone)]
enum Form {
    Number,
    Json(Layout),
    SenmlJson,
    SenmlCbor,
}

/// What the address of one message names; it counts before what the operator
/// wrote, and that before what the message says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) device: Option<Arc<str>>,
    pub(crate) location: Option<Arc<str>>,
    pub(crate) kind: Option<Arc<str>>,
}

/// What a message came to.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Understood {
    pub(crate) heard: Vec<Heard>,
    pub(crate) lost: Vec<Loss>,
}

fn form(names: &Names<'_>) -> Result<Form, FieldError> {
    let pointers = names.value.is_some() || names.time.is_some();
    let texts = [names.device, names.location, names.kind, names.unit];
    let pointed = texts.into_iter().flatten().any(is_pointer);
    match names.format {
        PayloadFormat::Json => layout(names).map(Form::Json),
        _ if pointers || pointed => Err(FieldError::new(
            "format",
            "JSON pointers need JSON messages: write format = \"json\", or leave them out",
        )),
        PayloadFormat::Number => Ok(Form::Number),
        PayloadFormat::SenmlJson => Ok(Form::SenmlJson),
        PayloadFormat::SenmlCbor => Ok(Form::SenmlCbor),
    }
}

fn layout(names: &Names<'_>) -> Result<Layout, FieldError> {
    let values = match names.value {
        None => {
            return Err(FieldError::new(
                "value",
                "say where the value is in a message: a JSON pointer such as \"/v\", or { KIND = \
                 \"/v\", … }; value = \"\" when a message is nothing but the value",
            ));
        }
        Some(Values::One(pointer)) => vec![(None, pointer.clone())],
        Some(Values::Kinds(kinds)) => {
            let kinds = kinds.iter();
            kinds.map(|(k, p)| (Some(k.clone()), p.clone())).collect()
        }
    };
    for (_, p) in &values {
        pointer("value", p)?;
    }
    if let Some(time) = names.time {
        pointer("time", time.pointer())?;
    }
    let own = |text: Option<&str>| text.filter(|t| is_pointer(t)).map(str::to_owned);
    Ok(Layout {
        values,
        time: names.time.map(|t| (t.pointer().to_owned(), t.form())),
        device: own(names.device),
        location: own(names.location),
        kind: own(names.kind),
        unit: own(names.unit),
    })
}

fn is_pointer(text: &str) -> bool {
    text.starts_with('/')
}

fn pointer(field: &str, text: &str) -> Result<(), FieldError> {
    if text.is_empty() || is_pointer(text) {
        return Ok(());
    }
    Err(FieldError::new(
        field,
        format!("{text:?} is no JSON pointer: begin with /, as in \"/data/temperature\""),
    ))
}

impl Meaning {
    /// Resolves what an operator wrote.
    pub(crate) fn compile(names: &Names<'_>) -> Result<Self, FieldError> {
        FieldError::plain("device", names.device)?;
        FieldError::plain("location", names.location)?;
        FieldError::plain("kind", names.kind)?;
        let form = form(names)?;
        let senml = matches!(form, Form::SenmlJson | Form::SenmlCbor);
        let kinds = matches!(names.value, Some(Values::Kinds(_)));
        if !names.named.device && names.device.is_none() && !senml {
            return Err(FieldError::new(
                "device",
                "nothing says which device a message is of: name it in the address ({device}), or \
                 write device = \"NAME\", or a JSON pointer to it",
            ));
        }
        if kinds && names.kind.is_some() {
            let reason = "value names the kinds already: remove kind";
            return Err(FieldError::new("kind", reason));
        }
        if !names.named.kind && names.kind.is_none() && !senml && !kinds {
            return Err(FieldError::new(
                "kind",
                "nothing says what a message measures: name it in the address ({kind}), or write \
                 kind = \"NAME\", or a JSON pointer to it, or value = { KIND = \"/POINTER\" }",
            ));
        }
        for (kind, [least, greatest]) in names.valid {
            if least > greatest || least.is_nan() || greatest.is_nan() {
                let reason = "no range: write [least, greatest]";
                return Err(FieldError::new(format!("valid.{kind}"), reason));
            }
        }
        let fixed = |text: Option<&str>| text.filter(|t| !is_pointer(t)).map(Arc::from);
        let units = names.units.iter();
        Ok(Self {
            form,
            device: fixed(names.device),
            location: fixed(names.location).unwrap_or_default(),
            kind: fixed(names.kind),
            unit: units::code(&fixed(names.unit).unwrap_or_default()).into(),
            units: units
                .map(|(kind, unit)| (kind.clone(), units::code(unit).into()))
                .collect(),
            valid: names.valid.clone(),
        })
    }

    /// The same for messages in another format.
    pub(crate) fn in_format(&self, format: PayloadFormat) -> Self {
        let form = match (format, &self.form) {
            (PayloadFormat::Json, Form::Json(layout)) => Form::Json(layout.clone()),
            (PayloadFormat::Json, _) => Form::Json(Layout {
                values: vec![(None, String::new())],
                ..Layout::default()
            }),
            (PayloadFormat::Number, _) => Form::Number,
            (PayloadFormat::SenmlJson, _) => Form::SenmlJson,
            (PayloadFormat::SenmlCbor, _) => Form::SenmlCbor,
        };
        Self {
            form,
            ..self.clone()
        }
    }

    /// What a message that came at `now` (ns since 1970 UTC) says.
    pub(crate) fn understand(
        &self,
        named: &Named,
        payload: &[u8],
        now: i64,
    ) -> Result<Understood, PayloadError> {
        bounded(payload)?;
        let Decoded { said, lost } = match &self.form {
            Form::Number => plain(payload)?,
            Form::Json(layout) => layout.decode(payload)?,
            Form::SenmlJson => senml::json(payload, now)?,
            Form::SenmlCbor => senml::cbor(payload, now)?,
        };
        let mut understood = Understood {
            heard: Vec::with_capacity(said.len()),
            lost,
        };
        for said in said {
            match self.heard(named, said) {
                Ok(heard) => understood.heard.push(heard),
                Err(reason) => understood.lost.push(Loss {
                    reason,
                    place: String::new(),
                }),
            }
        }
        Ok(understood)
    }

    fn heard(&self, named: &Named, said: Said) -> Result<Heard, LossReason> {
        let pick = |address: &Option<Arc<str>>, fixed: Option<&Arc<str>>, own: Option<String>| {
            let known = address.as_ref().or(fixed).cloned();
            known.or_else(|| own.map(Arc::from))
        };
        let fixed = Some(&self.location).filter(|l| !l.is_empty());
        let location = pick(&named.location, fixed, said.location).unwrap_or_default();
        let device = pick(&named.device, self.device.as_ref(), said.device);
        let mut kind = match (&self.form, said.kind) {
            // Each value's own, as the operator said.
            (Form::Json(_), Some(own)) => Some(own.into()),
            (_, own) => pick(&named.kind, self.kind.as_ref(), own),
        };
        let mut unit = match &said.unit {
            Some(unit) => units::code(unit).into(),
            None => kind.as_ref().map_or_else(Arc::default, |k| self.unit_of(k)),
        };
        if said.sum {
            kind = kind.map(|k| format!("{k}.sum").into());
            unit = format!("{unit}.s").into();
        }
        let (Some(device), Some(kind)) = (device, kind) else {
            return Err(LossReason::Unnamed);
        };
        let wrong = |name: &Arc<str>| name.is_empty() || name.len() > MOST_NAME;
        if wrong(&device) || wrong(&kind) || location.len() > MOST_NAME || unit.len() > MOST_NAME {
            return Err(LossReason::Unnamed);
        }
        let valid = self.valid.get(&*kind);
        let outside = valid.is_some_and(|[l, g]| !(*l..=*g).contains(&said.value));
        Ok(Heard {
            key: SeriesKey {
                device,
                location,
                kind,
                unit,
            },
            time: said.time,
            value: said.value,
            mark: if outside { mark::OUTSIDE } else { 0 },
        })
    }

    /// The series of messages with such an address, when it can be known before
    /// any came.
    pub(crate) fn expected(&self, named: &Named) -> Option<SeriesKey> {
        let several = matches!(&self.form, Form::SenmlJson | Form::SenmlCbor);
        let own = match &self.form {
            Form::Json(l) => l.unit.is_some() || l.values.iter().any(|(kind, _)| kind.is_some()),
            _ => false,
        };
        if several || own {
            return None;
        }
        let kind = named.kind.as_ref().or(self.kind.as_ref())?;
        let location = named.location.as_ref().unwrap_or(&self.location);
        Some(SeriesKey {
            device: named.device.as_ref().or(self.device.as_ref())?.clone(),
            location: Arc::clone(location),
            kind: Arc::clone(kind),
            unit: self.unit_of(kind),
        })
    }

    /// The unit of a kind whose messages say none.
    pub(crate) fn unit_of(&self, kind: &str) -> Arc<str> {
        Arc::clone(self.units.get(kind).unwrap_or(&self.unit))
    }
}
