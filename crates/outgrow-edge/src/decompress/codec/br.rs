//! Brotli's decompressor: what it allocates is counted, and it waits where it has no room for a larger window.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use brotli::enc::StandardAlloc;
use brotli::{Allocator, BrotliDecompressStream, BrotliResult, BrotliState};

use super::super::hold::Hold;
use super::{DecodeError, Step};

/// Cells of bytes that are larger than this are Brotli's window, which is a little more than it says.
const SLACK_BYTES: u64 = 64 * 1_024;
/// What Brotli's is given to begin with, and has beside a window: enough for the tables of ordinary text (19 KB)
/// and the smallest windows; and what it has beside one of so many bytes or more, for those that come to need it.
pub(super) const BYTES: u64 = 96 * 1_024;
const LARGE_BYTES: u64 = 512 * 1_024;
const BESIDE_LARGE_BYTES: u64 = 448 * 1_024;

/// What Brotli's decompressor allocates, counted: how much that is its client decides.
#[derive(Clone, Debug)]
struct Counted(Arc<Mutex<Count>>);

#[derive(Debug)]
struct Count {
    held: Hold,
    most_window: u64,
    /// The window as far as it is used: it grows with what is to come. While a larger one takes the place of a
    /// smaller one, which is a copy's time, there are both.
    window_bytes: u64,
    /// All else.
    other_bytes: u64,
    /// Why there is no larger window.
    refused: Option<Refused>,
}

/// Why Brotli has no larger window.
#[derive(Clone, Copy, Debug)]
enum Refused {
    /// It is larger than is taken.
    TooLarge,
    /// It is to wait until so many bytes are held in all.
    Wants(u64),
}

impl Counted {
    fn new(held: Hold, most_window: u64) -> Self {
        Self(Arc::new(Mutex::new(Count {
            held,
            most_window,
            window_bytes: 0,
            other_bytes: size_of::<State>() as u64,
            refused: None,
        })))
    }

    fn count(&self) -> MutexGuard<'_, Count> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Count {
    /// Whether there may be a window of so many bytes: it is held before there is one.
    fn grow_window(&mut self, bytes: u64) -> bool {
        let beside = match bytes < LARGE_BYTES {
            true => BYTES,
            false => BESIDE_LARGE_BYTES,
        };
        let all = bytes + beside.max(self.other_bytes);
        if bytes > self.most_window.saturating_add(SLACK_BYTES) {
            self.refused = Some(Refused::TooLarge);
        } else if !self.held.grow_in_turn(all) {
            self.refused = Some(Refused::Wants(all));
        } else {
            self.window_bytes = bytes;
        }
        self.refused.is_none()
    }
}

type Allocated<T> = <StandardAlloc as Allocator<T>>::AllocatedMemory;

impl<T: Clone + Default> Allocator<T> for Counted {
    type AllocatedMemory = Allocated<T>;

    fn alloc_cell(&mut self, count: usize) -> Self::AllocatedMemory {
        let bytes = (count * size_of::<T>()) as u64;
        let mut counts = self.count();
        if size_of::<T>() == 1 && bytes > SLACK_BYTES {
            if !counts.grow_window(bytes) {
                // What the library takes for a failure.
                return Allocated::default();
            }
        } else {
            counts.other_bytes += bytes;
        }
        StandardAlloc::default().alloc_cell(count)
    }

    fn free_cell(&mut self, cell: Self::AllocatedMemory) {
        let bytes = size_of_val(brotli::SliceWrapper::slice(&cell)) as u64;
        let mut counts = self.count();
        if size_of::<T>() > 1 || bytes <= SLACK_BYTES {
            counts.other_bytes -= bytes;
        } else if counts.window_bytes == bytes {
            counts.window_bytes = 0;
        }
        StandardAlloc::default().free_cell(cell);
    }
}

type State = BrotliState<Counted, Counted, Counted>;

/// A decompressor for one stream.
pub(super) struct Brotli {
    state: Box<State>,
    counted: Counted,
}

impl Brotli {
    /// With a window of at most `most_window` bytes. What it needs `held` counts.
    pub(super) fn new(held: Hold, most_window: u64) -> Self {
        let counted = Counted::new(held, most_window);
        let [one, two, three] = [counted.clone(), counted.clone(), counted.clone()];
        // Strict: otherwise a stream may ask for a window of a gigabyte.
        let state = Box::new(State::new_strict(one, two, three));
        Self { state, counted }
    }

    /// Counts what it holds by now; whether there is room for it.
    pub(super) fn is_held(&self) -> bool {
        let counts = self.counted.count();
        let bytes = counts.other_bytes + counts.window_bytes;
        counts.held.grow(bytes)
    }

    /// Waits until so many bytes are held; whether there is room for them at all.
    pub(super) fn poll_room(&self, bytes: u64, cx: &Context<'_>) -> Poll<bool> {
        self.counted.count().held.poll_grow(bytes, cx)
    }

    /// What its window has of memory.
    #[cfg(test)]
    pub(super) fn window_bytes(&self) -> u64 {
        self.counted.count().window_bytes
    }

    /// How far it came, whether that is an end, and how much it is to be given before it can go on.
    pub(super) fn step(
        &mut self,
        input: &[u8],
        output: &mut [u8],
    ) -> Result<(Step, bool, u64), DecodeError> {
        let state = &mut *self.state;
        let (mut left, mut room) = (input.len(), output.len());
        let (mut taken, mut given, mut total) = (0, 0, 0);
        let before = state.error_code;
        let result = BrotliDecompressStream(
            &mut left, &mut taken, input, &mut room, &mut given, output, &mut total, state,
        );
        let step = Step { taken, given };
        match result {
            BrotliResult::ResultSuccess => Ok((step, true, 0)),
            BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => Ok((step, false, 0)),
            BrotliResult::ResultFailure => match self.counted.count().refused.take() {
                Some(Refused::Wants(bytes)) => {
                    // It stays where it is, and has lost nothing ("failed_ring_buffer_growth_keeps_the_current_one"
                    // among its own tests), but takes it for its end. Where its window was to come with the last
                    // of a block's tables, it would read one more of them: there is none. That is so of this
                    // version of the library (`tests`).
                    state.error_code = before;
                    state.loop_counter = 2;
                    state.distance_hgroup.num_htrees = 0;
                    Ok((step, false, bytes))
                }
                Some(Refused::TooLarge) => Err(DecodeError::Window),
                None => Err(DecodeError::Malformed),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    /// [`super::Brotli::step`] sets fields of the library's state when a window was refused. With another version, look
    /// at what follows on a failure of `WriteRingBuffer` in its `decode.rs` (which state it is left in, and what
    /// `loop_counter` and `num_htrees` are there), run the tests on bodies that wait, and name that version here.
    #[test]
    fn the_library_is_the_one_whose_state_is_known() {
        const LOCK: &str = include_str!("../../../../../Cargo.lock");
        let (_, rest) = LOCK
            .split_once("name = \"brotli-decompressor\"\n")
            .expect("it is used");
        assert_eq!(rest.lines().next(), Some("version = \"6.3.1\""));
        assert_eq!(LOCK.matches("name = \"brotli-decompressor\"").count(), 1);
    }
}
