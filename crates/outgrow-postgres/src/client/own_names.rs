//! Names of ours for prepared statements, which a client may have read in `pg_prepared_statements`: to
//! it there is no such statement (26000), as there is none of its own with that name. Otherwise it could
//! execute other clients' statements, or end them.
//!
//! A name of ours is changed by one byte where it lies, into one that cannot be there, and the server
//! says that it is not. Deliberately not here: what functions and `DO` execute. They can end what others
//! have prepared on the connection; who meets that gets 26000, and the connection is made like new.

use std::ops::Range;

use super::Client;
use crate::sql::Lexing;
use crate::sql::lexer::{Lexer, TokenKind};
use crate::wire::frame::{HEADER_BYTES, Header};
use crate::wire::read;

/// Whether a name could be one of ours, which begin with `prefix`.
pub(super) fn is_own(name: &[u8], prefix: &str) -> bool {
    !prefix.is_empty() && name.starts_with(prefix.as_bytes())
}

/// Changes a name of ours at the start of `bytes`.
fn change(bytes: &mut [u8], prefix: &str) {
    if let Some(last) = bytes.get_mut(prefix.len().saturating_sub(1)) {
        *last = if *last == b'$' { b'_' } else { b'$' };
    }
}

/// Where the first name of ours stands in a text, or what could be one and is not read.
fn find(text: &[u8], lexing: Lexing, prefix: &str) -> Option<(Range<usize>, TokenKind)> {
    let mut lexer = Lexer::new(text, lexing);
    let mut names_one = false;
    loop {
        let token = lexer.next()?;
        let range = token.start as usize..token.end as usize;
        let raw = text.get(range.clone())?;
        let inside = match token.kind {
            TokenKind::Quoted => raw.get(1..raw.len() - 1)?,
            _ => raw,
        };
        let is_one = match token.kind {
            TokenKind::Word => {
                let start = inside.get(..prefix.len());
                start.is_some_and(|start| start.to_ascii_lowercase() == prefix.as_bytes())
            }
            TokenKind::Quoted => is_own(inside, prefix),
            TokenKind::UnicodeQuoted => true,
            _ => false,
        };
        if names_one && is_one {
            return Some((range, token.kind));
        }
        let is_word = |word: &str| raw.eq_ignore_ascii_case(word.as_bytes());
        names_one = token.kind == TokenKind::Word
            && ["execute", "deallocate", "prepare"]
                .into_iter()
                .any(is_word);
    }
}

/// Changes all of them in a text; whether there were any.
fn change_all(text: &mut [u8], lexing: Lexing, prefix: &str) -> bool {
    if prefix.is_empty() {
        return false;
    }
    let mut has_changed = false;
    while let Some((range, kind)) = find(text, lexing, prefix) {
        has_changed = true;
        let Some(bytes) = text.get_mut(range) else {
            break;
        };
        match kind {
            TokenKind::Word => change(bytes, prefix),
            TokenKind::Quoted => change(&mut bytes[1..], prefix),
            // Nobody writes a name so, unless to hide it: it gets another kind of quotes, which
            // decode nothing.
            _ => {
                let unicode = bytes.len().min(2);
                bytes[..unicode].fill(b' ');
            }
        }
    }
    has_changed
}

impl Client {
    /// Changes a name of ours in the message that comes next, `start` bytes from where that begins.
    #[cold]
    pub(super) fn change_own_name(&mut self, start: usize, prefix: &str) {
        if let Some(bytes) = self.up.unread_mut().get_mut(start..) {
            change(bytes, prefix);
        }
    }

    /// Changes names of ours in the text of the query or Parse that comes next; whether there were any.
    #[cold]
    pub(super) fn change_own_names(
        &mut self,
        header: Header,
        is_parse: bool,
        prefix: &str,
    ) -> bool {
        let lexing = self.lexing;
        let whole = header.whole();
        let Some(body) = self.up.unread_mut().get_mut(HEADER_BYTES..whole) else {
            return false;
        };
        let (start, end) = if is_parse {
            match read::Parse::read(body) {
                Some(parse) => {
                    let start = parse.name.len() + 1;
                    (start, start + parse.query.len())
                }
                None => return false,
            }
        } else {
            (0, body.len().saturating_sub(1))
        };
        change_all(&mut body[start..end], lexing, prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_ours_are_changed_where_they_are_executed() {
        let check = |text: &str, expected: &str| {
            let mut bytes = text.as_bytes().to_vec();
            let has_changed = change_all(&mut bytes, Lexing::default(), "outgrow_");
            assert_eq!(String::from_utf8_lossy(&bytes), expected);
            assert_eq!(has_changed, text != expected, "{text}");
        };
        check("EXECUTE outgrow_ab_1", "EXECUTE outgrow$ab_1");
        check("execute Outgrow_ab_1(1, 2)", "execute Outgrow$ab_1(1, 2)");
        check("EXECUTE \"outgrow_ab_1\"", "EXECUTE \"outgrow$ab_1\"");
        check("EXECUTE \"Outgrow_ab_1\"", "EXECUTE \"Outgrow_ab_1\"");
        check(
            "DEALLOCATE /* x */ outgrow_1",
            "DEALLOCATE /* x */ outgrow$1",
        );
        check(
            "DEALLOCATE PREPARE outgrow_1",
            "DEALLOCATE PREPARE outgrow$1",
        );
        check(
            "PREPARE outgrow_1 AS SELECT 1; EXECUTE outgrow_1",
            "PREPARE outgrow$1 AS SELECT 1; EXECUTE outgrow$1",
        );
        check(
            "EXPLAIN ANALYZE EXECUTE outgrow_1",
            "EXPLAIN ANALYZE EXECUTE outgrow$1",
        );
        check(
            "EXECUTE U&\"outgrow\\005f1\" UESCAPE '!'",
            "EXECUTE   \"outgrow\\005f1\" UESCAPE '!'",
        );
        check("EXECUTE U&\"outgrow_1\"", "EXECUTE   \"outgrow$1\"");
        for text in [
            "EXECUTE other",
            "EXECUTE outgrow",
            "SELECT * FROM outgrow_1",
            "SELECT 'EXECUTE outgrow_1'",
            "-- EXECUTE outgrow_1",
            "CREATE TRIGGER t AFTER INSERT ON x EXECUTE FUNCTION outgrow_1()",
            "DEALLOCATE ALL",
        ] {
            check(text, text);
        }
    }
}
