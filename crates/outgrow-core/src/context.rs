//! The context of a request: a fixed-size record that travels with it and from which the access
//! record, the metrics and later the spans are made.

use crate::{Fault, Random, Ticks, WallTime};

/// 128 random bits that name a request; also its trace id (W3C Trace Context). Never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(pub [u8; 16]);

impl RequestId {
    /// A new id. Unique for practical purposes, not secret.
    #[inline]
    pub fn new(random: &mut Random) -> Self {
        let high = random.next_u64().to_be_bytes();
        let low = (random.next_u64() | 1).to_be_bytes();
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&high);
        bytes[8..].copy_from_slice(&low);
        Self(bytes)
    }

    /// Two random numbers for decisions of chance about the request, which can be made again from
    /// its record.
    #[inline]
    pub fn points(self) -> (u64, u64) {
        let both = u128::from_be_bytes(self.0);
        ((both >> 64) as u64, both as u64)
    }

    /// 32 lower-case hexadecimal digits.
    #[inline]
    pub fn hex(self) -> [u8; 32] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 32];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        text
    }
}

/// When each stage of the exchange was reached; [`Ticks::ZERO`] where it was not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stages {
    /// First byte of the request seen.
    pub start: Ticks,
    /// Endpoint chosen and permit held.
    pub admitted: Ticks,
    /// Connection to the endpoint at hand.
    pub connected: Ticks,
    /// Head of the request handed to the kernel.
    pub sent: Ticks,
    /// Head of the response read.
    pub first_byte: Ticks,
    /// Last byte of the response handed to the kernel, or the exchange given up.
    pub end: Ticks,
}

/// The protocol that the client spoke.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
    /// HTTP/2.
    Http2,
    /// HTTP/3.
    Http3,
}

impl Protocol {
    /// As in the access record.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
            Self::Http3 => "HTTP/3",
        }
    }
}

/// The facts of one request.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// Its name.
    pub id: RequestId,
    /// Wall time of its first byte.
    pub wall: WallTime,
    /// Stage times.
    pub stages: Stages,
    /// What the client spoke.
    pub protocol: Protocol,
    /// The final status sent to the client; 0 when none was.
    pub status: u16,
    /// The status of a gRPC call, as it was told to the client.
    pub grpc_status: Option<u8>,
    /// Bytes of the request body taken from the client, without framing.
    pub request_bytes: u64,
    /// Bytes of the response body given to the client, without framing.
    pub response_bytes: u64,
    /// How the request's body was compressed, where we decompressed it; empty: not at all.
    pub request_coding: &'static str,
    /// Bytes of the request's body after it was decompressed; 0 where it was not.
    pub request_plain_bytes: u64,
    /// How the response was compressed by us; empty: not at all.
    pub coding: &'static str,
    /// Bytes of the response body before it was compressed; 0 where it was not.
    pub plain_bytes: u64,
    /// Times that it was sent to another endpoint.
    pub retries: u8,
    /// Whether a pooled connection served it.
    pub reused: bool,
    /// What went wrong, if anything.
    pub fault: Option<Fault>,
}

impl Context {
    /// The context of a request whose first byte was seen at `start`.
    pub fn new(id: RequestId, wall: WallTime, start: Ticks) -> Self {
        Self {
            id,
            wall,
            stages: Stages {
                start,
                ..Stages::default()
            },
            protocol: Protocol::Http11,
            status: 0,
            grpc_status: None,
            request_bytes: 0,
            response_bytes: 0,
            request_coding: "",
            request_plain_bytes: 0,
            coding: "",
            plain_bytes: 0,
            retries: 0,
            reused: false,
            fault: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_as_hex() {
        let id = RequestId([0x01, 0xfe, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xa9]);
        assert_eq!(&id.hex(), b"01fe00000000000000000000000000a9");
        assert_ne!(
            RequestId::new(&mut Random::from_seed(1)),
            RequestId([0; 16])
        );
    }
}
