//! Which request gets which answer. One match, read top to bottom.

use std::{
    convert::Infallible,
    io,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};

use super::{
    ServerOptions,
    checkout::Orders,
    drain::Watcher,
    reply::{self, Body},
    web_socket,
};
use crate::content;

/// Largest request body, in bytes. More is 413.
const LARGEST_REQUEST: usize = 1024 * 1024;

/// How long a checkout's body may take to arrive. Later is 408.
const BODY_TIME: Duration = Duration::from_secs(30);

/// What one instance knows.
#[derive(Debug)]
pub(super) struct Shop {
    instance: String,
    faults: bool,
    tick: Duration,
    watcher: Watcher,
    orders: Orders,
    served: AtomicU64,
}

impl Shop {
    pub(super) fn new(options: &ServerOptions, watcher: Watcher) -> Self {
        Self {
            instance: options.instance.clone(),
            faults: options.faults,
            tick: options.tick,
            watcher,
            orders: Orders::default(),
            served: AtomicU64::new(0),
        }
    }

    /// Answers one request.
    pub(super) async fn answer(
        &self,
        mut request: Request<Incoming>,
    ) -> Result<Response<Body>, Infallible> {
        self.served.fetch_add(1, Ordering::Relaxed);
        if request.body().size_hint().lower() > LARGEST_REQUEST as u64 {
            return Ok(too_large());
        }
        let path = request.uri().path().to_owned();
        let (first, rest) = split(&path);
        let allowed = match first {
            "checkout" | "echo" => &[Method::POST][..],
            _ => &[Method::GET, Method::HEAD][..],
        };
        let known = self.known(first, rest);
        if known && !allowed.contains(request.method()) {
            return Ok(wrong_method(allowed));
        }
        Ok(match (first, rest) {
            ("", None) => reply::whole(StatusCode::OK, "text/html; charset=utf-8", content::home()),
            ("product", Some(number)) => match number.parse().ok().and_then(content::product) {
                Some(product) => reply::json(product),
                None => reply::refusal(StatusCode::NOT_FOUND, "there is no such product"),
            },
            ("report", None) => reply::report(report_id(request.uri().query())),
            ("checkout", None) => self.checkout(request).await,
            ("whoami", None) => self.who_am_i(),
            ("livez", None) => reply::text(StatusCode::OK, "alive\n"),
            ("readyz", None) if self.watcher.ready() => reply::text(StatusCode::OK, "ready\n"),
            ("readyz", None) => reply::text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
            ("ws", None) => web_socket::answer(&mut request, self.watcher.clone(), self.tick),
            ("bytes" | "chunked", Some(length)) => match length.parse() {
                Ok(length) if length <= content::LARGEST_BODY => {
                    reply::pattern(length, first == "chunked")
                }
                _ => reply::refusal(StatusCode::NOT_FOUND, "a length is 0 to 67108864"),
            },
            ("echo", None) => echo(request),
            // What a process that crashes looks like from outside; no unwinding,
            // no draining.
            ("crash", None) if self.faults => std::process::exit(70),
            ("hang", None) if self.faults => hang(),
            _ => reply::refusal(StatusCode::NOT_FOUND, "there is no such page"),
        })
    }

    fn known(&self, first: &str, rest: Option<&str>) -> bool {
        match first {
            "" | "report" | "checkout" | "whoami" | "livez" | "readyz" | "ws" | "echo" => {
                rest.is_none()
            }
            "product" | "bytes" | "chunked" => rest.is_some(),
            "crash" | "hang" => self.faults && rest.is_none(),
            _ => false,
        }
    }

    fn who_am_i(&self) -> Response<Body> {
        let value = serde_json::json!({
            "instance": self.instance,
            "pid": std::process::id(),
            "served": self.served.load(Ordering::Relaxed),
        });
        reply::json(Bytes::from(value.to_string()))
    }

    async fn checkout(&self, request: Request<Incoming>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let body = Limited::new(body, LARGEST_REQUEST).collect();
        match tokio::time::timeout(BODY_TIME, body).await {
            Ok(Ok(body)) => {
                let body = body.to_bytes();
                self.orders.checkout(&self.instance, &parts.headers, &body)
            }
            Ok(Err(error)) if error.is::<LengthLimitError>() => too_large(),
            Ok(Err(_)) => reply::refusal(StatusCode::BAD_REQUEST, "the body ended early"),
            Err(_) => reply::refusal(StatusCode::REQUEST_TIMEOUT, "the body took too long"),
        }
    }
}

/// "/product/7" is ("product", Some("7")); "/" is ("", None).
fn split(path: &str) -> (&str, Option<&str>) {
    let path = path.strip_prefix('/').unwrap_or(path);
    match path.split_once('/') {
        Some((first, rest)) => (first, Some(rest)),
        None => (path, None),
    }
}

fn report_id(query: Option<&str>) -> u64 {
    let mut pairs = query.unwrap_or_default().split('&');
    let id = pairs.find_map(|pair| pair.strip_prefix("id="));
    id.and_then(|id| id.parse().ok()).unwrap_or(0)
}

fn too_large() -> Response<Body> {
    reply::refusal(
        StatusCode::PAYLOAD_TOO_LARGE,
        "a request has at most 1048576 bytes of body",
    )
}

fn wrong_method(allowed: &[Method]) -> Response<Body> {
    let mut response = reply::refusal(StatusCode::METHOD_NOT_ALLOWED, "not with this method");
    let names: Vec<&str> = allowed.iter().map(Method::as_str).collect();
    if let Ok(names) = HeaderValue::from_str(&names.join(", ")) {
        response.headers_mut().insert(header::ALLOW, names);
    }
    response
}

/// Streams the body back as it comes. A chunked body that grows past the limit
/// is cut, since the answer's head is gone by then.
fn echo(request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let length = parts.headers.get(header::CONTENT_LENGTH).cloned();
    let body = Limited::new(body, LARGEST_REQUEST).map_err(io::Error::other);
    let mut response = Response::new(body.boxed_unsync());
    let headers = response.headers_mut();
    let kind = parts.headers.get(header::CONTENT_TYPE).cloned();
    let kind = kind.unwrap_or(HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_TYPE, kind);
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, length);
    }
    response
}

/// The process answers nothing any more, as one in an endless loop would.
fn hang() -> Response<Body> {
    loop {
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_split() {
        for (path, expected) in [
            ("/", ("", None)),
            ("/ws", ("ws", None)),
            ("/product/7", ("product", Some("7"))),
            ("/product/7/x", ("product", Some("7/x"))),
            ("/product/", ("product", Some(""))),
        ] {
            assert_eq!(split(path), expected, "{path}");
        }
    }

    #[test]
    fn report_ids() {
        for (query, expected) in [
            (None, 0),
            (Some("id=7"), 7),
            (Some("a=1&id=7"), 7),
            (Some("id=x"), 0),
        ] {
            assert_eq!(report_id(query), expected, "{query:?}");
        }
    }
}
