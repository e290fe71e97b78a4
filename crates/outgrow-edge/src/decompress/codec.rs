//! The decompressors, behind one face: bytes in, bytes out, how far it came and whether that is an end.
//! Not here: whose thread does it and how much it may become (`inflater.rs`).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use brotli::enc::StandardAlloc;
use brotli::{Allocator, BrotliDecompressStream, BrotliResult, BrotliState};
use flate2::{Decompress, FlushDecompress, Status};
use zstd_safe::zstd_sys::ZSTD_ErrorCode;
use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

use crate::compress::Held;
use crate::settings::RequestCoding;

/// The largest window of gzip and zlib: 32 KiB.
const ZLIB_WINDOW_BITS: u8 = 15;
/// What one of them holds, rounded up.
const ZLIB_BYTES: u64 = 64 * 1_024;
/// The largest window of zstd that HTTP has: 8 MiB (RFC 9659 section 3).
const ZSTD_WINDOW_BITS: u32 = 23;
/// The smallest one that its decompressor can be bound to: 1 KiB.
const ZSTD_LEAST_WINDOW_BITS: u32 = 10;
/// Cells of bytes that are larger than this are Brotli's window, which is a little more than it says.
const BR_SLACK_BYTES: u64 = 64 * 1_024;
/// How many more streams of nothing there may be in a body than others: each costs a beginning, and gives
/// nothing that is bounded elsewhere. What is put together of many files has some, and each chunk of a frame
/// of zstd that can be sought in (its skippable frames) may have one.
const MOST_EMPTY: u32 = 1_024;

/// The library's number for that.
const ZSTD_WINDOW_TOO_LARGE: usize =
    (ZSTD_ErrorCode::ZSTD_error_frameParameter_windowTooLarge as usize).wrapping_neg();

/// What was sent is not what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DecodeError {
    #[error("the body is not in its content coding")]
    Malformed,
    #[error("something follows the end of the compressed body")]
    Trailing,
    #[error("the compressed body is cut off")]
    CutOff,
    #[error("the compressed body needs a larger window than is taken")]
    Window,
    #[error("the compressed body has too many parts without content")]
    Empty,
    #[error("there is no memory for what the body needs, or its client has its part")]
    Memory,
    #[error("the decompressor could not be made")]
    Library,
}

/// How far it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    /// Bytes taken.
    pub(super) taken: usize,
    /// Bytes given.
    pub(super) given: usize,
}

/// What Brotli's decompressor allocates, counted: how much that is its client decides.
#[derive(Clone, Debug)]
struct Counted(Arc<Mutex<Count>>);

#[derive(Debug)]
struct Count {
    held: Held,
    most_window: u64,
    /// The window as far as it is used: it grows with what is to come. While a larger one takes the place of a
    /// smaller one, which is a copy's time, there are both.
    window_bytes: u64,
    /// All else.
    other_bytes: u64,
    /// Why there is no larger window.
    refused: Option<DecodeError>,
}

impl Counted {
    fn new(held: Held, most_window: u64) -> Self {
        Self(Arc::new(Mutex::new(Count {
            held,
            most_window,
            window_bytes: 0,
            other_bytes: size_of::<Brotli>() as u64,
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
        if bytes > self.most_window.saturating_add(BR_SLACK_BYTES) {
            self.refused = Some(DecodeError::Window);
        } else if !self.held.grow(self.other_bytes + bytes) {
            self.refused = Some(DecodeError::Memory);
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
        if size_of::<T>() == 1 && bytes > BR_SLACK_BYTES {
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
        if size_of::<T>() > 1 || bytes <= BR_SLACK_BYTES {
            counts.other_bytes -= bytes;
        } else if counts.window_bytes == bytes {
            counts.window_bytes = 0;
        }
        StandardAlloc::default().free_cell(cell);
    }
}

type Brotli = BrotliState<Counted, Counted, Counted>;

enum Engine {
    /// Both gzip and zlib.
    Zlib(Decompress, Held),
    Zstd(DCtx<'static>, Held),
    Br(Box<Brotli>, Counted),
}

impl Engine {
    /// Counts what it holds by now; whether there is room for it.
    fn is_held(&mut self) -> bool {
        match self {
            Self::Zlib(_, held) => held.grow(ZLIB_BYTES),
            Self::Zstd(context, held) => held.grow(context.sizeof() as u64),
            Self::Br(_, counted) => {
                let mut counts = counted.count();
                let bytes = counts.other_bytes + counts.window_bytes;
                counts.held.grow(bytes)
            }
        }
    }
}

/// A decompressor for one body.
pub(super) struct Decoder {
    engine: Engine,
    coding: RequestCoding,
    /// A byte was taken.
    begun: bool,
    /// Something was given since the last stream began.
    gave: bool,
    /// The streams that gave nothing, less those that gave something.
    empty: u32,
    /// What was taken last ended a stream; there may be another one behind it, where the coding has that.
    ended: bool,
}

impl Decoder {
    /// With windows of at most `most_window` bytes, a power of two. What it needs `held` counts.
    pub(super) fn new(
        coding: RequestCoding,
        most_window: u64,
        held: Held,
    ) -> Result<Self, DecodeError> {
        let mut engine = match coding {
            RequestCoding::Gzip => Engine::Zlib(Decompress::new_gzip(ZLIB_WINDOW_BITS), held),
            RequestCoding::Deflate => Engine::Zlib(Decompress::new(true), held),
            RequestCoding::Zstd => {
                let mut context = DCtx::try_create().ok_or(DecodeError::Library)?;
                let bits = most_window.max(1).ilog2();
                let bits = bits.clamp(ZSTD_LEAST_WINDOW_BITS, ZSTD_WINDOW_BITS);
                context
                    .set_parameter(DParameter::WindowLogMax(bits))
                    .map_err(|_| DecodeError::Library)?;
                Engine::Zstd(context, held)
            }
            RequestCoding::Br => {
                let counted = Counted::new(held, most_window);
                let [one, two, three] = [counted.clone(), counted.clone(), counted.clone()];
                // Strict: otherwise a stream may ask for a window of a gigabyte.
                let state = Brotli::new_strict(one, two, three);
                Engine::Br(Box::new(state), counted)
            }
        };
        if !engine.is_held() {
            return Err(DecodeError::Memory);
        }
        Ok(Self {
            engine,
            coding,
            begun: false,
            gave: false,
            empty: 0,
            ended: false,
        })
    }

    /// Whether a body may end here: where a stream has ended, or with nothing at all.
    pub(super) fn is_whole(&self) -> bool {
        self.ended || !self.begun
    }

    /// Takes of `input`, which may be empty, and gives into `output`, which is not.
    pub(super) fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, DecodeError> {
        if self.ended {
            if input.is_empty() {
                return Ok(Step::default());
            }
            self.begin_another()?;
        }
        let (step, ended) = match &mut self.engine {
            Engine::Zlib(inflate, _) => step_zlib(inflate, input, output)?,
            Engine::Zstd(context, _) => step_zstd(context, input, output)?,
            Engine::Br(state, counted) => step_br(state, input, output)
                .map_err(|error| counted.count().refused.unwrap_or(error))?,
        };
        if !self.engine.is_held() {
            return Err(DecodeError::Memory);
        }
        self.begun |= step.taken > 0;
        self.gave |= step.given > 0;
        self.ended = ended && self.begun;
        if step == Step::default() && !input.is_empty() {
            return Err(DecodeError::Malformed);
        }
        Ok(step)
    }

    /// What Brotli's window has of memory.
    #[cfg(test)]
    pub(super) fn window_bytes(&self) -> u64 {
        match &self.engine {
            Engine::Br(_, counted) => counted.count().window_bytes,
            Engine::Zlib(..) | Engine::Zstd(..) => 0,
        }
    }

    /// A body may be several streams of gzip (RFC 1952 section 2.2) and of zstd (RFC 8878 section 3).
    fn begin_another(&mut self) -> Result<(), DecodeError> {
        match (&mut self.engine, self.coding) {
            (Engine::Zlib(inflate, _), RequestCoding::Gzip) => inflate.reset(true),
            // Its decompressor goes on by itself.
            (Engine::Zstd(..), _) => {}
            _ => return Err(DecodeError::Trailing),
        }
        self.empty = match std::mem::take(&mut self.gave) {
            true => self.empty.saturating_sub(1),
            false => self.empty + 1,
        };
        if self.empty > MOST_EMPTY {
            return Err(DecodeError::Empty);
        }
        self.ended = false;
        Ok(())
    }
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Decoder({})", self.coding)
    }
}

fn step_zlib(
    inflate: &mut Decompress,
    input: &[u8],
    output: &mut [u8],
) -> Result<(Step, bool), DecodeError> {
    let before = (inflate.total_in(), inflate.total_out());
    let status = inflate
        .decompress(input, output, FlushDecompress::None)
        .map_err(|_| DecodeError::Malformed)?;
    let step = Step {
        taken: (inflate.total_in() - before.0) as usize,
        given: (inflate.total_out() - before.1) as usize,
    };
    Ok((step, status == Status::StreamEnd))
}

fn step_zstd(
    context: &mut DCtx<'static>,
    input: &[u8],
    output: &mut [u8],
) -> Result<(Step, bool), DecodeError> {
    let mut source = InBuffer::around(input);
    let mut target = OutBuffer::around(output);
    let hint = context
        .decompress_stream(&mut target, &mut source)
        .map_err(|code| match code == ZSTD_WINDOW_TOO_LARGE {
            true => DecodeError::Window,
            false => DecodeError::Malformed,
        })?;
    let step = Step {
        taken: source.pos(),
        given: target.pos(),
    };
    Ok((step, hint == 0))
}

fn step_br(
    state: &mut Brotli,
    input: &[u8],
    output: &mut [u8],
) -> Result<(Step, bool), DecodeError> {
    let (mut left, mut room) = (input.len(), output.len());
    let (mut taken, mut given, mut total) = (0, 0, 0);
    let result = BrotliDecompressStream(
        &mut left, &mut taken, input, &mut room, &mut given, output, &mut total, state,
    );
    let ended = match result {
        BrotliResult::ResultSuccess => true,
        BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => false,
        BrotliResult::ResultFailure => return Err(DecodeError::Malformed),
    };
    Ok((Step { taken, given }, ended))
}
