//! What is asked through the port, asked of the node.

use std::time::Duration;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue,
    IF_NONE_MATCH, REFERRER_POLICY, REFRESH, SET_COOKIE, TRANSFER_ENCODING, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Request, Response, StatusCode};
use serde_json::json;

use crate::ask::client::{Client, Opened};
use crate::problem::Problem;

/// What is sent to a browser.
pub(super) type Answer = Response<BoxBody<Bytes, hyper::Error>>;

/// The node has begun to answer within this time.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the node is told of a request; the rest is between the browser and us.
const PASSED: [HeaderName; 3] = [
    ACCEPT_ENCODING,
    IF_NONE_MATCH,
    HeaderName::from_static("last-event-id"),
];

/// Asks the node the same.
pub(super) async fn forward(client: &Client, asked: &Request<Incoming>) -> Answer {
    match answer(client, asked).await {
        Ok(answer) => answer,
        Err(problem) => away(&problem),
    }
}

async fn answer(client: &Client, asked: &Request<Incoming>) -> Result<Answer, Problem> {
    let path = asked.uri().path_and_query().map_or("/", |p| p.as_str());
    let accept = asked.headers().get(ACCEPT).and_then(|v| v.to_str().ok());
    let accept = ("accept", accept.unwrap_or("*/*"));
    let mut request = client.request((asked.method(), path), Bytes::new(), accept)?;
    for name in PASSED {
        if let Some(value) = asked.headers().get(&name) {
            request.headers_mut().insert(name, value.clone());
        }
    }
    let opened = tokio::time::timeout(PATIENCE, client.open(request)).await;
    let Opened { answer, .. } = opened.unwrap_or_else(|_| Err(client.lost()))?;
    // With the body goes the connection: a browser that has gone watches no more.
    let (mut head, body) = answer.into_parts();
    // These are of the connection to the node.
    head.headers.remove(CONNECTION);
    head.headers.remove(TRANSFER_ENCODING);
    head.headers.insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    head.headers.insert(REFERRER_POLICY, NO_REFERRER);
    Ok(Response::from_parts(head, body.boxed()))
}

const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
const NO_REFERRER: HeaderValue = HeaderValue::from_static("no-referrer");

fn text(status: StatusCode, kind: &'static str, text: String) -> Answer {
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {});
    let mut answer = Response::new(body.boxed());
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    headers.insert(REFERRER_POLICY, NO_REFERRER);
    answer
}

/// As the node says no (RFC 9457).
pub(super) fn refused(status: StatusCode, detail: &str) -> Answer {
    let problem = json!({
        "type": "urn:fades:page",
        "title": "The page is not for this request",
        "status": status.as_u16(),
        "detail": detail,
    });
    text(status, "application/problem+json", problem.to_string())
}

/// The node is not there; a browser that was to show the page tries again.
fn away(problem: &Problem) -> Answer {
    let words = problem.text(str::to_owned);
    let mut answer = refused(StatusCode::BAD_GATEWAY, &words);
    let again = HeaderValue::from_static("5");
    answer.headers_mut().insert(REFRESH, again);
    answer
}

/// Gives the cookie, and leads to the page. A redirect would belong to
/// whatever led here, and a strict cookie would not go with it.
pub(super) fn welcome(cookie: &str) -> Answer {
    const LEAD: &str = "<!doctype html><meta charset=\"utf-8\"><title>FADES</title><link rel=\"icon\" href=\"data:,\">\
        <meta http-equiv=\"refresh\" content=\"0; url=/\"><a href=\"/\">To the page</a>\n";
    let mut answer = text(StatusCode::OK, "text/html; charset=utf-8", LEAD.to_owned());
    // Names and hexadecimal digits are a header's text.
    if let Ok(value) = cookie.parse() {
        answer.headers_mut().insert(SET_COOKIE, value);
    }
    answer
}
