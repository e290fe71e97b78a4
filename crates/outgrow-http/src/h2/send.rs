//! A message's body on its way out of a stream, in pieces that the ledger counts.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use ::h2::SendStream;
use outgrow_message::{Blocks, Fields};

use super::piece::{PIECE_BYTES, Piece, Unsent};
use super::response;

/// Why nothing more can be sent.
#[derive(Debug)]
pub(super) enum NotSent {
    /// The stream or its connection has ended: for this reason, where one is known.
    Ended(Option<::h2::Error>),
    /// The ledger gave no buffer.
    Memory,
}

/// Gives some of `data`, which is not empty, to the connection; how much. A connection holds at most
/// `held_bytes` of all streams' pieces, and one piece of each beyond that. The stream ends with the
/// piece that brings the last of the `left` bytes of a known length: no frame of its own is needed for that.
pub(super) fn poll_push(
    stream: &mut SendStream<Piece>,
    (unsent, held_bytes): (&Arc<Unsent>, usize),
    blocks: &Arc<Blocks>,
    (data, left): (&[u8], Option<u64>),
    cx: &mut Context<'_>,
) -> Poll<Result<usize, NotSent>> {
    ready!(unsent.poll_room(cx, held_bytes));
    stream.reserve_capacity(data.len().min(PIECE_BYTES));
    while stream.capacity() == 0 {
        match ready!(stream.poll_capacity(cx)) {
            Some(Ok(_)) => {}
            Some(Err(error)) => return Poll::Ready(Err(NotSent::Ended(Some(error)))),
            None => return Poll::Ready(Err(NotSent::Ended(None))),
        }
    }
    let count = stream.capacity().min(data.len()).min(PIECE_BYTES);
    let Some(piece) = Piece::copy(&data[..count], blocks, unsent) else {
        return Poll::Ready(Err(NotSent::Memory));
    };
    let ends = left == Some(count as u64);
    let sent = stream.send_data(piece, ends).map(|()| count);
    Poll::Ready(sent.map_err(|error| NotSent::Ended(Some(error))))
}

/// Ends the body.
pub(super) fn finish(
    stream: &mut SendStream<Piece>,
    trailers: Option<&Fields>,
) -> Result<(), ::h2::Error> {
    let map = trailers.and_then(response::trailers).unwrap_or_default();
    if map.is_empty() {
        stream.send_data(Piece::empty(), true)
    } else {
        stream.send_trailers(map)
    }
}
