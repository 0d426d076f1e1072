//! Answers → readings.

use fades_task::coverage::LossReason;
use ureq::http::HeaderMap;
use ureq::http::header::LINK;

use super::list;
use super::shape::{Address, Shape};
use crate::live::Heard;
use crate::payload::{MOST_RECORDS, PayloadError};

/// What the pages of an answer say.
#[derive(Debug, Default)]
pub(super) struct Heap {
    pub(super) heard: Vec<Heard>,
    /// Readings that cannot be used.
    pub(super) lost: Vec<LossReason>,
}

impl Heap {
    /// Adds what a page says that came at `now` (ns since 1970 UTC).
    pub(super) fn add(
        &mut self,
        shape: &Shape,
        address: &Address,
        body: &[u8],
        now: i64,
    ) -> Result<(), PayloadError> {
        match &shape.items {
            None => self.entry(shape, address, body, now),
            Some(items) => list::each(body, items, |entry| self.entry(shape, address, entry, now)),
        }
    }

    fn entry(
        &mut self,
        shape: &Shape,
        address: &Address,
        body: &[u8],
        now: i64,
    ) -> Result<(), PayloadError> {
        let understood = shape.meaning.understand(&address.named, body, now)?;
        self.lost
            .extend(understood.lost.into_iter().map(|l| l.reason));
        self.heard.extend(understood.heard);
        if self.heard.len() + self.lost.len() > MOST_RECORDS {
            return Err(PayloadError::TooMany);
        }
        Ok(())
    }
}

/// Where the next page is, by the answer's headers (RFC 8288).
pub(super) fn next_page(headers: &HeaderMap) -> Option<String> {
    let links = headers.get_all(LINK).into_iter();
    let links = links.filter_map(|l| l.to_str().ok());
    links.flat_map(split).find_map(|link| {
        let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let mut parameters = parameters.split(';').map(str::trim);
        let is_next = |p: &str| {
            let (name, value) = p.split_once('=').unwrap_or_default();
            let value = value.trim().trim_matches('"');
            name.trim().eq_ignore_ascii_case("rel")
                && value.split(' ').any(|rel| rel.eq_ignore_ascii_case("next"))
        };
        parameters.any(is_next).then(|| target.to_owned())
    })
}

/// Links are separated by commas, which addresses may contain too.
fn split(links: &str) -> Vec<&str> {
    let (mut parts, mut begin, mut inside) = (Vec::new(), 0, false);
    for (at, c) in links.char_indices() {
        match c {
            '<' => inside = true,
            '>' => inside = false,
            ',' if !inside => {
                parts.push(&links[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&links[begin..]);
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};
    use ureq::http::{HeaderMap, HeaderValue};

    use super::next_page;

    fn next(link: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert("link", HeaderValue::from_str(link).ok()?);
        next_page(&headers)
    }

    #[test]
    fn the_next_page_is_found_among_links() {
        assert_eq!(
            next("</a?b=1,2>; rel=\"next\"").as_deref(),
            Some("/a?b=1,2")
        );
        let several = "<http://h/1>; rel=prev, <http://h/3>; title=x; rel=\"last next\"";
        assert_eq!(next(several).as_deref(), Some("http://h/3"));
        assert_eq!(next("</a>; rel=prev"), None);
        assert_eq!(next("/a; rel=next"), None);
    }

    proptest! {
        #[test]
        fn no_header_does_harm(link in any::<String>()) {
            let _ = next(&link);
        }
    }
}
