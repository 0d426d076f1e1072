//! Where a bus is, resolved from what the operator wrote.

use std::fmt;

use crate::config::{FieldError, ModbusSource, Parity};

/// The port of Modbus TCP.
const PORT: u16 = 502;

/// Where a bus is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    Tcp { host: String, port: u16 },
    Serial(Serial),
}

/// A serial port, always with eight data bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Serial {
    pub(crate) path: String,
    pub(crate) baud: u32,
    pub(crate) parity: Parity,
    pub(crate) two_stop_bits: bool,
}

impl Line {
    /// Reads the options that say where the bus is.
    pub(crate) fn parse(config: &ModbusSource) -> Result<Self, FieldError> {
        match (&config.url, &config.serial) {
            (Some(url), None) => {
                let serial = [
                    ("baud", config.baud.is_some()),
                    ("parity", config.parity.is_some()),
                    ("stop-bits", config.stop_bits.is_some()),
                    ("data-bits", config.data_bits.is_some()),
                ];
                match serial.iter().find(|(_, is)| *is) {
                    Some((field, _)) => {
                        Err(FieldError::new(*field, "belongs to serial, not to url"))
                    }
                    None => tcp(url),
                }
            }
            (None, Some(path)) => serial(config, path),
            (Some(_), Some(_)) => Err(FieldError::new("serial", "excludes url: write one of them")),
            (None, None) => Err(FieldError::new(
                "url",
                "is missing: write url = \"tcp://10.0.4.9:502\" or serial = \"/dev/ttyUSB0\"",
            )),
        }
    }
}

fn tcp(url: &str) -> Result<Line, FieldError> {
    let wrong = || {
        let reason = format!("{url:?} is no address: write \"tcp://HOST:PORT\"");
        FieldError::new("url", reason)
    };
    let rest = url.strip_prefix("tcp://").ok_or_else(wrong)?;
    let (host, port) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or_else(wrong)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?;
            (host, port)
        }
        None => rest.split_at(rest.find(':').unwrap_or(rest.len())),
    };
    let port = match port.strip_prefix(':') {
        Some(port) => port.parse().ok().filter(|p| *p != 0).ok_or_else(wrong)?,
        None if port.is_empty() => PORT,
        None => return Err(wrong()),
    };
    let named = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    if host.is_empty() || !host.chars().all(named) {
        return Err(wrong());
    }
    Ok(Line::Tcp {
        host: host.to_owned(),
        port,
    })
}

fn serial(config: &ModbusSource, path: &str) -> Result<Line, FieldError> {
    if !path.starts_with('/') {
        let reason = "must be a path from the root, such as \"/dev/ttyUSB0\"";
        return Err(FieldError::new("serial", reason));
    }
    let baud = config.baud.unwrap_or(19_200);
    if !(300..=4_000_000).contains(&baud) {
        return Err(FieldError::new("baud", "must be from 300 to 4000000"));
    }
    if config.data_bits.is_some_and(|bits| bits != 8) {
        return Err(FieldError::new(
            "data-bits",
            "must be 8: RTU needs whole bytes",
        ));
    }
    let two_stop_bits = match config.stop_bits {
        None | Some(1) => false,
        Some(2) => true,
        Some(_) => return Err(FieldError::new("stop-bits", "must be 1 or 2")),
    };
    Ok(Line::Serial(Serial {
        path: path.to_owned(),
        baud,
        parity: config.parity.unwrap_or_default(),
        two_stop_bits,
    }))
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
            Self::Serial(serial) => write!(f, "{} at {} baud", serial.path, serial.baud),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Line, tcp};

    #[test]
    fn an_address_has_a_host_and_perhaps_a_port() {
        let parsed = |url: &str| tcp(url).map(|line| line.to_string()).map_err(|e| e.field);
        assert_eq!(parsed("tcp://10.0.4.9"), Ok("tcp://10.0.4.9:502".into()));
        assert_eq!(
            parsed("tcp://gw.local:5020"),
            Ok("tcp://gw.local:5020".into())
        );
        assert_eq!(parsed("tcp://[::1]:1"), Ok("tcp://[::1]:1".into()));
        assert_eq!(parsed("tcp://[::1]"), Ok("tcp://[::1]:502".into()));
        for wrong in [
            "10.0.4.9",
            "tcp://",
            "tcp://a:0",
            "tcp://a:x",
            "tcp://[a]:1",
            "tcp://[::1]x",
            "tcp://a/b",
            "tcp://a:1:2",
            "tcp://u@a",
        ] {
            assert_eq!(parsed(wrong), Err("url".into()), "{wrong}");
        }
        assert!(matches!(tcp("tcp://a"), Ok(Line::Tcp { port: 502, .. })));
    }
}
