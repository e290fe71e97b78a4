//! Heads written anew, field by field, into an output buffer.

use outgrow_message::{BodyLength, Fields, Known, RequestHead, ResponseHead, Target, Version};

/// Where bytes of a head go. A sink that has no room left says so at the end, not per call.
pub trait Sink {
    /// Appends bytes.
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Appends a decimal number.
#[inline]
pub fn put_number(out: &mut impl Sink, number: u64) {
    let mut text = itoa::Buffer::new();
    out.put(text.format(number).as_bytes());
}

/// Writes the head of a request as it goes to an endpoint: origin form, HTTP/1.1, `Host` of the
/// authority that the request was for (else `host_if_none`), framing by the head's length,
/// `upgrade` with its `Connection` line.
///
/// The head's hop-by-hop fields must have been removed.
pub fn request(
    head: &RequestHead,
    host_if_none: &[u8],
    upgrade: Option<&[u8]>,
    out: &mut impl Sink,
) {
    out.put(head.text(head.method_text));
    out.put(b" ");
    if head.target == Target::Asterisk {
        out.put(b"*");
    } else {
        out.put(head.forward_path());
    }
    if let Some(query) = head.query {
        out.put(b"?");
        out.put(head.text(query));
    }
    out.put(b" HTTP/1.1\r\nHost: ");
    let authority = head.text(head.authority);
    out.put(if authority.is_empty() {
        host_if_none
    } else {
        authority
    });
    out.put(b"\r\n");
    put_fields(&head.fields, out);
    match head.length {
        BodyLength::Empty => {}
        BodyLength::Known(length) => put_length(out, length),
        BodyLength::Unknown => out.put(b"Transfer-Encoding: chunked\r\n"),
    }
    if let Some(protocol) = upgrade {
        put_upgrade(protocol, out);
    }
    out.put(b"\r\n");
}

fn put_upgrade(protocol: &[u8], out: &mut impl Sink) {
    out.put(b"Connection: upgrade\r\nUpgrade: ");
    out.put(protocol);
    out.put(b"\r\n");
}

fn put_length(out: &mut impl Sink, length: u64) {
    out.put(b"Content-Length: ");
    put_number(out, length);
    out.put(b"\r\n");
}

#[inline]
fn put_fields(fields: &Fields, out: &mut impl Sink) {
    let skip = |known| matches!(known, Known::Host | Known::ContentLength);
    fields.runs(skip, |bytes| out.put(bytes));
}

/// How a response's body is framed towards an HTTP/1 client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// No body, no field that says so (1xx, 204, 304 without a length, HEAD without one).
    None,
    /// `Content-Length` with so many bytes (also for HEAD and 304, where none follow).
    Length(u64),
    /// Chunks.
    Chunked,
    /// Until the connection closes.
    UntilClose,
}

/// Writes the head of a response: status line with the version we speak, the fields, the framing,
/// and what becomes of the connection.
pub fn response(
    head: &ResponseHead,
    framing: Framing,
    connection: Connection<'_>,
    out: &mut impl Sink,
) {
    out.put(b"HTTP/1.1 ");
    put_number(out, u64::from(head.status));
    out.put(b" ");
    let reason = head.text(head.reason);
    out.put(if reason.is_empty() {
        reason_of(head.status).as_bytes()
    } else {
        reason
    });
    out.put(b"\r\n");
    put_fields(&head.fields, out);
    match framing {
        Framing::None | Framing::UntilClose => {}
        Framing::Length(length) => put_length(out, length),
        Framing::Chunked => out.put(b"Transfer-Encoding: chunked\r\n"),
    }
    match connection {
        Connection::Implied => {}
        Connection::KeepAlive => out.put(b"Connection: keep-alive\r\n"),
        Connection::Close => out.put(b"Connection: close\r\n"),
        Connection::Upgrade(protocol) => put_upgrade(protocol, out),
    }
    out.put(b"\r\n");
}

/// What a response says of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection<'a> {
    /// Nothing: it stays, as HTTP/1.1 implies.
    Implied,
    /// It stays, said to an HTTP/1.0 client that asked.
    KeepAlive,
    /// It closes after this response.
    Close,
    /// It becomes another protocol (101).
    Upgrade(&'a [u8]),
}

impl Connection<'_> {
    /// What to say to a client of `version` when the connection `stays`.
    pub fn to_client(version: Version, stays: bool) -> Self {
        match (stays, version) {
            (false, _) => Self::Close,
            (true, Version::Http10) => Self::KeepAlive,
            (true, _) => Self::Implied,
        }
    }
}

/// The reason phrase of a status (RFC 9110 section 15); empty when it has none.
pub fn reason_of(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        425 => "Too Early",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}
