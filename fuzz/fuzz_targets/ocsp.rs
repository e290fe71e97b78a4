//! OCSP responses and the certificates that they are about: nothing panics, whatever the bytes, before a
//! signature and behind one; what is taken may be stapled now and no longer than it says, and nobody but
//! the authority can have said it.
#![no_main]

#[path = "ocsp/authority.rs"]
mod authority;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use outgrow_core::WallTime;
use outgrow_tls::der;
use outgrow_tls::ocsp_inspect::{Pair, wishes};
use outgrow_tls::{OcspProblem, OcspResponse, OcspStatus};

use crate::authority::{Authority, SEQUENCE};

const SECOND: u64 = 1_000_000_000;
/// 2026-01-15.
const NOW: WallTime = WallTime(1_768_435_200 * SECOND);
/// By how much a responder may be before us.
const SKEW: u64 = 300 * SECOND;

static HOUSE: LazyLock<(Authority, Pair)> = LazyLock::new(|| {
    let authority = Authority::new();
    let pair = Pair::of(&[&authority.leaf, &authority.issuer]).expect("a pair");
    // Or all the rest would be about nothing.
    let good = authority.single(false, &[0x80, 0], b"20260101000000Z", b"20260201000000Z");
    let response = authority.response(&authority.data(None, &good), None);
    let taken = pair.check(&response, NOW).expect("it is in order");
    assert_eq!(taken.status, OcspStatus::Good);
    (authority, pair)
});

/// What is taken has its time, and nothing of it may be another.
fn check_taken(pair: &Pair, response: &[u8], taken: OcspResponse) {
    assert!(taken.this_update < taken.next_update, "{taken:?}");
    assert!(NOW < taken.next_update, "{taken:?}");
    assert!(taken.this_update.0 <= NOW.0 + SKEW, "{taken:?}");
    // The time of who signed it may be over as well, which is found first.
    assert!(pair.check(response, taken.next_update).is_err(), "it is late");
    let longer = [response, &[0]].concat();
    assert!(pair.check(&longer, NOW).is_err(), "something follows it");
}

/// A response that the authority signed, or somebody that it told to.
fn check_signed(response: &[u8], signed_by_us: bool) {
    let (_, pair) = &*HOUSE;
    match pair.check(response, NOW) {
        Ok(taken) => {
            check_taken(pair, response, taken);
            let mut forged = response.to_vec();
            // Within the signature of the response, or of the certificate behind it.
            let at = forged.len() - 20;
            forged[at] ^= 1;
            assert!(pair.check(&forged, NOW).is_err(), "it was not signed");
        }
        Err(OcspProblem::Signer(problem)) => {
            assert!(!signed_by_us, "{problem}");
        }
        Err(_) => {}
    }
}

fn split(input: &[u8]) -> (&[u8], &[u8]) {
    match input.split_first() {
        Some((&length, rest)) => rest.split_at(usize::from(length).min(rest.len())),
        None => (&[], &[]),
    }
}

fuzz_target!(|input: &[u8]| {
    let (authority, pair) = &*HOUSE;
    let Some((&word, input)) = input.split_first() else {
        return;
    };
    match word % 6 {
        // Anything at all.
        0 => {
            if let Ok(taken) = pair.check(input, NOW) {
                check_taken(pair, input, taken);
            }
        }
        // Anything, signed.
        1 => check_signed(&authority.response(input, None), false),
        // Anything said by the authority.
        2 => {
            let response = authority.response(&authority.data(None, input), None);
            check_signed(&response, true);
        }
        // About the certificate: its status and its time.
        3 => {
            let (status, rest) = split(input);
            let (this, next) = split(rest);
            let single = authority.single(word & 0x80 != 0, status, this, next);
            let response = authority.response(&authority.data(None, &single), None);
            check_signed(&response, true);
        }
        // By who says that it may, with a certificate of the authority's of any content.
        4 => {
            let certificate = authority.certificate(input);
            let good = authority.single(true, &[0x80, 0], b"20260101000000Z", b"20260201000000Z");
            let name = authority::name("responder");
            let data = authority.data(Some(&name), &good);
            check_signed(&authority.response(&data, Some(&certificate)), false);
        }
        // Certificates: what they wish, and what is asked of a responder.
        _ => {
            let at = input.len() * usize::from(word / 6) / 43;
            let (leaf, issuer) = input.split_at(at);
            for certificate in [leaf, issuer] {
                let (responders, _) = wishes(certificate);
                assert!(responders.len() <= 4);
                for url in responders {
                    assert!(url.len() <= 1_024 && url.is_ascii(), "{url}");
                    assert!(url[..7].eq_ignore_ascii_case("http://"), "{url}");
                }
            }
            for chain in [[leaf, issuer], [&authority.leaf, input]] {
                let Some(pair) = Pair::of(&chain) else {
                    continue;
                };
                let request = pair.request();
                let mut rest = &request[..];
                for _ in 0..5 {
                    let (content, after) = der::expect(rest, SEQUENCE).expect("a sequence");
                    assert!(after.is_empty(), "more than one thing is asked");
                    rest = content;
                }
                let good =
                    authority.single(false, &[0x80, 0], b"20260101000000Z", b"20260201000000Z");
                let response = authority.response(&authority.data(None, &good), None);
                if let Ok(taken) = pair.check(&response, NOW) {
                    check_taken(&pair, &response, taken);
                }
            }
        }
    }
});
