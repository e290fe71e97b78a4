//! Where strings, quoted identifiers and comments end. `None`: they do not.

use super::scan;

/// What ends a string besides its quote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inside {
    /// Two quotes stand for one.
    Doubled,
    /// That, and a backslash takes the next byte along.
    Escaped,
    /// Nothing: the next quote ends it.
    Bits,
}

/// Where the string whose text begins at `at` ends, its parts on further lines included.
pub(super) fn quoted(text: &[u8], mut at: usize, inside: Inside) -> Option<usize> {
    loop {
        let found = match inside {
            Inside::Escaped => at + memchr::memchr2(b'\'', b'\\', text.get(at..)?)?,
            Inside::Doubled | Inside::Bits => scan::find(text, at, b'\'')?,
        };
        let next = text.get(found + 1);
        if text.get(found) == Some(&b'\\') || (next == Some(&b'\'') && inside != Inside::Bits) {
            at = found + 2;
            continue;
        }
        match continuation(text, found + 1) {
            Some(more) => at = more,
            None => return Some(found + 1),
        }
    }
}

/// Where the text of a string goes on whose quote ended before `at`: with a quote behind blanks and
/// `--` comments that have a line's end among them.
pub(super) fn continuation(text: &[u8], mut at: usize) -> Option<usize> {
    let mut line_ended = false;
    loop {
        match text.get(at)? {
            b'\n' | b'\r' => {
                line_ended = true;
                at += 1;
            }
            b' ' | b'\t' | b'\x0c' | b'\x0b' => at += 1,
            b'-' if text.get(at + 1) == Some(&b'-') => at = line_end(text, at)?,
            b'\'' if line_ended => return Some(at + 1),
            _ => return None,
        }
    }
}

/// The end of the line that `at` is in; `None` when that is the text's.
fn line_end(text: &[u8], at: usize) -> Option<usize> {
    Some(at + memchr::memchr2(b'\n', b'\r', text.get(at..)?)?)
}

/// Where a `--` comment that begins at `at` ends.
pub(super) fn line_comment(text: &[u8], at: usize) -> usize {
    line_end(text, at).unwrap_or(text.len())
}

/// Where the quoted identifier whose name begins at `at` ends.
#[inline]
pub(super) fn identifier(text: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let found = scan::find(text, at, b'"')?;
        if text.get(found + 1) != Some(&b'"') {
            return Some(found + 1);
        }
        at = found + 2;
    }
}

/// Where the dollar-quoted string that begins at `at` ends. `Err`: none begins there.
pub(super) fn dollar(text: &[u8], at: usize) -> Result<Option<usize>, ()> {
    let tag = at + 1;
    let mut behind = tag;
    while let Some(&byte) = text.get(behind) {
        let begins = byte.is_ascii_alphabetic() || byte == b'_' || byte >= 128;
        let goes_on = begins || (byte.is_ascii_digit() && behind > tag);
        if !goes_on {
            break;
        }
        behind += 1;
    }
    if text.get(behind) != Some(&b'$') {
        return Err(());
    }
    let delimiter = text.get(at..=behind).unwrap_or_default();
    let body = text.get(behind + 1..).unwrap_or_default();
    let found = memchr::memmem::find(body, delimiter);
    Ok(found.map(|index| behind + 1 + index + delimiter.len()))
}

/// Where the comment whose text begins at `at`, behind its `/*`, ends. Comments nest.
pub(super) fn block_comment(text: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 1_usize;
    loop {
        at += memchr::memchr2(b'*', b'/', text.get(at..)?)?;
        match (text.get(at), text.get(at + 1)) {
            (Some(b'*'), Some(b'/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return Some(at);
                }
            }
            (Some(b'/'), Some(b'*')) => {
                depth += 1;
                at += 2;
            }
            _ => at += 1,
        }
    }
}
