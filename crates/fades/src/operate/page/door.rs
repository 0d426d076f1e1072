//! Who may come in by the port.
//!
//! Every process of this host can reach it, and so can every web page that a
//! browser of this host shows. A page of another site cannot name this host
//! otherwise than the browser does (`Host`, against names that are bound anew),
//! is named by the browser (`Origin`, `Sec-Fetch-Site`), and has no cookie of
//! ours; another process has no key.

use hyper::header::{COOKIE, HOST, HeaderMap, HeaderName, ORIGIN};
use hyper::{Method, StatusCode, Uri};

use crate::ask::client::random_name;
use crate::problem::Problem;

/// The parameter that carries the key.
const KEY: &str = "key";

/// Who may come in.
#[derive(Debug)]
pub(super) struct Door {
    /// What the address has that is printed.
    key: String,
    /// What a browser has instead, once it was there.
    pass: String,
    cookie: String,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub(super) enum Verdict {
    /// It has the key, and gets this cookie for it.
    Welcome {
        /// The header's value.
        cookie: String,
    },
    /// The node is asked.
    Pass,
    /// It is refused.
    No(StatusCode, &'static str),
}

const fn no(status: StatusCode, reason: &'static str) -> Verdict {
    Verdict::No(status, reason)
}

impl Door {
    /// A door with a key that nobody knows yet.
    pub(super) fn new(port: u16) -> Result<Self, Problem> {
        Ok(Self {
            key: secret()?,
            pass: secret()?,
            // Cookies do not tell ports apart, so their names have to.
            cookie: format!("fades-page-{port}"),
        })
    }

    /// Path and query by which one comes in.
    pub(super) fn entrance(&self) -> String {
        format!("/?{KEY}={}", self.key)
    }

    /// Whether a request may be made.
    pub(super) fn judge(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Verdict {
        let Some(host) = host(headers) else {
            return no(
                StatusCode::MISDIRECTED_REQUEST,
                "this is open as 127.0.0.1 or localhost and under no other name",
            );
        };
        if *method != Method::GET && *method != Method::HEAD {
            return no(
                StatusCode::METHOD_NOT_ALLOWED,
                "the page only reads: GET and HEAD",
            );
        }
        if let Some(given) = given_key(uri) {
            return self.enter(given);
        }
        if foreign(headers, host) {
            return no(StatusCode::FORBIDDEN, "another site has no business here");
        }
        if !self.has_pass(headers) {
            return no(
                StatusCode::UNAUTHORIZED,
                "open the address that `fades page` printed: it has the key. A key is good for \
                 as long as the command runs that printed it",
            );
        }
        let path = uri.path();
        match path == "/" || path.starts_with("/page/") || path.starts_with("/v1/") {
            true => Verdict::Pass,
            false => no(StatusCode::NOT_FOUND, "there is no such path"),
        }
    }

    fn enter(&self, given: &str) -> Verdict {
        match same(given, &self.key) {
            true => Verdict::Welcome {
                cookie: format!(
                    "{}={}; Path=/; HttpOnly; SameSite=Strict",
                    self.cookie, self.pass
                ),
            },
            false => no(
                StatusCode::UNAUTHORIZED,
                "this key is not the one that `fades page` printed last",
            ),
        }
    }

    fn has_pass(&self, headers: &HeaderMap) -> bool {
        let cookies = headers.get_all(COOKIE).iter();
        let cookies = cookies.filter_map(|v| v.to_str().ok());
        let mut pairs = cookies.flat_map(|v| v.split(';')).map(str::trim);
        pairs.any(|pair| {
            let pair = pair.split_once('=');
            pair.is_some_and(|(name, pass)| name == self.cookie && same(pass, &self.pass))
        })
    }
}

/// 256 bits that nobody can guess.
fn secret() -> Result<String, Problem> {
    Ok(format!("{}{}", random_name()?, random_name()?))
}

/// Compares in the same time wherever they differ.
fn same(given: &str, secret: &str) -> bool {
    let pairs = given.bytes().zip(secret.bytes());
    given.len() == secret.len() && pairs.fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

fn given_key(uri: &Uri) -> Option<&str> {
    let query = uri.query().filter(|_| uri.path() == "/")?;
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(name, _)| *name == KEY).map(|(_, value)| value)
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|v| v.to_str().ok())
}

/// The name by which the browser knows this, if it is one of this host. Its
/// port is another when the way here leads through a tunnel.
fn host(headers: &HeaderMap) -> Option<&str> {
    if headers.get_all(HOST).iter().count() != 1 {
        return None;
    }
    let host = text(headers, HOST)?;
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    matches!(name, "127.0.0.1" | "localhost" | "[::1]").then_some(host)
}

/// Whether the browser says that another site asks.
fn foreign(headers: &HeaderMap, host: &str) -> bool {
    const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
    let own = |origin| origin == format!("http://{host}");
    let origin = headers.get(ORIGIN).map(|o| o.to_str().unwrap_or_default());
    let site = headers.get(SITE).map(|s| s.to_str().unwrap_or_default());
    origin.is_some_and(|o| !own(o)) || site.is_some_and(|s| s != "same-origin" && s != "none")
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderMap, HeaderName};
    use hyper::{Method, StatusCode};

    use super::{Door, Verdict};

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    fn judge(door: &Door, path: &str, pairs: &[(&'static str, &str)]) -> Verdict {
        door.judge(&Method::GET, &path.parse().unwrap(), &headers(pairs))
    }

    fn status(verdict: &Verdict) -> u16 {
        match verdict {
            Verdict::No(status, _) => status.as_u16(),
            Verdict::Pass | Verdict::Welcome { .. } => 200,
        }
    }

    /// A door, and the cookie that a browser has.
    fn entered() -> (Door, String) {
        let door = Door::new(7000).unwrap();
        let host = [("host", "127.0.0.1:7000")];
        let Verdict::Welcome { cookie } = judge(&door, &door.entrance(), &host) else {
            panic!("the key does not open");
        };
        let (pair, rules) = cookie.split_once("; ").unwrap();
        assert_eq!(rules, "Path=/; HttpOnly; SameSite=Strict");
        // The address is no cookie, and a cookie is no address.
        assert!(!door.entrance().contains(pair.split_once('=').unwrap().1));
        (door, pair.to_owned())
    }

    #[test]
    fn who_has_the_key_gets_a_cookie_and_who_has_the_cookie_comes_in() {
        let (door, cookie) = entered();
        let host = ("host", "127.0.0.1:7000");
        for path in ["/", "/page/app.js", "/v1/tasks?limit=3"] {
            let with = [host, ("cookie", &*format!("a=b; {cookie}"))];
            assert_eq!(judge(&door, path, &with), Verdict::Pass, "{path}");
            assert_eq!(status(&judge(&door, path, &[host])), 401, "{path}");
        }
        let (name, pass) = cookie.split_once('=').unwrap();
        let mut wrong = vec![format!("{name}="), format!("{name}={}", &pass[..63])];
        wrong.push(format!("{name}={pass}0"));
        wrong.push(format!("fades-page-7001={pass}"));
        for cookie in wrong {
            let with = [host, ("cookie", &*cookie)];
            assert_eq!(status(&judge(&door, "/v1/node", &with)), 401, "{cookie}");
        }
        let other = Door::new(7000).unwrap().entrance();
        assert_eq!(status(&judge(&door, &other, &[host])), 401);
        assert_eq!(status(&judge(&door, "/?key=", &[host])), 401);
        let elsewhere = [host, ("cookie", &*cookie)];
        assert_eq!(status(&judge(&door, "/etc/passwd", &elsewhere)), 404);
    }

    #[test]
    fn names_that_are_not_of_this_host_are_refused_even_with_the_key() {
        let (door, cookie) = entered();
        for good in ["127.0.0.1:7000", "localhost:9", "localhost", "[::1]:7000"] {
            let with = [("host", good), ("cookie", &cookie)];
            assert_eq!(judge(&door, "/", &with), Verdict::Pass, "{good}");
        }
        for bad in [
            "evil.example:7000",
            "127.0.0.1.evil.example",
            "localhost.evil:1",
            "",
            "10.0.0.1:7000",
        ] {
            for path in ["/", &door.entrance()] {
                let with = [("host", bad), ("cookie", &*cookie)];
                assert_eq!(status(&judge(&door, path, &with)), 421, "{bad}");
            }
        }
        assert_eq!(status(&judge(&door, "/", &[("cookie", &cookie)])), 421);
        let two = headers(&[
            ("host", "localhost"),
            ("host", "evil.example"),
            ("cookie", &cookie),
        ]);
        let twice = door.judge(&Method::GET, &"/".parse().unwrap(), &two);
        assert_eq!(status(&twice), 421);
    }

    #[test]
    fn other_sites_are_refused_although_the_browser_sends_the_cookie() {
        let (door, cookie) = entered();
        let with = |more: (&'static str, &str)| {
            let all = [("host", "localhost:7000"), ("cookie", &*cookie), more];
            status(&judge(&door, "/v1/tasks", &all))
        };
        assert_eq!(with(("origin", "http://localhost:7000")), 200);
        for origin in [
            "http://localhost:7001",
            "https://localhost:7000",
            "null",
            "http://evil.example",
        ] {
            assert_eq!(with(("origin", origin)), 403, "{origin}");
        }
        for (site, expected) in [
            ("same-origin", 200),
            ("none", 200),
            ("same-site", 403),
            ("cross-site", 403),
        ] {
            assert_eq!(with(("sec-fetch-site", site)), expected, "{site}");
        }
    }

    #[test]
    fn nothing_is_changed_through_the_door() {
        let (door, cookie) = entered();
        let all = headers(&[("host", "localhost"), ("cookie", &cookie)]);
        for method in [
            Method::POST,
            Method::PUT,
            Method::DELETE,
            Method::OPTIONS,
            Method::CONNECT,
        ] {
            let uri = "/v1/tasks/a/cancel".parse().unwrap();
            let verdict = door.judge(&method, &uri, &all);
            assert!(matches!(
                verdict,
                Verdict::No(StatusCode::METHOD_NOT_ALLOWED, _)
            ));
        }
    }
}
