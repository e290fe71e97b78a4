//! Bodies of requests that are decompressed. Nothing panics, there is an end to it, how a body is cut into
//! pieces makes no difference, and what gzip and zlib make of it is what another reader of theirs makes.
#![no_main]

use std::io::Read;

use libfuzzer_sys::fuzz_target;
use outgrow_edge::inspect::decompressed;
use outgrow_edge::settings::RequestCoding;

/// Longer bodies are not cut into single bytes.
const SHORT_BYTES: usize = 512;
/// What a body may become.
const MOST_BYTES: u64 = 1 << 20;

fuzz_target!(|input: &[u8]| {
    let [kind, body @ ..] = input else {
        return;
    };
    let coding = RequestCoding::ALL[usize::from(kind & 3)];
    let window = [64 << 10, 1 << 20, 8 << 20, 16 << 20][usize::from(kind >> 2 & 3)];
    let (plain, ended) = decompressed(coding, body, usize::MAX, window);
    assert!(ended.is_err() || plain.len() as u64 <= MOST_BYTES);
    let short = if body.len() <= SHORT_BYTES { 1 } else { 333 };
    for piece in [short, 7 + usize::from(*kind)] {
        let (cut, cut_ended) = decompressed(coding, body, piece, window);
        assert_eq!(cut_ended.is_ok(), ended.is_ok(), "{cut_ended:?} {ended:?}");
        if ended.is_ok() {
            assert_eq!(cut, plain);
        } else {
            assert!(cut.starts_with(&plain) || plain.starts_with(&cut));
        }
    }
    if ended.is_err() || body.is_empty() {
        return;
    }
    let mut other = Vec::new();
    let read = match coding {
        RequestCoding::Gzip => flate2::read::MultiGzDecoder::new(body).read_to_end(&mut other),
        RequestCoding::Deflate => flate2::read::ZlibDecoder::new(body).read_to_end(&mut other),
        RequestCoding::Zstd | RequestCoding::Br => return,
    };
    if read.is_ok() {
        assert_eq!(other, plain);
    }
});
