//! The canonical form of a text: what makes two texts the same statement with other values.
//!
//! Values (numbers with their sign, strings, parameters) are all one; lists of nothing but values behind
//! `IN`, `VALUES` and `ARRAY` are one whatever their length, and so are rows of them. Blanks and comments are
//! nothing, but for hints. Names are as the server folds them. The name of a setting in `current_setting`
//! and `set_config` is kept: it is a name rather than a value.
//!
//! It is never written down. It is a sequence of 64-bit words that two different forms never have in
//! common: a token is its bytes in eights and then a word with what is left and, in its highest byte,
//! below 32, what kind of token it was. The bytes of a token are 32 or more; where one is not,
//! [`Form::is_exact`] is false.

use super::super::hint::Hints;
use super::super::lexer::{Lexer, Lexing, Names, Token, TokenKind, scan};

/// Takes the words of a canonical form.
pub(super) trait Sink: Clone {
    /// The next word.
    fn word(&mut self, word: u64);
}

/// What a text's canonical form is besides its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Form {
    /// Whether only texts with the same form have its words: false for control characters in names, and
    /// for what cannot be read.
    pub(super) is_exact: bool,
}

const fn tagged(kind: u64, rest: u64) -> u64 {
    kind << 56 | rest
}

const VALUE: u64 = tagged(1, 0);
const LIST: u64 = tagged(2, 0);
const KEPT: u64 = tagged(3, 0);
const HINTS: u64 = tagged(4, 0);
const UNREAD: u64 = tagged(5, 0);
/// And how many bytes are left, 0 to 7.
const QUOTED: u64 = 8;
const WORD: u64 = 16;
const SYMBOL: u64 = 24;

/// The last word of an unquoted word of this name.
const fn word_of(name: &[u8]) -> u64 {
    let rest = name.len() % 8;
    let (mut word, mut index) = (0, 0);
    while index < rest {
        word |= (name[name.len() - rest + index] as u64) << (8 * index);
        index += 1;
    }
    tagged(WORD + rest as u64, word)
}

const IN: u64 = word_of(b"in");
const VALUES: u64 = word_of(b"values");
const ARRAY: u64 = word_of(b"array");
const NULL: u64 = word_of(b"null");
const TRUE: u64 = word_of(b"true");
const FALSE: u64 = word_of(b"false");
const DEFAULT: u64 = word_of(b"default");
const OPEN: u64 = tagged(SYMBOL + 1, b'(' as u64);
const OPEN_BRACKET: u64 = tagged(SYMBOL + 1, b'[' as u64);
const CLOSE: u64 = tagged(SYMBOL + 1, b')' as u64);
const CLOSE_BRACKET: u64 = tagged(SYMBOL + 1, b']' as u64);
const COMMA: u64 = tagged(SYMBOL + 1, b',' as u64);
const MINUS: u64 = tagged(SYMBOL + 1, b'-' as u64);
const PLUS: u64 = tagged(SYMBOL + 1, b'+' as u64);

/// A list that may turn out to be one of values only.
struct Candidate<S> {
    /// Before its first value.
    before: S,
    /// What closes it.
    closing: u64,
    /// Whether a value is to come.
    expects: bool,
    is_row: bool,
}

struct Writer<S> {
    sink: S,
    is_exact: bool,
    /// The last word, and the one before it.
    previous: u64,
    earlier: u64,
    /// Of the name that is being read.
    kind: u64,
    candidate: Option<Candidate<S>>,
    /// Behind the first of rows of values, until something else than another row comes.
    rows: Option<S>,
}

/// Gives the canonical form's words to `sink`.
#[inline]
pub(super) fn write<S: Sink>(text: &[u8], lexing: Lexing, sink: S) -> (S, Form) {
    let mut writer = Writer {
        sink,
        is_exact: true,
        previous: 0,
        earlier: 0,
        kind: WORD,
        candidate: None,
        rows: None,
    };
    let mut lexer = Lexer::new(text, lexing);
    while let Some(token) = lexer.advance(&mut writer) {
        writer.token(text, token);
    }
    writer.hints(lexer.hints());
    let form = Form {
        is_exact: writer.is_exact,
    };
    (writer.sink, form)
}

impl<S: Sink> Writer<S> {
    #[inline(always)]
    fn put(&mut self, word: u64) {
        self.sink.word(word);
        self.earlier = self.previous;
        self.previous = word;
    }

    fn hints(&mut self, hints: Hints) {
        if !hints.is_empty() {
            let cache = hints
                .cache
                .map_or(0, |millis| 1 << 40 | u64::from(millis) << 8);
            self.put(HINTS | cache | u64::from(hints.primary) << 1 | u64::from(hints.replica));
        }
    }

    #[inline(always)]
    fn token(&mut self, text: &[u8], token: Token) {
        match token.kind {
            // Written while they were read.
            TokenKind::Word | TokenKind::Quoted => {}
            TokenKind::Parameter | TokenKind::Number => self.value(),
            kind if kind.is_string() => {
                if self.names_a_setting() {
                    self.keep(text, token);
                } else {
                    self.value();
                }
            }
            TokenKind::UnicodeQuoted | TokenKind::Wrong | TokenKind::Unknown => {
                self.is_exact = false;
                self.candidate = None;
                self.rows = None;
                self.put(UNREAD);
            }
            _ => self.symbol(text, token),
        }
    }

    /// Whether a string here is the first argument of a function of settings.
    #[inline(always)]
    fn names_a_setting(&self) -> bool {
        const CURRENT_SETTING: u64 = word_of(b"current_setting");
        const SET_CONFIG: u64 = word_of(b"set_config");
        // By their last bytes only: keeping more than is needed does no harm.
        self.previous == OPEN && matches!(self.earlier, CURRENT_SETTING | SET_CONFIG)
    }

    #[inline(always)]
    fn value(&mut self) {
        match &mut self.candidate {
            Some(list) if list.expects => list.expects = false,
            _ => self.candidate = None,
        }
        self.put(VALUE);
    }

    #[cold]
    fn keep(&mut self, text: &[u8], token: Token) {
        let raw = token.of(text);
        self.put(KEPT);
        for at in (0..raw.len()).step_by(8) {
            let left = (raw.len() - at).min(8);
            let word = scan::keep(scan::load(raw, at), left);
            self.put(word);
        }
        self.put(tagged(QUOTED, 0));
        self.is_exact &= !has_control(raw);
        self.candidate = None;
    }

    #[inline(always)]
    fn symbol(&mut self, text: &[u8], token: Token) {
        let (mut at, end) = (token.start as usize, token.end as usize);
        while end - at >= 8 {
            self.put(scan::load(text, at));
            at += 8;
        }
        let word = scan::keep(scan::load(text, at), end - at);
        let word = tagged(SYMBOL + (end - at) as u64, word);
        if self.candidate.is_some() && self.in_list(word) {
            return;
        }
        if matches!(word, MINUS | PLUS) && self.is_sign(text, end) {
            return;
        }
        let behind_comma = self.previous == COMMA;
        let previous = self.previous;
        self.put(word);
        match word {
            OPEN if matches!(previous, IN | VALUES) || (behind_comma && self.rows.is_some()) => {
                self.begin_list(CLOSE, previous != IN);
            }
            OPEN_BRACKET if previous == ARRAY => self.begin_list(CLOSE_BRACKET, false),
            COMMA => {}
            _ => self.rows = None,
        }
    }

    /// Whether this sign belongs to a number, and so to a value.
    fn is_sign(&self, text: &[u8], end: usize) -> bool {
        let behind_operand = !matches!(self.previous >> 56, 24..=31)
            || matches!(self.previous, CLOSE | CLOSE_BRACKET);
        let next = text.get(end).copied().unwrap_or_default();
        !behind_operand && next.is_ascii_digit()
    }

    fn begin_list(&mut self, closing: u64, is_row: bool) {
        self.candidate = Some(Candidate {
            before: self.sink.clone(),
            closing,
            expects: true,
            is_row,
        });
    }

    /// A symbol in what may be a list of values; false when it is none, or no longer.
    fn in_list(&mut self, word: u64) -> bool {
        let Some(list) = &mut self.candidate else {
            return false;
        };
        if word == COMMA && !list.expects {
            list.expects = true;
            self.put(word);
            return true;
        }
        if word != list.closing || list.expects {
            // A sign is no reason to give up, it is left out.
            if !(list.expects && matches!(word, MINUS | PLUS)) {
                self.candidate = None;
            }
            return false;
        }
        self.end_list();
        true
    }

    fn end_list(&mut self) {
        let Some(list) = self.candidate.take() else {
            return;
        };
        if let (true, Some(rows)) = (list.is_row, &self.rows) {
            // Another row like the first: nothing of it counts.
            self.sink = rows.clone();
            self.previous = list.closing;
            return;
        }
        self.sink = list.before;
        self.put(LIST);
        self.put(list.closing);
        if list.is_row {
            self.rows = Some(self.sink.clone());
        }
    }
}

impl<S: Sink> Names for Writer<S> {
    #[inline(always)]
    fn begin(&mut self, is_quoted: bool) {
        self.kind = if is_quoted { QUOTED } else { WORD };
    }

    #[inline(always)]
    fn eight(&mut self, word: u64) {
        self.put(word);
        if self.kind == QUOTED {
            self.is_exact &= !scan::has_control(word);
        }
    }

    #[inline(always)]
    fn rest(&mut self, word: u64, count: usize) {
        if self.kind == QUOTED {
            let filler = !scan::keep(u64::MAX, count);
            self.is_exact &= !scan::has_control(word | filler);
        }
        let word = tagged(self.kind + count as u64, word);
        let is_value = matches!(word, NULL | TRUE | FALSE | DEFAULT);
        if is_value && self.candidate.as_ref().is_some_and(|list| list.expects) {
            self.value();
            return;
        }
        self.put(word);
        self.rows = None;
        self.candidate = None;
    }

    fn doubled(&mut self) {}
}

fn has_control(bytes: &[u8]) -> bool {
    bytes.iter().any(|&byte| byte < 32)
}
