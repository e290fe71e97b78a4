//! The body of one request being decompressed: bytes are taken from the client as they are wanted, and
//! what becomes of them lies here until it is taken.
//!
//! A little work is done at once on the worker's thread, more by the threads that compress. Whatever the
//! client sends, at most a block of what it becomes is there at a time, and how much it may become in
//! all is looked at after each.

use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use outgrow_core::{Cause, Clock, Fault, Phase};
use outgrow_message::{Block, Blocks, BodySource, Need};

use super::codec::{DecodeError, Decoder, Step};
use crate::compress::{Errand, Go, Held, Shelf, Turns, Whose};
use crate::settings::RequestCoding;

/// What a slice of an ordinary body takes on an ordinary core: on the safe side.
const SLICE_TIME: Duration = Duration::from_micros(30);
/// The most that is worked on at a time: a block of this class, 64 KiB.
const PIECE_CLASS: usize = 1;
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
    blocks: Arc<Blocks>,
    coding: RequestCoding,
    bounds: Bounds,
    turns: Turns<Work>,
    /// The client has sent all.
    has_all: bool,
    taken_bytes: u64,
    given_bytes: u64,
    /// Why it failed, if it did.
    detail: &'static str,
}

/// A decompressor with what it works on.
#[derive(Debug)]
struct Work {
    decoder: Decoder,
    held: Held,
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
        self.is_full = true;
        self.outcome = loop {
            let (rest, room) = (&bytes[sum.taken..], &mut output[sum.given..]);
            if room.is_empty() {
                break Ok(sum);
            }
            let piece = &rest[..rest.len().min(go.step_bytes())];
            let most = room.len().min(go.step_bytes());
            match self.decoder.step(piece, &mut room[..most]) {
                Err(error) => break Err(error),
                Ok(step) => {
                    sum.taken += step.taken;
                    sum.given += step.given;
                    self.is_full = step.given == most;
                    let is_over = sum.taken == bytes.len() && !self.is_full;
                    if is_over || !go.goes_on() {
                        break Ok(sum);
                    }
                }
            }
        };
        self.ready = 0..sum.given;
        sum.taken
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
    /// For a body of `client`'s, where that is known; none where there is no memory for it.
    pub(super) fn new(
        shelf: &Arc<Shelf>,
        blocks: &Arc<Blocks>,
        clock: Clock,
        (coding, bounds): (RequestCoding, Bounds),
        client: Option<IpAddr>,
    ) -> Option<Box<Self>> {
        let decoder = Decoder::new(coding, bounds.window).ok()?;
        let held = shelf.hold_decoder(decoder.held_bytes(), client)?;
        let work = Work {
            decoder,
            held,
            input: None,
            pending: 0..0,
            output: None,
            ready: 0..0,
            is_full: false,
            outcome: Ok(Step::default()),
        };
        Some(Box::new(Self {
            blocks: Arc::clone(blocks),
            coding,
            bounds,
            turns: Turns::new(shelf, Whose::Requests, clock, work),
            has_all: false,
            taken_bytes: 0,
            given_bytes: 0,
            detail: "",
        }))
    }

    /// Bytes taken from the client, and what became of them.
    pub(super) fn totals(&self) -> (u64, u64) {
        (self.taken_bytes, self.given_bytes)
    }

    /// What was wrong with the body; empty when nothing was.
    pub(super) fn detail(&self) -> &'static str {
        self.detail
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
                self.go_on()?;
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
                    let taken = self.take(down.data())?;
                    down.consume(taken);
                }
                Poll::Ready(Ok(false)) => {
                    self.has_all = true;
                    if let Some(work) = self.turns.work_mut()
                        && !work.decoder.is_whole()
                    {
                        // What it has kept comes out now.
                        work.is_full = true;
                    }
                }
            }
        }
    }

    fn end(&mut self) -> Result<bool, Fault> {
        match self.turns.work() {
            Some(work) if work.decoder.is_whole() => Ok(false),
            _ => Err(self.malformed(DecodeError::CutOff)),
        }
    }

    /// Takes of `data`, which is the client's, on this thread or for another one; how much.
    fn take(&mut self, data: &[u8]) -> Result<usize, Fault> {
        self.make_room()?;
        let taken = if self.has_time() {
            self.turns.here(|work, go| work.decode(data, go))
        } else if let Some(mut input) = self.blocks.take_up_to(PIECE_CLASS, Need::Usual) {
            let count = data.len().min(input.len());
            input[..count].copy_from_slice(&data[..count]);
            let work = self.turns.work_mut().ok_or_else(broken)?;
            (work.input, work.pending) = (Some(input), 0..count);
            if self.turns.hand_over() {
                self.note()?;
            }
            return Ok(count);
        } else {
            // There is no memory to have it done elsewhere.
            self.turns.slice(|work, go| work.decode(data, go))
        };
        self.note()?;
        taken.ok_or_else(broken)
    }

    /// Goes on with what is here of the client's.
    fn go_on(&mut self) -> Result<(), Fault> {
        self.make_room()?;
        let is_here = match self.has_time() {
            true => self.turns.here(Work::run).is_some(),
            false => self.turns.hand_over(),
        };
        match is_here {
            true => self.note(),
            false => Ok(()),
        }
    }

    /// Whether it is done here. What a step of Brotli's takes is not bounded by what goes in and comes out:
    /// it fills its window first.
    fn has_time(&mut self) -> bool {
        self.coding != RequestCoding::Br && self.turns.has_time_for(SLICE_TIME)
    }

    /// Sees to it that there is a place for what comes.
    fn make_room(&mut self) -> Result<(), Fault> {
        let work = self.turns.work_mut().ok_or_else(broken)?;
        work.ready = 0..0;
        if work.output.is_none() {
            let output = self.blocks.take_up_to(PIECE_CLASS, Need::Usual);
            work.output = Some(output.ok_or_else(no_memory)?);
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
        let has_room = work.held.grow(work.decoder.held_bytes());
        self.taken_bytes += step.taken as u64;
        self.given_bytes += step.given as u64;
        if !has_room {
            return Err(no_memory());
        }
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
