//! What the first bytes of a connection say: whose it is (a PROXY header), and where it is to go
//! (a ClientHello). What is read of the client's own is kept and passed on as it came.

use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::Poll;

use outgrow_message::ledger::{Block, Need};
use outgrow_net::proxy_header::{self, Demand, ReceiveError};

use super::way::{Side, Way};
use crate::end::End;
use crate::hello::ClientHello;
use crate::plan::Target;

/// The record and the alert with which a TLS server refuses (RFC 8446 section 6).
const ALERT: [u8; 6] = [21, 3, 3, 0, 2, 2];
/// The alert `decode_error`.
const DECODE_ERROR: u8 = 50;
/// The alert `unrecognized_name`.
const UNRECOGNIZED_NAME: u8 = 112;

/// What was heard.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// The PROXY header that came; empty for none.
    pub(super) header: Vec<u8>,
    pub(super) hello: Option<ClientHello>,
    /// Whether the client's own bytes must not begin with a PROXY header.
    pub(super) is_guarded: bool,
    block: Option<Block>,
    length: usize,
}

impl Heard {
    /// The client's own bytes that have been read.
    pub(super) fn take_bytes(&mut self) -> (Option<Block>, usize) {
        (self.block.take(), std::mem::take(&mut self.length))
    }
}

impl Way<'_> {
    /// Whose connection it is.
    pub(super) async fn learn_client(&mut self, client: &mut Side) -> Result<(), End> {
        let trusted = self.plan.trusts(self.peer.map(|peer| peer.ip()));
        match self.plan.proxy_protocol.demands(trusted) {
            Demand::Nothing => return Ok(()),
            Demand::NoHeader => {
                self.heard.is_guarded = true;
                return Ok(());
            }
            Demand::Refuse => {
                let peer = self.peer.map(|peer| peer.ip().to_canonical());
                let peer = peer
                    .as_ref()
                    .map_or("who came".to_owned(), IpAddr::to_string);
                self.detail = format!("{peer} is none of the proxies that may connect here");
                return Err(End::ProxyUntrusted);
            }
            Demand::Header => {}
        }
        self.timer.set(self.stages.start + self.plan.timeouts.hello);
        let mut bytes = Vec::new();
        let clock = self.worker.shared.clock;
        let timer = &mut self.timer;
        let received = {
            let mut receiving =
                std::pin::pin!(proxy_header::receive(&mut client.stream, &mut bytes));
            poll_fn(|cx| match receiving.as_mut().poll(cx) {
                Poll::Ready(received) => Poll::Ready(Ok(received)),
                Poll::Pending => timer.poll(cx, clock.now()).map(|()| Err(End::ProxyTimeout)),
            })
            .await?
        };
        match received {
            Ok(header) => {
                if let Some(addresses) = header.addresses {
                    self.client = Some(addresses.source);
                    self.destination = Some(addresses.destination);
                    self.heard.header = bytes;
                }
                Ok(())
            }
            Err(ReceiveError::Stream(_)) => Err(End::ClientGone),
            Err(ReceiveError::Header(error)) => {
                self.detail = error.to_string();
                Err(End::ProxyHeader)
            }
        }
    }

    /// Where it is to go.
    pub(super) async fn learn_target(&mut self, client: &mut Side) -> Result<Arc<Target>, End> {
        let routes = &self.plan.routes;
        if !routes.looks() {
            return routes.rest().cloned().ok_or(End::NoRoute);
        }
        let result = self.read_hello(client).await;
        let end = match result {
            Ok(()) => {
                let hello = self.heard.hello.as_ref();
                match hello.and_then(|hello| self.plan.routes.find(hello)) {
                    Some(target) => return Ok(Arc::clone(target)),
                    None => End::NoRoute,
                }
            }
            Err(end) => end,
        };
        let alert = match end {
            End::NoRoute => UNRECOGNIZED_NAME,
            End::NoClientHello => DECODE_ERROR,
            _ => return Err(end),
        };
        // All that came was read, so that the alert arrives; a client that does not speak TLS has
        // nothing of it, and nothing was promised to it.
        let said = [&ALERT[..], &[alert]].concat();
        client.is_over = poll_fn(|cx| client.stream.poll_write(cx, &said))
            .await
            .is_ok();
        Err(end)
    }

    async fn read_hello(&mut self, client: &mut Side) -> Result<(), End> {
        self.timer.set(self.stages.start + self.plan.timeouts.hello);
        let clock = self.worker.shared.clock;
        let blocks = &self.worker.blocks;
        loop {
            let (heard, timer) = (&mut self.heard, &mut self.timer);
            let read = poll_fn(|cx| {
                if heard.block.is_none() {
                    // Who says nothing holds nothing.
                    if client.stream.poll_read_ready(cx).is_pending() {
                        let timed = timer.poll(cx, clock.now());
                        return timed.map(|()| Err(End::HelloTimeout));
                    }
                    heard.block = blocks.take_for(Need::Head, 0);
                }
                let Some(block) = &mut heard.block else {
                    return Poll::Ready(Err(End::Memory));
                };
                match client.stream.poll_read(cx, &mut block[heard.length..]) {
                    Poll::Ready(Ok(0)) => Poll::Ready(Err(End::ClientGone)),
                    Poll::Ready(Ok(read)) => Poll::Ready(Ok(read)),
                    Poll::Ready(Err(_)) => Poll::Ready(Err(End::ClientReset)),
                    Poll::Pending => timer.poll(cx, clock.now()).map(|()| Err(End::HelloTimeout)),
                }
            })
            .await?;
            self.heard.length += read;
            let Some(block) = &self.heard.block else {
                return Err(End::Memory);
            };
            match ClientHello::read(&block[..self.heard.length]) {
                Ok(None) => {}
                Ok(Some(hello)) => {
                    self.heard.hello = Some(hello);
                    return Ok(());
                }
                Err(error) => {
                    self.detail = error.to_string();
                    return Err(End::NoClientHello);
                }
            }
        }
    }
}
