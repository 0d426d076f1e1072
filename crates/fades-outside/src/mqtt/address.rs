//! Where a broker is.

use crate::field::FieldError;

/// A broker's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// A name or an address; IPv6 in brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whether TLS is spoken.
    pub tls: bool,
}

impl Address {
    /// An address as `mqtts://HOST:PORT`.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(url: &str) -> Result<Self, FieldError> {
        let wrong = |reason: &str| FieldError::new("url", format!("{url:?}: {reason}"));
        let (tls, rest) = match url.split_once("://") {
            Some(("mqtt", rest)) => (false, rest),
            Some(("mqtts", rest)) => (true, rest),
            Some(_) => return Err(wrong("write mqtt://HOST or mqtts://HOST")),
            None => (false, url),
        };
        if rest.contains('@') {
            // The url is shown, a password must not be.
            let reason = "write user and password in auth, not in the url";
            return Err(FieldError::new("url", reason));
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.strip_prefix('[').and_then(|r| r.split_once(']')) {
            Some((inside, after)) => (format!("[{inside}]"), after.strip_prefix(':')),
            None => match rest.split_once(':') {
                Some((host, port)) => (host.to_owned(), Some(port)),
                None => (rest.to_owned(), None),
            },
        };
        if host.is_empty() || host.contains(['/', '?', '#', ' ']) {
            return Err(wrong("it names no host"));
        }
        let port = match port {
            Some(port) => port.parse().map_err(|_| wrong("its port is no number"))?,
            None if tls => 8883,
            None => 1883,
        };
        Ok(Self { host, port, tls })
    }
}

#[cfg(test)]
mod tests {
    use super::Address;

    #[test]
    fn urls_name_host_port_and_security() {
        for (url, host, port, tls) in [
            ("mqtt://10.0.4.3", "10.0.4.3", 1883, false),
            ("mqtts://hall.example/", "hall.example", 8883, true),
            ("mqtts://hall.example:1", "hall.example", 1, true),
            ("hall:1884", "hall", 1884, false),
            ("mqtt://[::1]:1885", "[::1]", 1885, false),
            ("mqtt://[::1]", "[::1]", 1883, false),
        ] {
            let host = host.to_owned();
            assert_eq!(Address::parse(url).unwrap(), Address { host, port, tls });
        }
    }

    #[test]
    fn what_is_no_url_says_why_and_shows_no_password() {
        for (url, words) in [
            ("http://x", "mqtt://HOST"),
            ("mqtt://", "no host"),
            ("mqtt://a/b", "no host"),
            ("mqtt://a:b", "no number"),
            ("mqtt://a:70000", "no number"),
        ] {
            let error = Address::parse(url).unwrap_err();
            assert!(error.reason.contains(words), "{words} in {}", error.reason);
        }
        let error = Address::parse("mqtt://u:hunter2@h").unwrap_err();
        assert!(error.reason.contains("auth") && !error.reason.contains("hunter2"));
    }
}
