//! A plain decoder of responses for the tests: the whole output at once, no state, no sharing of
//! code with what is tested.

/// A response as a client would understand it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) fields: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Vec<(String, String)>,
    /// Whether a client knows that it got all of it.
    pub(super) complete: bool,
    /// Bytes that it took.
    pub(super) length: usize,
}

impl Response {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let mut lines = self.fields.iter();
        let line = lines.find(|line| line.0.eq_ignore_ascii_case(name));
        line.map(|line| line.1.as_str())
    }
}

fn lines(text: &str) -> Vec<(String, String)> {
    let line = |line: &str| {
        let (name, value) = line.split_once(": ").expect("name, colon, space, value");
        (name.to_owned(), value.to_owned())
    };
    text.split("\r\n")
        .filter(|text| !text.is_empty())
        .map(line)
        .collect()
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// The first response of `bytes` to a request, which was a HEAD or not; `None` when its head is
/// not whole. `closed`: the stream has ended after these bytes.
pub(super) fn response(bytes: &[u8], to_head: bool, closed: bool) -> Option<Response> {
    let end = find(bytes, b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..end]).expect("our heads are text");
    let (first, rest) = head.split_once("\r\n").expect("a status line");
    let status = first.strip_prefix("HTTP/1.1 ").expect("our version");
    let status: u16 = status[..3].parse().expect("a status");
    let mut response = Response {
        status,
        fields: lines(rest),
        body: Vec::new(),
        trailers: Vec::new(),
        complete: true,
        length: end,
    };
    if to_head || status < 200 || status == 204 || status == 304 {
        return Some(response);
    }
    let rest = &bytes[end..];
    let length = response
        .field("content-length")
        .map(|text| text.parse::<usize>());
    match (response.field("transfer-encoding"), length) {
        (Some("chunked"), None) => chunks(rest, &mut response),
        (None, Some(length)) => {
            let length = length.expect("a number");
            response.complete = rest.len() >= length;
            response.body = rest[..length.min(rest.len())].to_vec();
            response.length = end + response.body.len();
        }
        (None, None) => {
            response.body = rest.to_vec();
            response.complete = closed;
            response.length = bytes.len();
        }
        both => panic!("ambiguous framing: {both:?}"),
    }
    Some(response)
}

fn chunks(mut rest: &[u8], response: &mut Response) {
    response.complete = false;
    loop {
        let Some(end) = find(rest, b"\r\n") else {
            return;
        };
        let size = std::str::from_utf8(&rest[..end]).expect("a size");
        assert!(!size.is_empty() && !size.starts_with('+'), "{size:?}");
        let size = usize::from_str_radix(size, 16).expect("hexadecimal digits only");
        rest = &rest[end + 2..];
        response.length += end + 2;
        if size == 0 {
            break;
        }
        let here = size.min(rest.len());
        response.body.extend_from_slice(&rest[..here]);
        response.length += here;
        rest = &rest[here..];
        if rest.len() < 2 {
            return;
        }
        assert_eq!(&rest[..2], b"\r\n", "data is as long as its size says");
        rest = &rest[2..];
        response.length += 2;
    }
    if rest.starts_with(b"\r\n") {
        response.complete = true;
        response.length += 2;
    } else if let Some(end) = find(rest, b"\r\n\r\n") {
        let text = std::str::from_utf8(&rest[..end]).expect("our trailers are text");
        response.trailers = lines(text);
        response.complete = true;
        response.length += end + 4;
    }
}
