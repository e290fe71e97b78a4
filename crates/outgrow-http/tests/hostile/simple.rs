//! A second parser: a state machine that looks at one byte at a time, written from the grammar of
//! RFC 9112 and sharing no line with the first one. Slow and plain on purpose.
//!
//! Where RFC 9112 lets a recipient choose, it takes the lenient side; where the first parser is
//! stricter is listed in `compare`. Two things are lenient beyond the grammar, as they are in the
//! first parser: a request target is any visible ASCII but `#`, and a status line may leave out
//! the space before an empty reason.

/// How a body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    None,
    Length(u64),
    Chunked,
    /// Other codings before `chunked`.
    Coded,
    UntilClose,
}

/// A head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// Method, target, version; or version, status, reason.
    pub(crate) first: [Vec<u8>; 3],
    pub(crate) fields: Vec<(Vec<u8>, Vec<u8>)>,
    /// Bytes that it took.
    pub(crate) length: usize,
}

/// What the bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict<T> {
    Incomplete,
    Refused(&'static str),
    Accepted(T),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Before anything: an empty line may be here, in front of a request.
    Beginning,
    BeginningLf,
    First,
    FirstLf,
    LineStart,
    Name,
    BeforeValue,
    Value,
    ValueLf,
    LastLf,
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// The lines of a head; the first one is not looked at more closely.
fn lines(bytes: &[u8], may_be_empty_first: bool) -> Verdict<(Vec<u8>, Head)> {
    let mut at = if may_be_empty_first {
        At::Beginning
    } else {
        At::First
    };
    let mut first = Vec::new();
    let mut head = Head::default();
    let (mut name, mut value) = (Vec::new(), Vec::new());
    for (place, &byte) in bytes.iter().enumerate() {
        at = match (at, byte) {
            (At::Beginning, b'\r') => At::BeginningLf,
            (At::BeginningLf, b'\n') => At::First,
            (At::BeginningLf | At::FirstLf | At::ValueLf | At::LastLf, other) if other != b'\n' => {
                return Verdict::Refused("a bare CR");
            }
            (_, b'\n') if !matches!(at, At::FirstLf | At::ValueLf | At::LastLf) => {
                return Verdict::Refused("a bare LF");
            }
            (At::First, b'\r') => At::FirstLf,
            (At::Beginning | At::First, _) => {
                first.push(byte);
                At::First
            }
            (At::FirstLf, _) => At::LineStart,
            (At::ValueLf, _) => {
                while value
                    .last()
                    .is_some_and(|last| *last == b' ' || *last == b'\t')
                {
                    value.pop();
                }
                head.fields
                    .push((std::mem::take(&mut name), std::mem::take(&mut value)));
                At::LineStart
            }
            (At::LineStart, b'\r') => At::LastLf,
            (At::LastLf, _) => {
                head.length = place + 1;
                return Verdict::Accepted((first, head));
            }
            (At::LineStart | At::Name, _) if is_token(byte) => {
                name.push(byte);
                At::Name
            }
            (At::Name, b':') => At::BeforeValue,
            (At::LineStart | At::Name, _) => return Verdict::Refused("not a field name"),
            (At::BeforeValue, b' ' | b'\t') => At::BeforeValue,
            (At::BeforeValue | At::Value, b'\r') => At::ValueLf,
            (At::BeforeValue | At::Value, _) if is_text(byte) => {
                value.push(byte);
                At::Value
            }
            (At::BeforeValue | At::Value, _) => return Verdict::Refused("not a field value"),
            (At::BeginningLf, _) => return Verdict::Refused("a bare CR"),
        };
    }
    Verdict::Incomplete
}

/// Splits at single spaces into three; the last part may hold more of them.
fn three(line: &[u8]) -> Option<[Vec<u8>; 3]> {
    let mut parts = line.splitn(3, |byte| *byte == b' ').map(<[u8]>::to_vec);
    Some([parts.next()?, parts.next()?, parts.next()?])
}

fn version_of(text: &[u8]) -> Option<u8> {
    match text {
        b"HTTP/1.0" => Some(0),
        b"HTTP/1.1" => Some(1),
        _ => None,
    }
}

/// A request head, with its framing.
pub(crate) fn request(bytes: &[u8]) -> Verdict<(Head, Framing)> {
    let (line, mut head) = match lines(bytes, true) {
        Verdict::Accepted(all) => all,
        Verdict::Refused(why) => return Verdict::Refused(why),
        Verdict::Incomplete => return Verdict::Incomplete,
    };
    let Some(first) = three(&line) else {
        return Verdict::Refused("not three parts");
    };
    let [method, target, version] = &first;
    if method.is_empty() || !method.iter().all(|byte| is_token(*byte)) {
        return Verdict::Refused("not a method");
    }
    let Some(version) = version_of(version) else {
        return Verdict::Refused("not a version");
    };
    if target.is_empty()
        || !target
            .iter()
            .all(|byte| (b'!'..=b'~').contains(byte) && *byte != b'#')
    {
        return Verdict::Refused("not a target");
    }
    let lower = target.to_ascii_lowercase();
    let form = target[0] == b'/'
        || (target == b"*" && method == b"OPTIONS")
        || lower.starts_with(b"http://")
        || lower.starts_with(b"https://")
        || method == b"CONNECT";
    if !form {
        return Verdict::Refused("not a form of target");
    }
    let hosts = head
        .fields
        .iter()
        .filter(|line| line.0.eq_ignore_ascii_case(b"host"))
        .count();
    if hosts > 1 || (hosts == 0 && version == 1) {
        return Verdict::Refused("not one Host");
    }
    head.first = first;
    match framing(&head.fields, version) {
        Ok(framing) => Verdict::Accepted((head, framing.unwrap_or(Framing::None))),
        Err(why) => Verdict::Refused(why),
    }
}

/// A response head, with its framing, to a request that was a HEAD or not.
pub(crate) fn response(bytes: &[u8], to_head: bool) -> Verdict<(Head, Framing)> {
    let (line, mut head) = match lines(bytes, false) {
        Verdict::Accepted(all) => all,
        Verdict::Refused(why) => return Verdict::Refused(why),
        Verdict::Incomplete => return Verdict::Incomplete,
    };
    let mut line = line;
    if line.iter().filter(|byte| **byte == b' ').count() == 1 {
        line.push(b' ');
    }
    let Some(first) = three(&line) else {
        return Verdict::Refused("not three parts");
    };
    let [version, status, reason] = &first;
    let Some(version) = version_of(version) else {
        return Verdict::Refused("not a version");
    };
    if status.len() != 3 || !status.iter().all(u8::is_ascii_digit) || status[0] == b'0' {
        return Verdict::Refused("not a status");
    }
    if !reason.iter().all(|byte| is_text(*byte)) {
        return Verdict::Refused("not a reason");
    }
    let bodyless = to_head || status[0] == b'1' || status == b"204" || status == b"304";
    head.first = first;
    match framing(&head.fields, version) {
        Err(why) => Verdict::Refused(why),
        Ok(_) if bodyless => Verdict::Accepted((head, Framing::None)),
        Ok(framing) => Verdict::Accepted((head, framing.unwrap_or(Framing::UntilClose))),
    }
}

fn members(fields: &[(Vec<u8>, Vec<u8>)], name: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut lines = fields
        .iter()
        .filter(|line| line.0.eq_ignore_ascii_case(name))
        .peekable();
    lines.peek()?;
    let members = lines.flat_map(|line| line.1.split(|byte| *byte == b','));
    Some(
        members
            .map(|member| member.trim_ascii().to_ascii_lowercase())
            .collect(),
    )
}

/// RFC 9112 section 6.3.
fn framing(fields: &[(Vec<u8>, Vec<u8>)], minor: u8) -> Result<Option<Framing>, &'static str> {
    let codings = members(fields, b"transfer-encoding");
    let lengths = members(fields, b"content-length");
    if let Some(codings) = codings {
        if lengths.is_some() {
            return Err("both framings");
        }
        if minor == 0 {
            return Err("a coding in HTTP/1.0");
        }
        let codings: Vec<_> = codings
            .into_iter()
            .filter(|coding| !coding.is_empty())
            .collect();
        if !codings.iter().flatten().all(|byte| is_token(*byte)) {
            return Err("not a coding");
        }
        let chunked = codings
            .iter()
            .filter(|coding| *coding == b"chunked")
            .count();
        let last = codings.last().is_some_and(|coding| coding == b"chunked");
        if chunked != 1 || !last {
            return Err("not chunked once and last");
        }
        return Ok(Some(if codings.len() == 1 {
            Framing::Chunked
        } else {
            Framing::Coded
        }));
    }
    let Some(lengths) = lengths else {
        return Ok(None);
    };
    if lengths.iter().any(|length| *length != lengths[0]) {
        return Err("different lengths");
    }
    let mut length: u64 = 0;
    if lengths[0].is_empty() {
        return Err("no digit in the length");
    }
    for digit in &lengths[0] {
        if !digit.is_ascii_digit() {
            return Err("not a digit in the length");
        }
        let more = length
            .checked_mul(10)
            .and_then(|sum| sum.checked_add(u64::from(digit - b'0')));
        length = more.ok_or("too long a length")?;
    }
    Ok(Some(Framing::Length(length)))
}

/// A whole chunked body: its data, its trailer lines, the bytes that it took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chunked {
    pub(crate) data: Vec<u8>,
    pub(crate) trailers: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) length: usize,
}

/// RFC 9112 section 7.1, with any text for an extension.
pub(crate) fn chunked(bytes: &[u8]) -> Verdict<Chunked> {
    let mut body = Chunked::default();
    let mut at = 0;
    loop {
        let mut size: u64 = 0;
        let mut digits = 0;
        let mut extension = false;
        loop {
            let Some(&byte) = bytes.get(at) else {
                return Verdict::Incomplete;
            };
            at += 1;
            match byte {
                b'\r' => break,
                b';' => extension = true,
                _ if extension && is_text(byte) => {}
                // Whitespace before an extension, which a recipient has to live with.
                b' ' | b'\t' if digits > 0 => {}
                _ if !extension && byte.is_ascii_hexdigit() => {
                    let digit = u64::from((byte as char).to_digit(16).unwrap_or(0));
                    if size >> 60 != 0 {
                        return Verdict::Refused("too large a chunk");
                    }
                    size = size * 16 + digit;
                    digits += 1;
                }
                _ => return Verdict::Refused("not a chunk size"),
            }
        }
        if digits == 0 {
            return Verdict::Refused("no chunk size");
        }
        match bytes.get(at) {
            None => return Verdict::Incomplete,
            Some(b'\n') => at += 1,
            Some(_) => return Verdict::Refused("a bare CR"),
        }
        if size == 0 {
            break;
        }
        for _ in 0..size {
            let Some(&byte) = bytes.get(at) else {
                return Verdict::Incomplete;
            };
            body.data.push(byte);
            at += 1;
        }
        for wanted in *b"\r\n" {
            match bytes.get(at) {
                None => return Verdict::Incomplete,
                Some(&byte) if byte == wanted => at += 1,
                Some(_) => return Verdict::Refused("no end of a chunk"),
            }
        }
    }
    // The trailer section is made like a head without a first line.
    let with_line = [b"\r\n", &bytes[at..]].concat();
    match lines(&with_line, false) {
        Verdict::Incomplete => Verdict::Incomplete,
        Verdict::Refused(why) => Verdict::Refused(why),
        Verdict::Accepted((_, head)) => {
            body.trailers = head.fields;
            body.length = at + head.length - 2;
            Verdict::Accepted(body)
        }
    }
}
