//! One response being compressed: bytes go in as the source gives them, and out to the client as it
//! takes them.
//!
//! A little work is done at once on the worker's thread, more by the threads of the pool, so that
//! no other connection waits for long. At any time the compressor is in one place: here, or there.

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use outgrow_core::{Cause, Fault, Phase};
use outgrow_http::Downstream;
use outgrow_message::Block;

use super::codec::{Codec, CodecError, Manner, Operation, Step};
use super::room::Held;
use super::turns::{Desk, Errand, Go, Turns};

/// Where less room than this is left for output, what is there goes out first.
const LEAST_ROOM_BYTES: usize = 4 * 1_024;

/// Compresses one response.
#[derive(Debug)]
pub(crate) struct Encoder {
    desk: Arc<Desk>,
    manner: Manner,
    turns: Turns<Work>,
    /// Bytes that the compressor has taken and may not have worked on.
    gathered: usize,
    /// Bytes were taken that no flush has followed.
    dirty: bool,
    /// Whether a pause of the source is a reason to flush.
    flushes_pauses: bool,
    taken_bytes: u64,
    given_bytes: u64,
}

/// A compressor with what it works on.
#[derive(Debug)]
struct Work {
    /// The compressor and what it counts for, until all of its output is here: the client's time to
    /// take that is not the compressor's.
    engine: Option<(Codec, Held)>,
    input: Option<Block>,
    pending: std::ops::Range<usize>,
    output: Block,
    ready: std::ops::Range<usize>,
    operation: Operation,
    outcome: Result<bool, CodecError>,
}

impl Work {
    fn new(codec: Codec, held: Held, output: Block) -> Self {
        Self {
            engine: Some((codec, held)),
            input: None,
            pending: 0..0,
            output,
            ready: 0..0,
            operation: Operation::Process,
            outcome: Ok(true),
        }
    }

    fn is_done(&self) -> bool {
        self.outcome == Ok(true)
    }

    /// Takes a copy of what is to be worked on; how much.
    fn load(&mut self, (input, count): (Block, usize)) -> usize {
        self.input = Some(input);
        self.pending = 0..count;
        self.outcome = Ok(false);
        count
    }

    /// Takes of `data` as it lies there, as far as `go` says; how much.
    fn take(&mut self, data: &[u8], go: Go) -> Result<usize, CodecError> {
        let mut taken = 0;
        while taken < data.len() && self.ready.end < self.output.len() {
            let rest = &data[taken..];
            let piece = &rest[..rest.len().min(go.step_bytes)];
            taken += self.step(piece, go, Operation::Process)?.taken;
            if !go.goes_on() {
                break;
            }
        }
        Ok(taken)
    }

    fn step(&mut self, data: &[u8], go: Go, operation: Operation) -> Result<Step, CodecError> {
        let (codec, _) = self.engine.as_mut().ok_or(CodecError)?;
        let room = &mut self.output[self.ready.end..];
        let count = room.len().min(go.step_bytes);
        let step = codec.step(data, &mut room[..count], operation)?;
        self.ready.end += step.given;
        Ok(step)
    }
}

impl Errand for Work {
    fn run(&mut self, go: Go) {
        let input = self.input.take();
        let bytes = input.as_deref().unwrap_or_default();
        while self.outcome == Ok(false) && self.ready.end < self.output.len() {
            let rest = &bytes[self.pending.clone()];
            let piece = &rest[..rest.len().min(go.step_bytes)];
            let is_last = piece.len() == rest.len();
            let operation = match is_last {
                true => self.operation,
                false => Operation::Process,
            };
            self.outcome = self.step(piece, go, operation).map(|step| {
                self.pending.start += step.taken;
                is_last && step.done
            });
            if !go.goes_on() {
                break;
            }
        }
        self.input = input;
    }
}

impl Encoder {
    /// For a response of `length` bytes where that is known; none where there is no memory for it.
    pub(super) fn new(desk: &Arc<Desk>, manner: Manner, length: Option<u64>) -> Option<Box<Self>> {
        let output = desk.blocks.take()?;
        let (codec, held) = desk.shelf.take(manner, length)?;
        Some(Box::new(Self {
            desk: Arc::clone(desk),
            manner,
            turns: desk.response(Work::new(codec, held, output)),
            gathered: 0,
            dirty: false,
            // Who says a length has all of it; who does not may be making it.
            flushes_pauses: length.is_none(),
            taken_bytes: 0,
            given_bytes: 0,
        }))
    }

    /// Bytes taken from the source, and given to the client.
    pub(super) fn totals(&self) -> (u64, u64) {
        (self.taken_bytes, self.given_bytes)
    }

    /// Takes some of `data`, which is not empty; how much.
    pub(super) fn poll_push<D: Downstream>(
        &mut self,
        cx: &mut Context<'_>,
        down: &mut D,
        data: &[u8],
    ) -> Poll<Result<usize, Fault>> {
        loop {
            ready!(self.poll_settle(cx, down, false))?;
            let Some(work) = self.turns.work_mut() else {
                return Poll::Ready(Err(broken()));
            };
            work.operation = Operation::Process;
            let gathered = self.gathered + data.len();
            let estimate = match gathered < self.manner.block_bytes() {
                true => Duration::ZERO,
                false => self.estimate(gathered),
            };
            let taken = if self.turns.has_time_for(estimate) {
                self.turns.here(|work, go| work.take(data, go))
            } else {
                ready!(self.turns.poll_line(cx));
                match self.desk.copy(data) {
                    Some(piece) => {
                        let taken = self.turns.work_mut().map(|work| work.load(piece));
                        self.hand_over();
                        taken.map(Ok)
                    }
                    // There is no memory to have it done elsewhere.
                    None => self.turns.slice(|work, go| work.take(data, go)),
                }
            };
            let taken = taken.and_then(Result::ok).ok_or_else(broken)?;
            if taken > 0 {
                self.note(taken);
                return Poll::Ready(Ok(taken));
            }
        }
    }

    /// Lets a thread go on.
    fn hand_over(&mut self) {
        if !self.turns.hand_over() {
            self.turns.slice(Work::run);
        }
    }

    /// How long so many bytes take, as far as that is known before.
    fn estimate(&self, bytes: usize) -> Duration {
        Duration::from_nanos(bytes as u64 * self.manner.nanos_per_byte())
    }

    fn note(&mut self, taken: usize) {
        self.dirty = true;
        self.taken_bytes += taken as u64;
        self.gathered += taken;
        if self.gathered >= self.manner.block_bytes() {
            self.gathered = 0;
        }
    }

    /// The source pauses: what it gave is to reach the client where that matters.
    pub(super) fn poll_pause<D: Downstream>(
        &mut self,
        cx: &mut Context<'_>,
        down: &mut D,
    ) -> Poll<Result<(), Fault>> {
        if self.flushes_pauses && self.dirty {
            ready!(self.poll_operation(cx, down, Operation::Flush))?;
            self.dirty = false;
        } else {
            ready!(self.poll_settle(cx, down, true))?;
        }
        Poll::Ready(Ok(()))
    }

    /// The source has ended: so does what the client gets.
    pub(super) fn poll_finish<D: Downstream>(
        &mut self,
        cx: &mut Context<'_>,
        down: &mut D,
    ) -> Poll<Result<(), Fault>> {
        self.poll_operation(cx, down, Operation::Finish)
    }

    /// Begins an operation when what is before it is over, and brings it to its end.
    fn poll_operation<D: Downstream>(
        &mut self,
        cx: &mut Context<'_>,
        down: &mut D,
        operation: Operation,
    ) -> Poll<Result<(), Fault>> {
        ready!(self.poll_settle(cx, down, true))?;
        let Some(work) = self.turns.work_mut() else {
            return Poll::Ready(Err(broken()));
        };
        if work.operation != operation {
            work.operation = operation;
            work.input = None;
            work.pending = 0..0;
            work.outcome = Ok(false);
            let gathered = std::mem::take(&mut self.gathered);
            let estimate = self.estimate(gathered);
            if self.turns.has_time_for(estimate) {
                self.turns.here(Work::run);
            }
            ready!(self.poll_settle(cx, down, true))?;
        }
        if let Some(work) = self.turns.work_mut()
            && operation == Operation::Flush
        {
            // The next flush is another one.
            work.operation = Operation::Process;
        }
        Poll::Ready(Ok(()))
    }

    /// Waits until what was begun is over and its output is with the client, or, unless `all` of it
    /// has to be, until there is room for more.
    fn poll_settle<D: Downstream>(
        &mut self,
        cx: &mut Context<'_>,
        down: &mut D,
        all: bool,
    ) -> Poll<Result<(), Fault>> {
        loop {
            ready!(self.turns.poll(cx));
            let Some(work) = self.turns.work_mut() else {
                return Poll::Ready(Err(broken()));
            };
            if work.outcome.is_err() {
                return Poll::Ready(Err(broken()));
            }
            if work.operation == Operation::Finish && work.is_done() {
                let engine = work.engine.take();
                self.desk.shelf.give_back(self.manner, engine);
            }
            let has_room = work.output.len() - work.ready.end >= LEAST_ROOM_BYTES;
            if !(work.is_done() && has_room && !all) {
                while !work.ready.is_empty() {
                    let bytes = &work.output[work.ready.clone()];
                    let taken = ready!(down.poll_push(cx, bytes))?;
                    work.ready.start += taken;
                    self.given_bytes += taken as u64;
                }
                work.ready = 0..0;
            }
            if work.is_done() {
                work.input = None;
                return Poll::Ready(Ok(()));
            }
            ready!(self.turns.poll_line(cx));
            self.hand_over();
        }
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        if let Some(work) = self.turns.take() {
            self.desk.shelf.give_back(self.manner, work.engine);
        }
    }
}

fn broken() -> Fault {
    Fault::outgrow(Phase::ResponseBody, Cause::Internal)
}
