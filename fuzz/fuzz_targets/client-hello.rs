//! The ClientHello: nothing panics, there is an end to it, what was said of a part stays true of more,
//! and how it is cut into records makes no difference.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outgrow_stream::hello::{ClientHello, HelloError, LONGEST};

fuzz_target!(|input: &[u8]| {
    // As it comes, in packets of any size.
    let mut before = Ok(None);
    let mut since = 0;
    for end in 0..=input.len().min(LONGEST) {
        let now = ClientHello::read(&input[..end]);
        if before == Ok(None) {
            before = now;
        } else {
            // What is behind a whole one is not looked at.
            assert_eq!(now, before, "more bytes change what was said");
            since += 1;
            if since > 4 {
                break;
            }
        }
    }
    let mut long = input.to_vec();
    long.resize(LONGEST.max(input.len()), 0);
    assert_ne!(ClientHello::read(&long), Ok(None), "there is no end to it");

    // As a message, in records of any size.
    let Some((&step, message)) = input.split_first() else {
        return;
    };
    let message = &message[..message.len().min(2_000)];
    let whole = ClientHello::read(&records(message, 16_384));
    let pieces = records(message, 1 + usize::from(step));
    let cut = ClientHello::read(&pieces);
    match (whole, cut) {
        (Ok(one), Ok(other)) => assert_eq!(one, other),
        // More records need more bytes, and bytes behind it may be in another record.
        (_, Err(HelloError::TooLong)) | (Err(HelloError::Malformed(_)), _) => {}
        (Err(one), Err(other)) => assert_eq!(one, other),
        (one, other) => panic!("{one:?} and {other:?}"),
    }
});

fn records(message: &[u8], step: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in message.chunks(step) {
        bytes.extend([22, 3, 1]);
        bytes.extend((piece.len() as u16).to_be_bytes());
        bytes.extend(piece);
    }
    bytes
}
