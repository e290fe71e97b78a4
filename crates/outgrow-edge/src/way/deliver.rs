//! What is left of a response once its endpoint has done its part: the client takes it without the endpoint's
//! connection and permit.

use outgrow_core::context::Context;
use outgrow_core::{Cause, Fault, Side, Ticks};
use outgrow_http::conn::AtHand;
use outgrow_http::{Downstream, Tunnel};

use super::Way;
use crate::forward::Pass;
use crate::respond::{self, Times};
use crate::worker::Exchange;

impl<D: Downstream + Tunnel> Way<'_, D> {
    /// Waits until the client's connection has taken all of it: until `deadline`, which is the client's own or
    /// not, and for `send_idle` without a byte, or what that is at `rate`, whatever was called. There may be
    /// as many of these as memory allows, so none may take hours, and what has been taken is given back.
    pub(super) async fn deliver(
        &mut self,
        context: &mut Context,
        (rate, deadline, is_clients): (u64, Ticks, bool),
    ) -> Result<(), Fault> {
        let (clock, blocks) = (self.worker.shared.clock, &self.worker.blocks);
        let Exchange {
            side,
            progress,
            compressing,
            call,
            ..
        } = &mut *self.exchange;
        let times = Times {
            idle: self.listener.timeouts.send_idle,
            rate,
            taking: std::mem::take(&mut progress.taking),
            deadline,
        };
        let mut waiting = blocks.ledger().let_wait(side.incoming.held_bytes());
        let mut rest = AtHand(&mut side.incoming);
        let sent = respond::while_it_takes(self.down, clock, self.timer, times, |down, cx| {
            let mut pass = Pass {
                down,
                compressing,
                progress,
                is_grpc: call.is_grpc,
            };
            let passed = pass.poll(cx, &mut rest);
            if passed.is_pending() {
                rest.settle(blocks);
                waiting.shrink_to(rest.0.held_bytes());
            }
            passed
        });
        let sent = sent.await;
        self.note_progress(context);
        sent.map_err(|fault| match fault.cause {
            // The client gave too little time: then nobody is to blame.
            Cause::RequestTimeout if is_clients => Fault {
                side: Side::Outgrow,
                ..fault
            },
            _ => fault,
        })
    }
}
