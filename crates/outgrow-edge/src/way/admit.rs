//! Admission: an endpoint for the request and the right to send to it.
//!
//! What the choice goes by is taken from the request as it came, before anything of it is changed.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::PoisonError;
use std::task::Poll;

use outgrow_core::{Cause, Fault, Phase, Ticks};
use outgrow_http::{Downstream, Tunnel};
use outgrow_upstream::{EndpointId, Permit, Unavailable, Wait, Wish};

use super::retry::Retries;
use super::{Target, Way};
use crate::backend::Chooser;
use crate::request_key;
use crate::sticky::Ticket;

/// What of the request the choice goes by.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked {
    /// A hash of what `hash_by` names.
    key: Option<u64>,
    /// The sticky cookie.
    ticket: Option<Ticket>,
}

impl Asked {
    /// Whether the client came with a sticky cookie.
    pub(super) fn stays(self) -> bool {
        self.ticket.is_some()
    }
}

enum Choice {
    Permit(Permit),
    /// In line; of one endpoint alone or of the service.
    Line {
        wait: Wait,
        of_one: bool,
    },
}

fn refused(cause: Cause) -> Fault {
    Fault::outgrow(Phase::Admit, cause)
}

impl<D: Downstream + Tunnel> Way<'_, D> {
    /// What the choice goes by.
    #[inline]
    pub(super) fn asked(&self, target: &Target<'_>) -> Asked {
        let request = &self.exchange.request;
        let by = target.picking.key.as_ref();
        let sticky = target.picking.sticky.as_ref();
        Asked {
            key: by.and_then(|by| {
                let trusts = |address| self.listener.trusts(Some(address));
                request_key::value_of(by, request, self.peer, trusts)
            }),
            ticket: sticky.and_then(|sticky| sticky.read(request)),
        }
    }

    /// An endpoint and the right to send to it; waits in line when all are busy.
    pub(super) async fn admit(
        &mut self,
        target: &Target<'_>,
        asked: Asked,
        retries: &Retries,
        now: Ticks,
    ) -> Result<(Permit, Ticks), Fault> {
        let clock = self.worker.shared.clock;
        let patience = now + target.timeouts.queue;
        let over = || {
            if retries.deadline < patience {
                Cause::RequestTimeout
            } else {
                target.service.why_waited()
            }
        };
        let mut at = now;
        let permit = loop {
            let (mut wait, of_one) = match Self::choose(target, asked, &retries.avoid, at)? {
                Choice::Permit(permit) => break permit,
                Choice::Line { wait, of_one } => (wait, of_one),
            };
            self.timer.set(patience.min(retries.deadline));
            let body_ended = self.exchange.request.length.is_empty();
            let answer = poll_fn(|cx| {
                if let Poll::Ready(answer) = Pin::new(&mut wait).poll(cx) {
                    return Poll::Ready(Ok(answer));
                }
                // Also one that may only have closed its side: nearly all who do have left, and they are not to
                // be served before those who are there.
                if body_ended && let Poll::Ready(fault) = self.down.poll_gone(cx) {
                    return Poll::Ready(Err(fault));
                }
                if !body_ended {
                    self.down.settle(cx);
                }
                let timed = self.timer.poll(cx, clock.now());
                timed.map(|()| Err(refused(over())))
            })
            .await?;
            at = clock.now();
            match answer {
                Ok(permit) => break permit,
                // The endpoint that it waited for takes nobody any more: another one may.
                Err(Cause::NoEndpoint) if of_one => {}
                Err(cause) => return Err(refused(cause)),
            }
        };
        self.remember(target, asked, &permit);
        Ok((permit, at))
    }

    fn choose(
        target: &Target<'_>,
        asked: Asked,
        avoid: &[EndpointId],
        now: Ticks,
    ) -> Result<Choice, Fault> {
        let mut chooser = target.view.lock().unwrap_or_else(PoisonError::into_inner);
        let Chooser { view, random, tags } = &mut *chooser;
        let mut wish = Wish {
            key: asked.key,
            avoid,
            ..Wish::default()
        };
        if let (Some(sticky), Some(ticket)) = (&target.picking.sticky, asked.ticket) {
            target.service.refresh(view);
            tags.refresh(sticky, view.set());
            wish.stay = tags.find(ticket, sticky);
        }
        let chosen = target.service.choose(view, now, random, wish);
        let limit = view.set().settings.queue as usize;
        drop(chooser);
        let (wait, of_one) = match chosen {
            Ok(permit) => return Ok(Choice::Permit(permit)),
            Err(Unavailable::NoEndpoint) => return Err(refused(Cause::NoEndpoint)),
            Err(Unavailable::Full(endpoint)) => (endpoint.wait(limit), true),
            Err(Unavailable::Busy) => (target.service.wait(), false),
        };
        wait.map(|wait| Choice::Line { wait, of_one })
            .map_err(refused)
    }

    /// Has the response tell the client where it is, when that is news.
    #[inline]
    fn remember(&mut self, target: &Target<'_>, asked: Asked, permit: &Permit) {
        self.exchange.set_cookie.clear();
        let Some(sticky) = &target.picking.sticky else {
            return;
        };
        let mut chooser = target.view.lock().unwrap_or_else(PoisonError::into_inner);
        let Chooser { view, random, tags } = &mut *chooser;
        tags.refresh(sticky, view.set());
        let known = asked.ticket.and_then(|ticket| tags.find(ticket, sticky));
        let endpoint = permit.endpoint().id();
        if known.is_some_and(|stay| stay.endpoint == endpoint) {
            return;
        }
        // One that came after the view was refreshed has no tag yet: the next response tells it.
        if let Some(tag) = tags.tag_of(endpoint) {
            let secure = self.peer.secure;
            sticky.write(tag, random, secure, &mut self.exchange.set_cookie);
        }
    }
}
