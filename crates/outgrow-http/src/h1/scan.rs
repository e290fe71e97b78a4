//! Finding the end of a head as bytes arrive, refusing bare LF at once.

use memchr::memchr;
use outgrow_core::Cause;

use super::{Limits, Reject};

/// How far a head that is still arriving was looked at, so that a slow one is not read twice.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scan {
    at: usize,
    line_start: usize,
    lines: usize,
    /// The empty line that may stand before a request was passed over already.
    pub(crate) passed_empty_line: bool,
}

impl Scan {
    /// Looks at what is new in `bytes`, which begin with the start line. The length of the head,
    /// with its empty line, when it is whole.
    #[inline]
    pub fn head_end(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<usize>, Reject> {
        while let Some(offset) = memchr(b'\n', &bytes[self.at..]) {
            let end = self.at + offset;
            if end == 0 || bytes[end - 1] != b'\r' {
                return Err(Reject::bad("a line ends in LF without CR"));
            }
            self.at = end + 1;
            let empty = end - 1 == self.line_start;
            self.line_start = self.at;
            if empty || self.lines == 0 {
                self.check_size(self.at, limits)?;
            }
            if empty {
                return Ok(Some(self.at));
            }
            self.lines += 1;
        }
        self.at = bytes.len();
        self.check_size(bytes.len(), limits)?;
        Ok(None)
    }

    fn check_size(&self, length: usize, limits: &Limits) -> Result<(), Reject> {
        /// Method and version around a target.
        const AROUND_TARGET: usize = 64;
        if self.lines == 0 && length > limits.target_bytes + AROUND_TARGET {
            return Err(Reject::new(
                Cause::TargetTooLong,
                "the request target is too long",
            ));
        }
        if length > limits.head_bytes {
            return Err(Reject::new(Cause::HeadTooLarge, "the head is too large"));
        }
        Ok(())
    }
}
