//! Our parser against the simple one of the tests, and against httparse.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outgrow_message::Method;

#[path = "../../crates/outgrow-http/tests/hostile/compare.rs"]
mod compare;
#[path = "../../crates/outgrow-http/tests/hostile/simple.rs"]
mod simple;

fuzz_target!(|input: &[u8]| {
    let Some((&kind, bytes)) = input.split_first() else {
        return;
    };
    match kind % 4 {
        0 => compare::compare_request(bytes),
        1 => compare::compare_response(bytes, Method::Get),
        2 => compare::compare_response(bytes, Method::Head),
        _ => compare::compare_chunked(bytes, usize::from(kind / 4)),
    }
});
