//! One HTTP request and its whole response, over a connection of its own, for
//! tests that want an answer and nothing of the way there. The request says
//! `Connection: close`; the response is read by its framing.

use std::{
    fmt::Write,
    io,
    net::{SocketAddr, ToSocketAddrs},
    time::Duration,
};

use crate::raw::{Client, End};

/// How long a request may take.
pub const TIME_LIMIT: Duration = Duration::from_secs(30);

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The URL is not `http://host:port/path`.
    #[error("\"{0}\" is no URL like http://127.0.0.1:80/path")]
    Url(String),
    /// No connection, or it broke.
    #[error("{method} {url}: {source}")]
    Broken {
        /// The request's method.
        method: String,
        /// The request's URL.
        url: String,
        /// What the system said.
        source: io::Error,
    },
    /// What came is not a whole HTTP/1 response.
    #[error("{method} {url}: {what}; received: {received}")]
    Response {
        /// The request's method.
        method: String,
        /// The request's URL.
        url: String,
        /// What is wrong with it.
        what: &'static str,
        /// The beginning of what came.
        received: String,
    },
}

/// A whole response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The fields in their order, names as sent.
    pub headers: Vec<(String, String)>,
    /// The body, without chunks.
    pub body: Vec<u8>,
}

impl Response {
    /// The first value of this field, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let named = |field: &&(String, String)| field.0.eq_ignore_ascii_case(name);
        Some(self.headers.iter().find(named)?.1.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> serde_json::Result<serde_json::Value> {
        serde_json::from_slice(&self.body)
    }
}

/// GET this URL (`http://host:port/path`).
///
/// # Errors
/// [`HttpError`]; a status of 400 and above is no error.
pub fn get(url: &str) -> Result<Response, HttpError> {
    request("GET", url, &[], &[])
}

/// Any request. Host, Content-Length (when there is a body, or the method is
/// POST, PUT or PATCH) and `Connection: close` are added unless they are given.
///
/// # Errors
/// [`HttpError`]; a status of 400 and above is no error.
pub fn request(
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Response, HttpError> {
    let broken = |source| HttpError::Broken {
        method: method.to_owned(),
        url: url.to_owned(),
        source,
    };
    let (address, host, target) = parse(url)?;
    let given = |name: &str| {
        headers
            .iter()
            .any(|field| field.0.eq_ignore_ascii_case(name))
    };
    let mut head = format!("{method} {target} HTTP/1.1\r\n");
    if !given("host") {
        let _infallible = write!(head, "Host: {host}\r\n");
    }
    for (name, value) in headers {
        let _infallible = write!(head, "{name}: {value}\r\n");
    }
    let has_body = !body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH");
    if has_body && !given("content-length") && !given("transfer-encoding") {
        let _infallible = write!(head, "Content-Length: {}\r\n", body.len());
    }
    if !given("connection") {
        head.push_str("Connection: close\r\n");
    }
    head.push_str("\r\n");
    let bytes = [head.as_bytes(), body].concat();
    let mut client = Client::connect(address).map_err(broken)?;
    // The answer may come, and the connection be closed, before all is sent.
    let sent = client.send(&bytes);
    let mut whole = |received: &[u8]| response(received, method == "HEAD", false).is_ok();
    client
        .receive_until_true(TIME_LIMIT, &mut whole)
        .map_err(broken)?;
    let closed = client.end() == End::Closed;
    response(client.received(), method == "HEAD", closed).map_err(|what| match sent {
        Err(error) if client.received().is_empty() => broken(error),
        _ => HttpError::Response {
            method: method.to_owned(),
            url: url.to_owned(),
            what,
            received: client.received()[..client.received().len().min(400)]
                .escape_ascii()
                .to_string(),
        },
    })
}

fn parse(url: &str) -> Result<(SocketAddr, &str, &str), HttpError> {
    let wrong = || HttpError::Url(url.to_owned());
    let rest = url.strip_prefix("http://").ok_or_else(wrong)?;
    let end = rest.find('/').unwrap_or(rest.len());
    let (host, target) = rest.split_at(end);
    let mut found = host.to_socket_addrs().map_err(|_| wrong())?;
    let address = found.next().ok_or_else(wrong)?;
    Ok((address, host, if target.is_empty() { "/" } else { target }))
}

/// Reads the final response at the beginning of `bytes`. `closed`: nothing more comes.
fn response(bytes: &[u8], head_only: bool, closed: bool) -> Result<Response, &'static str> {
    let mut rest = bytes;
    loop {
        let end = find(rest, b"\r\n\r\n").ok_or("the head is not whole")?;
        let head = std::str::from_utf8(&rest[..end]).map_err(|_| "the head is not UTF-8")?;
        rest = &rest[end + 4..];
        let mut lines = head.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let status = first
            .strip_prefix("HTTP/1.")
            .and_then(|first| first.get(2..5)?.parse::<u16>().ok())
            .ok_or("no status line")?;
        let headers = lines
            .map(|line| line.split_once(':').ok_or("a field without a colon"))
            .map(|field| field.map(|(name, value)| (name.to_owned(), value.trim().to_owned())))
            .collect::<Result<Vec<_>, _>>()?;
        if (100..200).contains(&status) && status != 101 {
            continue;
        }
        let mut response = Response {
            status,
            headers,
            body: Vec::new(),
        };
        if !head_only && !matches!(status, 101 | 204 | 304) {
            response.body = body(&response, rest, closed)?;
        }
        return Ok(response);
    }
}

fn body(response: &Response, bytes: &[u8], closed: bool) -> Result<Vec<u8>, &'static str> {
    let chunked = response
        .header("transfer-encoding")
        .is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
    if chunked {
        return unchunk(bytes);
    }
    match response.header("content-length") {
        Some(length) => {
            let length: usize = length.parse().map_err(|_| "Content-Length is no number")?;
            let whole = bytes
                .get(..length)
                .ok_or("the body is shorter than Content-Length")?;
            Ok(whole.to_vec())
        }
        None if closed => Ok(bytes.to_vec()),
        None => Err("the body has no end yet"),
    }
}

fn unchunk(mut bytes: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut body = Vec::new();
    loop {
        let end = find(bytes, b"\r\n").ok_or("a chunk's size is not whole")?;
        let line = std::str::from_utf8(&bytes[..end]).map_err(|_| "a chunk's size is no number")?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(digits, 16).map_err(|_| "a chunk's size is no number")?;
        bytes = &bytes[end + 2..];
        if size == 0 {
            let ended = bytes.starts_with(b"\r\n") || find(bytes, b"\r\n\r\n").is_some();
            return ended.then_some(body).ok_or("the last chunk is not whole");
        }
        let chunk = size.checked_add(2).and_then(|end| bytes.get(..end));
        let chunk = chunk.ok_or("a chunk is not whole")?;
        if !chunk.ends_with(b"\r\n") {
            return Err("a chunk is longer than its size");
        }
        body.extend_from_slice(&chunk[..size]);
        bytes = &bytes[size + 2..];
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|at| at == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &str, closed: bool, expected: Result<(u16, &str), &'static str>) {
        let found = response(bytes.as_bytes(), false, closed);
        let found = found.map(|response| (response.status, response.text()));
        let expected = expected.map(|(status, body)| (status, body.to_owned()));
        assert_eq!(found, expected, "{bytes:?}");
    }

    #[test]
    fn responses() {
        check(
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab",
            false,
            Ok((200, "ab")),
        );
        check(
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab",
            true,
            Err("the body is shorter than Content-Length"),
        );
        check("HTTP/1.0 404 No\r\n\r\nab", true, Ok((404, "ab")));
        check(
            "HTTP/1.0 404 No\r\n\r\nab",
            false,
            Err("the body has no end yet"),
        );
        let chunked =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
        check(chunked, false, Ok((200, "abc")));
        check(
            &chunked[..chunked.len() - 2],
            true,
            Err("the last chunk is not whole"),
        );
        check(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n",
            false,
            Ok((204, "")),
        );
    }

    #[test]
    fn urls() {
        let (address, host, target) = parse("http://127.0.0.1:81/a?b").unwrap();
        assert_eq!(address.port(), 81);
        assert_eq!((host, target), ("127.0.0.1:81", "/a?b"));
        assert_eq!(parse("http://127.0.0.1:81").unwrap().2, "/");
        assert!(parse("https://127.0.0.1:81/").is_err());
        assert!(parse("http://127.0.0.1/").is_err());
    }
}
