//! One session: a connected socket, whose answers go back to the source, from the address that it
//! asked.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use outgrow_core::context::RequestId;
use outgrow_core::{Cause, Fault, Phase, Sent, Ticks};
use outgrow_net::{Datagrams, Timer};
use outgrow_upstream::{Endpoint, Outcome};

use super::listen::Listening;
use super::sessions::SessionId;
use crate::end::End;
use crate::plan::{Target, UdpPlan};
use crate::record::{Record, Stages};
use crate::shared::Drain;
use crate::worker::Worker;

/// Answers that are passed on before others of the worker get their turn.
const TURN: u32 = 16;

/// What came of looking for an answer.
enum Next {
    /// There was one, and there may be more.
    More,
    /// There was none.
    Nothing,
    /// The session has ended.
    Over(End),
}

/// A session under way.
pub(super) struct Session {
    pub(super) worker: Arc<Worker>,
    pub(super) listening: Arc<Listening>,
    pub(super) plan: Arc<UdpPlan>,
    pub(super) target: Arc<Target>,
    pub(super) id: SessionId,
    pub(super) name: RequestId,
    pub(super) source: SocketAddr,
    /// The address that the source asked.
    pub(super) asked: Option<IpAddr>,
    pub(super) socket: Arc<Datagrams>,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) began: Ticks,
    pub(super) sent_bytes: u64,
    /// How it ended; that it gave way, where nobody says otherwise.
    pub(super) end: End,
}

impl Session {
    /// Passes answers on until it ends.
    pub(super) async fn run(mut self) {
        let mut timer = Timer::new(&self.worker.wheel);
        let socket = Arc::clone(&self.socket);
        loop {
            let now = self.worker.now();
            let mut left = TURN;
            while left > 0 {
                match self.answer(now) {
                    Next::Over(end) => {
                        self.end = end;
                        return;
                    }
                    Next::More => left -= 1,
                    Next::Nothing => break,
                }
            }
            if left == 0 {
                // What is heard is there at once as long as there is more.
                tokio::task::yield_now().await;
            }
            let mut heard = pin!(socket.heard());
            let ended = poll_fn(|cx| match self.poll_time(cx, &mut timer) {
                Poll::Ready(end) => Poll::Ready(Some(end)),
                Poll::Pending => heard.as_mut().poll(cx).map(|_| None),
            });
            if let Some(end) = ended.await {
                self.end = end;
                return;
            }
        }
    }

    /// One answer, or some that came together.
    fn answer(&mut self, now: Ticks) -> Next {
        let worker = Arc::clone(&self.worker);
        let mut scratch = worker.scratch();
        let received = match self.socket.try_receive(&mut scratch) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Next::Nothing,
            Err(_) => {
                // ICMP: nobody is there. Datagrams are lost at any time, so this is all that can be
                // said of them.
                let fault = Fault::upstream(Phase::Connect, Cause::ConnectRefused, Sent::None);
                self.endpoint.report(Outcome::Fault(fault), now);
                return Next::Over(End::Refused(Cause::ConnectRefused));
            }
        };
        let mut count = 0;
        let cells = self.plan.metrics.of(self.worker.index);
        for group in received {
            let bytes = &scratch.bytes(&group)[..group.length];
            let datagrams = bytes.len().div_ceil(group.stride.max(1)).max(1) as u32;
            count += datagrams;
            let sent = self
                .listening
                .socket
                .send(self.source, self.asked, bytes, group.stride);
            match sent {
                Ok(()) => {
                    self.sent_bytes += bytes.len() as u64;
                    cells.sent_bytes.add(bytes.len() as u64);
                    cells.sent_datagrams.add(u64::from(datagrams));
                }
                Err(_) => cells.count_dropped("answer_not_taken", u64::from(datagrams)),
            }
        }
        drop(scratch);
        self.endpoint.report(Outcome::Success, now);
        let limits = &self.plan.limits;
        let is_over = self.listening.table().answered(self.id, count, limits, now);
        match is_over {
            true => Next::Over(End::Finished),
            false => Next::More,
        }
    }

    fn poll_time(&self, cx: &mut Context<'_>, timer: &mut Timer) -> Poll<End> {
        if self.worker.shared.drain() == Drain::Over {
            return Poll::Ready(End::Drained);
        }
        let mut now = self.worker.now();
        loop {
            let limits = &self.plan.limits;
            let Some(ends_at) = self.listening.table().ends_at(self.id, limits) else {
                return Poll::Ready(End::GaveWay);
            };
            timer.set(ends_at);
            if timer.poll(cx, now).is_pending() {
                return Poll::Pending;
            }
            match self.listening.table().expire(self.id, limits, now) {
                Some(false) => return Poll::Ready(End::Finished),
                Some(true) => {
                    let cause = Cause::FirstByteTimeout;
                    let fault = Fault::upstream(Phase::ResponseHead, cause, Sent::Maybe);
                    self.endpoint.report(Outcome::Fault(fault), now);
                    return Poll::Ready(End::Refused(cause));
                }
                None => now = self.worker.now(),
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let received = self.listening.forget(self.id);
        let worker = &self.worker;
        let now = worker.now();
        let cells = self.plan.metrics.of(worker.index);
        cells.count_end(self.end);
        cells.duration.record(now.micros_since(self.began));
        self.plan.metrics.open.add(-1);
        worker.shared.loads[worker.index].fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        if std::thread::panicking() {
            worker.shared.metrics.panics.add_shared(1);
        }
        let Some(records) = worker.shared.records() else {
            return;
        };
        let stages = Stages {
            start: self.began,
            end: now,
            ..Stages::default()
        };
        records.put(
            worker.index,
            &Record {
                id: self.name,
                protocol: "UDP",
                wall: worker.wall(self.began),
                stages,
                listener: &self.plan.name,
                route: "",
                client: Some(self.source),
                peer: None,
                server_name: b"",
                service: self.target.service.name(),
                endpoint: self.endpoint.known_as(),
                received_bytes: received,
                sent_bytes: self.sent_bytes,
                retries: 0,
                end: self.end,
                detail: "",
            },
        );
    }
}
