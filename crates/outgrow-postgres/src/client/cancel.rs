//! Cancel requests: each finds the client that it is about, in this process or another one, and goes
//! to the server that works for it.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use outgrow_core::settings::Address;
use outgrow_net::{Stream, Transport};
use tokio::time::error::Elapsed;

use crate::cancel::{self, Judgement, Target};
use crate::events::{Level, Topic};
use crate::server::encrypt;
use crate::shared::Shared;
use crate::socket::Socket;
use crate::wire::write;

/// Passes a cancel request on to the server that works for the client.
///
/// # Errors
/// It took too long.
pub(super) async fn cancel(
    shared: &Arc<Shared>,
    process: u32,
    secret: &[u8],
) -> Result<(), Elapsed> {
    let house = Arc::clone(&shared.plan.load().house);
    let work = async {
        let (process, secret) = match cancel::judge(house.peer, process, secret) {
            Judgement::Own(secret) => (process, secret),
            Judgement::Peer(peer, secret) => {
                if let Some(address) = house.peers.get(&peer) {
                    send_cancel(address, process, &secret).await;
                } else {
                    shared.say(Level::Warning, Topic::Other, &"", || {
                        "could not find peer to forward request to".to_owned()
                    });
                }
                return;
            }
            Judgement::Lost => return,
        };
        if !cancel_here(shared, process, &secret).await {
            // It may be a client that the process before this one still has, or the next one has.
            let elsewhere = shared.handover.cancel_elsewhere(process, &secret, None);
            elsewhere.await;
        }
    };
    tokio::time::timeout(house.cancel, work).await
}

/// The same for clients of this process only; whether there is one with this key. The caller limits
/// the time.
pub(crate) async fn cancel_here(shared: &Arc<Shared>, process: u32, secret: &[u8]) -> bool {
    let Some(client) = shared.cancels.find(process, secret) else {
        return false;
    };
    if let Some(target) = client.cancel() {
        let limit = shared.plan.load().house.cancel;
        tell_server(&target, limit).await;
    }
    true
}

/// Asks a server to cancel what it does, and waits until it has taken note. The caller limits the time;
/// `limit` is about that.
pub(super) async fn tell_server(target: &Target, limit: Duration) -> Option<()> {
    let opening = outgrow_upstream::Opening {
        // The limit around it all is the one that counts.
        connect: limit * 2,
        unacknowledged: Duration::ZERO,
        silence: Duration::ZERO,
    };
    // Another machine of the same name knows nothing of the session.
    let stream = outgrow_upstream::dial_again(&target.endpoint, target.address, opening);
    let stream = stream.await.ok()?;
    let encryption = target.encryption.as_ref();
    let socket = encrypt::encrypt_again(stream, &target.endpoint, encryption);
    let socket = socket.await.ok()?;
    say_cancel(socket, target.process, &target.secret).await
}

/// Passes a cancel request on to another process like this one.
async fn send_cancel(address: &Address, process: u32, secret: &[u8]) -> Option<()> {
    let stream = match address {
        Address::Tcp { host, port } => {
            let stream = tokio::net::TcpStream::connect((host.as_str(), *port)).await;
            Stream::Tcp(stream.ok()?)
        }
        Address::Unix(path) => Stream::Unix(tokio::net::UnixStream::connect(path).await.ok()?),
    };
    say_cancel(Socket::Plain(stream), process, secret).await
}

/// Says a cancel request, and waits until it has been dealt with: then the other side closes.
async fn say_cancel(mut socket: Socket, process: u32, secret: &[u8]) -> Option<()> {
    let mut out = Vec::new();
    write::cancel(&mut out, process, secret);
    socket.write_all(&out).await.ok()?;
    let mut byte = [0];
    poll_fn(|cx| socket.poll_read(cx, &mut byte)).await.ok()?;
    Some(())
}
