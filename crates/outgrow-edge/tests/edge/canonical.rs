//! What an endpoint may be sent: one form only, byte by byte. Everything else, however harmless it
//! may look, fails.

/// A request in that form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn values(&self, name: &str) -> Vec<&[u8]> {
        let lines = self
            .fields
            .iter()
            .filter(|line| line.0.eq_ignore_ascii_case(name));
        lines.map(|line| line.1.as_slice()).collect()
    }
}

/// How far the bytes of a connection go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// All of them were whole requests.
    Whole(Vec<Request>),
    /// So many whole ones, then one that is not complete.
    CutOff(Vec<Request>),
}

/// Reads all that a connection received.
///
/// # Errors
/// What is not of the one form.
pub(crate) fn read(mut bytes: &[u8]) -> Result<Read, String> {
    let mut requests = Vec::new();
    while !bytes.is_empty() {
        match request(bytes)? {
            Some((request, rest)) => {
                requests.push(request);
                bytes = rest;
            }
            None => return Ok(Read::CutOff(requests)),
        }
    }
    Ok(Read::Whole(requests))
}

/// A line without its end, and what follows it; `None` when it is not whole.
type Line<'b> = Result<Option<(&'b [u8], &'b [u8])>, String>;

fn line(bytes: &[u8]) -> Line<'_> {
    let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else {
        return Ok(None);
    };
    let Some(line) = bytes[..end].strip_suffix(b"\r") else {
        return Err("a bare LF".to_owned());
    };
    if line
        .iter()
        .any(|&byte| (byte < b' ' && byte != b'\t') || byte == 0x7f)
    {
        return Err(format!(
            "a control character: {:?}",
            String::from_utf8_lossy(line)
        ));
    }
    Ok(Some((line, &bytes[end + 1..])))
}

fn request(bytes: &[u8]) -> Result<Option<(Request, &[u8])>, String> {
    let Some((first, mut rest)) = line(bytes)? else {
        return Ok(None);
    };
    let first = String::from_utf8(first.to_vec()).map_err(|_| "a request line of high bytes")?;
    let parts: Vec<_> = first.split(' ').collect();
    let &[method, target, "HTTP/1.1"] = parts.as_slice() else {
        return Err(format!("not a request line: {first:?}"));
    };
    let good = !method.is_empty() && (target.starts_with('/') || target == "*");
    if !good || target.contains(['#', '\t']) {
        return Err(format!("not a request line of ours: {first:?}"));
    }
    let mut fields = Vec::new();
    loop {
        let Some((text, after)) = line(rest)? else {
            return Ok(None);
        };
        rest = after;
        if text.is_empty() {
            break;
        }
        fields.push(field(text)?);
    }
    let mut request = Request {
        method: method.to_owned(),
        target: target.to_owned(),
        fields,
        body: Vec::new(),
    };
    check_fields(&request)?;
    Ok(body(&mut request, rest)?.map(|rest| (request, rest)))
}

fn field(text: &[u8]) -> Result<(String, Vec<u8>), String> {
    let shown = String::from_utf8_lossy(text).into_owned();
    let colon = text.iter().position(|&byte| byte == b':');
    let (name, value) = text.split_at(colon.ok_or(format!("no colon: {shown:?}"))?);
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let Some(value) = value.strip_prefix(b": ") else {
        return Err(format!("not our colon: {shown:?}"));
    };
    if name.is_empty() || !name.iter().all(token) || value.trim_ascii() != value {
        return Err(format!("not a field line of ours: {shown:?}"));
    }
    Ok((String::from_utf8_lossy(name).into_owned(), value.to_vec()))
}

/// Exactly one Host, at most one kind of framing, nothing that is of the client's connection.
fn check_fields(request: &Request) -> Result<(), String> {
    let count = |name: &str| request.values(name).len();
    let bad = |what: &str| Err(format!("{what}: {:?}", request.fields));
    if count("host") != 1 || request.values("host")[0].is_empty() {
        return bad("not exactly one Host");
    }
    if count("content-length") + count("transfer-encoding") > 1 {
        return bad("ambiguous framing");
    }
    let odd = [
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "http2-settings",
    ];
    if odd.iter().any(|name| count(name) > 0) {
        return bad("hop-by-hop fields");
    }
    if count("connection") != count("upgrade") || count("upgrade") > 1 {
        return bad("half an upgrade");
    }
    let told = request.values("x-forwarded-for");
    if told != [b"127.0.0.1"] || count("forwarded") > 0 || count("x-request-id") != 1 {
        return bad("a forged identity");
    }
    Ok(())
}

fn body<'b>(request: &mut Request, mut rest: &'b [u8]) -> Result<Option<&'b [u8]>, String> {
    if let [length] = request.values("content-length").as_slice() {
        let text = String::from_utf8_lossy(length).into_owned();
        let length: usize = text.parse().map_err(|_| format!("the length {text:?}"))?;
        if length.to_string() != text {
            return Err(format!("the length {text:?} is not our spelling"));
        }
        if rest.len() < length {
            return Ok(None);
        }
        request.body = rest[..length].to_vec();
        return Ok(Some(&rest[length..]));
    }
    match request.values("transfer-encoding").as_slice() {
        [] => return Ok(Some(rest)),
        [b"chunked"] => {}
        other => return Err(format!("the coding {other:?}")),
    }
    loop {
        let Some((size, after)) = line(rest)? else {
            return Ok(None);
        };
        let text = String::from_utf8_lossy(size).into_owned();
        let size = usize::from_str_radix(&text, 16).map_err(|_| format!("the size {text:?}"))?;
        if format!("{size:x}") != text {
            return Err(format!("the size {text:?} is not our spelling"));
        }
        rest = after;
        if size == 0 {
            break;
        }
        if rest.len() < size + 2 {
            return Ok(None);
        }
        request.body.extend_from_slice(&rest[..size]);
        if &rest[size..size + 2] != b"\r\n" {
            return Err("chunk data without its end".to_owned());
        }
        rest = &rest[size + 2..];
    }
    loop {
        let Some((text, after)) = line(rest)? else {
            return Ok(None);
        };
        rest = after;
        if text.is_empty() {
            return Ok(Some(rest));
        }
        let (name, _) = field(text)?;
        let framing = ["content-length", "transfer-encoding", "host"];
        if framing.iter().any(|known| name.eq_ignore_ascii_case(known)) {
            return Err(format!("a trailer {name}"));
        }
    }
}
