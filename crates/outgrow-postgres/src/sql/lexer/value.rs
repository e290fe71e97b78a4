//! What a string stands for.

use super::{Token, TokenKind, strings};

/// Appends what a string of this text stands for to `value`; false when it cannot be told: for what is
/// no string, for bits, for `U&''`, and for escapes that depend on the server's encoding.
pub fn string_value(token: Token, text: &[u8], value: &mut Vec<u8>) -> bool {
    let raw = token.of(text);
    match token.kind {
        TokenKind::String => parts(raw, false, value).is_some(),
        TokenKind::EscapeString => parts(raw, true, value).is_some(),
        TokenKind::DollarString => {
            let tag = 2 + raw.iter().skip(1).take_while(|&&byte| byte != b'$').count();
            let body = raw.get(tag..raw.len().saturating_sub(tag));
            value.extend_from_slice(body.unwrap_or_default());
            body.is_some()
        }
        _ => false,
    }
}

/// The parts of a string that may go on on further lines; `None` when an escape cannot be told.
fn parts(raw: &[u8], escapes: bool, value: &mut Vec<u8>) -> Option<()> {
    let mut at = 1 + raw.iter().position(|&byte| byte == b'\'')?;
    loop {
        let byte = *raw.get(at)?;
        at += 1;
        match byte {
            b'\'' if at == raw.len() => return Some(()),
            b'\'' if raw.get(at) == Some(&b'\'') => {
                value.push(b'\'');
                at += 1;
            }
            b'\'' => at = strings::continuation(raw, at)?,
            b'\\' if escapes => at = escape(raw, at, value)?,
            _ => value.push(byte),
        }
    }
}

/// What stands behind a backslash; gives where it ends.
fn escape(raw: &[u8], at: usize, value: &mut Vec<u8>) -> Option<usize> {
    let byte = *raw.get(at)?;
    let (digits, radix, most) = match byte {
        b'b' => return simple(b'\x08', at, value),
        b'f' => return simple(b'\x0c', at, value),
        b'n' => return simple(b'\n', at, value),
        b'r' => return simple(b'\r', at, value),
        b't' => return simple(b'\t', at, value),
        b'0'..=b'7' => (at, 8, 3),
        b'x' if raw.get(at + 1).is_some_and(u8::is_ascii_hexdigit) => (at + 1, 16, 2),
        b'u' => (at + 1, 16, 4),
        b'U' => (at + 1, 16, 8),
        _ => return simple(byte, at, value),
    };
    let (mut end, mut code) = (digits, 0_u32);
    while end < digits + most {
        let Some(digit) = char::from(*raw.get(end)?).to_digit(radix) else {
            break;
        };
        code = code.checked_mul(radix)?.checked_add(digit)?;
        end += 1;
    }
    let is_whole = !matches!(byte, b'u' | b'U') || end == digits + most;
    // Octal ones are cut to a byte by the server, `\400` is a zero: an error.
    let is_told = is_whole && (1..128).contains(&code);
    is_told.then(|| value.push(code as u8))?;
    Some(end)
}

fn simple(byte: u8, at: usize, value: &mut Vec<u8>) -> Option<usize> {
    // A character of several bytes behind a backslash stands for itself.
    value.push(byte);
    Some(at + 1)
}
