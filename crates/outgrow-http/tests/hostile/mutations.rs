//! Every known mutation against the parser itself: the right status, whatever pieces the bytes
//! come in. That the proxy forwards nothing of them is shown in the edge's tests.

use std::collections::HashSet;

use outgrow_core::{Fault, Phase};
use outgrow_http::h1::chunk::Decoder;
use outgrow_http::h1::scan::Scan;
use outgrow_http::h1::{Limits, Parsed, Reject, request, response};
use outgrow_http::status;
use outgrow_message::{BodyLength, Fields, Method, RequestHead, ResponseHead};

use crate::list::{self, Fate, Mutation};

fn status_of(reject: Reject) -> u16 {
    let fault = Fault::client(Phase::RequestHead, reject.cause);
    status::of(fault).expect("the client is there")
}

/// Parses a head that arrives in pieces of `piece` bytes: its length, or why it is refused.
/// `None`: it never ends.
fn arrive(
    bytes: &[u8],
    piece: usize,
    mut parse: impl FnMut(&[u8], &mut Scan) -> Result<Parsed, Reject>,
) -> Option<Result<usize, Reject>> {
    let mut scan = Scan::default();
    let mut here = 0;
    while here < bytes.len() {
        here = (here + piece).min(bytes.len());
        match parse(&bytes[..here], &mut scan) {
            Ok(Parsed::Incomplete) => {}
            Ok(Parsed::Complete(length)) => return Some(Ok(length)),
            Err(reject) => return Some(Err(reject)),
        }
    }
    None
}

/// Reads a body that arrives in pieces: the bytes of it that are left over, or why it is refused.
fn read_body(length: BodyLength, body: &[u8], piece: usize) -> Option<Result<usize, Reject>> {
    let Some(known) = (match length {
        BodyLength::Empty => Some(0),
        BodyLength::Known(bytes) => Some(bytes as usize),
        BodyLength::Unknown => None,
    }) else {
        return read_chunks(body, piece);
    };
    (known <= body.len()).then_some(Ok(known))
}

fn read_chunks(body: &[u8], piece: usize) -> Option<Result<usize, Reject>> {
    let mut decoder = Decoder::default();
    let mut trailers = Fields::default();
    let (mut at, mut here) = (0, 0);
    while here < body.len() {
        here = (here + piece).min(body.len());
        loop {
            let step = match decoder.step(&body[at..here], &mut trailers) {
                Ok(step) => step,
                Err(reject) => {
                    let again = decoder.step(b"5;a\r\nhello\r\n0\r\n\r\n", &mut trailers);
                    assert_eq!(again, Err(reject), "what was refused stays refused");
                    return Some(Err(reject));
                }
            };
            at += step.skip + step.data;
            decoder.took(step.data);
            if step.done {
                return Some(Ok(at));
            }
            if step.data == 0 {
                break;
            }
        }
    }
    None
}

fn fate_of_request(bytes: &[u8], piece: usize) -> Option<Fate> {
    let mut head = RequestHead::default();
    let limits = Limits::default();
    let length = match arrive(bytes, piece, |bytes, scan| {
        request::parse(bytes, scan, &limits, &mut head)
    })? {
        Ok(length) => length,
        Err(reject) => return Some(Fate::Head(status_of(reject))),
    };
    Some(match read_body(head.length, &bytes[length..], piece)? {
        Ok(_) => Fate::Good,
        Err(reject) => Fate::Body(status_of(reject)),
    })
}

fn fate_of_response(bytes: &[u8], piece: usize) -> Option<Fate> {
    let mut head = ResponseHead::default();
    let limits = Limits::default();
    let length = match arrive(bytes, piece, |bytes, scan| {
        response::parse(bytes, scan, &limits, Method::Get, &mut head)
    })? {
        Ok(length) => length,
        Err(reject) => return Some(Fate::Head(status_of(reject))),
    };
    if head.until_close {
        return Some(Fate::Good);
    }
    Some(match read_body(head.length, &bytes[length..], piece)? {
        Ok(_) => Fate::Good,
        Err(reject) => Fate::Body(status_of(reject)),
    })
}

fn check(mutations: &[Mutation], fate_of: impl Fn(&[u8], usize) -> Option<Fate>) {
    let mut wrong = Vec::new();
    for mutation in mutations {
        for piece in [usize::MAX / 2, 1, 2, 3, 7, 64, 1_024] {
            let got = fate_of(&mutation.bytes, piece);
            if got != Some(mutation.fate) {
                let expected = mutation.fate;
                wrong.push(format!(
                    "{} in pieces of {piece}: {got:?}, not {expected:?}",
                    mutation.name
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_mutated_request_has_its_fate() {
    check(&list::requests(), fate_of_request);
}

#[test]
fn every_mutated_response_has_its_fate() {
    check(&list::responses(), fate_of_response);
}

#[test]
fn there_are_at_least_200_that_are_refused_and_none_is_there_twice() {
    for (mutations, least) in [(list::requests(), 200), (list::responses(), 150)] {
        let names: HashSet<_> = mutations.iter().map(|one| &one.name).collect();
        let bytes: HashSet<_> = mutations.iter().map(|one| &one.bytes).collect();
        assert_eq!(names.len(), mutations.len());
        assert_eq!(bytes.len(), mutations.len());
        let refused = mutations
            .iter()
            .filter(|one| one.fate != Fate::Good)
            .count();
        assert!(refused >= least, "{refused}");
    }
}
