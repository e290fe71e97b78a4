//! A client that says what it is told to, right or wrong.

use std::sync::Arc;
use std::time::Duration;

use quinn::{
    Connection, ConnectionError, ReadError, RecvStream, SendStream, TransportConfig, VarInt,
};

use super::server::Server;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What stands at the beginning of a client's control stream: its type, and no settings.
pub(crate) const CONTROL: &[u8] = &[0x00, 0x04, 0x00];

/// An integer as QUIC has it.
pub(crate) fn varint(value: u64) -> Vec<u8> {
    match value {
        0..=0x3f => vec![value as u8],
        0x40..=0x3fff => (value as u16 | 0x4000).to_be_bytes().to_vec(),
        0x4000..=0x3fff_ffff => (value as u32 | 0x8000_0000).to_be_bytes().to_vec(),
        _ => (value | 0xc000_0000_0000_0000).to_be_bytes().to_vec(),
    }
}

/// A frame.
pub(crate) fn frame(kind: u64, payload: &[u8]) -> Vec<u8> {
    [&varint(kind), &varint(payload.len() as u64), payload].concat()
}

/// The head of a frame that says so many bytes will follow.
pub(crate) fn frame_head(kind: u64, length: u64) -> Vec<u8> {
    [varint(kind), varint(length)].concat()
}

pub(crate) fn data(payload: &[u8]) -> Vec<u8> {
    frame(0, payload)
}

/// A field section, in literals.
pub(crate) fn section(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut section = vec![0, 0];
    let prefixed = |length: usize, bits: u32, first: u8, out: &mut Vec<u8>| {
        let most = (1_usize << bits) - 1;
        if length < most {
            return out.push(first | length as u8);
        }
        out.push(first | most as u8);
        let mut rest = length - most;
        while rest >= 128 {
            out.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        out.push(rest as u8);
    };
    for (name, value) in fields {
        prefixed(name.len(), 3, 0x20, &mut section);
        section.extend_from_slice(name.as_bytes());
        prefixed(value.len(), 7, 0, &mut section);
        section.extend_from_slice(value.as_bytes());
    }
    section
}

/// A HEADERS frame.
pub(crate) fn headers(fields: &[(&str, &str)]) -> Vec<u8> {
    frame(1, &section(fields))
}

/// The head of a request, with more fields.
pub(crate) fn request(method: &str, path: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let usual = [
        (":method", method),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", path),
    ];
    headers(&[&usual, fields].concat())
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// An answer of this status and body.
    Answer(u16, String),
    /// The stream was reset.
    Reset(u64),
    /// The connection was closed.
    Closed(u64),
}

pub(crate) async fn connect(server: &Server) -> Connection {
    let connecting = server.client.connect(server.address, "localhost");
    let connected = tokio::time::timeout(PATIENCE, connecting.expect("begun")).await;
    connected.expect("in time").expect("connected")
}

/// Has the client's connections made otherwise from now on.
pub(crate) fn configure(server: &mut Server, change: impl FnOnce(&mut TransportConfig)) {
    let mut transport = TransportConfig::default();
    change(&mut transport);
    let mut config = server.client_config.clone();
    config.transport_config(Arc::new(transport));
    server.client.set_default_client_config(config);
}

/// Opens a stream in one direction and says this on it; to be kept open.
pub(crate) async fn one_way(connection: &Connection, bytes: &[u8]) -> SendStream {
    let mut stream = connection.open_uni().await.expect("opened");
    // It may be closed under us.
    let _ = stream.write_all(bytes).await;
    stream
}

/// Says this on a stream of its own, and ends it where `ends`.
pub(crate) async fn ask(connection: &Connection, bytes: &[u8], ends: bool) -> Outcome {
    let Ok((mut send, receive)) = connection.open_bi().await else {
        return closed(connection).await;
    };
    let _ = send.write_all(bytes).await;
    if ends {
        let _ = send.finish();
    }
    let outcome = tokio::time::timeout(PATIENCE, outcome(connection, receive)).await;
    drop(send);
    outcome.expect("in time")
}

pub(crate) async fn outcome(connection: &Connection, mut receive: RecvStream) -> Outcome {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match receive.read(&mut buffer).await {
            Ok(Some(count)) => all.extend_from_slice(&buffer[..count]),
            Ok(None) => return parsed(&all),
            Err(ReadError::Reset(code)) => return Outcome::Reset(code.into_inner()),
            Err(_) => return closed(connection).await,
        }
    }
}

pub(crate) async fn closed(connection: &Connection) -> Outcome {
    let ended = tokio::time::timeout(PATIENCE, connection.closed()).await;
    match ended.expect("in time") {
        ConnectionError::ApplicationClosed(close) => Outcome::Closed(close.error_code.into_inner()),
        other => panic!("ended otherwise: {other}"),
    }
}

/// Status and body of an answer: its head begins with the status, from the static table or as text.
fn parsed(mut bytes: &[u8]) -> Outcome {
    let (mut status, mut body) = (0, Vec::new());
    while !bytes.is_empty() {
        let kind = bytes[0];
        let (length, head) = match bytes[1] >> 6 {
            0 => (usize::from(bytes[1]), 2),
            1 => (usize::from(bytes[1] & 0x3f) << 8 | usize::from(bytes[2]), 3),
            _ => panic!("a long frame"),
        };
        let payload = &bytes[head..head + length];
        match kind {
            0 => body.extend_from_slice(payload),
            1 if status == 0 => {
                status = match payload[2] {
                    0xd9 => 200,
                    0xdc => 503,
                    0xff => match payload[3] {
                        4 => 400,
                        8 => 500,
                        other => panic!("status by {other}"),
                    },
                    0x5f => String::from_utf8_lossy(&payload[5..8])
                        .parse()
                        .expect("digits"),
                    other => panic!("status by {other:#x}"),
                }
            }
            _ => {}
        }
        bytes = &bytes[head + length..];
    }
    Outcome::Answer(status, String::from_utf8_lossy(&body).into_owned())
}

/// Ends a stream of ours early.
pub(crate) fn cancel(stream: &mut SendStream) {
    let _ = stream.reset(VarInt::from_u32(0x10c));
}
