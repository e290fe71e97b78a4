//! Exchanges by seed: what a client asks, what an endpoint answers, and what goes wrong.

use outgrow_core::Random;

use super::wire::Then;

/// An exchange as it is meant.
#[derive(Clone, Debug)]
pub(super) struct Meant {
    pub(super) request: Vec<u8>,
    pub(super) body: Vec<u8>,
    pub(super) is_head: bool,
    /// Whether the request may be executed twice.
    pub(super) may_repeat: bool,
    /// Bytes of the request that the endpoint has when it answers.
    pub(super) after: usize,
    pub(super) answer: Vec<u8>,
    pub(super) answer_body: Vec<u8>,
    pub(super) has_trailers: bool,
    /// Whether the endpoint's connection stays.
    pub(super) stays: bool,
    is_until_close: bool,
    has_interim: bool,
    /// Bytes behind the answer that belong to none.
    pub(super) surplus: usize,
}

fn body(random: &mut Random, most: usize) -> Vec<u8> {
    let most = [4, 100, most][random.below(3)];
    let count = random.below(most);
    // Much of what could be taken for framing.
    let alphabet = b"0123abc\r\n\r\n;: GET";
    (0..count)
        .map(|_| alphabet[random.below(alphabet.len())])
        .collect()
}

fn chunks(random: &mut Random, body: &[u8], has_trailers: bool) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), body);
    while !rest.is_empty() {
        let (piece, more) = rest.split_at(1 + random.below(rest.len().min(2_000)));
        out.extend(format!("{:x}\r\n", piece.len()).bytes());
        out.extend(piece);
        out.extend(b"\r\n");
        rest = more;
    }
    out.extend(b"0\r\n");
    out.extend(if has_trailers {
        &b"X-Sum: 1\r\n"[..]
    } else {
        b""
    });
    out.extend(b"\r\n");
    out
}

impl Meant {
    pub(super) fn new(random: &mut Random, most: usize) -> Self {
        let (method, may_repeat) = [
            ("GET", true),
            ("HEAD", true),
            ("PUT", true),
            ("POST", false),
            ("POST", false),
        ][random.below(5)];
        let is_head = method == "HEAD";
        let mut request = format!("{method} /p HTTP/1.1\r\nHost: a\r\n").into_bytes();
        let mut sent = Vec::new();
        if random.below(4) > 0 && matches!(method, "PUT" | "POST") {
            sent = body(random, most);
            let coded = match random.below(2) {
                0 => {
                    request.extend(format!("Content-Length: {}\r\n\r\n", sent.len()).bytes());
                    sent.clone()
                }
                _ => {
                    request.extend(b"Transfer-Encoding: chunked\r\n\r\n");
                    let has_trailers = random.below(2) == 0;
                    chunks(random, &sent, has_trailers)
                }
            };
            request.extend(coded);
        } else {
            request.extend(b"\r\n");
        }
        let mut answer = Vec::new();
        let has_interim = random.below(4) == 0;
        if has_interim {
            answer.extend(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
        }
        let has_none = is_head || random.below(6) == 0;
        let (is_until_close, closes) = (!has_none && random.below(4) == 0, random.below(4) == 0);
        let status = if has_none && !is_head { 204 } else { 200 };
        answer.extend(format!("HTTP/1.1 {status} OK\r\n").bytes());
        if closes {
            answer.extend(b"Connection: close\r\n");
        }
        let (mut answer_body, mut has_trailers) = (Vec::new(), false);
        if !has_none {
            answer_body = body(random, 2 * most);
        }
        match random.below(2) {
            _ if has_none || is_until_close => {
                answer.extend(b"\r\n");
                answer.extend(&answer_body);
            }
            0 => {
                answer.extend(format!("Content-Length: {}\r\n\r\n", answer_body.len()).bytes());
                answer.extend(&answer_body);
            }
            _ => {
                has_trailers = random.below(2) == 0;
                answer.extend(b"Transfer-Encoding: chunked\r\n\r\n");
                answer.extend(chunks(random, &answer_body, has_trailers));
            }
        }
        let mut surplus = 0;
        if !is_until_close && random.below(8) == 0 {
            let more = b"HTTP/1.1 200 OK\r\n\r\n";
            surplus = more.len();
            answer.extend(more);
        }
        Self {
            after: 1 + random.below(20 + sent.len()),
            request,
            body: sent,
            is_head,
            may_repeat,
            answer,
            answer_body,
            has_trailers,
            stays: !(closes || is_until_close),
            is_until_close,
            has_interim,
            surplus,
        }
    }

    /// About how many bytes move in all.
    pub(super) fn bytes(&self) -> usize {
        self.request.len() + self.answer.len()
    }

    /// Bytes that the whole request has at least.
    pub(super) fn request_bytes(&self) -> usize {
        20 + self.body.len()
    }

    /// What follows the answer.
    pub(super) fn then(&self) -> Then {
        match self.is_until_close {
            true => Then::End,
            false => Then::Silence,
        }
    }

    /// Whether the endpoint has to be let go although the client takes no more: its answer is small.
    pub(super) fn is_released(&self, broken: Break) -> bool {
        matches!(broken, Break::ClientTakes(_, Then::Silence))
            && self.answer.len() <= 12_000
            && !self.has_interim
            && self.surplus == 0
    }
}

/// What goes wrong, after so many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Break {
    Nothing,
    /// The answer ends.
    Endpoint(usize, Then),
    /// The endpoint takes no more of the request.
    EndpointTakes(usize),
    /// The request ends.
    Client(usize, Then),
    /// The client takes no more of the answer.
    ClientTakes(usize, Then),
}

const ENDS: [Then; 3] = [Then::End, Then::Reset, Then::Silence];

impl Break {
    pub(super) fn new(random: &mut Random, meant: &Meant) -> Self {
        let then = ENDS[random.below(3)];
        let broken = match random.below(6) {
            0 => Self::Endpoint(random.below(meant.answer.len() - meant.surplus), then),
            1 => Self::EndpointTakes(random.below(meant.request.len())),
            2 => Self::Client(random.below(meant.request.len()), then),
            3 => Self::ClientTakes(random.below(meant.answer.len() + 50), Then::Reset),
            4 => Self::ClientTakes(random.below(meant.answer.len() + 50), Then::Silence),
            _ => Self::Nothing,
        };
        broken.visible(meant)
    }

    /// All there are.
    pub(super) fn all(meant: &Meant) -> Vec<Self> {
        let mut all = vec![Self::Nothing];
        for at in 0..meant.answer.len() - meant.surplus {
            all.extend(ENDS.map(|then| Self::Endpoint(at, then).visible(meant)));
        }
        for at in 0..meant.request.len() {
            all.push(Self::EndpointTakes(at));
            all.extend(ENDS.map(|then| Self::Client(at, then)));
        }
        for at in 0..meant.answer.len() + 50 {
            all.extend([Then::Reset, Then::Silence].map(|then| Self::ClientTakes(at, then)));
        }
        all
    }

    /// An answer that ends where its connection does has no end that comes too early.
    fn visible(self, meant: &Meant) -> Self {
        match self {
            Self::Endpoint(at, Then::End) if meant.is_until_close => {
                Self::Endpoint(at, Then::Reset)
            }
            other => other,
        }
    }

    pub(super) fn is_silence(self) -> bool {
        match self {
            Self::Nothing | Self::EndpointTakes(_) => false,
            Self::Endpoint(_, then) | Self::Client(_, then) | Self::ClientTakes(_, then) => {
                then == Then::Silence
            }
        }
    }
}
