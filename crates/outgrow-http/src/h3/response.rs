//! Response heads and trailers on their way out.

use outgrow_message::{Fields, Known, ResponseHead};

use super::{frame, qpack};
use crate::h1::chunk::is_forbidden_trailer;

/// Appends the frame of a response's head, whose length, if it is told at all, is `length`. The status
/// need not be the head's.
pub(super) fn put_head(status: u16, head: &ResponseHead, length: Option<u64>, out: &mut Vec<u8>) {
    let mut section = Vec::with_capacity(512);
    qpack::begin(&mut section);
    qpack::put_status(status, &mut section);
    for (known, name, value) in head.fields.iter() {
        // Those of the connection are gone already; to send one would make the response malformed.
        if !known.is_hop_by_hop() && known != Known::ContentLength {
            qpack::put_field(name, value, &mut section);
        }
    }
    if let Some(length) = length {
        let mut text = itoa::Buffer::new();
        let text = text.format(length);
        qpack::put_field(b"content-length", text.as_bytes(), &mut section);
    }
    frame::put(frame::HEADERS, &section, out);
}

/// Appends the frame of the trailer section; none when there is nothing to say.
pub(super) fn put_trailers(fields: &Fields, out: &mut Vec<u8>) {
    let mut section = Vec::new();
    qpack::begin(&mut section);
    let empty = section.len();
    for (known, name, value) in fields.iter() {
        if !is_forbidden_trailer(known, name) {
            qpack::put_field(name, value, &mut section);
        }
    }
    if section.len() > empty {
        frame::put(frame::HEADERS, &section, out);
    }
}
