//! Holds a WebSocket open, sends, expects the echo, counts breaks by how they
//! came about, and opens another after a break.

use std::{io, sync::Arc, time::Duration};

use futures_util::{SinkExt, StreamExt};
use tokio::{net::TcpStream, sync::watch, time};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{self, Message, error::ProtocolError, protocol::frame::coding::CloseCode},
};

use super::{Floor, tally::WebSocketCounts, told};

/// Pause before another is opened after a break.
const REOPEN_PAUSE: Duration = Duration::from_millis(100);

/// How long the server may take to answer our close.
const CLOSE_TIME: Duration = Duration::from_secs(2);

type Socket = WebSocketStream<TcpStream>;

/// How a WebSocket broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Break {
    Closed,
    Told,
    Reset,
    Ended,
    Silent,
    Wrong,
}

impl Break {
    fn count(self, counts: &mut WebSocketCounts) -> &'static str {
        let (count, what) = match self {
            Self::Closed => (&mut counts.closed, "closed by the server"),
            Self::Told => {
                counts.told += 1;
                (&mut counts.closed, "closed by the server")
            }
            Self::Reset => (&mut counts.reset, "reset"),
            Self::Ended => (&mut counts.ended, "ended without a close frame"),
            Self::Silent => (&mut counts.silent, "no echo in time"),
            Self::Wrong => (&mut counts.wrong, "wrong message"),
        };
        *count += 1;
        what
    }
}

/// Holds WebSockets, one after the other, until told to stop.
pub(super) async fn run(floor: Arc<Floor>, place: usize, mut stopped: watch::Receiver<bool>) {
    loop {
        let opened = tokio::select! {
            () = told(&mut stopped) => return,
            opened = time::timeout(floor.plan.time_limit, open(&floor)) => opened,
        };
        let problem = match opened {
            Ok(Ok(socket)) => {
                hold(&floor, place, socket, &mut stopped).await;
                None
            }
            Ok(Err(problem)) => Some(problem),
            Err(_) => Some("opening took too long".into()),
        };
        if let Some(problem) = problem {
            let at = floor.elapsed();
            let mut tally = floor.tally();
            tally.totals.web_sockets.refused += 1;
            tally.example(at, "web socket", "could not be opened", &problem);
        }
        tokio::select! {
            () = told(&mut stopped) => return,
            () = time::sleep(REOPEN_PAUSE) => {}
        }
    }
}

async fn open(floor: &Floor) -> Result<Socket, String> {
    let stream = TcpStream::connect(floor.plan.address).await;
    let stream = stream.map_err(|error| error.to_string())?;
    stream
        .set_nodelay(true)
        .map_err(|error| error.to_string())?;
    let (socket, _response) = client_async(format!("ws://{}/ws", floor.plan.host), stream)
        .await
        .map_err(|error| error.to_string())?;
    Ok(socket)
}

async fn hold(
    floor: &Floor,
    place: usize,
    mut socket: Socket,
    stopped: &mut watch::Receiver<bool>,
) {
    {
        let mut tally = floor.tally();
        tally.totals.web_sockets.opened += 1;
        tally.totals.web_sockets.open += 1;
    }
    let mut round = 0_u64;
    let broken = loop {
        let text = format!("shopper {place} says {round}");
        round += 1;
        if let Err(broken) = echo(floor, &mut socket, text).await {
            break Some(broken);
        }
        tokio::select! {
            () = told(stopped) => break None,
            broken = listen(floor, &mut socket) => break Some(broken),
            () = time::sleep(floor.plan.web_socket_pause) => {}
        }
    };
    let at = floor.elapsed();
    {
        let mut tally = floor.tally();
        tally.totals.web_sockets.open -= 1;
        if let Some((how, detail)) = &broken {
            let what = how.count(&mut tally.totals.web_sockets);
            tally.example(at, "web socket", what, detail);
        }
    }
    if broken.is_none() {
        let goodbye = async {
            if socket.close(None).await.is_ok() {
                while let Some(Ok(_)) = socket.next().await {}
            }
        };
        // A server that does not answer a close is left alone.
        let _slow = time::timeout(CLOSE_TIME, goodbye).await;
    }
}

/// Sends a message and waits until it comes back.
async fn echo(floor: &Floor, socket: &mut Socket, text: String) -> Result<(), (Break, String)> {
    let conversation = async {
        let sent = socket.send(Message::text(text.as_str())).await;
        sent.map_err(|error| break_of(&error))?;
        loop {
            match next(floor, socket).await? {
                Some(came) if came == text => return Ok(()),
                Some(came) => return Err((Break::Wrong, came.chars().take(100).collect())),
                None => {}
            }
        }
    };
    let silent = || Err((Break::Silent, format!("to {text:?}")));
    let spoken = time::timeout(floor.plan.time_limit, conversation).await;
    spoken.unwrap_or_else(|_| silent())?;
    floor.tally().totals.web_sockets.echoes += 1;
    Ok(())
}

/// Receives while nothing is expected; ends only with a break.
async fn listen(floor: &Floor, socket: &mut Socket) -> (Break, String) {
    loop {
        match next(floor, socket).await {
            Ok(None) => {}
            Ok(Some(came)) => return (Break::Wrong, came.chars().take(100).collect()),
            Err(broken) => return broken,
        }
    }
}

/// The next message that is not the shop's own.
async fn next(floor: &Floor, socket: &mut Socket) -> Result<Option<String>, (Break, String)> {
    match socket.next().await {
        None => Err((Break::Ended, String::new())),
        Some(Err(error)) => Err(break_of(&error)),
        Some(Ok(Message::Close(frame))) => {
            let how = match &frame {
                Some(frame) if frame.code == CloseCode::Restart => Break::Told,
                _ => Break::Closed,
            };
            let detail = frame.map(|frame| format!("{} {}", frame.code, frame.reason));
            Err((how, detail.unwrap_or_default()))
        }
        Some(Ok(Message::Text(text))) if text.starts_with("tick ") => {
            floor.tally().totals.web_sockets.ticks += 1;
            Ok(None)
        }
        Some(Ok(Message::Text(text))) => Ok(Some(text.to_string())),
        Some(Ok(Message::Binary(bytes))) => {
            Err((Break::Wrong, format!("{} binary bytes", bytes.len())))
        }
        Some(Ok(_)) => Ok(None),
    }
}

fn break_of(error: &tungstenite::Error) -> (Break, String) {
    use tungstenite::Error;
    let how = match error {
        Error::ConnectionClosed | Error::AlreadyClosed => Break::Closed,
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Break::Ended,
        Error::Io(error) => match error.kind() {
            io::ErrorKind::UnexpectedEof => Break::Ended,
            _ => Break::Reset,
        },
        _ => Break::Wrong,
    };
    (how, error.to_string())
}
