//! What requests to servers have in common.

use std::time::{Duration, SystemTime};

use fades_outside::client::{Access, Times, TokenWord};
use fades_outside::connection::{Auth, SecretFile, Tls};
use ureq::http::HeaderMap;
use ureq::http::header::RETRY_AFTER;

/// How long a connection may take.
const CONNECTING: Duration = Duration::from_secs(10);

/// Longest time that a server can ask for.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// How a server is talked to that begins its answer within `head` and has ended it
/// within `whole`.
pub(crate) fn access(
    token: Option<&SecretFile>,
    tls: Tls,
    agent: &str,
    head: Duration,
    whole: Duration,
) -> Access {
    Access {
        auth: token.map(|file| Auth {
            user: None,
            password_file: None,
            token_file: Some(file.clone()),
        }),
        word: TokenWord::Bearer,
        tls: Some(tls),
        times: Times {
            connect: CONNECTING.min(whole),
            head,
            stall: head,
            whole: Some(whole),
        },
        gzip: false,
        agent: agent.to_owned(),
    }
}

/// For how long a server asks to be left alone: seconds, or a time.
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let time = jiff::fmt::rfc2822::parse(text).ok()?;
            let time = SystemTime::from(time.timestamp());
            time.duration_since(now).unwrap_or_default()
        }
    };
    Some(wait.min(LONGEST))
}

/// What an answer with this status means to who sees it.
pub(crate) fn said(origin: &str, status: u16, words: &str) -> String {
    let remedy = match status {
        300..=399 => "; it sends elsewhere, which is not followed: write that address",
        401 | 403 => "; check token-file",
        404 => "; check url",
        _ => "",
    };
    let words = if words.is_empty() {
        String::new()
    } else {
        format!(": {words}")
    };
    format!("{origin} answered {status}{words}{remedy}")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use ureq::http::{HeaderMap, HeaderValue};

    use super::retry_after;

    #[test]
    fn servers_ask_for_seconds_or_until_a_time() {
        // Sun, 06 Nov 1994 08:49:37 GMT
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let wait = |text: &str| {
            let value = HeaderValue::from_str(text).unwrap();
            let headers = HeaderMap::from_iter([(super::RETRY_AFTER, value)]);
            retry_after(&headers, now).map(|d| d.as_secs())
        };
        assert_eq!(wait("120"), Some(120));
        assert_eq!(wait(" 0 "), Some(0));
        assert_eq!(wait("Sun, 06 Nov 1994 08:51:37 GMT"), Some(120));
        assert_eq!(wait("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        assert_eq!(wait("99999999999999"), Some(24 * 3600));
        assert_eq!(wait("Mon, 06 Nov 2094 08:00:00 GMT"), None, "another day");
        assert_eq!(wait("Sat, 06 Nov 2094 08:00:00 GMT"), Some(24 * 3600));
        for nonsense in ["-1", "soon", "1e9", ""] {
            assert_eq!(wait(nonsense), None, "{nonsense}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
