//! A wire without a kernel: it splits, delays and breaks by a seed, and shows when somebody waits
//! for nothing.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Wake, Waker};

use outgrow_core::Random;
use outgrow_net::Transport;

/// What comes after the last byte of what the peer sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// The end of its stream.
    End,
    /// A reset. Asked again, a real socket says "end of file" afterwards, and so does this one.
    Reset,
    /// Nothing, for ever.
    Silence,
}

#[derive(Debug)]
struct State {
    random: Random,
    /// Of 100 calls, how many are pending first.
    delays: usize,
    /// The most bytes that one call moves.
    piece: usize,
    input: Vec<u8>,
    taken: usize,
    then: Then,
    output: Vec<u8>,
    /// Bytes that the transport holds until it is flushed, as an encrypted one may.
    held: Vec<u8>,
    holds_back: bool,
    /// After so many bytes of output the peer is gone, or takes no more.
    output_limit: (usize, Then),
    /// What arrives once the peer has so much of the output.
    due: Option<(usize, Vec<u8>, Then)>,
    shut: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// One end of a wire; clones are the same end.
#[derive(Clone, Debug)]
pub(super) struct Wire(Arc<Mutex<State>>);

impl Wire {
    /// A wire on which `input` arrives, and then `then`. About `bytes` will move over it in all:
    /// the more, the larger are the pieces.
    pub(super) fn new(seed: u64, input: &[u8], then: Then, bytes: usize) -> Self {
        let mut random = Random::from_seed(seed);
        let delays = [0, 10, 50, 90][random.below(4)];
        let piece = [1, 2, 7, 100, 5_000, 1 << 20][random.below(6)].max(bytes / 500);
        let holds_back = random.below(3) == 0;
        Self(Arc::new(Mutex::new(State {
            random,
            delays,
            piece,
            input: input.to_vec(),
            taken: 0,
            then,
            output: Vec::new(),
            held: Vec::new(),
            holds_back,
            output_limit: (usize::MAX, Then::Reset),
            due: None,
            shut: false,
            reader: None,
            writer: None,
        })))
    }

    /// The same, always in pieces of so many bytes and without delays.
    pub(super) fn in_pieces(piece: usize, input: &[u8], then: Then) -> Self {
        let wire = Self::new(0, input, then, 0);
        let mut state = wire.lock();
        (state.piece, state.delays, state.holds_back) = (piece, 0, false);
        drop(state);
        wire
    }

    /// The peer takes so many bytes and is gone, or, by `Then::Silence`, takes no more.
    pub(super) fn limit_output(&self, bytes: usize, then: Then) {
        self.lock().output_limit = (bytes, then);
    }

    /// More arrives, once the peer has `after` bytes of the output.
    pub(super) fn feed(&self, after: usize, bytes: &[u8], then: Then) {
        let mut state = self.lock();
        state.due = Some((after, bytes.to_vec(), then));
        state.note_output();
    }

    /// Bytes that arrived and were not read yet.
    pub(super) fn unread(&self) -> usize {
        let state = self.lock();
        state.input.len() - state.taken
    }

    /// What the peer has received.
    pub(super) fn output(&self) -> Vec<u8> {
        self.lock().output.clone()
    }

    /// Whether our direction was ended.
    pub(super) fn is_shut(&self) -> bool {
        self.lock().shut
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no thread but this one")
    }

    /// Wakes somebody who waits for what can happen.
    fn wake_one(&self) -> bool {
        let mut state = self.lock();
        let readable = state.taken < state.input.len() || state.then != Then::Silence;
        let read_first = state.random.below(2) == 0;
        let mut waker = None;
        if read_first && readable {
            waker = state.reader.take();
        }
        if waker.is_none() && !state.is_stuck() {
            waker = state.writer.take();
        }
        if waker.is_none() && readable {
            waker = state.reader.take();
        }
        drop(state);
        waker.map(Waker::wake).is_some()
    }

    fn waits_for_peer(&self) -> bool {
        let state = self.lock();
        state.reader.is_some() || state.is_stuck()
    }
}

impl State {
    /// Whether the peer takes no more of the output.
    fn is_stuck(&self) -> bool {
        let (limit, then) = self.output_limit;
        then == Then::Silence && self.output.len() + self.held.len() >= limit
    }

    /// The peer has got more.
    fn note_output(&mut self) {
        let has = self.output.len();
        if let Some((_, bytes, then)) = self.due.take_if(|(after, ..)| *after <= has) {
            self.input.extend(bytes);
            self.then = then;
        }
    }

    fn delayed(&mut self) -> bool {
        self.random.below(100) < self.delays
    }

    fn write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        assert!(!self.shut, "a write after the end was said");
        if self.delayed() || self.is_stuck() {
            self.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let sent = self.output.len() + self.held.len();
        if sent >= self.output_limit.0 {
            // What was sent before it broke is there.
            let held = std::mem::take(&mut self.held);
            self.output.extend(held);
            self.note_output();
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let whole: usize = slices.iter().map(|slice| slice.len()).sum();
        assert!(whole > 0, "an empty write");
        let most = whole.min(self.piece).min(self.output_limit.0 - sent);
        let count = 1 + self.random.below(most);
        let bytes = slices.iter().flat_map(|slice| slice.iter()).take(count);
        if self.holds_back {
            self.held.extend(bytes);
        } else {
            self.output.extend(bytes);
            self.note_output();
        }
        Poll::Ready(Ok(count))
    }
}

impl Transport for Wire {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut state = self.lock();
        assert!(!buffer.is_empty(), "a read without room says end of file");
        let left = state.input.len() - state.taken;
        if state.delayed() || (left == 0 && state.then == Then::Silence) {
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if left == 0 {
            return Poll::Ready(match std::mem::replace(&mut state.then, Then::End) {
                Then::Reset => Err(io::ErrorKind::ConnectionReset.into()),
                _ => Ok(0),
            });
        }
        let most = left.min(state.piece).min(buffer.len());
        let count = 1 + state.random.below(most);
        let from = state.taken;
        buffer[..count].copy_from_slice(&state.input[from..from + count]);
        state.taken += count;
        Poll::Ready(Ok(count))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.lock().write(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.lock().write(cx, slices)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.lock();
        if state.holds_back && state.delayed() {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let held = std::mem::take(&mut state.held);
        state.output.extend(held);
        state.note_output();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.lock();
        if state.delayed() {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let held = std::mem::take(&mut state.held);
        state.output.extend(held);
        state.shut = true;
        Poll::Ready(Ok(()))
    }
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs `simulate` for each of so many seeds, or for the one of `OUTGROW_SEED`.
pub(super) fn over_seeds(count: u64, simulate: impl Fn(u64)) {
    struct Told(u64);
    impl Drop for Told {
        fn drop(&mut self) {
            if std::thread::panicking() {
                println!("failed with seed {0}: OUTGROW_SEED={0} repeats it", self.0);
            }
        }
    }
    let only = std::env::var("OUTGROW_SEED").ok();
    let only = only.map(|seed| seed.parse::<u64>().expect("OUTGROW_SEED is a number"));
    let seeds = only.map_or(0..count, |seed| seed..seed + 1);
    for seed in seeds {
        let _told = Told(seed);
        simulate(seed);
    }
}

/// Polls `future` as a runtime would: only when something woke it. `None`: it waits for a peer, from
/// which nothing will come. Panics when it waits for nothing at all, or never comes to an end.
pub(super) fn run<F: Future>(wires: &[&Wire], future: F) -> Option<F::Output> {
    let flag = Arc::new(Flag(AtomicBool::new(false)));
    let waker = Waker::from(Arc::clone(&flag));
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    for turn in 0..200_000_usize {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return Some(output);
        }
        if flag.0.swap(false, Ordering::Relaxed) {
            continue;
        }
        let first = turn % wires.len();
        let woken = (0..wires.len()).any(|offset| wires[(first + offset) % wires.len()].wake_one());
        if !woken {
            let silent = wires.iter().any(|wire| wire.waits_for_peer());
            assert!(silent, "it is pending and nothing will ever wake it");
            return None;
        }
        assert!(
            flag.0.swap(false, Ordering::Relaxed),
            "the waker was not the task's"
        );
    }
    panic!("it never comes to an end");
}
