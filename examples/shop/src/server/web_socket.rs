//! `GET /ws`: a WebSocket that echoes each message and sends `tick N` in
//! between. When the shop stops it closes with 1001, going away.

use std::{io, time::Duration};

use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::{body::Incoming, upgrade};
use hyper_util::rt::TokioIo;
use tokio::time::{self, MissedTickBehavior};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

use super::{
    drain::Watcher,
    reply::{self, Body},
};

/// Largest message that is taken and echoed.
const LARGEST_MESSAGE: usize = 1024 * 1024;

/// How long the peer may take to answer our close.
const CLOSE_TIME: Duration = Duration::from_secs(2);

/// Answers the upgrade and starts the task that serves the WebSocket; `watcher`
/// keeps the shop from ending before it.
pub(super) fn answer(
    request: &mut Request<Incoming>,
    watcher: Watcher,
    tick: Duration,
) -> Response<Body> {
    let Some(accept) = accept_key(request.headers()) else {
        let mut response = reply::refusal(
            StatusCode::UPGRADE_REQUIRED,
            "this is a WebSocket: ask with Connection: Upgrade, Upgrade: websocket, \
             Sec-WebSocket-Version: 13 and a Sec-WebSocket-Key",
        );
        let headers = response.headers_mut();
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        return response;
    };
    let upgraded = upgrade::on(request);
    tokio::spawn(async move {
        // An error here is a client that left: there is nobody left to tell.
        if let Ok(upgraded) = upgraded.await {
            let config = WebSocketConfig::default().max_message_size(Some(LARGEST_MESSAGE));
            let io = TokioIo::new(upgraded);
            let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
            let _left = converse(socket, watcher, tick).await;
        }
    });
    let mut response = reply::text(StatusCode::SWITCHING_PROTOCOLS, "");
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    response
}

fn accept_key(headers: &HeaderMap) -> Option<HeaderValue> {
    let has = |name, word: &str| {
        headers.get_all(name).iter().any(|value| {
            let value = value.to_str().unwrap_or_default();
            value
                .split(',')
                .any(|part| part.trim().eq_ignore_ascii_case(word))
        })
    };
    let asked = has(header::CONNECTION, "upgrade")
        && has(header::UPGRADE, "websocket")
        && has(header::SEC_WEBSOCKET_VERSION, "13");
    let key = headers.get(header::SEC_WEBSOCKET_KEY)?;
    if !asked {
        return None;
    }
    HeaderValue::from_str(&derive_accept_key(key.as_bytes())).ok()
}

type Socket = WebSocketStream<TokioIo<upgrade::Upgraded>>;
type SocketError = tokio_tungstenite::tungstenite::Error;

async fn converse(
    mut socket: Socket,
    mut watcher: Watcher,
    tick: Duration,
) -> Result<(), SocketError> {
    let mut ticks = time::interval(tick);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut count = 0_u64;
    loop {
        tokio::select! {
            message = socket.next() => match message {
                None => return Ok(()),
                Some(message) => match message? {
                    message @ (Message::Text(_) | Message::Binary(_)) => socket.send(message).await?,
                    // Pings and closes are answered inside; flushing sends the answer.
                    _ => socket.flush().await?,
                },
            },
            _ = ticks.tick() => {
                count += 1;
                socket.send(Message::text(format!("tick {count}"))).await?;
            }
            () = watcher.stopping() => break,
        }
    }
    let going = CloseFrame {
        code: CloseCode::Away,
        reason: "the shop is closing".into(),
    };
    socket.close(Some(going)).await?;
    let rest = async { while let Some(Ok(_)) = socket.next().await {} };
    time::timeout(CLOSE_TIME, rest)
        .await
        .map_err(|_| SocketError::Io(io::ErrorKind::TimedOut.into()))
}
