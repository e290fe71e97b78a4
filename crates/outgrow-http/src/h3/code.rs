//! Error codes (RFC 9114 section 8.1, RFC 9204 section 6), as they stand in frames of QUIC.

use quinn::VarInt;

/// An error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub(super) u32);

impl Code {
    /// Nothing is wrong.
    pub const NO_ERROR: Self = Self(0x100);
    /// It is ours.
    pub(super) const INTERNAL: Self = Self(0x102);
    /// A stream that must not be.
    pub(super) const STREAM_CREATION: Self = Self(0x103);
    /// A stream ended that the connection needs.
    pub(super) const CLOSED_CRITICAL_STREAM: Self = Self(0x104);
    /// A frame where it has no place.
    pub(super) const FRAME_UNEXPECTED: Self = Self(0x105);
    /// A frame that is malformed.
    pub(super) const FRAME: Self = Self(0x106);
    /// The peer makes us work for nothing.
    pub(super) const EXCESSIVE_LOAD: Self = Self(0x107);
    /// An identifier that cannot be.
    pub(super) const ID: Self = Self(0x108);
    /// A setting that cannot be.
    pub(super) const SETTINGS: Self = Self(0x109);
    /// The control stream began with something else.
    pub(super) const MISSING_SETTINGS: Self = Self(0x10a);
    /// A request that was not looked at: it may be sent again.
    pub(super) const REQUEST_REJECTED: Self = Self(0x10b);
    /// A request that is malformed.
    pub(super) const MESSAGE: Self = Self(0x10e);
    /// A field section that cannot be read.
    pub(super) const DECOMPRESSION_FAILED: Self = Self(0x200);
    /// An instruction on the encoder stream that cannot be.
    pub(super) const ENCODER_STREAM: Self = Self(0x201);
    /// An instruction on the decoder stream that cannot be.
    pub(super) const DECODER_STREAM: Self = Self(0x202);

    pub(super) fn number(self) -> VarInt {
        VarInt::from_u32(self.0)
    }
}
