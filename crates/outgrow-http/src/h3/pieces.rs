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
    /// In order of where they begin; between two of them something is missing.
    waiting: Vec<(u64, Vec<u8>)>,
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
        if held + bytes.len() > MOST_BYTES {
            return Err(TooMany);
        }
        let at = self.waiting.partition_point(|(other, _)| *other < offset);
        let joins = |(other, waiting): &(u64, Vec<u8>)| *other + waiting.len() as u64 == offset;
        match at
            .checked_sub(1)
            .filter(|before| joins(&self.waiting[*before]))
        {
            Some(before) => {
                self.waiting[before].1.extend_from_slice(bytes);
                self.join(before);
            }
            None if self.waiting.len() < MOST_PIECES || self.joins_next(at, offset, bytes) => {
                self.waiting.insert(at, (offset, bytes.into()));
                self.join(at);
            }
            None => return Err(TooMany),
        }
        Ok(())
    }

    /// Whether what begins at `offset` ends where the one at `at` begins.
    fn joins_next(&self, at: usize, offset: u64, bytes: &[u8]) -> bool {
        let next = self.waiting.get(at);
        next.is_some_and(|(other, _)| *other == offset + bytes.len() as u64)
    }

    /// Makes one of the piece at `at` and the next, where nothing is missing between them.
    fn join(&mut self, at: usize) {
        let (offset, bytes) = &self.waiting[at];
        if self.joins_next(at + 1, *offset, bytes) {
            let (_, next) = self.waiting.remove(at + 1);
            self.waiting[at].1.extend_from_slice(&next);
        }
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
    fn those_that_follow_each_other_are_one() {
        for order in [[1, 3, 2], [3, 2, 1], [2, 1, 3], [1, 2, 3]] {
            let mut pieces = Pieces::default();
            for offset in order {
                assert_eq!(pieces.put(offset, &[b'0' + offset as u8]), Ok(()));
            }
            assert_eq!(pieces.waiting, [(1, b"123".to_vec())], "{order:?}");
            assert_eq!(pieces.put(0, b"0"), Ok(()));
            assert_eq!(read(&mut pieces), b"0123");
        }
        let mut pieces = Pieces::default();
        for at in 0..MOST_BYTES as u64 {
            assert_eq!(pieces.put(at + 1, b"x"), Ok(()), "{at}");
        }
        assert_eq!(pieces.put(MOST_BYTES as u64 + 1, b"x"), Err(TooMany));
        // What closes a gap needs no place.
        let mut pieces = Pieces::default();
        for at in 0..MOST_PIECES as u64 {
            assert_eq!(pieces.put(2 * at + 1, b"x"), Ok(()));
        }
        assert_eq!(pieces.put(1_000, b"x"), Err(TooMany));
        for at in 1..MOST_PIECES as u64 {
            assert_eq!(pieces.put(2 * at, b"y"), Ok(()));
        }
        assert_eq!(pieces.waiting.len(), 1);
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
