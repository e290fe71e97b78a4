//! Connections to endpoints that speak HTTP/2: one is found, or opened by a task that all who need
//! one wait for.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use outgrow_core::settings::Address;
use outgrow_core::{Cause, Fault, Phase, Sent, Ticks};
use outgrow_http::h2::{self, ClientStream};
use outgrow_message::{Blocks, RequestHead};
use outgrow_upstream::settings::ServiceTimeouts;
use outgrow_upstream::{Endpoint, Opened, Opening, Seal, Session, Speaks};
use tokio::sync::watch;

use crate::worker::Worker;

/// A session as the upstream room keeps it.
#[derive(Debug)]
pub(crate) struct Http2 {
    session: h2::Session,
    is_encrypted: bool,
}

impl Session for Http2 {
    fn room(&self) -> usize {
        self.session.room()
    }

    fn in_use(&self) -> usize {
        self.session.open_streams()
    }

    fn is_over(&self) -> bool {
        self.session.is_over()
    }

    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

impl Http2 {
    /// Begins an exchange.
    pub(crate) fn begin(
        &self,
        request: &RequestHead,
        host_if_none: &[u8],
        blocks: &Arc<Blocks>,
    ) -> Result<ClientStream, Fault> {
        self.session
            .begin(request, host_if_none, self.is_encrypted, blocks)
    }

    /// Bytes that came, ever: by this it is seen whether anybody is there.
    pub(crate) fn received(&self) -> u64 {
        self.session.received()
    }
}

/// How sessions are made.
pub(crate) struct Making<'a> {
    pub(crate) worker: &'a Worker,
    pub(crate) endpoint: &'a Arc<Endpoint>,
    /// The whole time of the service for it, since others wait for it too.
    pub(crate) opening: Opening,
    pub(crate) seal: Option<&'a Arc<dyn Seal>>,
}

impl Making<'_> {
    /// A session on which a request can begin, and whether it was there already; within `time`. Where
    /// others take all the room of a new one, another one is opened.
    pub(crate) async fn session(&self, time: Duration) -> Result<(Arc<Http2>, bool), Fault> {
        if let Some(found) = self.endpoint.session(self.worker.index).and_then(http2) {
            return Ok((found, true));
        }
        let made = tokio::time::timeout(time, self.open()).await;
        let made = made.unwrap_or_else(|_| Err(no_session(Cause::ConnectTimeout)))?;
        Ok((made, false))
    }

    async fn open(&self) -> Result<Arc<Http2>, Fault> {
        let worker = self.worker.index;
        let seal = self.seal.map_or(0, |seal| seal.number());
        loop {
            let opening = self.endpoint.opening(worker, seal, || self.begin());
            let opened = http2(outgrow_upstream::opened(opening).await?);
            // Where many waited for it others may have taken all its room.
            let usable = |one: &Arc<Http2>| one.room() > 0 && !one.is_over();
            let found = opened.filter(usable).or_else(|| {
                let found = self.endpoint.session(worker);
                found.and_then(http2)
            });
            if let Some(found) = found {
                return Ok(found);
            }
        }
    }

    /// Opens a session by a task of its own, so that it is there for others when this request ends.
    fn begin(&self) -> Opened {
        let (tell, opened) = watch::channel(None);
        let (endpoint, opening) = (Arc::clone(self.endpoint), self.opening);
        let seal = self.seal.cloned();
        let (worker, now) = (self.worker.index, self.worker.now());
        let worker = (worker, Arc::clone(&self.worker.blocks));
        tokio::spawn(async move {
            let result = open(worker, &endpoint, opening, seal.as_deref(), now).await;
            tell.send_replace(Some(result));
        });
        opened
    }
}

async fn open(
    (worker, blocks): (usize, Arc<Blocks>),
    endpoint: &Arc<Endpoint>,
    opening: Opening,
    seal: Option<&dyn Seal>,
    now: Ticks,
) -> Result<Arc<dyn Session>, Fault> {
    let opened = async {
        let how = (seal, Speaks::Http2);
        let connection = outgrow_upstream::connect(endpoint, opening, how, now).await?;
        let origin = connection.origin();
        let opened = h2::open(connection.link, blocks, h2::SessionSettings::default()).await?;
        Ok((opened, origin))
    };
    let opened = tokio::time::timeout(opening.connect, opened).await;
    let ((session, driver), origin) =
        opened.unwrap_or_else(|_| Err(no_session(Cause::ConnectTimeout)))?;
    tokio::spawn(driver);
    let session: Arc<dyn Session> = Arc::new(Http2 {
        session,
        is_encrypted: origin.seal != 0,
    });
    endpoint.add_session(worker, Arc::clone(&session), origin);
    Ok(session)
}

/// All that this tier puts there are of this kind.
fn http2(session: Arc<dyn Session>) -> Option<Arc<Http2>> {
    session.as_any().downcast().ok()
}

fn no_session(cause: Cause) -> Fault {
    Fault::upstream(Phase::Connect, cause, Sent::None)
}

/// How long a connection that is in use all the time may be silent: a server that is slow to read may
/// fill its window, as on a tunnel.
pub(crate) fn silence(timeouts: &ServiceTimeouts) -> Duration {
    match timeouts.unacknowledged.is_zero() {
        true => Duration::ZERO,
        false => timeouts.unacknowledged.max(timeouts.stream_idle),
    }
}

/// The authority of requests that have none. A path is no host; most servers take `localhost` from
/// whoever reaches their socket.
pub(crate) fn host_of(endpoint: &Endpoint) -> &str {
    match endpoint.address() {
        Address::Unix(_) => "localhost",
        Address::Tcp { .. } => endpoint.label(),
    }
}
