//! A stream of few bytes as it arrives: pieces that came before their turn wait for it, few of them. QUIC
//! itself would keep thousands of pieces of a byte each, for each stream: pure.

/// Pieces that may wait for one that is missing.
const MOST_PIECES: usize = 64;
/// Their bytes.
const MOST_BYTES: usize = 4 * 1024;

/// More waits than may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMany;

/// What came, up to the first byte that is missing, and what waits for that.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    /// In order of where they begin; no byte is in two of them.
    waiting: Vec<(u64, Box<[u8]>)>,
    /// The first byte that is missing.
    next: u64,
    /// What can be read.
    ready: Vec<u8>,
    read: usize,
}

impl Pieces {
    /// The next byte, if it is there.
    pub(super) fn byte(&mut self) -> Option<u8> {
        let byte = self.ready.get(self.read).copied()?;
        self.read += 1;
        if self.read == self.ready.len() {
            self.ready.clear();
            self.read = 0;
        }
        Some(byte)
    }

    /// Takes a piece that begins at `offset`; no byte comes twice.
    pub(super) fn put(&mut self, offset: u64, bytes: &[u8]) -> Result<(), TooMany> {
        if offset == self.next {
            self.take(bytes);
            while self.waiting.first().is_some_and(|(at, _)| *at == self.next) {
                let (_, bytes) = self.waiting.remove(0);
                self.take(&bytes);
            }
            return Ok(());
        }
        let held: usize = self.waiting.iter().map(|(_, bytes)| bytes.len()).sum();
        if self.waiting.len() >= MOST_PIECES || held + bytes.len() > MOST_BYTES {
            return Err(TooMany);
        }
        let at = self.waiting.partition_point(|(other, _)| *other < offset);
        self.waiting.insert(at, (offset, bytes.into()));
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) {
        self.ready.extend_from_slice(bytes);
        self.next += bytes.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &mut Pieces) -> Vec<u8> {
        std::iter::from_fn(|| pieces.byte()).collect()
    }

    #[test]
    fn pieces_are_read_in_their_order() {
        let mut pieces = Pieces::default();
        for (offset, bytes, expected) in [
            (0, &b"ab"[..], &b"ab"[..]),
            (5, b"f", b""),
            (3, b"de", b""),
            (2, b"c", b"cdef"),
            (6, b"", b""),
            (6, b"g", b"g"),
        ] {
            assert_eq!(pieces.put(offset, bytes), Ok(()));
            assert_eq!(read(&mut pieces), expected, "{offset}");
        }
        assert!(pieces.waiting.is_empty());
    }

    #[test]
    fn few_wait() {
        let mut pieces = Pieces::default();
        let fit = (0..10_000).take_while(|at| pieces.put(2 * at + 1, b"x").is_ok());
        assert_eq!(fit.count(), MOST_PIECES);
        assert_eq!(
            pieces.put(0, b"y"),
            Ok(()),
            "what is missing is always taken"
        );
        assert_eq!(read(&mut pieces), b"yx");
        let mut pieces = Pieces::default();
        assert_eq!(pieces.put(1, &[0; MOST_BYTES]), Ok(()));
        assert_eq!(pieces.put(MOST_BYTES as u64 + 1, b"x"), Err(TooMany));
    }
}
