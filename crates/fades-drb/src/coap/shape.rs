//! What an operator wrote of a CoAP source, resolved.

use std::sync::Arc;

use fades_task::dial::Transport;

use super::links::Link;
use crate::config::{Addresses, CoapSource, FieldError, Paths, PayloadFormat};
use crate::payload::{
    MOST_NAME, Meaning, Named, NamedBy, Names, Pattern, PayloadError, Understood,
};
use crate::series::SeriesKey;

/// Most devices of one source.
const MOST_DEVICES: usize = 10_000;

/// Most paths of one source.
const MOST_PATHS: usize = 64;

/// The devices of a source, and what is asked of them.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(super) devices: Vec<Address>,
    paths: Vec<Path>,
    rt: Option<String>,
    interface: Option<String>,
    /// The form of answers, when the operator says it.
    format: Option<PayloadFormat>,
    meaning: Meaning,
}

/// Where a device is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) device: Arc<str>,
    pub(super) host: String,
    pub(super) port: u16,
}

#[derive(Debug)]
struct Path {
    text: String,
    pattern: Pattern,
    kind: Option<Arc<str>>,
}

/// A resource that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resource {
    pub(super) path: String,
    pub(super) named: Named,
}

impl Shape {
    /// Resolves what was written, or says what is wrong with it.
    pub(crate) fn compile(config: &CoapSource) -> Result<Self, FieldError> {
        let devices = devices(&config.devices_at)?;
        let paths = paths(&config.path)?;
        let kind = |path: &Path| path.kind.is_some() || path.pattern.names().kind;
        let meaning = Meaning::compile(&Names {
            format: config.format.unwrap_or(match config.value {
                Some(_) => PayloadFormat::Json,
                None => PayloadFormat::Number,
            }),
            value: config.value.as_ref(),
            time: config.time.as_ref(),
            device: None,
            location: config.location.as_deref(),
            kind: config.kind.as_deref(),
            unit: config.unit.as_deref(),
            units: &config.units,
            valid: &config.valid,
            named: NamedBy {
                device: true,
                // SenML, which a device may choose, says it in the answer.
                kind: config.format.is_none() || paths.iter().all(kind),
            },
        })?;
        if config.every.is_some_and(|e| e.0 < 100_000_000) {
            return Err(FieldError::new("every", "is 100ms at least"));
        }
        Ok(Self {
            devices,
            paths,
            rt: config.rt.clone(),
            interface: config.interface.clone(),
            format: config.format,
            meaning,
        })
    }

    /// Where the devices are.
    pub(crate) fn addresses(&self) -> Vec<(String, u16, Transport)> {
        let devices = self.devices.iter();
        devices
            .map(|d| (d.host.clone(), d.port, Transport::Udp))
            .collect()
    }

    /// Whether devices must be asked what they have.
    pub(super) fn discovers(&self) -> bool {
        self.paths.iter().any(|p| !p.pattern.is_plain())
    }

    /// Whether resources can be of other devices than those that are asked.
    pub(super) fn names_devices(&self) -> bool {
        self.paths.iter().any(|p| p.pattern.names().device)
    }

    /// What a device that has these resources is asked for.
    pub(super) fn resources(&self, device: &Arc<str>, links: &[Link]) -> Vec<Resource> {
        let mut resources: Vec<Resource> = Vec::new();
        let mut add = |path: &str, mut named: Named, kind: &Option<Arc<str>>| {
            let device = || Arc::clone(device);
            named.device = Some(named.device.take().unwrap_or_else(device));
            named.kind = named.kind.or_else(|| kind.clone());
            let path = path.to_owned();
            if resources.iter().all(|r| r.path != path) {
                resources.push(Resource { path, named });
            }
        };
        for path in self.paths.iter().filter(|p| p.pattern.is_plain()) {
            add(&path.text, Named::default(), &path.kind);
        }
        let links = links.iter();
        for link in links.filter(|l| l.is(self.rt.as_deref(), self.interface.as_deref())) {
            let mut open = self.paths.iter().filter(|p| !p.pattern.is_plain());
            let found = open.find_map(|p| Some((p.pattern.read(&link.path)?, &p.kind)));
            if let Some((named, kind)) = found {
                add(&link.path, named, kind);
            }
        }
        resources
    }

    /// The series that a device must have.
    pub(super) fn expected(&self, device: &Arc<str>) -> Vec<SeriesKey> {
        let resources = self.resources(device, &[]);
        let named = resources.iter().map(|r| &r.named);
        named.filter_map(|n| self.meaning.expected(n)).collect()
    }

    /// What an answer in a content format (RFC 7252, 12.3) says.
    pub(super) fn understand(
        &self,
        named: &Named,
        format: Option<u32>,
        body: &[u8],
        now: i64,
    ) -> Result<Understood, PayloadError> {
        let format = match (self.format, format) {
            (Some(format), _) => format,
            (None, None | Some(0)) => PayloadFormat::Number,
            (None, Some(50)) => PayloadFormat::Json,
            (None, Some(110)) => PayloadFormat::SenmlJson,
            (None, Some(112)) => PayloadFormat::SenmlCbor,
            (None, Some(other)) => return Err(PayloadError::Format { format: other }),
        };
        let meaning = self.meaning.in_format(format);
        meaning.understand(named, body, now)
    }
}

fn devices(addresses: &Addresses) -> Result<Vec<Address>, FieldError> {
    let found: Result<Vec<Address>, _> = match addresses {
        Addresses::List(urls) => urls.iter().map(|url| address(url, None)).collect(),
        Addresses::Named(urls) => {
            let urls = urls.iter();
            urls.map(|(name, url)| address(url, Some(name))).collect()
        }
    };
    let found = found?;
    let wrong = |reason: String| Err(FieldError::new("devices-at", reason));
    if found.is_empty() || found.len() > MOST_DEVICES {
        return wrong(format!("write 1 to {MOST_DEVICES} addresses"));
    }
    let mut names: Vec<&str> = found.iter().map(|a| &*a.device).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|w| w[0] == w[1]) {
        return wrong(format!("{} is there twice", twice[0]));
    }
    if let Some(long) = names.iter().find(|n| n.is_empty() || n.len() > MOST_NAME) {
        return wrong(format!("a name has 1 to {MOST_NAME} bytes: {long:?}"));
    }
    Ok(found)
}

fn address(url: &str, name: Option<&str>) -> Result<Address, FieldError> {
    let wrong = |reason: &str| FieldError::new("devices-at", format!("{url:?}: {reason}"));
    let rest = match url.split_once("://") {
        Some(("coap", rest)) => rest,
        Some(("coaps", _)) => {
            return Err(wrong(
                "DTLS is not supported: protect the network, or use a gateway",
            ));
        }
        Some(_) => return Err(wrong("write coap://HOST")),
        None => url,
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match rest.strip_prefix('[').and_then(|r| r.split_once(']')) {
        Some((inside, after)) => (format!("[{inside}]"), after.strip_prefix(':')),
        None => match rest.split_once(':') {
            Some((host, port)) => (host.to_owned(), Some(port)),
            None => (rest.to_owned(), None),
        },
    };
    if host.is_empty() || host.contains(['/', '?', '#', ' ', '@']) {
        return Err(wrong("it names no host; paths are written in path"));
    }
    let port = port.map(|p| p.parse().map_err(|_| wrong("its port is no number")));
    Ok(Address {
        device: name.unwrap_or(rest).into(),
        host,
        port: port.transpose()?.unwrap_or(5683),
    })
}

fn paths(written: &Paths) -> Result<Vec<Path>, FieldError> {
    let parse = |text: &str, kind: Option<&str>| {
        if !text.starts_with('/') {
            let reason = format!("{text:?}: begin with /, as in \"/sensors/{{kind}}\"");
            return Err(FieldError::new("path", reason));
        }
        Ok(Path {
            text: text.to_owned(),
            pattern: Pattern::parse("path", text)?,
            kind: kind.map(Arc::from),
        })
    };
    let paths: Result<Vec<Path>, _> = match written {
        Paths::Plain(paths) => paths.as_slice().iter().map(|p| parse(p, None)).collect(),
        Paths::Kinds(kinds) => kinds.iter().map(|(k, p)| parse(p, Some(k))).collect(),
    };
    match paths {
        Ok(paths) if paths.is_empty() || paths.len() > MOST_PATHS => {
            let reason = format!("write 1 to {MOST_PATHS} paths");
            Err(FieldError::new("path", reason))
        }
        paths => paths,
    }
}

#[cfg(test)]
mod tests {
    use super::Shape;
    use crate::coap::links;
    use crate::config::CoapSource;

    fn compiled(text: &str) -> Result<Shape, String> {
        let config: CoapSource = toml::from_str(text).unwrap();
        Shape::compile(&config).map_err(|e| format!("{}: {}", e.field, e.reason))
    }

    #[test]
    fn devices_have_names_and_paths_find_resources() {
        let text = "devices-at = { one = \"coap://[fd00::7]\", two = \"h:1\" }\nrt = \"x\"\n\
                    path = [\"/t/{kind}\", \"/{location}/{device}/{kind}\", \"/fixed\"]";
        let shape = compiled(text).unwrap();
        let devices: Vec<_> = shape
            .devices
            .iter()
            .map(|d| (&*d.device, &*d.host, d.port))
            .collect();
        assert_eq!(devices, [("one", "[fd00::7]", 5683), ("two", "h", 1)]);
        let links = links::read(b"</t/a>;rt=x,</t/b>,</r/d/c>;rt=x,</fixed>").unwrap();
        let resources = shape.resources(&"one".into(), &links);
        let named = |i: usize| {
            let n = &resources[i].named;
            [&n.device, &n.location, &n.kind].map(|x| x.as_deref().unwrap_or("-").to_owned())
        };
        assert_eq!(resources.len(), 3);
        assert_eq!(named(0), ["one", "-", "-"]);
        assert_eq!(named(1), ["one", "-", "a"]);
        assert_eq!(named(2), ["d", "r", "c"]);
    }

    #[test]
    fn what_is_written_wrong_says_the_remedy() {
        for (text, words) in [
            ("devices-at = []\npath = \"/t\"", "1 to"),
            (
                "devices-at = [\"coaps://h\"]\npath = \"/t\"",
                "DTLS is not supported",
            ),
            ("devices-at = [\"http://h\"]\npath = \"/t\"", "coap://HOST"),
            ("devices-at = [\"h/x\"]\npath = \"/t\"", "no host"),
            ("devices-at = [\"h:x\"]\npath = \"/t\"", "no number"),
            ("devices-at = [\"h\", \"h\"]\npath = \"/t\"", "twice"),
            ("devices-at = [\"h\"]\npath = \"t\"", "begin with /"),
            ("devices-at = [\"h\"]\npath = []", "1 to"),
            (
                "devices-at = [\"h\"]\npath = \"/t\"\nformat = \"number\"",
                "kind: ",
            ),
            (
                "devices-at = [\"h\"]\npath = \"/t\"\nevery = \"1ms\"",
                "every: ",
            ),
        ] {
            let error = compiled(text).unwrap_err();
            assert!(error.contains(words), "{words} in {error}");
        }
    }
}
