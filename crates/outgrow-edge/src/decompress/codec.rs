//! The decompressors, behind one face: bytes in, bytes out, how far it came and whether that is an end.
//! One that wants more memory than there is now stops where it is, until it is given that.
//! Not here: whose thread does it and how much it may become (`inflater.rs`).

mod br;
mod frame;

use std::task::{Context, Poll};

use flate2::{Decompress, FlushDecompress, Status};
use zstd_safe::zstd_sys::ZSTD_ErrorCode;
use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

use self::br::Brotli;
use self::frame::FrameHead;
use super::hold::Hold;
use crate::settings::RequestCoding;

/// The largest window of gzip and zlib: 32 KiB.
const ZLIB_WINDOW_BITS: u8 = 15;
/// What one of them holds, rounded up.
const ZLIB_BYTES: u64 = 64 * 1_024;
/// What zstd's has before it knows a window, rounded up.
const ZSTD_BYTES: u64 = 100 * 1_024;
/// The largest block of zstd (RFC 8878 section 3.1.1.2.3).
const ZSTD_BLOCK_BYTES: u64 = 128 * 1_024;
/// The largest window of zstd that HTTP has: 8 MiB (RFC 9659 section 3).
const ZSTD_WINDOW_BITS: u32 = 23;
/// The smallest one that its decompressor can be bound to: 1 KiB.
const ZSTD_LEAST_WINDOW_BITS: u32 = 10;
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

enum Engine {
    /// Nothing was taken.
    Unbegun(Hold),
    /// Both gzip and zlib.
    Zlib(Decompress, Hold),
    Zstd(DCtx<'static>, Hold, FrameHead),
    Br(Brotli),
}

/// What zstd's decompressor holds for a window of so many bytes, at most: a block that comes, the window, and two
/// blocks more in front of which it begins anew.
pub(super) fn zstd_bytes(window: u64) -> u64 {
    ZSTD_BYTES + window + 3 * window.min(ZSTD_BLOCK_BYTES) + 64
}

impl Engine {
    /// One for bodies in `coding`, which holds what it needs.
    fn new(coding: RequestCoding, most_window: u64, held: Hold) -> Result<Self, DecodeError> {
        Ok(match coding {
            RequestCoding::Gzip => Self::Zlib(Decompress::new_gzip(ZLIB_WINDOW_BITS), held),
            RequestCoding::Deflate => Self::Zlib(Decompress::new(true), held),
            RequestCoding::Zstd => {
                let mut context = DCtx::try_create().ok_or(DecodeError::Library)?;
                context
                    .set_parameter(DParameter::WindowLogMax(most_window.ilog2()))
                    .map_err(|_| DecodeError::Library)?;
                Self::Zstd(context, held, FrameHead::default())
            }
            RequestCoding::Br => Self::Br(Brotli::new(held, most_window)),
        })
    }

    /// Counts what it holds by now; whether there is room for it.
    fn is_held(&mut self) -> bool {
        match self {
            Self::Unbegun(_) => true,
            Self::Zlib(_, held) => held.grow(ZLIB_BYTES),
            Self::Zstd(context, held, _) => held.grow(context.sizeof() as u64),
            Self::Br(brotli) => brotli.is_held(),
        }
    }
}

/// A decompressor for one body.
pub(super) struct Decoder {
    engine: Engine,
    coding: RequestCoding,
    /// The largest window, a power of two.
    most_window: u64,
    /// The bytes in all that are to be held before it can go on; 0 where it can.
    wants: u64,
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
    pub(super) fn new(coding: RequestCoding, most_window: u64, held: Hold) -> Self {
        let wants = match coding {
            RequestCoding::Gzip | RequestCoding::Deflate => ZLIB_BYTES,
            RequestCoding::Zstd => ZSTD_BYTES,
            RequestCoding::Br => br::BYTES,
        };
        let most_window = match coding {
            RequestCoding::Zstd => {
                most_window.clamp(1 << ZSTD_LEAST_WINDOW_BITS, 1 << ZSTD_WINDOW_BITS)
            }
            _ => most_window,
        };
        Self {
            engine: Engine::Unbegun(held),
            coding,
            most_window,
            wants,
            begun: false,
            gave: false,
            empty: 0,
            ended: false,
        }
    }

    /// Whether a body may end here: where a stream has ended, or with nothing at all.
    pub(super) fn is_whole(&self) -> bool {
        self.ended || !self.begun
    }

    /// Whether it goes on only when [`Decoder::poll_room`] has said so.
    pub(super) fn wants_room(&self) -> bool {
        self.wants > 0
    }

    /// Looks at what it is to be given first: what is needed for that is waited for at once.
    pub(super) fn foresee(&mut self, input: &[u8]) {
        if let (Engine::Unbegun(_), RequestCoding::Zstd) = (&self.engine, self.coding)
            && let Some(window) = FrameHead::default().window(input)
            && window <= self.most_window
        {
            self.wants = zstd_bytes(window);
        }
    }

    /// Waits until it can go on; whether it can, or there is no room at all for what it needs.
    pub(super) fn poll_room(&mut self, cx: &Context<'_>) -> Poll<bool> {
        if self.wants == 0 {
            return Poll::Ready(true);
        }
        let polled = match &mut self.engine {
            Engine::Unbegun(held) | Engine::Zlib(_, held) | Engine::Zstd(_, held, _) => {
                held.poll_grow(self.wants, cx)
            }
            Engine::Br(brotli) => brotli.poll_room(self.wants, cx),
        };
        if polled == Poll::Ready(true) {
            self.wants = 0;
        }
        polled
    }

    /// Takes of `input`, which may be empty, and gives into `output`, which is not: nothing while it wants room.
    pub(super) fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, DecodeError> {
        if self.wants_room() {
            return Ok(Step::default());
        }
        self.begin()?;
        if self.ended {
            if input.is_empty() {
                return Ok(Step::default());
            }
            self.begin_another()?;
        }
        let (step, ended) = match &mut self.engine {
            Engine::Unbegun(_) => return Err(DecodeError::Library),
            Engine::Zlib(inflate, _) => step_zlib(inflate, input, output)?,
            Engine::Zstd(context, held, head) => {
                let window = head
                    .window(input)
                    .filter(|window| *window <= self.most_window);
                let bytes = window.map_or(0, zstd_bytes);
                if !held.grow_in_turn(bytes) {
                    // Before there is anything of it.
                    self.wants = bytes;
                    return Ok(Step::default());
                }
                let (step, ended) = step_zstd(context, input, output)?;
                head.pass(&input[..step.taken]);
                (step, ended)
            }
            Engine::Br(brotli) => {
                let (step, ended, wants) = brotli.step(input, output)?;
                self.wants = wants;
                (step, ended)
            }
        };
        if !self.engine.is_held() {
            return Err(DecodeError::Memory);
        }
        self.begun |= step.taken > 0;
        self.gave |= step.given > 0;
        self.ended = ended && self.begun;
        if step == Step::default() && !input.is_empty() && !self.wants_room() {
            return Err(DecodeError::Malformed);
        }
        Ok(step)
    }

    /// Makes the decompressor, when there is room for it.
    fn begin(&mut self) -> Result<(), DecodeError> {
        if let Engine::Unbegun(held) = &self.engine {
            let held = held.clone();
            self.engine = Engine::new(self.coding, self.most_window, held)?;
        }
        Ok(())
    }

    /// What Brotli's window has of memory.
    #[cfg(test)]
    pub(super) fn window_bytes(&self) -> u64 {
        match &self.engine {
            Engine::Br(brotli) => brotli.window_bytes(),
            Engine::Unbegun(_) | Engine::Zlib(..) | Engine::Zstd(..) => 0,
        }
    }

    /// What zstd's holds.
    #[cfg(test)]
    pub(super) fn context_bytes(&self) -> Option<u64> {
        match &self.engine {
            Engine::Zstd(context, ..) => Some(context.sizeof() as u64),
            _ => None,
        }
    }

    /// A body may be several streams of gzip (RFC 1952 section 2.2) and of zstd (RFC 8878 section 3).
    fn begin_another(&mut self) -> Result<(), DecodeError> {
        match (&mut self.engine, self.coding) {
            (Engine::Zlib(inflate, _), RequestCoding::Gzip) => inflate.reset(true),
            // Its decompressor goes on by itself.
            (Engine::Zstd(_, _, head), _) => *head = FrameHead::default(),
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
