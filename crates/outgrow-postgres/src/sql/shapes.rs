//! Texts that were read lately, with holes where their values were: to know a text again that is one of
//! them with other values, by comparing bytes and without reading it.
//!
//! A hole is a number of digits alone, or a string between plain quotes without a quote or a backslash in
//! it; what stands behind a number cannot be a part of one. So a text whose bytes are those of a shape, and
//! whose holes hold such a number or string, is cut into the same tokens: what was found out about the one
//! is true of the other. Whatever does not fit is no worse for it: it is read as before.
//!
//! Deliberately not here: other ways to write the same statement (blanks, capitals, lists of another
//! length). The fingerprint knows those.

use super::cache::Known;
use super::lexer::{Lexer, Lexing, Token, TokenKind, scan};

/// The longest text that has a shape, in bytes.
const MOST_TEXT: usize = 2048;
/// Most holes of a shape.
const MOST_HOLES: usize = 64;
/// Shapes of texts that begin alike.
const WAYS: usize = 4;
const SETS: usize = 128;
/// All shapes together, in bytes.
const MOST_BYTES: usize = 256 * 1024;
/// How much a shape that was of use resists another one that wants its place.
const MOST_CREDIT: u8 = 15;

/// What stands at the end of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hole {
    Digits,
    /// The bytes between two quotes, which belong to the pieces around.
    Quoted,
    /// The text ends.
    End,
}

/// A text without its values.
#[derive(Debug, Clone)]
struct Shape {
    /// What is the same, one piece after the other.
    bytes: Box<[u8]>,
    /// Where in `bytes` each piece ends, and what follows it.
    pieces: Box<[(u16, Hole)]>,
    lexing: Lexing,
    known: Known,
    credit: u8,
}

impl Shape {
    fn of(text: &[u8], lexing: Lexing, known: Known) -> Option<Self> {
        if text.len() > MOST_TEXT {
            return None;
        }
        let (mut bytes, mut pieces) = (Vec::with_capacity(text.len()), Vec::new());
        let mut from = 0;
        for token in Lexer::new(text, lexing) {
            if token.kind == TokenKind::Word && names_settings(token.of(text)) {
                return None;
            }
            let Some((hole, start, end)) = hole(text, token) else {
                continue;
            };
            bytes.extend_from_slice(&text[from..start]);
            pieces.push((bytes.len() as u16, hole));
            from = end;
            if pieces.len() > MOST_HOLES {
                return None;
            }
        }
        bytes.extend_from_slice(&text[from..]);
        pieces.push((bytes.len() as u16, Hole::End));
        Some(Self {
            bytes: bytes.into(),
            pieces: pieces.into(),
            lexing,
            known,
            credit: 0,
        })
    }

    /// Whether a text is this one with other values.
    #[inline]
    fn fits(&self, text: &[u8], lexing: Lexing) -> bool {
        if self.lexing != lexing {
            return false;
        }
        let (mut at, mut from) = (0, 0);
        for &(to, hole) in &self.pieces {
            let piece = &self.bytes[from..usize::from(to)];
            let Some(rest) = text.get(at..).filter(|rest| rest.starts_with(piece)) else {
                return false;
            };
            at += piece.len();
            from = usize::from(to);
            let rest = &rest[piece.len()..];
            at += match hole {
                Hole::End => return rest.is_empty(),
                Hole::Digits => match digits(rest) {
                    0 => return false,
                    count => count,
                },
                Hole::Quoted => match scan::find(rest, 0, b'\'') {
                    Some(count) if is_plain(&rest[..count], lexing) => count,
                    _ => return false,
                },
            };
        }
        false
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.bytes.len() + size_of_val(&*self.pieces)
    }
}

/// Where a token has a value that may be another one.
fn hole(text: &[u8], token: Token) -> Option<(Hole, usize, usize)> {
    let (start, end) = (token.start as usize, token.end as usize);
    match token.kind {
        TokenKind::Number if digits(&text[start..]) == end - start => {
            let next = text.get(end).copied().unwrap_or(b' ');
            let may_go_on =
                next.is_ascii_alphanumeric() || !next.is_ascii() || b"._$".contains(&next);
            (!may_go_on).then_some((Hole::Digits, start, end))
        }
        TokenKind::String => {
            let (inside, closing) = (start + 1, end.checked_sub(1)?);
            let is_quote = |at: usize| text.get(at) == Some(&b'\'');
            // Else it is one of several parts, or has quotes in it.
            let is_whole = is_quote(start)
                && inside <= closing
                && is_quote(closing)
                && !text[inside..closing].contains(&b'\'')
                && !is_quote(end);
            is_whole.then_some((Hole::Quoted, inside, closing))
        }
        _ => None,
    }
}

/// Whether the value of a string may stand for more than a value behind this word: the names of settings
/// are kept. More words than need be are said to.
fn names_settings(word: &[u8]) -> bool {
    let ends = |end: &[u8]| {
        word.len()
            .checked_sub(end.len())
            .is_some_and(|from| word[from..].eq_ignore_ascii_case(end))
    };
    ends(b"setting") || ends(b"config")
}

#[inline]
fn digits(text: &[u8]) -> usize {
    let is_digit = |byte: &&u8| byte.is_ascii_digit();
    text.iter().take_while(is_digit).count()
}

/// Whether bytes without a quote mean themselves between quotes, whatever the settings are.
#[inline]
fn is_plain(bytes: &[u8], lexing: Lexing) -> bool {
    let is_read = lexing.safe_encoding || bytes.is_ascii();
    is_read && memchr::memchr(b'\\', bytes).is_none()
}

/// The shapes of texts that were read lately.
#[derive(Debug)]
pub(super) struct Shapes {
    sets: Box<[[Option<Box<Shape>>; WAYS]]>,
    bytes: usize,
}

impl Shapes {
    /// None yet.
    pub(super) fn new() -> Self {
        Self {
            sets: (0..SETS).map(|_| [const { None }; WAYS]).collect(),
            bytes: 0,
        }
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        for shape in self.sets.iter_mut().flatten() {
            *shape = None;
        }
        self.bytes = 0;
    }

    /// What is known of a text, if it has one of the shapes.
    #[inline]
    pub(super) fn find(&mut self, text: &[u8], lexing: Lexing) -> Option<Known> {
        let set = &mut self.sets[place(text)];
        let shapes = set.iter_mut().flatten();
        let found = shapes.into_iter().find(|shape| shape.fits(text, lexing))?;
        found.credit = (found.credit + 1).min(MOST_CREDIT);
        Some(found.known)
    }

    /// Keeps the shape of a text of which this is known, if it has one and there is room: those that are
    /// of use stay.
    pub(super) fn keep(&mut self, text: &[u8], lexing: Lexing, known: Known) {
        let set = &mut self.sets[place(text)];
        let credit =
            |shape: &Option<Box<Shape>>| shape.as_ref().map_or(0, |shape| shape.credit + 1);
        let Some(slot) = set.iter_mut().min_by_key(|shape| credit(shape)) else {
            return;
        };
        if let Some(shape) = slot
            && shape.credit > 0
        {
            shape.credit -= 1;
            return;
        }
        let Some(shape) = Shape::of(text, lexing, known) else {
            return;
        };
        let freed = slot.as_ref().map_or(0, |shape| shape.size());
        if self.bytes - freed + shape.size() <= MOST_BYTES {
            self.bytes = self.bytes - freed + shape.size();
            *slot = Some(Box::new(shape));
        }
    }
}

/// The set that a text's shape is in: by how it begins, which is no value.
#[inline]
fn place(text: &[u8]) -> usize {
    let words = [0, 8, 16, 24].map(|at| scan::load(text, at));
    let mixed = words.iter().fold(0, |sum: u64, word| {
        (sum.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    });
    (mixed >> 32) as usize % SETS
}

#[cfg(test)]
mod tests {
    use super::super::catalogue::Catalogue;
    use super::super::fingerprint::{Identity, Secret};
    use super::super::read_only::examine;
    use super::*;

    fn known(text: &str) -> Known {
        let (facts, verdict) = examine(text.as_bytes(), Lexing::default(), &Catalogue::default());
        Known {
            facts,
            verdict,
            fingerprint: 1,
        }
    }

    fn shape(text: &str) -> Option<Shape> {
        Shape::of(text.as_bytes(), Lexing::default(), known(text))
    }

    fn secret() -> Secret {
        let mut random = outgrow_core::Random::from_seed(1);
        Secret::new(|| random.next_u64())
    }

    #[test]
    fn other_values_fit() {
        let secret = secret();
        let identity = |text: &str| Identity::of(text.as_bytes(), Lexing::default(), &secret);
        let check = |text: &str, other: &str, fits: bool| {
            let shape = shape(text).expect("it has one");
            let told = shape.fits(other.as_bytes(), Lexing::default());
            assert_eq!(told, fits, "{text} / {other}");
            if fits {
                assert_eq!(identity(text), identity(other), "{text}");
            }
        };
        check(
            "SELECT a FROM t WHERE b = 1;",
            "SELECT a FROM t WHERE b = 987654;",
            true,
        );
        check("SELECT 1", "SELECT 22", true);
        check("SELECT 1", "SELECT 1.5", false);
        check("SELECT 1", "SELECT 1e5", false);
        check("SELECT 1", "SELECT 0x1f", false);
        check("SELECT 1", "SELECT 1 ", false);
        check("SELECT 1", "SELECT ", false);
        check("SELECT -1, a-1", "SELECT -7, a-8", true);
        check("SELECT 1.5", "SELECT 2.5", false);
        check("SELECT 1.5", "SELECT 1.5", true);
        check("SELECT a1", "SELECT a2", false);
        check("SELECT $1", "SELECT $2", false);
        check("SELECT 'a'", "SELECT 'b c -- /*'", true);
        check("SELECT 'a'", "SELECT ''", true);
        check("SELECT ''", "SELECT 'a'", true);
        check("SELECT 'a'", "SELECT 'a''b'", false);
        check("SELECT 'a'", r"SELECT 'a\'", false);
        check("SELECT 'a'", r"SELECT 'a\' OR b = 'c'", false);
        check("SELECT 'a', 1", "SELECT 'a', '1'", false);
        check("SELECT 'a'\n'b'", "SELECT 'c'\n'b'", false);
        check("SELECT 'a'\n'b'", "SELECT 'a'\n'b'", true);
        check("SELECT E'a'", "SELECT E'b'", false);
        check("SELECT 1 /* 2 */", "SELECT 1 /* 3 */", false);
        check("SELECT 1 /* 2 */", "SELECT 9 /* 2 */", true);
        check("SELECT 1 -- 2", "SELECT 9 -- 2", true);
        check("SELECT \"a1\" = 1", "SELECT \"a1\" = 2", true);
        check("SELECT \"a1\" = 1", "SELECT \"a2\" = 1", false);
        check("SELECT 1::int", "SELECT 2::int", true);
        check("SELECT 'ä'", "SELECT 'ö'", Lexing::default().safe_encoding);
    }

    #[test]
    fn names_of_settings_are_no_values() {
        assert!(shape("SELECT current_setting('a.b')").is_none());
        assert!(shape("SELECT Set_Config('a.b', 'c', true)").is_none());
        assert!(shape(&"x".repeat(MOST_TEXT + 1)).is_none());
    }

    #[test]
    fn what_fits_has_the_same_identity() {
        let parts = [
            "SELECT", " ", "\n", "a", "\"q\"", "'s'", "''", "'it''s'", "1", "42", "1.5", ".5",
            "1e3", "0x1f", "-", "+", "(", ")", ",", "IN", "VALUES", "$1", "$$d$$", "E'x'",
            "/* 1 */", "--", "::", ":", ".", "..", "[", "]", "ARRAY", "NULL", "U&'x'", "B'01'",
            "_", "\\", "ä", "=>",
        ];
        let secret = secret();
        let identity = |text: &str| Identity::of(text.as_bytes(), Lexing::default(), &secret);
        let mut random = outgrow_core::Random::from_seed(11);
        let mut pick = |below: usize| (random.next_u64() % below as u64) as usize;
        let mut fitting = 0;
        for _ in 0..40_000 {
            let count = 1 + pick(9);
            let words: Vec<_> = (0..count).map(|_| parts[pick(parts.len())]).collect();
            let text = words.concat();
            let Some(shape) = shape(&text) else {
                continue;
            };
            let values = ["7", "0", "123", "'t'", "''", "1.5", "x", "'a''b'", "\\"];
            let other: String = words
                .iter()
                .map(|word| match *word {
                    "1" | "42" | "'s'" | "''" => values[pick(values.len())],
                    word => word,
                })
                .collect();
            for other in [&text, &other] {
                if shape.fits(other.as_bytes(), Lexing::default()) {
                    fitting += usize::from(*other != text);
                    assert_eq!(identity(&text), identity(other), "{text} / {other}");
                } else {
                    assert_ne!(other, &text, "it fits itself");
                }
            }
        }
        assert!(fitting > 1000, "{fitting}");
    }

    #[test]
    fn what_is_of_use_stays() {
        let mut shapes = Shapes::new();
        let lexing = Lexing::default();
        let hot = b"SELECT kept FROM a_table_with_a_long_name WHERE b = 1";
        shapes.keep(hot, lexing, known("SELECT 1"));
        for number in 0..1000 {
            assert!(shapes.find(hot, lexing).is_some(), "{number}");
            let cold = format!("SELECT kept FROM a_table_with_a_long_name WHERE b{number} = 1");
            assert!(shapes.find(cold.as_bytes(), lexing).is_none());
            shapes.keep(cold.as_bytes(), lexing, known("SELECT 1"));
            assert!(shapes.bytes <= MOST_BYTES);
        }
        shapes.clear();
        assert!(shapes.find(hot, lexing).is_none());
        for number in 0..5_000 {
            let text = format!("SELECT {number} {}", "x".repeat(1500));
            shapes.keep(text.as_bytes(), lexing, known("SELECT 1"));
        }
        assert!(shapes.bytes <= MOST_BYTES, "{}", shapes.bytes);
    }
}
