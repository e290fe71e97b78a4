//! Request heads: nothing panics, what pieces they come in makes no difference, and what is
//! accepted is written anew as a request that is accepted again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outgrow_http::h1::scan::Scan;
use outgrow_http::h1::{Limits, Parsed, encode, request};
use outgrow_message::RequestHead;

fuzz_target!(|input: &[u8]| {
    let Some((&piece, bytes)) = input.split_first() else {
        return;
    };
    let limits = Limits::default();
    let mut head = RequestHead::default();
    let whole = request::parse(bytes, &mut Scan::default(), &limits, &mut head);
    let piece = usize::from(piece).max(1);
    let mut scan = Scan::default();
    let mut again = RequestHead::default();
    let mut here = 0;
    let mut parted = Ok(Parsed::Incomplete);
    while here < bytes.len() && parted == Ok(Parsed::Incomplete) {
        here = (here + piece).min(bytes.len());
        parted = request::parse(&bytes[..here], &mut scan, &limits, &mut again);
    }
    assert_eq!(whole.is_err(), parted.is_err());
    let Ok(Parsed::Complete(_)) = whole else {
        return;
    };
    assert_eq!(whole, parted);
    head.fields.remove_hop_by_hop();
    let mut out = Vec::new();
    encode::request(&head, b"endpoint", None, &mut out);
    let roomy = Limits {
        head_bytes: 64 * 1024,
        fields: 200,
        target_bytes: 32 * 1024,
    };
    let parsed = request::parse(&out, &mut Scan::default(), &roomy, &mut again);
    assert_eq!(parsed, Ok(Parsed::Complete(out.len())));
    assert_eq!(again.path(), head.path());
    assert_eq!(again.length, head.length);
});
