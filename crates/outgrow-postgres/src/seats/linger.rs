//! Closing a connection whose seat somebody else is to have: the server counts it until its process
//! has ended, so the seat is free only then.

use std::future::poll_fn;
use std::time::Duration;

use outgrow_net::Transport;
use tokio::runtime::Handle;

use crate::server::{GOODBYE, Server};

/// How long a server may take to end a connection that it was told goodbye on.
const LIMIT: Duration = Duration::from_secs(1);

/// Closes a connection; its seat is free when the server has ended it, where seats are limited.
pub(crate) fn close(mut server: Box<Server>) {
    let waits = server.seat.as_ref().is_some_and(|seat| seat.is_limited());
    if !waits || !server.is_at_rest() {
        return;
    }
    // Without a runtime the process is ending.
    let Ok(runtime) = Handle::try_current() else {
        return;
    };
    runtime.spawn(async move {
        server.socket.say_last(GOODBYE);
        let end = async {
            let mut buffer = [0; 512];
            while let Ok(1..) = poll_fn(|cx| server.socket.poll_read(cx, &mut buffer)).await {}
        };
        let _ = tokio::time::timeout(LIMIT, end).await;
    });
}
