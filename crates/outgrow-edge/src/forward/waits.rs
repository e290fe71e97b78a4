//! Who is waited for in an exchange, how long that may take, and whose fault it is when it does.

use std::task::{Context, Poll};
use std::time::Duration;

use outgrow_core::{Cause, Fault, Phase, Sent, Side, Ticks};
use outgrow_http::{Downstream, Upstream};

use super::{Attempt, Done, Progress};

/// How long things may take, in one exchange.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Between two pieces of the request's body; and for what is done with one here.
    pub(crate) body_idle: Duration,
    /// Bytes of the request's body in each second that it is waited for; 0 is any.
    pub(crate) body_rate: u64,
    /// From the request sent to the response's head.
    pub(crate) first_byte: Duration,
    /// Between two pieces of the response.
    pub(crate) stream_idle: Duration,
    /// The client takes nothing for so long.
    pub(crate) send_idle: Duration,
    /// Bytes that it takes in each second in which some wait for it; 0 is any.
    pub(crate) send_rate: u64,
    /// When the whole exchange must be over.
    pub(crate) request_deadline: Ticks,
    /// Whether the client has said so: then nobody is to blame.
    pub(crate) is_clients: bool,
}

/// What a poll waits for, which decides how long it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waits {
    ClientBody,
    /// For what has come of the body to be decompressed; with the cause that it is when that takes too long.
    Ours(Cause),
    UpstreamWrite,
    UpstreamHead,
    UpstreamBody,
    ClientWrite,
}

impl<D: Downstream, U: Upstream> Attempt<'_, D, U> {
    /// What a request waits for that does not move.
    pub(super) fn request_waits(&self) -> Waits {
        if self.rest.progress.request_ended || !self.up.is_flushed() {
            return Waits::UpstreamWrite;
        }
        let ours = self.rest.decompressing.waits_for();
        ours.map_or(Waits::ClientBody, Waits::Ours)
    }

    pub(super) fn response_waits(&self) -> Waits {
        if !self.rest.progress.answering && self.rest.progress.has_head {
            // What is waited for ends by itself, and the endpoint has nothing to do with it.
            Waits::UpstreamBody
        } else if !self.rest.progress.answering {
            Waits::UpstreamHead
        } else if self.rest.progress.client_behind {
            Waits::ClientWrite
        } else {
            Waits::UpstreamBody
        }
    }

    /// When a client whose body is waited for has been too slow altogether.
    fn sends_too_slowly_at(&mut self) -> Ticks {
        let patience = &self.around.patience;
        let progress = &mut *self.rest.progress;
        if patience.body_rate == 0 || self.rest.is_streaming || progress.answering {
            return Ticks::NEVER;
        }
        let pace = (patience.body_rate, patience.body_idle);
        progress
            .sending
            .start(progress.now, progress.client_sent, pace)
    }

    /// When a client for which some of the response waits has been too slow altogether.
    fn takes_too_slowly_at(&mut self) -> Ticks {
        let patience = &self.around.patience;
        let progress = &mut *self.rest.progress;
        if patience.send_rate == 0 || self.rest.is_streaming {
            return Ticks::NEVER;
        }
        let pace = (patience.send_rate, patience.send_idle);
        progress
            .taking
            .start(progress.now, progress.client_took, pace)
    }

    /// A client whose body comes is not idle, whatever becomes of it meanwhile.
    fn note_client_sent(&mut self) {
        let progress = &mut *self.rest.progress;
        let sent = self.rest.decompressing.told();
        let sent = sent.map_or(progress.request_bytes, |(_, coded, _)| coded);
        if sent != progress.client_sent {
            progress.client_sent = sent;
            progress.last = progress.now;
        }
    }

    /// Which timeouts run, and whether one is over; `closed_until` is when a client that has closed its side is
    /// given up.
    pub(super) fn poll_time(
        &mut self,
        cx: &mut Context<'_>,
        (request, response): (Option<Waits>, Waits),
        closed_until: Ticks,
    ) -> Poll<Result<Done, Fault>> {
        let took = self.down.written();
        if response == Waits::ClientWrite && took != self.rest.progress.client_took {
            self.rest.progress.client_took = took;
            self.rest.progress.last = self.rest.progress.now;
        }
        self.note_client_sent();
        self.rest.progress.note_ours(request);
        let patience = &self.around.patience;
        let (until, fault) = limit(
            patience,
            self.rest.progress,
            (request, response),
            self.rest.is_grpc,
        );
        let room_until = self.rest.decompressing.room_until();
        let room_until = room_until.unwrap_or(Ticks::NEVER);
        let request_deadline = patience.request_deadline;
        let mut deadline = until.min(request_deadline).min(room_until);
        deadline = deadline.min(closed_until);
        let too_slow_at = match request {
            Some(Waits::ClientBody) => self.sends_too_slowly_at(),
            _ => Ticks::NEVER,
        };
        deadline = deadline.min(too_slow_at);
        if response == Waits::ClientWrite {
            deadline = deadline.min(self.takes_too_slowly_at());
        }
        self.around.timer.set(deadline);
        let now = self.rest.progress.now;
        if self.around.timer.poll(cx, now).is_pending() {
            return Poll::Pending;
        }
        let patience = &self.around.patience;
        if now >= request_deadline {
            // Whoever is waited for is the one to blame, unless the client gave too little time.
            let cause = Cause::RequestTimeout;
            if patience.is_clients {
                return Poll::Ready(Err(Fault {
                    side: Side::Outgrow,
                    cause,
                    ..fault
                }));
            }
            return Poll::Ready(Err(Fault { cause, ..fault }));
        }
        if now >= room_until {
            // Whoever else is waited for.
            return Poll::Ready(Err(ours(Cause::MemoryLimit)));
        }
        if now >= too_slow_at && now < until {
            let (phase, cause) = (Phase::RequestBody, Cause::BodyTooSlow);
            return Poll::Ready(Err(Fault::client(phase, cause)));
        }
        Poll::Ready(Err(fault))
    }
}

/// A client that has closed its side: most have left, but it may be one that says in this way that it asks
/// nothing more, and reads. So it has a moment, and another one with each part of the answer that its
/// connection takes: one that has left resets the connection for that. While bytes wait for it, nothing need
/// be guessed: the time for those runs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HalfClosed {
    /// Since when, and what it had taken by then.
    since: Option<(Ticks, u64)>,
}

impl HalfClosed {
    /// How long the answer may have no further part.
    const MOMENT: Duration = Duration::from_secs(1);

    /// Whether it is given up at `now`, having taken so many bytes.
    pub(super) fn is_over(&mut self, waits: Option<Waits>, took: u64, now: Ticks) -> bool {
        if waits == Some(Waits::ClientWrite) {
            self.since = None;
            return false;
        }
        match self.since {
            Some((since, before)) if before == took => now.since(since) >= Self::MOMENT,
            _ => {
                self.since = Some((now, took));
                false
            }
        }
    }

    /// When it is.
    pub(super) fn deadline(&self) -> Ticks {
        self.since
            .map_or(Ticks::NEVER, |(since, _)| since + Self::MOMENT)
    }
}

impl Progress {
    /// Takes note of whether the request waits for ourselves. Who is waited for afterwards has its whole time.
    fn note_ours(&mut self, request: Option<Waits>) {
        let moved = (self.client_sent, self.request_bytes);
        match (request, self.ours_since) {
            (Some(Waits::Ours(_)), since) if since == Ticks::ZERO || moved != self.ours_moved => {
                (self.ours_since, self.ours_moved) = (self.now, moved);
            }
            (Some(Waits::Ours(_)), _) | (_, Ticks::ZERO) => {}
            _ => (self.ours_since, self.last) = (Ticks::ZERO, self.now),
        }
    }
}

fn ours(cause: Cause) -> Fault {
    Fault::outgrow(Phase::RequestBody, cause)
}

/// Until when what both sides of an exchange wait for may take, and whose fault it is then.
fn limit(
    patience: &Patience,
    progress: &Progress,
    (request, response): (Option<Waits>, Waits),
    is_grpc: bool,
) -> (Ticks, Fault) {
    let last = progress.last;
    match (response, request) {
        (Waits::ClientWrite, _) => (
            last + patience.send_idle,
            Fault::client(Phase::ResponseBody, Cause::SendTimeout),
        ),
        // Neither the client nor the endpoint can do anything about it, nor does it end later where the answer
        // moves.
        (_, Some(Waits::Ours(cause))) => (progress.ours_since + patience.body_idle, ours(cause)),
        // Both sides of a call may have nothing to say for a while, and none owes anything.
        (Waits::UpstreamBody, Some(Waits::ClientBody)) if is_grpc => (
            last + patience.body_idle.max(patience.stream_idle),
            Fault::upstream(Phase::ResponseBody, Cause::StreamIdleTimeout, Sent::Maybe),
        ),
        // An endpoint that waits for the client is not to blame for its silence.
        (_, Some(Waits::ClientBody)) => (
            last + patience.body_idle,
            Fault::client(Phase::RequestBody, Cause::BodyTimeout),
        ),
        (Waits::UpstreamBody, _) => (
            last + patience.stream_idle,
            Fault::upstream(Phase::ResponseBody, Cause::StreamIdleTimeout, Sent::Maybe),
        ),
        (_, Some(_)) => (
            last + patience.stream_idle,
            Fault::upstream(Phase::Send, Cause::StreamIdleTimeout, Sent::Maybe),
        ),
        (_, None) => (
            last + patience.first_byte,
            Fault::upstream(Phase::ResponseHead, Cause::FirstByteTimeout, Sent::Maybe),
        ),
    }
}

/// Bytes in each second that a client is waited for, and what it may be late at most.
pub(crate) type Pace = (u64, Duration);

/// For how long a client may yet be waited for: so long as it may be late at first; waiting takes of it, and
/// what the client moves gives back what the rate says, up to that again. So a quick beginning buys no hours
/// for what follows it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Credit {
    /// Since when it is waited for; zero while it is not.
    since: Ticks,
    /// What was taken of it and not given back.
    spent: Duration,
    /// The bytes for which time was given back.
    paid_bytes: u64,
}

impl Credit {
    /// It is waited for no longer, if it was.
    #[inline]
    pub(crate) fn stop(&mut self, now: Ticks) {
        if self.since != Ticks::ZERO {
            self.spent = self.spent.saturating_add(now.since(self.since));
            self.since = Ticks::ZERO;
        }
    }

    /// It is waited for, and has moved so many bytes so far; until when that may go on.
    pub(crate) fn start(&mut self, now: Ticks, bytes: u64, (rate, late): Pace) -> Ticks {
        const NANOS: u128 = 1_000_000_000;
        self.since = now;
        let more = bytes.saturating_sub(self.paid_bytes);
        self.paid_bytes = bytes;
        let nanos = u128::from(more) * NANOS / u128::from(rate.max(1));
        let given = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.spent = self.spent.saturating_sub(given);
        now + late.saturating_sub(self.spent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_side_is_given_up_a_moment_after_the_last_part() {
        const MILLI: u64 = 1_000_000;
        let mut closed = HalfClosed::default();
        assert_eq!(closed.deadline(), Ticks::NEVER);
        let behind = Some(Waits::ClientWrite);
        for (now, took, waits, is_over, deadline) in [
            (100, 0, None, false, Some(1_100)),
            (1_099, 0, None, false, Some(1_100)),
            (1_099, 5, None, false, Some(2_099)),
            (1_200, 5, behind, false, None),
            (9_000, 5, behind, false, None),
            (9_100, 9, None, false, Some(10_100)),
            (10_099, 9, None, false, Some(10_100)),
            (10_100, 9, None, true, Some(10_100)),
        ] {
            let now = Ticks(now * MILLI);
            assert_eq!(closed.is_over(waits, took, now), is_over, "{now:?}");
            let deadline = deadline.map_or(Ticks::NEVER, |at| Ticks(at * MILLI));
            assert_eq!(closed.deadline(), deadline, "{now:?}");
        }
    }

    /// Seconds waited, bytes that have come by then, the seconds that are left.
    type Step = (u64, u64, u64);

    #[test]
    fn a_byte_buys_time_and_no_more_than_there_was_at_first() {
        let cases: [(u64, &[Step]); 3] = [
            (
                500,
                &[(0, 0, 30), (10, 0, 20), (0, 2_500, 25), (25, 2_500, 0)],
            ),
            // Two megabytes at once, then a byte now and then.
            (
                500,
                &[(1, 2_000_000, 30), (29, 2_000_001, 1), (1, 2_000_001, 0)],
            ),
            // As fast as it has to be, for as long as it takes.
            (
                1,
                &[
                    (20, 20, 30),
                    (30, 50, 30),
                    (3_000, 3_050, 30),
                    (1, u64::MAX, 30),
                ],
            ),
        ];
        for (rate, steps) in cases {
            let (mut credit, mut now) = (Credit::default(), Ticks(1));
            for &(waited, sent, left) in steps {
                now = now + Duration::from_secs(waited);
                credit.stop(now);
                let until = credit.start(now, sent, (rate, Duration::from_secs(30)));
                let is = until.since(now);
                assert_eq!(is.as_secs(), left, "{rate} {steps:?}");
            }
        }
    }

    /// What waits for ourselves is held neither against the client nor against the endpoint, and has a time of its
    /// own; who is waited for afterwards has its whole time.
    #[test]
    fn the_wait_for_ourselves_is_nobody_elses() {
        let second = |at: u64| Ticks(1 + at * 1_000_000_000);
        let seconds = Duration::from_secs;
        let patience = Patience {
            body_idle: seconds(30),
            body_rate: 500,
            first_byte: seconds(5),
            stream_idle: seconds(10),
            send_idle: seconds(60),
            send_rate: 500,
            request_deadline: Ticks::NEVER,
            is_clients: false,
        };
        let threads = Waits::Ours(Cause::DecompressionTimeout);
        let room = Waits::Ours(Cause::MemoryLimit);
        // When, whom the request waits for, and what is the end of it, and when.
        let steps = [
            (1, Waits::ClientBody, Side::Client, Cause::BodyTimeout, 30),
            (29, threads, Side::Outgrow, Cause::DecompressionTimeout, 59),
            (58, room, Side::Outgrow, Cause::MemoryLimit, 59),
            (58, Waits::ClientBody, Side::Client, Cause::BodyTimeout, 88),
            (80, threads, Side::Outgrow, Cause::DecompressionTimeout, 110),
        ];
        let mut progress = Progress {
            last: second(0),
            ..Progress::default()
        };
        for (now, request, side, cause, until) in steps {
            progress.now = second(now);
            progress.note_ours(Some(request));
            for response in [Waits::UpstreamHead, Waits::UpstreamBody] {
                let waits = (Some(request), response);
                let (at, fault) = limit(&patience, &progress, waits, false);
                assert_eq!((fault.side, fault.cause), (side, cause), "{now}");
                assert_eq!(at, second(until), "{now}");
            }
        }
        // The answer moves; then a piece of the request does.
        for (at, moved, until) in [(90, 0, 110), (100, 1, 130), (105, 0, 130)] {
            progress.now = second(at);
            progress.last = second(at);
            progress.request_bytes += moved;
            progress.note_ours(Some(threads));
            let waits = (Some(threads), Waits::UpstreamBody);
            let (at, _) = limit(&patience, &progress, waits, false);
            assert_eq!(at, second(until));
        }
    }
}
