//! The compressors, behind one face: bytes in, bytes out, how far it came. Not here: whose thread
//! does it (`encoder.rs`), and for whom (`accept.rs`).

use brotli::enc::StandardAlloc;
use brotli::enc::encode::{
    BrotliEncoderOperation, BrotliEncoderParameter, BrotliEncoderStateStruct,
};
use flate2::{Compress, Compression, FlushCompress, Status};
use zstd_safe::zstd_sys::ZSTD_EndDirective;
use zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer, ResetDirective};

use crate::settings::{CompressSettings, ContentCoding};

/// Bytes that zstd looks back: 128 KiB. What the levels want themselves, 2 MiB and tables to match,
/// each response under way would hold; of text it saves next to nothing (level 3 on 64 KiB of
/// Markdown: 0.290 of it either way, 1.4 MB instead of 3.6 MB; level 12: 1.2 MB instead of 44 MB).
const ZSTD_WINDOW_BITS: u32 = 17;
/// The entries of its tables.
const ZSTD_TABLE_BITS: u32 = 16;
/// The same for Brotli: 256 KiB.
const BR_WINDOW_BITS: u32 = 18;
/// The smallest window that Brotli has.
const BR_LEAST_WINDOW_BITS: u32 = 10;

/// A coding with how hard it tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Manner {
    pub(crate) coding: ContentCoding,
    pub(crate) level: u32,
}

impl Manner {
    pub(crate) fn new(coding: ContentCoding, settings: &CompressSettings) -> Self {
        let level = match coding {
            ContentCoding::Zstd => settings.zstd_level,
            ContentCoding::Br => settings.br_level,
            ContentCoding::Gzip => settings.gzip_level,
        };
        Self { coding, level }
    }

    /// What a compressor holds in bytes, for a response of `length` where that is known. Measured,
    /// see the test beside; rounded up.
    pub(crate) fn memory_bytes(self, length: Option<u64>) -> u64 {
        const KIB: u64 = 1_024;
        match self.coding {
            ContentCoding::Gzip => 384 * KIB,
            ContentCoding::Zstd => 1_408 * KIB,
            ContentCoding::Br => {
                let window = 1 << br_window_bits(length);
                let tables = match self.level {
                    0..=1 => 256 * KIB,
                    2..=3 => 896 * KIB,
                    4 => 1_600 * KIB,
                    5 => 2_176 * KIB,
                    _ => 3_200 * KIB,
                };
                tables + 2 * window
            }
        }
    }

    /// How long one byte takes in nanoseconds, on an ordinary core: what is done on the worker is
    /// judged by it, so it is on the safe side.
    pub(crate) fn nanos_per_byte(self) -> u64 {
        match (self.coding, self.level) {
            (ContentCoding::Zstd, 1..=2) => 6,
            (ContentCoding::Zstd, 3..=5) => 10,
            (ContentCoding::Zstd, _) => 30,
            (ContentCoding::Br, 0..=1) => 14,
            (ContentCoding::Br, 2..=4) => 40,
            (ContentCoding::Br, _) => 70,
            (ContentCoding::Gzip, 1) => 10,
            (ContentCoding::Gzip, 2..=5) => 20,
            (ContentCoding::Gzip, _) => 35,
        }
    }

    /// How many bytes it gathers before it works on them.
    pub(crate) fn block_bytes(self) -> usize {
        match self.coding {
            ContentCoding::Gzip => 0,
            ContentCoding::Zstd => 128 * 1_024,
            ContentCoding::Br if matches!(self.level, 2..=3) => 16 * 1_024,
            ContentCoding::Br => 64 * 1_024,
        }
    }
}

/// What is wanted of a compressor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// To take bytes.
    Process,
    /// To give all that it has taken.
    Flush,
    /// To give all, and the end.
    Finish,
}

/// How far it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// Bytes taken.
    pub(crate) taken: usize,
    /// Bytes given.
    pub(crate) given: usize,
    /// Whether the operation is over: all taken, and what it asks for given.
    pub(crate) done: bool,
}

/// The library refused, which it does for bugs only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the compressor failed")]
pub(crate) struct CodecError;

/// A compressor for one response.
pub(crate) enum Codec {
    Gzip(Compress),
    Zstd(CCtx<'static>),
    Br(Box<BrotliEncoderStateStruct<StandardAlloc>>),
}

impl Codec {
    /// For a response of `length` bytes where that is known.
    pub(crate) fn new(manner: Manner, length: Option<u64>) -> Result<Self, CodecError> {
        let level = manner.level;
        Ok(match manner.coding {
            ContentCoding::Gzip => {
                const WINDOW_BITS: u8 = 15;
                Self::Gzip(Compress::new_gzip(Compression::new(level), WINDOW_BITS))
            }
            ContentCoding::Zstd => {
                let mut context = CCtx::try_create().ok_or(CodecError)?;
                let parameters = [
                    CParameter::CompressionLevel(i32::try_from(level).unwrap_or(3)),
                    CParameter::WindowLog(ZSTD_WINDOW_BITS),
                    CParameter::HashLog(ZSTD_TABLE_BITS),
                    CParameter::ChainLog(ZSTD_TABLE_BITS),
                    CParameter::ChecksumFlag(false),
                ];
                for parameter in parameters {
                    context.set_parameter(parameter).map_err(|_| CodecError)?;
                }
                Self::Zstd(context).prepared(length)?
            }
            ContentCoding::Br => {
                let mut state = BrotliEncoderStateStruct::new(StandardAlloc::default());
                // No hint of the size: from level 5 on the library takes 33 MB for one.
                for (parameter, value) in [
                    (BrotliEncoderParameter::BROTLI_PARAM_QUALITY, level),
                    (
                        BrotliEncoderParameter::BROTLI_PARAM_LGWIN,
                        br_window_bits(length),
                    ),
                ] {
                    state.set_parameter(parameter, value);
                }
                Self::Br(Box::new(state))
            }
        })
    }

    /// One that was used before, for another response; none when it cannot be used again.
    pub(crate) fn again(self, length: Option<u64>) -> Option<Self> {
        match self {
            Self::Gzip(mut compress) => {
                compress.reset();
                Some(Self::Gzip(compress))
            }
            Self::Zstd(mut context) => {
                context.reset(ResetDirective::SessionOnly).ok()?;
                Self::Zstd(context).prepared(length).ok()
            }
            Self::Br(_) => None,
        }
    }

    /// Whether [`Codec::again`] may succeed.
    pub(crate) fn is_reusable(&self) -> bool {
        !matches!(self, Self::Br(_))
    }

    /// A length that is known makes zstd choose smaller tables, and say the length in the frame.
    fn prepared(mut self, length: Option<u64>) -> Result<Self, CodecError> {
        if let Self::Zstd(context) = &mut self {
            context
                .set_pledged_src_size(length)
                .map_err(|_| CodecError)?;
        }
        Ok(self)
    }

    /// Takes of `input` and gives into `output`, which is not empty. To be called again with the
    /// same operation until it is done.
    pub(crate) fn step(
        &mut self,
        input: &[u8],
        output: &mut [u8],
        operation: Operation,
    ) -> Result<Step, CodecError> {
        match self {
            Self::Gzip(compress) => step_gzip(compress, input, output, operation),
            Self::Zstd(context) => step_zstd(context, input, output, operation),
            Self::Br(state) => step_br(state, input, output, operation),
        }
    }
}

impl std::fmt::Debug for Codec {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Gzip(_) => "Gzip",
            Self::Zstd(_) => "Zstd",
            Self::Br(_) => "Br",
        })
    }
}

/// A window that holds the whole response, up to the largest one that we give.
fn br_window_bits(length: Option<u64>) -> u32 {
    let needed = length.map_or(BR_WINDOW_BITS, |length| u64::BITS - length.leading_zeros());
    needed.clamp(BR_LEAST_WINDOW_BITS, BR_WINDOW_BITS)
}

fn step_gzip(
    compress: &mut Compress,
    input: &[u8],
    output: &mut [u8],
    operation: Operation,
) -> Result<Step, CodecError> {
    let before = (compress.total_in(), compress.total_out());
    let flush = match operation {
        Operation::Process => FlushCompress::None,
        Operation::Flush => FlushCompress::Sync,
        Operation::Finish => FlushCompress::Finish,
    };
    let status = compress
        .compress(input, output, flush)
        .map_err(|_| CodecError)?;
    let taken = (compress.total_in() - before.0) as usize;
    let given = (compress.total_out() - before.1) as usize;
    let done = match operation {
        Operation::Process => taken == input.len(),
        // It has given all when it left room (zlib's manual).
        Operation::Flush => taken == input.len() && given < output.len(),
        Operation::Finish => status == Status::StreamEnd,
    };
    Ok(Step { taken, given, done })
}

fn step_zstd(
    context: &mut CCtx<'static>,
    input: &[u8],
    output: &mut [u8],
    operation: Operation,
) -> Result<Step, CodecError> {
    let directive = match operation {
        Operation::Process => ZSTD_EndDirective::ZSTD_e_continue,
        Operation::Flush => ZSTD_EndDirective::ZSTD_e_flush,
        Operation::Finish => ZSTD_EndDirective::ZSTD_e_end,
    };
    let mut source = InBuffer::around(input);
    let mut target = OutBuffer::around(output);
    let left = context.compress_stream2(&mut target, &mut source, directive);
    let left = left.map_err(|_| CodecError)?;
    let (taken, given) = (source.pos(), target.pos());
    let done = match operation {
        Operation::Process => taken == input.len(),
        Operation::Flush | Operation::Finish => taken == input.len() && left == 0,
    };
    Ok(Step { taken, given, done })
}

fn step_br(
    state: &mut BrotliEncoderStateStruct<StandardAlloc>,
    input: &[u8],
    output: &mut [u8],
    operation: Operation,
) -> Result<Step, CodecError> {
    let wanted = match operation {
        Operation::Process => BrotliEncoderOperation::BROTLI_OPERATION_PROCESS,
        Operation::Flush => BrotliEncoderOperation::BROTLI_OPERATION_FLUSH,
        Operation::Finish => BrotliEncoderOperation::BROTLI_OPERATION_FINISH,
    };
    let (mut available, mut taken) = (input.len(), 0);
    let (mut room, mut given) = (output.len(), 0);
    let is_well = state.compress_stream(
        wanted,
        &mut available,
        input,
        &mut taken,
        &mut room,
        output,
        &mut given,
        &mut None,
        &mut |_, _, _, _| (),
    );
    if !is_well {
        return Err(CodecError);
    }
    let done = match operation {
        Operation::Process => available == 0,
        Operation::Flush => available == 0 && !state.has_more_output(),
        Operation::Finish => state.is_finished(),
    };
    Ok(Step { taken, given, done })
}
