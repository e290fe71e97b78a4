//! The body contract: a source gives borrowed slices, its reader decides the pace, and the end is
//! told honestly.

use std::task::{Context, Poll};

use outgrow_core::Fault;

use crate::fields::Fields;

/// What a head says about the body that follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyLength {
    /// There is none.
    #[default]
    Empty,
    /// Exactly so many bytes (`Content-Length`, may be 0).
    Known(u64),
    /// Not known before its end (chunked, or an HTTP/2 stream without `content-length`).
    Unknown,
}

impl BodyLength {
    /// Whether no byte of body follows.
    pub fn is_empty(self) -> bool {
        matches!(self, Self::Empty | Self::Known(0))
    }
}

/// How a body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyEnd {
    /// All of it was there, by its own framing.
    Complete,
    /// The sender went away, or broke the framing, before the end it had promised. Never to be
    /// cached or forwarded as if whole.
    Truncated,
    /// The reader gave up.
    Aborted,
}

/// Where the bytes of a body come from.
pub trait BodySource {
    /// Waits until there is data or the end. `Ready(Ok(true))`: [`BodySource::data`] is not
    /// empty; `Ready(Ok(false))`: the body ended complete. A fault is a truncation.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Fault>>;

    /// The bytes at hand.
    fn data(&self) -> &[u8];

    /// Marks `count` bytes of [`BodySource::data`] as taken.
    fn consume(&mut self, count: usize);

    /// The trailer section, after the end, if there was one.
    fn trailers(&mut self) -> Option<&mut Fields>;
}
