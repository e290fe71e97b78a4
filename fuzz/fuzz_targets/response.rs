//! Response heads: nothing panics, what pieces they come in makes no difference, and what is
//! accepted is written anew as a response that is accepted again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outgrow_http::h1::encode::{self, Connection, Framing};
use outgrow_http::h1::scan::Scan;
use outgrow_http::h1::{Limits, Parsed, response};
use outgrow_message::{BodyLength, Method, ResponseHead};

fuzz_target!(|input: &[u8]| {
    let [piece, method, bytes @ ..] = input else {
        return;
    };
    let method = if method % 4 == 0 {
        Method::Head
    } else {
        Method::Get
    };
    let limits = Limits::default();
    let mut head = ResponseHead::default();
    let whole = response::parse(bytes, &mut Scan::default(), &limits, method, &mut head);
    let piece = usize::from(*piece).max(1);
    let mut scan = Scan::default();
    let mut again = ResponseHead::default();
    let mut here = 0;
    let mut parted = Ok(Parsed::Incomplete);
    while here < bytes.len() && parted == Ok(Parsed::Incomplete) {
        here = (here + piece).min(bytes.len());
        parted = response::parse(&bytes[..here], &mut scan, &limits, method, &mut again);
    }
    assert_eq!(whole.is_err(), parted.is_err());
    let Ok(Parsed::Complete(_)) = whole else {
        return;
    };
    assert_eq!(whole, parted);
    let _ = response::keep_alive_timeout(&head.fields);
    head.fields.remove_hop_by_hop();
    let framing = match head.length {
        BodyLength::Empty => Framing::None,
        BodyLength::Known(bytes) => Framing::Length(bytes),
        BodyLength::Unknown => Framing::Chunked,
    };
    let mut out = Vec::new();
    encode::response(&head, framing, Connection::Close, &mut out);
    let roomy = Limits {
        head_bytes: 64 * 1024,
        fields: 200,
        target_bytes: 32 * 1024,
    };
    let parsed = response::parse(&out, &mut Scan::default(), &roomy, method, &mut again);
    assert_eq!(parsed, Ok(Parsed::Complete(out.len())));
    assert_eq!((again.status, again.keep_alive), (head.status, false));
    if !ResponseHead::never_has_body(head.status, method) {
        assert_eq!(again.length, head.length);
    }
});
