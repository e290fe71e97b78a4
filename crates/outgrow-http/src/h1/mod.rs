//! The HTTP/1.1 core: bytes in, spans and facts out (RFC 9112). No socket, no clock.
//!
//! Strict: whatever two readers could understand differently is refused, never repaired.

pub mod chunk;
pub mod encode;
pub(crate) mod fields;
pub mod framing;
pub(crate) mod refused;
pub mod request;
pub mod response;
pub mod scan;
pub(crate) mod token;

#[cfg(test)]
mod tests;

use outgrow_core::Cause;

/// What bounds a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Start line and field lines together, in bytes. Default 16 KiB, at most 128 KiB.
    pub head_bytes: usize,
    /// Field lines. Default 100.
    pub fields: usize,
    /// Request target, in bytes. Default 8 KiB.
    pub target_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 16 * 1024,
            fields: 100,
            target_bytes: 8 * 1024,
        }
    }
}

/// Why bytes were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reject {
    /// What decides the status.
    pub cause: Cause,
    /// What exactly was wrong, for the record; safe to show.
    pub detail: &'static str,
}

impl Reject {
    pub(crate) const fn new(cause: Cause, detail: &'static str) -> Self {
        Self { cause, detail }
    }

    pub(crate) const fn bad(detail: &'static str) -> Self {
        Self::new(Cause::BadRequest, detail)
    }

    pub(crate) const fn framing(detail: &'static str) -> Self {
        Self::new(Cause::BadFraming, detail)
    }
}

/// How far a parse came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// More bytes are needed.
    Incomplete,
    /// The head is whole and took so many bytes.
    Complete(usize),
}
