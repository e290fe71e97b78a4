//! QPACK without a dynamic table (RFC 9204): field sections that need no other stream. We say that
//! our table has no room, which is the default, so clients must not refer to it; and we put nothing
//! into theirs.

mod decode;
mod encode;
mod huffman;
mod integer;
mod static_table;

pub(super) use decode::{Broken, decode};
pub(super) use encode::{begin, put_field, put_status};
