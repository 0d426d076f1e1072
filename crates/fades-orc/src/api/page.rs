//! The page: what an operator keeps open in a browser.
//!
//! Its files are in `src/page/` and part of the program, compressed once. They
//! hold nothing of a node, so everybody may have them; what they show they read
//! from `/v1`, as whoever opened them. They need no other origin, and the
//! policy that is sent with them lets the browser reach none.

use std::io::Write;
use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use fades_trust::function::image_digest;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::server::Api;

/// What a browser may do on behalf of the page. Scripts that would make markup
/// out of text are stopped as well.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

/// A file: where it is served, what it is, what it holds.
type Source = (&'static str, &'static str, &'static [u8]);

macro_rules! file {
    ($name:literal, $kind:expr) => {
        (
            concat!("/page/", $name),
            $kind,
            include_bytes!(concat!("../page/", $name)) as &[u8],
        )
    };
}

const FILES: &[Source] = &[
    ("/", HTML, include_bytes!("../page/index.html")),
    file!("style.css", CSS),
    file!("icon.svg", IMAGE),
    file!("answer.js", SCRIPT),
    file!("app.js", SCRIPT),
    file!("batch.js", SCRIPT),
    file!("coverage.js", SCRIPT),
    file!("devices.js", SCRIPT),
    file!("dom.js", SCRIPT),
    file!("format.js", SCRIPT),
    file!("functions.js", SCRIPT),
    file!("health.js", SCRIPT),
    file!("history.js", SCRIPT),
    file!("keys.js", SCRIPT),
    file!("live.js", SCRIPT),
    file!("net.js", SCRIPT),
    file!("now.js", SCRIPT),
    file!("phases.js", SCRIPT),
    file!("plot.js", SCRIPT),
    file!("run.js", SCRIPT),
    file!("standing.js", SCRIPT),
];

/// A file as it is sent.
#[derive(Debug)]
struct Ready {
    path: &'static str,
    kind: &'static str,
    plain: Bytes,
    gzip: Bytes,
    /// Names what it holds.
    tag: String,
}

static READY: LazyLock<Vec<Ready>> = LazyLock::new(|| FILES.iter().map(ready).collect());

fn ready(&(path, kind, plain): &Source) -> Ready {
    let digest = image_digest(plain).to_string();
    let tag = digest.rsplit(':').next().unwrap_or_default()[..16].to_owned();
    Ready {
        path,
        kind,
        plain: Bytes::from_static(plain),
        gzip: compressed(plain).into(),
        tag,
    }
}

/// Writing to memory does not fail.
fn compressed(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let written = encoder.write_all(plain).and_then(|()| encoder.finish());
    written.unwrap_or_default()
}

/// The routes of the files.
pub(super) fn routes() -> Router<Arc<Api>> {
    READY.iter().fold(Router::new(), |router, file| {
        let serve = move |headers: HeaderMap| async move { answer(file, &headers) };
        router.route(file.path, get(serve))
    })
}

fn answer(file: &'static Ready, asked: &HeaderMap) -> Response {
    let text = |name: HeaderName| asked.get(name).and_then(|v| v.to_str().ok());
    let gzip = takes_gzip(text(header::ACCEPT_ENCODING).unwrap_or_default());
    let tag = match gzip {
        true => format!("\"{}-gzip\"", file.tag),
        false => format!("\"{}\"", file.tag),
    };
    let known = text(header::IF_NONE_MATCH);
    let known = known.is_some_and(|k| k.split(',').any(|k| k.trim() == tag));
    let mut answer = match (known, gzip) {
        (true, _) => StatusCode::NOT_MODIFIED.into_response(),
        (false, true) => file.gzip.clone().into_response(),
        (false, false) => file.plain.clone().into_response(),
    };
    let headers = answer.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, file.kind),
        // A node of another version has another page: it is asked each time,
        // and mostly answers that nothing changed.
        (header::CACHE_CONTROL, "no-cache"),
        (header::VARY, "accept-encoding"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if gzip && !known {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    // Hexadecimal digits are a header's text.
    if let Ok(tag) = tag.parse() {
        headers.insert(header::ETAG, tag);
    }
    answer
}

/// Whether whoever sent this `Accept-Encoding` takes gzip.
fn takes_gzip(accepted: &str) -> bool {
    accepted.split(',').any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let gzip = parts.next().is_some_and(|name| name == "gzip");
        gzip && !parts.any(|p| matches!(p.replace(' ', "").as_str(), "q=0" | "q=0.0"))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::Read;

    use axum::http::{HeaderMap, HeaderValue, StatusCode, header};

    use super::{FILES, READY, answer, takes_gzip};

    /// Everything that a browser fetches of the page, compressed, bytes.
    const HEAVIEST: usize = 150_000;

    #[test]
    fn the_page_is_light() {
        let weight: usize = READY.iter().map(|f| f.gzip.len()).sum();
        assert!(weight > 1_000 && weight <= HEAVIEST, "{weight}");
        for file in READY.iter() {
            let mut plain = Vec::new();
            let mut decoder = flate2::read::GzDecoder::new(&*file.gzip);
            decoder.read_to_end(&mut plain).unwrap();
            assert_eq!(plain, file.plain, "{}", file.path);
        }
    }

    /// What is between `before` and the next quote, for each place.
    fn quoted<'a>(text: &'a str, before: &str) -> Vec<&'a str> {
        let parts = text.split(before).skip(1);
        parts.filter_map(|p| p.split('"').next()).collect()
    }

    #[test]
    fn all_that_the_files_name_is_served_and_nothing_else() {
        let mut named = BTreeSet::from(["/".to_owned()]);
        for (path, _, bytes) in FILES {
            let text = std::str::from_utf8(bytes).unwrap();
            for module in quoted(text, "from \"./") {
                named.insert(format!("/page/{module}"));
            }
            if *path == "/" {
                named.extend(
                    quoted(text, "\"/page/")
                        .iter()
                        .map(|n| format!("/page/{n}")),
                );
            }
        }
        let served: BTreeSet<String> = FILES.iter().map(|f| f.0.to_owned()).collect();
        assert_eq!(named, served);
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/page");
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), FILES.len());
    }

    #[test]
    fn no_file_makes_markup_out_of_text_or_reaches_elsewhere() {
        for (path, _, bytes) in FILES {
            let text = std::str::from_utf8(bytes).unwrap();
            for word in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
            ] {
                assert!(!text.contains(word), "{path}: {word}");
            }
            // The names of XML are no addresses.
            let text = text.replace("http://www.w3.org/", "");
            assert!(
                !text.contains("http://") && !text.contains("https://"),
                "{path}"
            );
        }
        let page = std::str::from_utf8(FILES[0].2).unwrap();
        assert!(!page.contains(" style=") && !page.contains(" onclick="));
        assert_eq!(page.matches("<script").count(), 1);
    }

    #[test]
    fn a_file_is_sent_once_compressed_and_under_a_policy() {
        let mut asked = HeaderMap::new();
        let coding = HeaderValue::from_static("br, gzip;q=0.5");
        asked.insert(header::ACCEPT_ENCODING, coding);
        let first = answer(&READY[0], &asked);
        assert_eq!(first.status(), StatusCode::OK);
        assert_eq!(first.headers()[header::CONTENT_ENCODING], "gzip");
        assert_eq!(first.headers()[header::VARY], "accept-encoding");
        let policy = first.headers()[header::CONTENT_SECURITY_POLICY].to_str();
        assert!(
            policy
                .unwrap()
                .starts_with("default-src 'none'; script-src 'self';")
        );
        let tag = first.headers()[header::ETAG].clone();
        asked.insert(header::IF_NONE_MATCH, tag.clone());
        assert_eq!(answer(&READY[0], &asked).status(), StatusCode::NOT_MODIFIED);
        // The same tag would stand for other bytes.
        asked.remove(header::ACCEPT_ENCODING);
        let plain = answer(&READY[0], &asked);
        assert_eq!(plain.status(), StatusCode::OK);
        assert!(plain.headers().get(header::CONTENT_ENCODING).is_none());
        assert_ne!(plain.headers()[header::ETAG], tag);
    }

    #[test]
    fn gzip_is_sent_to_those_who_take_it() {
        assert!(takes_gzip("gzip") && takes_gzip("deflate, gzip ; q=1.0"));
        assert!(!takes_gzip("") && !takes_gzip("br") && !takes_gzip("gzip; q=0"));
    }
}
