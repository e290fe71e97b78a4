//! The body of one request being decompressed: bytes are taken from the client as they are wanted, and
//! what becomes of them lies here until it is taken.
//!
//! A little work is done at once on the worker's thread, more by the threads that compress. Whatever the
//! client sends, at most a block of what it becomes is there at a time, and how much it may become in
//! all is looked at after each.

use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use outgrow_core::{Cause, Fault, Phase};
use outgrow_message::{Block, Blocks, BodySource, Need};

use super::codec::{DecodeError, Decoder, Step};
use crate::compress::{Held, Shelf};
use crate::pool::Ticket;
use crate::settings::RequestCoding;

/// How long the worker's thread may be at it in one go, by [`nanos_per_byte`].
const BUDGET_NANOS: u64 = 150_000;
/// What each step costs beside its bytes: streams of gzip are begun anew.
const STEP_NANOS: u64 = 2_000;
/// The most that is worked on at a time: a block of this class, 64 KiB.
const PIECE_CLASS: usize = 1;
/// What is given at a time here when the budget is spent and nobody else can do it.
const SLICE_BYTES: usize = 4 * 1_024;
/// From how many bytes on the ratio counts: what is small does no harm.
const RATIO_FROM_BYTES: u64 = 1 << 20;

/// How long a byte takes, taken or given, on an ordinary core: on the safe side.
fn nanos_per_byte(coding: RequestCoding) -> u64 {
    match coding {
        RequestCoding::Zstd => 3,
        RequestCoding::Gzip | RequestCoding::Deflate => 5,
        RequestCoding::Br => 8,
    }
}

/// How much a body may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// As it is sent, if that is bounded.
    pub(super) coded: Option<u64>,
    /// What it becomes.
    pub(super) plain: u64,
    /// What it becomes, as a multiple of what was sent.
    pub(super) ratio: u64,
}

/// Decompresses one body.
#[derive(Debug)]
pub(super) struct Inflater {
    shelf: Arc<Shelf>,
    blocks: Arc<Blocks>,
    coding: RequestCoding,
    bounds: Bounds,
    /// None while a thread has it.
    work: Option<Box<Work>>,
    ticket: Option<Ticket<Box<Work>>>,
    /// What this thread has done since it last waited for something.
    spent_nanos: u64,
    /// Too much was done here at once: others have their turn before there is more of it.
    yields: bool,
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
    /// What a thread came to.
    outcome: Result<Step, DecodeError>,
}

impl Work {
    /// Goes on with what a thread was given, until that is done or there is no room for more.
    fn run(&mut self) {
        let Self {
            decoder,
            input,
            pending,
            output,
            ..
        } = self;
        let input = input.as_deref().unwrap_or_default();
        let output = output.as_deref_mut().unwrap_or_default();
        let mut sum = Step::default();
        self.outcome = loop {
            let (rest, room) = (&input[pending.clone()], &mut output[sum.given..]);
            if room.is_empty() {
                break Ok(sum);
            }
            match decoder.step(rest, room) {
                Err(error) => break Err(error),
                Ok(step) => {
                    pending.start += step.taken;
                    sum.taken += step.taken;
                    sum.given += step.given;
                    if step == Step::default() || pending.start == pending.end {
                        break Ok(sum);
                    }
                }
            }
        };
    }
}

impl Inflater {
    /// None where there is no memory for it.
    pub(super) fn new(
        shelf: &Arc<Shelf>,
        blocks: &Arc<Blocks>,
        coding: RequestCoding,
        bounds: Bounds,
    ) -> Option<Box<Self>> {
        let decoder = Decoder::new(coding).ok()?;
        let is_small = matches!(coding, RequestCoding::Gzip | RequestCoding::Deflate);
        let held = shelf.hold_decoder(decoder.held_bytes(), is_small)?;
        Some(Box::new(Self {
            shelf: Arc::clone(shelf),
            blocks: Arc::clone(blocks),
            coding,
            bounds,
            work: Some(Box::new(Work {
                decoder,
                held,
                input: None,
                pending: 0..0,
                output: None,
                ready: 0..0,
                is_full: false,
                outcome: Ok(Step::default()),
            })),
            ticket: None,
            spent_nanos: 0,
            yields: false,
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
        match self.work.as_deref() {
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
        if let Some(work) = &mut self.work {
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
            if std::mem::take(&mut self.yields) {
                self.spent_nanos = 0;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if let Some(ticket) = &self.ticket {
                self.work = ready!(ticket.poll(cx));
                self.ticket = None;
                self.spent_nanos = 0;
                self.note_thread()?;
            }
            let Some(work) = &mut self.work else {
                return Poll::Ready(Err(broken()));
            };
            if !work.ready.is_empty() {
                return Poll::Ready(Ok(true));
            }
            if !work.pending.is_empty() || work.is_full {
                self.advance(&[], false)?;
                continue;
            }
            // Nothing is held while nobody has anything to say.
            (work.input, work.output) = (None, None);
            (work.pending, work.ready) = (0..0, 0..0);
            if self.has_all {
                return Poll::Ready(self.end());
            }
            match down.poll_data(cx) {
                Poll::Pending => {
                    self.spent_nanos = 0;
                    return Poll::Pending;
                }
                Poll::Ready(Err(fault)) => return Poll::Ready(Err(fault)),
                Poll::Ready(Ok(true)) => {
                    let taken = self.advance(down.data(), true)?;
                    down.consume(taken);
                }
                Poll::Ready(Ok(false)) => {
                    self.has_all = true;
                    if let Some(work) = &mut self.work
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
        match &self.work {
            Some(work) if work.decoder.is_whole() => Ok(false),
            _ => Err(self.malformed(DecodeError::CutOff)),
        }
    }

    /// Goes a step further, with `data` where it is the client's and with what is here otherwise, on this
    /// thread or another one's; how much of `data` was taken.
    fn advance(&mut self, data: &[u8], is_clients: bool) -> Result<usize, Fault> {
        let output = match self.work.as_mut().and_then(|work| work.output.take()) {
            Some(output) => output,
            None => self
                .blocks
                .take_up_to(PIECE_CLASS, Need::Usual)
                .ok_or_else(no_memory)?,
        };
        let nanos = nanos_per_byte(self.coding);
        let left = BUDGET_NANOS.saturating_sub(self.spent_nanos + STEP_NANOS) / nanos;
        let mut room = output.len().min(left as usize);
        let Some(work) = &mut self.work else {
            return Err(broken());
        };
        work.output = Some(output);
        work.ready = 0..0;
        if room < SLICE_BYTES {
            let input = match is_clients {
                true => self.blocks.take_up_to(PIECE_CLASS, Need::Usual),
                false => None,
            };
            if !is_clients || input.is_some() {
                let taken = match input {
                    Some(mut input) => {
                        let count = data.len().min(input.len());
                        input[..count].copy_from_slice(&data[..count]);
                        (work.input, work.pending) = (Some(input), 0..count);
                        count
                    }
                    None => 0,
                };
                self.hand_over()?;
                return Ok(taken);
            }
            // There is no memory to have it done elsewhere.
            self.yields = true;
            room = SLICE_BYTES;
        }
        let work = self.work.as_mut().ok_or_else(broken)?;
        let Work {
            decoder,
            input,
            pending,
            output,
            ..
        } = &mut **work;
        let bytes = match is_clients {
            // So much costs no more than what it may become.
            true => &data[..data.len().min(room)],
            false => &input.as_deref().unwrap_or_default()[pending.clone()],
        };
        let output = output.as_deref_mut().unwrap_or_default();
        let room = room.min(output.len());
        let stepped = decoder.step(bytes, &mut output[..room]);
        let step = stepped.map_err(|error| self.malformed(error))?;
        let work = self.work.as_mut().ok_or_else(broken)?;
        if !is_clients {
            work.pending.start += step.taken;
        }
        work.is_full = step.given == room;
        work.ready = 0..step.given;
        self.spent_nanos += STEP_NANOS + (step.taken.max(step.given)) as u64 * nanos;
        self.note(step)?;
        Ok(if is_clients { step.taken } else { 0 })
    }

    /// Lets a thread go on; where none has time it is done here.
    fn hand_over(&mut self) -> Result<(), Fault> {
        let mut work = self.work.take().ok_or_else(broken)?;
        let run = move || {
            work.run();
            work
        };
        match self.shelf.submit(run) {
            Ok(ticket) => {
                self.ticket = Some(ticket);
                Ok(())
            }
            Err(run) => {
                self.work = Some(run());
                self.yields = true;
                self.note_thread()
            }
        }
    }

    /// Takes note of what a thread came to.
    fn note_thread(&mut self) -> Result<(), Fault> {
        let work = self.work.as_mut().ok_or_else(broken)?;
        let step = match work.outcome {
            Ok(step) => step,
            Err(error) => return Err(self.malformed(error)),
        };
        let room = work.output.as_ref().map_or(0, |output| output.len());
        work.is_full = step.given == room;
        work.ready = 0..step.given;
        self.note(step)
    }

    /// Whether what it came to is within what it may.
    fn note(&mut self, step: Step) -> Result<(), Fault> {
        self.taken_bytes += step.taken as u64;
        self.given_bytes += step.given as u64;
        let work = self.work.as_mut().ok_or_else(broken)?;
        if !work.held.grow(work.decoder.held_bytes()) {
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
