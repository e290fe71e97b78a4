//! Exchanges by seed: what a client sends, and what a handler answers.

use outgrow_core::Random;
use outgrow_message::{BodyLength, Method, ResponseHead};

/// In which order a handler does its two things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    ReadThenAnswer,
    /// The response is the body, sent while it comes.
    Echo,
    /// The body is not read at all.
    AnswerOnly,
}

/// One exchange as it is meant.
#[derive(Clone, Debug)]
pub(super) struct Meant {
    pub(super) request: Vec<u8>,
    pub(super) path: String,
    pub(super) method: Method,
    pub(super) body: Vec<u8>,
    pub(super) trailers: usize,
    pub(super) expects: bool,
    pub(super) http10: bool,
    pub(super) stays: bool,
    pub(super) order: Order,
    pub(super) status: u16,
    pub(super) length: BodyLength,
    pub(super) answer: Vec<u8>,
    pub(super) answer_trailers: bool,
    /// After so many bytes of the answer it is cut off.
    pub(super) cut_at: Option<usize>,
}

fn bytes_of(random: &mut Random, most: usize) -> Vec<u8> {
    let count = match random.below(4) {
        0 => random.below(4),
        1 => random.below(100),
        _ => random.below(most),
    };
    // Much of what could be taken for framing, and no two places alike.
    let alphabet = b"0123abc\r\n\r\n;: GET";
    let word: [u8; 61] = std::array::from_fn(|_| alphabet[random.below(alphabet.len())]);
    (0..count).map(|at| word[(at + at / 61 * 7) % 61]).collect()
}

fn chunked(random: &mut Random, body: &[u8], trailers: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let count = 1 + random.below(rest.len());
        let size = match random.below(3) {
            0 => format!("{count:x}"),
            1 => format!("{count:06X}"),
            _ => format!("{count:x};name=\"value\""),
        };
        out.extend_from_slice(size.as_bytes());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&rest[..count]);
        out.extend_from_slice(b"\r\n");
        rest = &rest[count..];
    }
    out.extend_from_slice(b"0\r\n");
    for number in 0..trailers {
        out.extend_from_slice(format!("X-Sum-{number}: {number}\r\n").as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out
}

fn exchange(random: &mut Random, number: usize) -> Meant {
    let http10 = random.below(5) == 0;
    let (verb, method) = [
        ("GET", Method::Get),
        ("POST", Method::Post),
        ("HEAD", Method::Head),
        ("BREW", Method::Other),
    ][random.below(4)];
    let path = format!("/{number}/{}", random.below(1_000));
    let version = if http10 { "1.0" } else { "1.1" };
    let mut head = format!("{verb} {path} HTTP/{version}\r\nhOsT: a.example\r\n");
    let mut stays = !http10;
    match random.below(6) {
        0 => {
            head.push_str("Connection: close\r\n");
            stays = false;
        }
        1 | 2 => {
            head.push_str("Connection: x, Keep-Alive\r\n");
            stays = true;
        }
        _ => {}
    }
    let mut body = Vec::new();
    let mut trailers = 0;
    let mut coded = Vec::new();
    match random.below(3) {
        0 => {}
        1 => {
            body = bytes_of(random, 40_000);
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
            coded.clone_from(&body);
        }
        _ if http10 => {}
        _ => {
            body = bytes_of(random, 40_000);
            trailers = random.below(3);
            head.push_str("Transfer-Encoding: chunked\r\n");
            coded = chunked(random, &body, trailers);
        }
    }
    let expects = !http10 && random.below(8) == 0;
    if expects {
        head.push_str("Expect: 100-continue\r\n");
    }
    head.push_str("\r\n");
    let order = [Order::ReadThenAnswer, Order::Echo, Order::AnswerOnly][random.below(3)];
    let status = [200, 200, 404, 204, 304][random.below(5)];
    let mut answer = bytes_of(random, 70_000);
    if order == Order::Echo {
        answer.clone_from(&body);
    }
    let mut length = match random.below(2) {
        0 => BodyLength::Known(answer.len() as u64),
        _ => BodyLength::Unknown,
    };
    if ResponseHead::never_has_body(status, method) {
        answer.clear();
        length = BodyLength::Empty;
    }
    let cut_at = (random.below(8) == 0 && !answer.is_empty() && order == Order::ReadThenAnswer)
        .then(|| random.below(answer.len()));
    Meant {
        request: [head.as_bytes(), &coded].concat(),
        path,
        method,
        body,
        trailers,
        expects,
        http10,
        stays,
        order,
        status,
        length,
        answer,
        answer_trailers: length == BodyLength::Unknown && random.below(3) == 0,
        cut_at,
    }
}

/// Some exchanges, what the client sends, and how many bytes move in all.
pub(super) fn meant(random: &mut Random) -> (Vec<Meant>, Vec<u8>, usize) {
    let count = 1 + random.below(4);
    let all: Vec<_> = (0..count).map(|number| exchange(random, number)).collect();
    let input: Vec<u8> = all.iter().flat_map(|one| &one.request).copied().collect();
    let bytes = input.len() + all.iter().map(|one| one.answer.len()).sum::<usize>();
    (all, input, bytes)
}
