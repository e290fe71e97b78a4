//! Our parser against the simple one, and against httparse. Ours never accepts what another one
//! refuses, agrees with it on what it accepts, and refuses more only for a reason of this list:
//! sizes, request targets and paths, hosts, imitated names, connection options, expectations, and
//! framing that RFC 9112 would let pass (repeated lines, other codings, whitespace in chunk sizes).

use outgrow_http::h1::chunk::Decoder;
use outgrow_http::h1::scan::Scan;
use outgrow_http::h1::{Limits, Parsed, Reject, request, response};
use outgrow_message::{BodyLength, Fields, Method, RequestHead, ResponseHead};

use crate::simple::{self, Framing, Verdict};

/// Where ours is stricter on purpose, by what it says.
const STRICTER: &[&str] = &[
    "the head is too large",
    "the request target is too long",
    "there are too many field lines",
    "the method is not a token",
    "CONNECT is not implemented",
    "the target * is for OPTIONS only",
    "the request target's authority is malformed",
    "the path has a malformed escape",
    "the path has an escaped NUL",
    "the path hides a dot segment behind an escape",
    "Host is malformed",
    "a field name imitates another one",
    "a Connection option is not a token",
    "too many Connection options",
    "the expectation is not 100-continue",
    "Content-Length is repeated",
    "Content-Length is not a number",
    "Transfer-Encoding is repeated",
    "a transfer coding is not implemented",
    "a chunk size is malformed",
    "a chunk size is too large",
    "a chunk extension is malformed",
    "chunk extensions are too large",
];

fn check_stricter(reject: Reject, bytes: &[u8]) {
    let detail = reject.detail;
    assert!(
        STRICTER.contains(&detail),
        "refused without need ({detail}): {}",
        shown(bytes)
    );
    let is = |text: &str| detail == text;
    // Those of which the simple parser can tell when they apply.
    assert!(
        !is("the method is not a token") || bytes.len() > 32,
        "{}",
        shown(bytes)
    );
    assert!(
        !is("the head is too large") || bytes.len() > 8 * 1024,
        "{}",
        shown(bytes)
    );
}

fn shown(bytes: &[u8]) -> String {
    let end = bytes.len().min(2_000);
    format!("{} bytes: {}", bytes.len(), bytes[..end].escape_ascii())
}

fn lines(fields: &Fields) -> Vec<(Vec<u8>, Vec<u8>)> {
    fields
        .iter()
        .map(|(_, name, value)| (name.to_vec(), value.to_vec()))
        .collect()
}

fn framing(length: BodyLength, until_close: bool) -> Framing {
    match length {
        _ if until_close => Framing::UntilClose,
        BodyLength::Empty => Framing::None,
        BodyLength::Known(bytes) => Framing::Length(bytes),
        BodyLength::Unknown => Framing::Chunked,
    }
}

/// Compares what is said about a request head. Panics where they differ.
pub(crate) fn compare_request(bytes: &[u8]) {
    let mut head = RequestHead::default();
    let ours = request::parse(bytes, &mut Scan::default(), &Limits::default(), &mut head);
    match (ours, simple::request(bytes)) {
        (Ok(Parsed::Complete(length)), Verdict::Accepted((theirs, theirs_framing))) => {
            assert_eq!(length, theirs.length, "{}", shown(bytes));
            let [method, target, version] = &theirs.first;
            assert_eq!(head.text(head.method_text), method);
            assert_eq!(head.text(head.target_text), target);
            assert_eq!(
                version == b"HTTP/1.0",
                head.version == outgrow_message::Version::Http10
            );
            // HTTP/1.0 has no expectations: what looks like one is dropped.
            let told = theirs
                .fields
                .iter()
                .filter(|line| version != b"HTTP/1.0" || !line.0.eq_ignore_ascii_case(b"expect"));
            let told: Vec<_> = told.cloned().collect();
            assert_eq!(lines(&head.fields), told, "{}", shown(bytes));
            assert_eq!(
                framing(head.length, false),
                theirs_framing,
                "{}",
                shown(bytes)
            );
            compare_httparse_request(bytes, length, &theirs);
            check_forwarded(&mut head, theirs_framing);
        }
        (Err(_), Verdict::Refused(_)) | (Ok(Parsed::Incomplete), Verdict::Incomplete) => {}
        (Err(reject), Verdict::Accepted(_)) => check_stricter(reject, bytes),
        // One of them looks at all that is there before it waits, the other does not.
        (Err(_), Verdict::Incomplete) | (Ok(Parsed::Incomplete), Verdict::Refused(_)) => {}
        (ours, theirs) => panic!("{ours:?} but {theirs:?}: {}", shown(bytes)),
    }
}

fn compare_httparse_request(bytes: &[u8], length: usize, theirs: &simple::Head) {
    let mut lines = [httparse::EMPTY_HEADER; 128];
    let mut third = httparse::Request::new(&mut lines);
    let parsed = third.parse(bytes);
    assert_eq!(
        parsed,
        Ok(httparse::Status::Complete(length)),
        "{}",
        shown(bytes)
    );
    assert_eq!(third.method.map(str::as_bytes), Some(&*theirs.first[0]));
    assert_eq!(third.path.map(str::as_bytes), Some(&*theirs.first[1]));
    let lines: Vec<_> = third
        .headers
        .iter()
        .map(|line| (line.name.as_bytes().to_vec(), line.value.to_vec()))
        .collect();
    assert_eq!(lines, theirs.fields, "{}", shown(bytes));
}

/// What is forwarded is a request to everybody, the same one, with one framing.
fn check_forwarded(head: &mut RequestHead, framing: Framing) {
    head.fields.remove_hop_by_hop();
    let mut out = Vec::new();
    outgrow_http::h1::encode::request(head, b"endpoint", None, &mut out);
    let Verdict::Accepted((again, again_framing)) = simple::request(&out) else {
        panic!("what is forwarded is no request: {}", shown(&out));
    };
    assert_eq!(again_framing, framing, "{}", shown(&out));
    assert_eq!(again.length, out.len(), "{}", shown(&out));
    assert_eq!(again.first[0], head.text(head.method_text));
    let mut second = RequestHead::default();
    let parsed = request::parse(&out, &mut Scan::default(), &roomy(), &mut second);
    assert_eq!(parsed, Ok(Parsed::Complete(out.len())), "{}", shown(&out));
    assert_eq!(
        second.path(),
        head.path(),
        "it is routed otherwise: {}",
        shown(&out)
    );
}

/// A head that was written anew may be a little longer.
fn roomy() -> Limits {
    Limits {
        head_bytes: 64 * 1024,
        fields: 200,
        target_bytes: 32 * 1024,
    }
}

/// Compares what is said about a response head. Panics where they differ.
pub(crate) fn compare_response(bytes: &[u8], method: Method) {
    let mut head = ResponseHead::default();
    let limits = Limits::default();
    let ours = response::parse(bytes, &mut Scan::default(), &limits, method, &mut head);
    match (ours, simple::response(bytes, method == Method::Head)) {
        (Ok(Parsed::Complete(length)), Verdict::Accepted((theirs, theirs_framing))) => {
            assert_eq!(length, theirs.length, "{}", shown(bytes));
            let [_, status, reason] = &theirs.first;
            assert_eq!(head.status.to_string().as_bytes(), status);
            assert_eq!(head.text(head.reason), reason);
            let dropped = head.status < 200 || head.status == 204;
            let told = theirs
                .fields
                .iter()
                .filter(|line| !dropped || !line.0.eq_ignore_ascii_case(b"content-length"));
            assert_eq!(lines(&head.fields), told.cloned().collect::<Vec<_>>());
            assert_eq!(
                framing(head.length, head.until_close),
                theirs_framing,
                "{}",
                shown(bytes)
            );
            let mut lines = [httparse::EMPTY_HEADER; 128];
            let mut third = httparse::Response::new(&mut lines);
            let parsed = third.parse(bytes);
            assert_eq!(
                parsed,
                Ok(httparse::Status::Complete(length)),
                "{}",
                shown(bytes)
            );
            assert_eq!(
                (third.code, third.headers.len()),
                (Some(head.status), theirs.fields.len())
            );
        }
        (Err(_), Verdict::Refused(_)) | (Ok(Parsed::Incomplete), Verdict::Incomplete) => {}
        (Err(reject), Verdict::Accepted(_)) => check_stricter(reject, bytes),
        (Err(_), Verdict::Incomplete) | (Ok(Parsed::Incomplete), Verdict::Refused(_)) => {}
        (ours, theirs) => panic!("{ours:?} but {theirs:?}: {}", shown(bytes)),
    }
}

/// Our decoder over the bytes in pieces; `None` when they are not enough.
fn decode(bytes: &[u8], piece: usize) -> Option<Result<simple::Chunked, Reject>> {
    let mut decoder = Decoder::default();
    let mut trailers = Fields::default();
    let mut body = simple::Chunked::default();
    let mut here = 0;
    while here < bytes.len() {
        here = here.saturating_add(piece).min(bytes.len());
        loop {
            let step = match decoder.step(&bytes[body.length..here], &mut trailers) {
                Ok(step) => step,
                Err(reject) => return Some(Err(reject)),
            };
            let data = body.length + step.skip;
            assert!(data + step.data <= here, "more than is there: {step:?}");
            body.data.extend_from_slice(&bytes[data..data + step.data]);
            body.length = data + step.data;
            decoder.took(step.data);
            if step.done {
                body.trailers = lines(&trailers);
                return Some(Ok(body));
            }
            if step.data == 0 {
                break;
            }
        }
    }
    None
}

/// Compares what is said about a chunked body, in whichever pieces it comes.
pub(crate) fn compare_chunked(bytes: &[u8], piece: usize) {
    let ours = decode(bytes, usize::MAX);
    let pieces = decode(bytes, piece.max(1));
    // What is said of bytes with several faults depends on which is seen first.
    let both_refuse = matches!((&ours, &pieces), (Some(Err(_)), Some(Err(_))));
    assert!(
        both_refuse || ours == pieces,
        "in pieces of {piece}: {}",
        shown(bytes)
    );
    match (ours, simple::chunked(bytes)) {
        (Some(Ok(ours)), Verdict::Accepted(mut theirs)) => {
            // Some trailers are dropped.
            theirs.trailers.retain(|line| ours.trailers.contains(line));
            assert_eq!(ours, theirs, "{}", shown(bytes));
        }
        (Some(Err(_)), Verdict::Refused(_)) | (None, Verdict::Incomplete) => {}
        (Some(Err(reject)), Verdict::Accepted(_)) => check_stricter(reject, bytes),
        (Some(Err(_)), Verdict::Incomplete) | (None, Verdict::Refused(_)) => {}
        (ours, theirs) => panic!("{ours:?} but {theirs:?}: {}", shown(bytes)),
    }
}
