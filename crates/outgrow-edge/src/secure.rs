//! Connections that speak TLS: the handshake, then whichever protocol it agreed on.

use std::sync::Arc;

use outgrow_net::Stream;
use outgrow_tls::{ACME_TLS, ServerTls};

use crate::connection;
use crate::identity::Peer;
use crate::plan::ListenerPlan;
use crate::shown::Shown;
use crate::worker::Worker;

/// Serves a connection from its handshake on. A handshake that fails or takes longer than a head
/// may ends the connection; it is counted by its reason.
pub(crate) async fn serve(
    worker: Arc<Worker>,
    listener: Arc<ListenerPlan>,
    tls: Arc<ServerTls>,
    stream: Stream,
    mut peer: Peer,
) {
    let handshake = tokio::time::timeout(listener.timeouts.head, tls.accept(stream));
    let stream = match handshake.await {
        Ok(Ok(stream)) => stream,
        Ok(Err(fault)) => {
            worker.cells().count_fault(fault.cause);
            return;
        }
        Err(_) => {
            worker.cells().count_fault(outgrow_core::Cause::HeadTimeout);
            return;
        }
    };
    if stream.alpn() == Some(ACME_TLS) {
        // The handshake was all that the authority wanted (RFC 8737 section 3).
        return;
    }
    if let Some(certificate) = stream.client_certificate() {
        let shown = Shown::new(certificate, &listener.client_facts);
        peer.shown = Some(Arc::new(shown));
    }
    if stream.alpn() == Some(b"h2") {
        Box::pin(crate::http2::serve(
            worker,
            listener,
            stream,
            Vec::new(),
            peer,
        ))
        .await;
    } else {
        Box::pin(connection::serve(worker, listener, stream, peer, ())).await;
    }
}
