//! The body of one request being decompressed: bytes are taken from the client as they are wanted, and
//! what becomes of them lies here until it is taken.
//!
//! A little work on gzip and zlib is done at once on the worker's thread, all else by threads that do nothing
//! but decompress. Whatever the client sends, at most a block of what it becomes is there at a time, and how
//! much it may become in all is looked at after each.
//!
//! A body for which there is no room because others of its client have the client's part waits for those, for a
//! while, and nothing is read of it meanwhile. How long it waits for the threads is not bounded here. What it has
//! is given back when it has ended, whatever else its exchange may take.

use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use outgrow_core::{Cause, Fault, Phase, Ticks};
use outgrow_message::{Block, BodySource};

use super::codec::{DecodeError, Decoder, Step};
use super::hold::{Hold, Seen, Wait};
use crate::compress::{Desk, Errand, Go, Turns};
use crate::settings::RequestCoding;

/// What a step on an ordinary body takes on an ordinary core: on the safe side.
const STEP_TIME: Duration = Duration::from_micros(30);
/// From how many bytes on the ratio counts: what is small does no harm.
const RATIO_FROM_BYTES: u64 = 1 << 20;

/// How much a body may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// As it is sent, if that is bounded.
    pub(super) coded: Option<u64>,
    /// What it becomes.
    pub(super) plain: u64,
    /// What it becomes, as a multiple of what was sent.
    pub(super) ratio: u64,
    /// The largest window of zstd and Brotli.
    pub(super) window: u64,
}

/// Decompresses one body.
#[derive(Debug)]
pub(super) struct Inflater {
    desk: Arc<Desk>,
    coding: RequestCoding,
    bounds: Bounds,
    turns: Turns<Work>,
    /// What its decompressor holds.
    hold: Seen,
    /// Nobody asks for more of it for now.
    rests: bool,
    /// How long it has waited for room.
    wait: Wait,
    /// The client has sent all.
    has_all: bool,
    /// All that it becomes was given, and all that was held is given back.
    is_over: bool,
    taken_bytes: u64,
    given_bytes: u64,
    /// Why it failed, if it did.
    detail: &'static str,
}

/// A decompressor with what it works on.
#[derive(Debug)]
struct Work {
    /// None when it has failed: nothing is held for that.
    decoder: Option<Decoder>,
    /// What a thread is to work on.
    input: Option<Block>,
    pending: Range<usize>,
    /// There only while it holds something.
    output: Option<Block>,
    ready: Range<usize>,
    /// It gave as much as there was room for: there may be more.
    is_full: bool,
    /// What was come to last.
    outcome: Result<Step, DecodeError>,
}

impl Work {
    /// Makes what it can of `bytes` where the output is, as far as `go` says; how much of them was taken.
    fn decode(&mut self, bytes: &[u8], go: Go) -> usize {
        let output = self.output.as_deref_mut().unwrap_or_default();
        let mut sum = Step::default();
        let Some(decoder) = &mut self.decoder else {
            return 0;
        };
        self.is_full = true;
        self.outcome = loop {
            let (rest, room) = (&bytes[sum.taken..], &mut output[sum.given..]);
            if room.is_empty() {
                break Ok(sum);
            }
            let piece = &rest[..rest.len().min(go.step_bytes)];
            let most = room.len().min(go.step_bytes);
            match decoder.step(piece, &mut room[..most]) {
                Err(error) => break Err(error),
                Ok(step) => {
                    sum.taken += step.taken;
                    sum.given += step.given;
                    if decoder.wants_room() {
                        break Ok(sum);
                    }
                    self.is_full = step.given == most;
                    let is_over = sum.taken == bytes.len() && !self.is_full;
                    if is_over || !go.goes_on() {
                        break Ok(sum);
                    }
                }
            }
        };
        if self.outcome.is_err() {
            self.decoder = None;
        }
        self.ready = 0..sum.given;
        sum.taken
    }

    fn is_whole(&self) -> bool {
        self.decoder.as_ref().is_some_and(Decoder::is_whole)
    }
}

impl Errand for Work {
    fn run(&mut self, go: Go) {
        let input = self.input.take();
        let bytes = input.as_deref().unwrap_or_default();
        let taken = self.decode(&bytes[self.pending.clone()], go);
        self.pending.start += taken;
        self.input = input;
    }
}

impl Inflater {
    /// For a body of `client`'s.
    pub(super) fn new(
        desk: &Arc<Desk>,
        (coding, bounds): (RequestCoding, Bounds),
        client: IpAddr,
    ) -> Box<Self> {
        let hold = Hold::new(desk.decoder(client));
        let seen = hold.seen();
        let work = Work {
            decoder: Some(Decoder::new(coding, bounds.window, hold)),
            input: None,
            pending: 0..0,
            output: None,
            ready: 0..0,
            is_full: false,
            outcome: Ok(Step::default()),
        };
        Box::new(Self {
            desk: Arc::clone(desk),
            coding,
            bounds,
            turns: desk.request(client, work),
            hold: seen,
            rests: false,
            wait: Wait::default(),
            has_all: false,
            is_over: false,
            taken_bytes: 0,
            given_bytes: 0,
            detail: "",
        })
    }

    /// Bytes taken from the client, and what became of them.
    pub(super) fn totals(&self) -> (u64, u64) {
        (self.taken_bytes, self.given_bytes)
    }

    /// What was wrong with the body; empty when nothing was.
    pub(super) fn detail(&self) -> &'static str {
        self.detail
    }

    /// What of ours it waits for, as the cause that it is when that takes too long.
    pub(super) fn waits_for(&self) -> Option<Cause> {
        match (self.room_until(), self.turns.waits_for_threads()) {
            (Some(_), _) => Some(Cause::MemoryLimit),
            (None, true) => Some(Cause::DecompressionTimeout),
            (None, false) => None,
        }
    }

    /// Until when it waits for room at most, if it does.
    pub(super) fn room_until(&self) -> Option<Ticks> {
        self.wait.until()
    }

    /// Whether it waits for others to let go of something, and nothing of it is read meanwhile.
    pub(super) fn is_stalled(&self) -> bool {
        self.room_until().is_some() || self.turns.is_outside()
    }

    /// Waits for nothing while nobody asks for more of it, and is nothing that others wait for.
    pub(super) fn rest(&mut self) {
        self.turns.leave_line();
        self.wait.stop(self.desk.now());
        self.rests = true;
        self.hold.rest();
    }

    /// Gives back what is held for it: nobody asks for more of it. A thread that has it does so as soon as it comes
    /// to it.
    pub(super) fn close(&mut self) {
        self.turns.give_up();
        self.wait.stop(self.desk.now());
    }

    /// Whether no thread is at it.
    #[cfg(test)]
    pub(super) fn is_here(&self) -> bool {
        self.turns.work().is_some()
    }

    /// Whether its decompressor is here, and not given up.
    #[cfg(test)]
    pub(super) fn has_decoder(&self) -> bool {
        let work = self.turns.work();
        work.is_some_and(|work| work.decoder.is_some())
    }

    /// What zstd's holds.
    #[cfg(test)]
    pub(super) fn context_bytes(&self) -> Option<u64> {
        self.turns.work()?.decoder.as_ref()?.context_bytes()
    }

    /// What is there of the body, as it is.
    pub(super) fn data(&self) -> &[u8] {
        match self.turns.work() {
            Some(Work {
                output: Some(output),
                ready,
                ..
            }) => &output[ready.clone()],
            _ => &[],
        }
    }

    /// Passes over what was taken of it.
    pub(super) fn consume(&mut self, count: usize) {
        if let Some(work) = self.turns.work_mut() {
            work.ready.start = work.ready.end.min(work.ready.start + count);
        }
    }

    /// Waits for bytes of the body (true) or its end (false).
    pub(super) fn poll_data<D: BodySource>(
        &mut self,
        cx: &mut Context<'_>,
        down: &mut D,
    ) -> Poll<Result<bool, Fault>> {
        if self.is_over {
            return Poll::Ready(Ok(false));
        }
        if std::mem::take(&mut self.rests) {
            self.hold.go_on();
        }
        loop {
            if ready!(self.turns.poll(cx)) {
                self.note()?;
            }
            let Some(work) = self.turns.work_mut() else {
                return Poll::Ready(Err(broken()));
            };
            if !work.ready.is_empty() {
                return Poll::Ready(Ok(true));
            }
            if !work.pending.is_empty() || work.is_full {
                ready!(self.poll_step(cx, &[]))?;
                continue;
            }
            // Nothing is held while nobody has anything to say.
            (work.input, work.output) = (None, None);
            (work.pending, work.ready) = (0..0, 0..0);
            if self.has_all {
                return Poll::Ready(self.end());
            }
            match down.poll_data(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(fault)) => return Poll::Ready(Err(fault)),
                Poll::Ready(Ok(true)) => {
                    let taken = ready!(self.poll_step(cx, down.data()))?;
                    down.consume(taken);
                }
                Poll::Ready(Ok(false)) => {
                    self.has_all = true;
                    if let Some(work) = self.turns.work_mut()
                        && !work.is_whole()
                    {
                        // What it has kept comes out now.
                        work.is_full = true;
                    }
                }
            }
        }
    }

    fn end(&mut self) -> Result<bool, Fault> {
        self.is_over = self.turns.work().is_some_and(Work::is_whole);
        self.close();
        match self.is_over {
            true => Ok(false),
            false => Err(self.malformed(DecodeError::CutOff)),
        }
    }

    /// Goes on with `data`, which is the client's, or with what was taken of that where it is empty: on this
    /// thread, or waits for room to have it done by another one. How much of it was taken.
    fn poll_step(&mut self, cx: &Context<'_>, data: &[u8]) -> Poll<Result<usize, Fault>> {
        if !ready!(self.poll_room(cx, data)) {
            return Poll::Ready(Err(no_memory()));
        }
        let is_here = self.has_time();
        if !is_here {
            ready!(self.turns.poll_line(cx));
        }
        Poll::Ready(self.step(is_here, data))
    }

    /// Waits for the room that is needed to go on, for no longer than it may; whether there is any.
    fn poll_room(&mut self, cx: &Context<'_>, data: &[u8]) -> Poll<bool> {
        let Some(work) = self.turns.work_mut() else {
            return Poll::Ready(true);
        };
        let Some(decoder) = &mut work.decoder else {
            return Poll::Ready(true);
        };
        decoder.foresee(data);
        if !decoder.wants_room() {
            return Poll::Ready(true);
        }
        let (polled, now) = (decoder.poll_room(cx), self.desk.now());
        if polled.is_pending() && self.wait.go_on(now) {
            // What it had is held, with what was taken of the client, but nothing for what will come.
            work.output = None;
            return Poll::Pending;
        }
        self.wait.stop(now);
        let has_room = polled == Poll::Ready(true);
        if !has_room {
            work.decoder = None;
        }
        Poll::Ready(has_room)
    }

    fn step(&mut self, is_here: bool, data: &[u8]) -> Result<usize, Fault> {
        self.make_room()?;
        let mut taken = 0;
        if is_here {
            let part = |work: &mut Work, go| match data.is_empty() {
                true => work.run(go),
                false => taken = work.decode(data, go),
            };
            self.turns.here(part).ok_or_else(broken)?;
            self.note()?;
            return Ok(taken);
        }
        if !data.is_empty() {
            let (input, count) = self.desk.copy(data).ok_or_else(no_memory)?;
            let work = self.turns.work_mut().ok_or_else(broken)?;
            (work.input, work.pending) = (Some(input), 0..count);
            taken = count;
        }
        match self.turns.hand_over() {
            true => Ok(taken),
            false => Err(no_memory()),
        }
    }

    /// Whether it is done here. What a step of Brotli's or zstd's takes is not bounded by what goes in and comes
    /// out: the one fills its window first, and the other a block of 128 KiB.
    fn has_time(&mut self) -> bool {
        let is_bounded = matches!(self.coding, RequestCoding::Gzip | RequestCoding::Deflate);
        is_bounded && self.turns.has_time_for(STEP_TIME)
    }

    /// Sees to it that there is a place for what comes.
    fn make_room(&mut self) -> Result<(), Fault> {
        let work = self.turns.work_mut().ok_or_else(broken)?;
        work.ready = 0..0;
        if work.output.is_none() {
            work.output = Some(self.desk.place().ok_or_else(no_memory)?);
        }
        Ok(())
    }

    /// Takes note of what was come to: whether it is within what it may be.
    fn note(&mut self) -> Result<(), Fault> {
        let work = self.turns.work_mut().ok_or_else(broken)?;
        let step = match work.outcome {
            Ok(step) => step,
            Err(error) => return Err(self.malformed(error)),
        };
        self.taken_bytes += step.taken as u64;
        self.given_bytes += step.given as u64;
        let bounds = self.bounds;
        if self.given_bytes > bounds.plain {
            self.detail = "decompressed";
            return Err(fault(Cause::BodyTooLarge));
        }
        if bounds.coded.is_some_and(|most| self.taken_bytes > most) {
            return Err(fault(Cause::BodyTooLarge));
        }
        let most = self.taken_bytes.saturating_mul(bounds.ratio);
        if self.given_bytes > most.max(RATIO_FROM_BYTES) {
            return Err(fault(Cause::DecompressionRatio));
        }
        Ok(())
    }

    fn malformed(&mut self, error: DecodeError) -> Fault {
        self.detail = match error {
            DecodeError::Malformed => "it is not in its content coding",
            DecodeError::Trailing => "something follows its end",
            DecodeError::CutOff => "it is cut off",
            DecodeError::Window => "its window is larger than is taken",
            DecodeError::Empty => "too many of its parts are empty",
            DecodeError::Memory => return no_memory(),
            DecodeError::Library => return broken(),
        };
        fault(Cause::BadCoding)
    }
}

fn fault(cause: Cause) -> Fault {
    Fault::client(Phase::RequestBody, cause)
}

fn no_memory() -> Fault {
    Fault::outgrow(Phase::RequestBody, Cause::MemoryLimit)
}

fn broken() -> Fault {
    Fault::outgrow(Phase::RequestBody, Cause::Internal)
}
