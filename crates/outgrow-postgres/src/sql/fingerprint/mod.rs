//! Fingerprints: two texts have the same when they are the same statements with other values.
//!
//! There are two, of the same canonical form (`canonical.rs`):
//!
//! - [`fingerprint`]: 64 bits, the same everywhere and always, to name statements by in statistics. It
//!   is not secret, so somebody who wants two statements to have the same one can make them; nothing may
//!   be decided by it.
//! - [`Identity`]: 256 bits under a secret, to find by it what was decided about a statement. A text that
//!   is taken for another one could send a write to a replica, so this must not happen by chance nor by
//!   intent. It is the NH hash of UMAC twice (Black, Halevi, Krawczyk, Krovetz, Rogaway: UMAC: Fast and
//!   Secure Message Authentication, CRYPTO '99, with the Toeplitz construction): for any two forms
//!   of the same length, whoever chose them without knowing the secret, at most one secret in 2^128 makes
//!   them equal; forms of different lengths are never equal. Nothing of it is ever shown. So a form
//!   need not be kept to be compared with, and finding costs no more than reading the text.

mod canonical;
mod normalised;
#[cfg(test)]
mod tests;

use super::lexer::Lexing;
use canonical::Sink;
pub use normalised::normalised;

/// Most words of eight bytes that a form may have to have an identity: about 16 KiB of text without
/// its values.
pub const MOST_WORDS: usize = 2048;

/// What identities are made under. One for each process, never written anywhere.
#[derive(Clone)]
pub struct Secret {
    words: Box<[u64]>,
}

impl Secret {
    /// Of uniform random numbers that nobody can guess.
    pub fn new(mut random: impl FnMut() -> u64) -> Self {
        let words = (0..MOST_WORDS + 2).map(|_| random()).collect();
        Self { words }
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Secret")
    }
}

/// By which what was decided about a text is found again, within one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    hashes: [u128; 2],
    words: u32,
}

impl Identity {
    /// Of a text; `None` for one that cannot be read, is too long or has control characters in names.
    #[inline]
    pub fn of(text: &[u8], lexing: Lexing, secret: &Secret) -> Option<Self> {
        let keyed = Keyed {
            secret: &secret.words,
            hashes: [0; 2],
            first: 0,
            count: 0,
        };
        let (keyed, form) = canonical::write(text, lexing, keyed);
        if !form.is_exact || keyed.count > MOST_WORDS {
            return None;
        }
        let words = keyed.count as u32;
        let keyed = keyed.even();
        Some(Self {
            hashes: keyed.hashes,
            words,
        })
    }

    /// Bits to choose a place by.
    pub(crate) fn place(&self) -> u64 {
        // The upper half of a sum of products is as good as any, the lowest bits are not.
        (self.hashes[0] >> 64) as u64 ^ (self.hashes[0] as u64).rotate_left(32)
    }
}

/// NH over pairs of words, twice with the secret two words further.
#[derive(Clone)]
struct Keyed<'a> {
    secret: &'a [u64],
    hashes: [u128; 2],
    /// The first of a pair, while `count` is odd.
    first: u64,
    count: usize,
}

impl Keyed<'_> {
    /// With a zero to make the number of words even: the number is a part of the identity.
    fn even(mut self) -> Self {
        if self.count % 2 == 1 {
            self.word(0);
        }
        self
    }
}

impl Sink for Keyed<'_> {
    #[inline(always)]
    fn word(&mut self, word: u64) {
        let at = self.count;
        self.count += 1;
        if at.is_multiple_of(2) {
            self.first = word;
            return;
        }
        let Some(&[a, b, c, d]) = self
            .secret
            .get(at - 1..)
            .and_then(|rest| rest.first_chunk::<4>())
        else {
            return;
        };
        let product = |x: u64, y: u64| {
            u128::from(self.first.wrapping_add(x)) * u128::from(word.wrapping_add(y))
        };
        let (here, further) = (product(a, b), product(c, d));
        self.hashes[0] = self.hashes[0].wrapping_add(here);
        self.hashes[1] = self.hashes[1].wrapping_add(further);
    }
}

/// The fingerprint of a text, to name its statements by: the same in every process and every version
/// (but for a change of what counts as a value, which would be said). Zero when the text cannot be read.
pub fn fingerprint(text: &[u8], lexing: Lexing) -> u64 {
    let (stable, form) = canonical::write(text, lexing, Stable(0));
    if !form.is_exact {
        return 0;
    }
    let mixed = (stable.0 ^ (stable.0 >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ (mixed >> 32)
}

/// A hash that is the same everywhere.
#[derive(Clone)]
struct Stable(u64);

impl Sink for Stable {
    #[inline(always)]
    fn word(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word ^ 0x2d35_8dcc_aa6c_78a5)
            * u128::from(0x8bb8_4b93_962e_acc9_u64);
        self.0 = (product as u64 ^ (product >> 64) as u64).wrapping_add(word.rotate_left(19));
    }
}
