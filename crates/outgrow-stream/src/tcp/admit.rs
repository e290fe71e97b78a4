//! An endpoint that takes the connection: chosen, waited for where all are busy, connected to; and
//! another one when it does not.

use std::future::{Future, poll_fn};
use std::io::Write;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use outgrow_balance::hash::hash;
use outgrow_core::{Cause, Fault, Phase, Sent};
use outgrow_net::Stream;
use outgrow_upstream::{Endpoint, EndpointId, Opening, Outcome, Permit, Unavailable, Wait, Wish};

use super::way::{Side, Way};
use crate::end::End;
use crate::plan::Target;
use crate::shared::Drain;

/// How long an endpoint may take to be connected to before it is looked whether the client is there yet:
/// one that is near is there at once, and looking is a system call.
const LOOK_AFTER: Duration = Duration::from_millis(50);

/// Looks whether a client is there that nobody reads from yet.
#[derive(Default)]
struct Watch {
    /// Bytes or an orderly end have come: more is not known before they are read.
    has_come: bool,
}

impl Watch {
    /// Ready when the client has reset the connection.
    fn poll(&mut self, cx: &mut Context<'_>, client: &Side) -> Poll<()> {
        if self.has_come {
            return Poll::Pending;
        }
        match client.stream.poll_peek(cx, &mut [0]) {
            Poll::Ready(Ok(_)) => {
                self.has_come = true;
                Poll::Pending
            }
            Poll::Ready(Err(_)) => Poll::Ready(()),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Way<'_> {
    /// A connection to an endpoint of the target. While none has taken it nothing is lost: what the
    /// client says waits with the kernel, or in what was heard.
    pub(super) async fn open(
        &mut self,
        client: &Side,
        target: &Target,
    ) -> Result<(Permit, Stream), End> {
        let mut watch = Watch::default();
        let mut avoid: Vec<EndpointId> = Vec::new();
        let mut cause = Cause::NoEndpoint;
        for _ in 0..self.plan.tries {
            let permit = self.admit(client, target, &avoid, &mut watch).await?;
            let endpoint = permit.endpoint();
            if avoid.contains(&endpoint.id()) {
                // There is no other one.
                break;
            }
            self.stages.admitted = self.worker.now();
            self.endpoint = Some(endpoint.clone());
            let connected = self.connect(client, target, endpoint, &mut watch).await?;
            let now = self.worker.now();
            match connected {
                Ok(stream) => {
                    self.stages.connected = now;
                    let took = now.since(self.stages.admitted);
                    if target.measures {
                        endpoint.note_response_time(took, false, now);
                    }
                    let cells = self.plan.metrics.of(self.worker.index);
                    cells.connect.record(took.as_micros() as u64);
                    return Ok((permit, stream));
                }
                Err(fault) => {
                    endpoint.report(Outcome::Fault(fault), now);
                    cause = fault.cause;
                    avoid.push(endpoint.id());
                    self.retries += 1;
                    let cells = self.plan.metrics.of(self.worker.index);
                    cells.retries.add(1);
                }
            }
        }
        self.retries = self.retries.saturating_sub(1);
        Err(End::Refused(cause))
    }

    async fn connect(
        &mut self,
        client: &Side,
        target: &Target,
        endpoint: &Endpoint,
        watch: &mut Watch,
    ) -> Result<Result<Stream, Fault>, End> {
        let opening = Opening {
            connect: target.timeouts.connect,
            // The relay has the peer watched once the connection has lasted for a while.
            unacknowledged: Duration::ZERO,
            silence: Duration::ZERO,
        };
        let clock = self.worker.shared.clock;
        let began = clock.now();
        let until = began + target.timeouts.connect;
        let look = until.min(began + LOOK_AFTER);
        self.timer.set(look);
        let (timer, shared) = (&mut self.timer, &self.worker.shared);
        // What is said on it is the client's and the endpoint's, encryption included.
        let mut connecting = pin!(outgrow_upstream::connect::dial_untimed(endpoint, opening));
        poll_fn(|cx| {
            if let Poll::Ready(connected) = connecting.as_mut().poll(cx) {
                return Poll::Ready(Ok(connected));
            }
            let now = clock.now();
            if shared.drain() == Drain::Over {
                return Poll::Ready(Err(End::Drained));
            }
            if now >= until {
                let cause = Cause::ConnectTimeout;
                let fault = Fault::upstream(Phase::Connect, cause, Sent::None);
                return Poll::Ready(Ok(Err(fault)));
            }
            if now >= look {
                timer.set(until);
                if watch.poll(cx, client).is_ready() {
                    return Poll::Ready(Err(End::ClientGone));
                }
            }
            let _ = timer.poll(cx, now);
            Poll::Pending
        })
        .await
    }

    /// The right to connect to an endpoint; waits in line when all are busy.
    async fn admit(
        &mut self,
        client: &Side,
        target: &Target,
        avoid: &[EndpointId],
        watch: &mut Watch,
    ) -> Result<Permit, End> {
        let mut wait = match self.choose(target, avoid)? {
            Ok(permit) => return Ok(permit),
            Err(wait) => wait,
        };
        let clock = self.worker.shared.clock;
        self.timer.set(clock.now() + target.timeouts.queue);
        let (timer, shared) = (&mut self.timer, &self.worker.shared);
        poll_fn(|cx| {
            if let Poll::Ready(answer) = Pin::new(&mut wait).poll(cx) {
                return Poll::Ready(answer.map_err(End::Refused));
            }
            if watch.poll(cx, client).is_ready() {
                return Poll::Ready(Err(End::ClientGone));
            }
            if shared.drain() == Drain::Over {
                return Poll::Ready(Err(End::Drained));
            }
            let timed = timer.poll(cx, clock.now());
            timed.map(|()| Err(End::Refused(target.service.why_waited())))
        })
        .await
    }

    fn choose(&self, target: &Target, avoid: &[EndpointId]) -> Result<Result<Permit, Wait>, End> {
        let wish = Wish {
            key: target.hashes.then(|| self.key()).flatten(),
            avoid,
            ..Wish::default()
        };
        let now = self.worker.now();
        let chosen = self.with_chooser(target, |chooser| {
            let random = &mut chooser.random;
            target.service.choose(&mut chooser.view, now, random, wish)
        });
        match chosen {
            Ok(permit) => Ok(Ok(permit)),
            Err(Unavailable::NoEndpoint) => Err(End::Refused(Cause::NoEndpoint)),
            Err(Unavailable::Full(_) | Unavailable::Busy) => {
                let wait = target.service.wait().map_err(End::Refused)?;
                Ok(Err(wait))
            }
        }
    }

    /// The client's address as the edge hashes it, so that a client is at the same endpoint whatever
    /// it speaks.
    fn key(&self) -> Option<u64> {
        let address = self.client?.ip().to_canonical();
        let mut text = [0; 46];
        let mut rest = &mut text[..];
        // The longest text of IPv6 has 45 bytes: it fits.
        let _ = write!(rest, "{address}");
        let length = 46 - rest.len();
        Some(hash(&text[..length]))
    }
}
