//! Numbers, texts and lists as bytes, for what two processes say to each other: every length is
//! said before what it is of, everything is there or it is an error, and nothing is left over. Pure.

/// What cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CodingError {
    /// It ends too early, or lengths in it do not fit.
    #[error("it is cut off")]
    CutOff,
    /// There is more than there should be.
    #[error("there is more than there should be")]
    LeftOver,
    /// A text is not UTF-8.
    #[error("a text is not UTF-8")]
    NoText,
    /// A value that there is not.
    #[error("{0} has a value that there is not")]
    NoSuchValue(&'static str),
    /// A part that this version does not know.
    #[error("a part of it is not known to this version ({0})")]
    UnknownPart(u8),
    /// A part that must be there is not, or is there twice.
    #[error("its parts are not in order, or one is missing ({0})")]
    OutOfOrder(u8),
    /// More of something than there may be.
    #[error("too many {0}")]
    TooMany(&'static str),
}

/// Writes.
#[derive(Debug, Default)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    /// With its length. What is too long for that (4 GiB) does not exist here.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(bytes);
    }

    /// A part: its number, its length, itself.
    pub(crate) fn part(&mut self, number: u8, write: impl FnOnce(&mut Self)) {
        self.u8(number);
        let place = self.0.len();
        self.u32(0);
        write(self);
        let length = self.0.len() - place - 4;
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        self.0[place..place + 4].copy_from_slice(&length.to_be_bytes());
    }
}

/// Reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'b>(pub(crate) &'b [u8]);

impl<'b> Reader<'b> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], CodingError> {
        let (first, rest) = self.0.split_first_chunk().ok_or(CodingError::CutOff)?;
        self.0 = rest;
        Ok(*first)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, CodingError> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub(crate) fn u16(&mut self) -> Result<u16, CodingError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, CodingError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, CodingError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub(crate) fn bytes(&mut self) -> Result<&'b [u8], CodingError> {
        let length = usize::try_from(self.u32()?).map_err(|_| CodingError::CutOff)?;
        if length > self.0.len() {
            return Err(CodingError::CutOff);
        }
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        Ok(bytes)
    }

    pub(crate) fn text(&mut self) -> Result<&'b str, CodingError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| CodingError::NoText)
    }

    /// The next part, with its number; none at the end.
    pub(crate) fn part(&mut self) -> Result<Option<(u8, Self)>, CodingError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let number = self.u8()?;
        Ok(Some((number, Self(self.bytes()?))))
    }

    /// All that is left, read one after the other: at least one, at most so many.
    pub(crate) fn list<T>(
        mut self,
        most: usize,
        of: &'static str,
        mut read: impl FnMut(&mut Self) -> Result<T, CodingError>,
    ) -> Result<Vec<T>, CodingError> {
        if self.0.is_empty() {
            // What has nothing is not written at all.
            return Err(CodingError::CutOff);
        }
        let mut all = Vec::new();
        while !self.0.is_empty() {
            if all.len() >= most {
                return Err(CodingError::TooMany(of));
            }
            all.push(read(&mut self)?);
        }
        Ok(all)
    }

    /// That nothing is left.
    pub(crate) fn end(self) -> Result<(), CodingError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(CodingError::LeftOver)
        }
    }
}
