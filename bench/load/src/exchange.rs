//! The exchanges that are measured: bytes of the request, bytes of the response, what must come back.
//!
//! Deliberately not here: how many connections, TLS, closing: those belong to a scenario, which is
//! the caller's word.

use clap::ValueEnum;
use memchr::memmem;

/// How a request says that no other will follow.
const CLOSE: &str = "Connection: close\r\n";

/// Where a request says so, if it does.
pub(crate) fn asks_to_close(request: &[u8]) -> Option<usize> {
    memmem::find(request, CLOSE.as_bytes())
}

/// One request and its response, fixed to the byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Exchange {
    /// GET of 1,024 bytes.
    Get1k,
    /// GET of 102,400 bytes.
    Get100k,
    /// GET of 1,048,576 bytes.
    Get1m,
    /// POST of 10,240 bytes with a small response.
    Post10k,
    /// GET of 10,240 bytes that come as ten chunks in one segment.
    Chunked10k,
}

impl Exchange {
    /// All of them, in the order of the backend's table.
    pub(crate) const ALL: [Self; 5] = [
        Self::Get1k,
        Self::Get100k,
        Self::Get1m,
        Self::Post10k,
        Self::Chunked10k,
    ];

    /// The request's path, by which the backend knows what to send.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Get1k => "/get-1k",
            Self::Get100k => "/get-100k",
            Self::Get1m => "/get-1m",
            Self::Post10k => "/post-10k",
            Self::Chunked10k => "/chunked-10k",
        }
    }

    /// Bytes of the response's body after its framing is taken off.
    pub(crate) fn response_body_bytes(self) -> usize {
        match self {
            Self::Get1k => 1 << 10,
            Self::Get100k => 100 << 10,
            Self::Get1m => 1 << 20,
            Self::Post10k => 2,
            Self::Chunked10k => 10 << 10,
        }
    }

    /// Bytes of the request's body.
    fn request_body_bytes(self) -> usize {
        if self == Self::Post10k { 10 << 10 } else { 0 }
    }

    /// The whole request as the generator sends it.
    pub(crate) fn request(self, close: bool) -> Vec<u8> {
        let body_bytes = self.request_body_bytes();
        let method = if body_bytes > 0 { "POST" } else { "GET" };
        let mut request = format!(
            "{method} {} HTTP/1.1\r\nHost: bench.example\r\nUser-Agent: bench-load\r\nAccept: */*\r\n",
            self.path()
        );
        if body_bytes > 0 {
            request += "Content-Type: text/plain\r\nContent-Length: ";
            request += &body_bytes.to_string();
            request += "\r\n";
        }
        if close {
            request += CLOSE;
        }
        request += "\r\n";
        let mut bytes = request.into_bytes();
        bytes.resize(bytes.len() + body_bytes, b'q');
        bytes
    }

    /// The whole response as the backend sends it.
    pub(crate) fn response(self) -> Vec<u8> {
        const CHUNK_BYTES: usize = 1 << 10;
        let body_bytes = self.response_body_bytes();
        let mut bytes = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n".to_vec();
        if self == Self::Chunked10k {
            bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            for _ in 0..body_bytes / CHUNK_BYTES {
                bytes.extend_from_slice(format!("{CHUNK_BYTES:x}\r\n").as_bytes());
                bytes.resize(bytes.len() + CHUNK_BYTES, b'x');
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
        } else {
            bytes.extend_from_slice(format!("Content-Length: {body_bytes}\r\n\r\n").as_bytes());
            bytes.resize(bytes.len() + body_bytes, b'x');
        }
        bytes
    }
}
