//! What the head of a frame of zstd says of its window (RFC 8878 section 3.1.1.1), before the decompressor
//! knows: how much it will need. What is wrong in it is the decompressor's to say.

/// The longest head.
const MOST: usize = 18;
/// What frames begin with; others hold nothing that needs a window.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The smallest window.
const LEAST_WINDOW: u64 = 1_024;

/// As far as it has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FrameHead {
    bytes: [u8; MOST],
    count: usize,
    /// It was whole: what follows is no head.
    is_over: bool,
}

impl FrameHead {
    /// The bytes of its window, where `next` is what makes it whole; 0 where it has none.
    pub(super) fn window(self, next: &[u8]) -> Option<u64> {
        if self.is_over {
            return None;
        }
        let (bytes, count) = self.with(next);
        window(&bytes[..count])
    }

    /// Takes note of what was passed of it.
    pub(super) fn pass(&mut self, taken: &[u8]) {
        if !self.is_over {
            self.is_over = self.window(taken).is_some();
            (self.bytes, self.count) = self.with(taken);
        }
    }

    fn with(self, next: &[u8]) -> ([u8; MOST], usize) {
        let (mut bytes, more) = (self.bytes, next.len().min(MOST - self.count));
        bytes[self.count..][..more].copy_from_slice(&next[..more]);
        (bytes, self.count + more)
    }
}

/// The window of a whole head; none of one that is not.
fn window(head: &[u8]) -> Option<u64> {
    let (magic, rest) = head.split_first_chunk()?;
    if *magic != MAGIC {
        return Some(0);
    }
    let (&descriptor, rest) = rest.split_first()?;
    if descriptor & 1 << 5 == 0 {
        let &window = rest.first()?;
        let base = 1_u64 << (10 + (window >> 3));
        return Some(base + base / 8 * u64::from(window & 7));
    }
    // A single segment: as large as its content.
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let (length, more) = [(1, 0), (2, 256), (4, 0), (8, 0)][usize::from(descriptor >> 6)];
    let size = rest.get(dictionary..dictionary + length)?;
    let mut bytes = [0; 8];
    bytes[..length].copy_from_slice(size);
    Some((u64::from_le_bytes(bytes).saturating_add(more)).max(LEAST_WINDOW))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_known_when_the_head_is_whole() {
        const MAGIC_OF_PASSED: [u8; 4] = [0x50, 0x2a, 0x4d, 0x18];
        let head = |rest: &[u8]| [&MAGIC[..], rest].concat();
        let table: [(Vec<u8>, u64); 8] = [
            (head(&[0, 0]), 1_024),
            (head(&[0, (23 - 10) << 3 | 1]), (8 << 20) + (1 << 20)),
            (head(&[4, 31 << 3 | 7]), (1 << 41) + 7 * (1 << 38)),
            (head(&[1 << 5, 255]), 1_024),
            (head(&[1 << 5 | 1 << 6, 0, 4]), 1_024 + 256),
            (head(&[1 << 5 | 2 << 6 | 3, 9, 9, 9, 9, 0, 0, 1, 0]), 65_536),
            (
                head(&[1 << 5 | 3 << 6 | 1, 9, 0, 0, 0, 0, 1, 0, 0, 0]),
                1 << 32,
            ),
            (MAGIC_OF_PASSED.to_vec(), 0),
        ];
        for (bytes, expected) in table {
            let more = [&bytes[..], b"what follows it, a lot of it"].concat();
            assert_eq!(
                FrameHead::default().window(&more),
                Some(expected),
                "{bytes:?}"
            );
            for end in 0..bytes.len() {
                assert_eq!(
                    FrameHead::default().window(&bytes[..end]),
                    None,
                    "{bytes:?}"
                );
            }
            // Byte by byte.
            let mut head = FrameHead::default();
            for (at, byte) in bytes.iter().enumerate() {
                let is_last = at + 1 == bytes.len();
                assert_eq!(head.window(&[*byte]), is_last.then_some(expected));
                head.pass(&[*byte]);
            }
            assert_eq!(head.window(&more), None, "it is over");
        }
    }
}
