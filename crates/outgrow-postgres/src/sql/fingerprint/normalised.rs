//! A text as it is shown: one line, values replaced, comments left out.

use super::super::lexer::{Lexer, Lexing, Token, TokenKind};

/// Behind what was cut.
const CUT: &str = " …";

/// A text with `$1`, `$2` … for its values, as pg_stat_statements shows it: numbered on from the
/// highest parameter that it has already; a list of values only is `($1 /*, ... */)`. Comments and
/// blanks are one blank. At most `most_bytes`, and ` …` behind what was cut; what is not UTF-8 is
/// replaced.
pub fn normalised(text: &[u8], lexing: Lexing, most_bytes: usize) -> String {
    let mut writer = Writer {
        text,
        line: String::new(),
        next: highest_parameter(text, lexing) + 1,
        end: 0,
    };
    let mut tokens = Lexer::new(text, lexing).peekable();
    let mut previous: Option<Token> = None;
    while let Some(token) = tokens.next() {
        if writer.line.len() >= most_bytes {
            writer.cut(most_bytes);
            break;
        }
        let opens = opens_list(text, previous, token);
        previous = Some(token);
        writer.write(token);
        if !opens {
            continue;
        }
        let rest = Lexer::new(text, lexing);
        if let Some((first, end)) = list(rest, text, token.end as usize) {
            writer.write(first);
            writer.line.push_str(" /*, ... */");
            writer.end = end;
            while tokens
                .next_if(|token| (token.start as usize) < end)
                .is_some()
            {}
        }
    }
    if writer.line.len() > most_bytes + CUT.len() {
        writer.cut(most_bytes);
    }
    writer.line
}

struct Writer<'a> {
    text: &'a [u8],
    line: String,
    /// The number of the next value.
    next: u64,
    /// Where the last token ended.
    end: usize,
}

impl Writer<'_> {
    /// Leaves so many bytes, and says that something is missing.
    fn cut(&mut self, most_bytes: usize) {
        let mut end = most_bytes.min(self.line.len());
        while !self.line.is_char_boundary(end) {
            end -= 1;
        }
        self.line.truncate(end);
        self.line.push_str(CUT);
    }

    fn write(&mut self, token: Token) {
        if self.end > 0 && token.start as usize > self.end {
            self.line.push(' ');
        }
        self.end = token.end as usize;
        if token.kind.is_literal() {
            self.line.push_str(&format!("${}", self.next));
            self.next += 1;
        } else {
            self.line
                .push_str(&String::from_utf8_lossy(token.of(self.text)));
        }
    }
}

fn highest_parameter(text: &[u8], lexing: Lexing) -> u64 {
    Lexer::new(text, lexing)
        .filter(|token| token.kind == TokenKind::Parameter)
        .filter_map(|token| std::str::from_utf8(&token.of(text)[1..]).ok()?.parse().ok())
        .max()
        .unwrap_or(0_u64)
        .min(u64::from(u16::MAX))
}

/// Whether a list that is collapsed when it has values only begins with this token.
fn opens_list(text: &[u8], previous: Option<Token>, token: Token) -> bool {
    let Some(previous) = previous else {
        return false;
    };
    let word = previous.of(text);
    match token.kind {
        TokenKind::Open => word.eq_ignore_ascii_case(b"in") || word.eq_ignore_ascii_case(b"values"),
        TokenKind::OpenBracket => word.eq_ignore_ascii_case(b"array"),
        _ => false,
    }
}

/// The first value of the list that begins at `at`, and where the last of them ends, when it is one of
/// two values and more and nothing else.
fn list(mut tokens: Lexer<'_>, text: &[u8], at: usize) -> Option<(Token, usize)> {
    tokens.seek(at);
    let mut first = None;
    let mut count = 0;
    let mut end = at;
    loop {
        let mut token = tokens.next()?;
        if matches!(token.of(text), b"-" | b"+") {
            token = tokens.next()?;
        }
        let is_value = token.kind.is_literal() || token.kind == TokenKind::Parameter;
        if !is_value {
            return None;
        }
        first = first.or(Some(token));
        count += 1;
        end = end.max(token.end as usize);
        match tokens.next()?.kind {
            TokenKind::Comma => {}
            TokenKind::Close | TokenKind::CloseBracket if count > 1 => {
                return first.map(|first| (first, end));
            }
            _ => return None,
        }
    }
}
