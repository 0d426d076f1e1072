//! What a device says that it has: `.well-known/core` in link format (RFC 6690).

use coap_lite::link_format::LinkFormatParser;

use super::peer::Fault;

/// Where devices list their resources.
pub(super) const CORE: &str = "/.well-known/core";

/// Most resources of one device.
pub(super) const MOST: usize = 1_000;

/// Longest path, bytes.
const MOST_PATH: usize = 1_000;

/// A resource of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) path: String,
    /// Resource types and interfaces.
    types: Vec<String>,
    interfaces: Vec<String>,
}

impl Link {
    /// Whether it is of this type and interface; `None` is any.
    pub(super) fn is(&self, rt: Option<&str>, interface: Option<&str>) -> bool {
        let has = |all: &[String], wanted: Option<&str>| {
            wanted.is_none_or(|w| all.iter().any(|own| own == w))
        };
        has(&self.types, rt) && has(&self.interfaces, interface)
    }
}

/// The device's own resources that can be asked for, the first of many.
pub(super) fn read(document: &[u8]) -> Result<Vec<Link>, Fault> {
    let text = std::str::from_utf8(document).map_err(|_| Fault::NoLinks)?;
    let mut links = Vec::new();
    for link in LinkFormatParser::new(text.trim()) {
        let (path, attributes) = link.map_err(|_| Fault::NoLinks)?;
        let own = path.starts_with('/') && !path.starts_with("//");
        if !own || path.contains('?') || path == CORE || path.len() > MOST_PATH {
            continue;
        }
        let mut link = Link {
            path: path.to_owned(),
            types: Vec::new(),
            interfaces: Vec::new(),
        };
        for (name, value) in attributes {
            let words = || value.to_cow().split(' ').map(str::to_owned).collect();
            match name {
                "rt" => link.types = words(),
                "if" => link.interfaces = words(),
                _ => {}
            }
        }
        links.push(link);
        if links.len() >= MOST {
            break;
        }
    }
    Ok(links)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, proptest};

    use super::{MOST, read};

    #[test]
    fn links_say_path_type_and_interface() {
        let document = r#"</.well-known/core>;ct=40,</sensors/temp>;rt="temperature-c x";if=sensor;ct=0,
            </a?q=1>;rt=x,<coap://other/b>;rt=x,<//h/c>,</time>;obs;title="a, \"b\"""#;
        let links = read(document.as_bytes()).unwrap();
        let paths: Vec<_> = links.iter().map(|l| l.path.as_str()).collect();
        assert_eq!(paths, ["/sensors/temp", "/time"]);
        assert!(links[0].is(Some("temperature-c"), Some("sensor")));
        assert!(links[0].is(Some("x"), None) && links[1].is(None, None));
        assert!(!links[0].is(Some("temperature"), None) && !links[1].is(Some("x"), None));
    }

    #[test]
    fn there_is_an_end_to_resources() {
        let document: String = (0..2 * MOST).map(|i| format!("</{i}>,")).collect();
        let document = document.trim_end_matches(',');
        assert_eq!(read(document.as_bytes()).unwrap().len(), MOST);
        assert!(read(b"\xff").is_err() && read(b"no links").is_err());
        assert_eq!(read(b"").unwrap(), []);
    }

    proptest! {
        #[test]
        fn whatever_comes_does_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..100),
                                       text in "[</>;,=\" a]{0,40}") {
            let _ = read(&bytes);
            let _ = read(text.as_bytes());
        }
    }
}
