//! Path normalisation, in this one place. Routing, guards and caches read the normalised path.
//!
//! Normalised means (RFC 3986 section 6.2.2): escapes of unreserved characters decoded, other
//! escapes in upper case, dot segments removed, several slashes merged. An escaped slash stays
//! escaped: it separates nothing.

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathProblem {
    /// A `%` that is not followed by two hexadecimal digits.
    BadEscape,
    /// An escaped NUL.
    EscapedNul,
    /// An escaped slash or backslash next to dots, so that decoding it would make a dot segment
    /// that this normalisation did not see.
    HiddenDotSegment,
}

/// Whether the path is normalised already. It begins with a slash.
#[inline]
pub fn is_normal(path: &[u8]) -> bool {
    let mut before = 0_u8;
    for &byte in path {
        // A backslash changes nothing, but it may hide what is refused.
        if byte == b'%' || byte == b'\\' || (before == b'/' && (byte == b'/' || byte == b'.')) {
            return false;
        }
        before = byte;
    }
    true
}

/// Writes the normalised form of `path` (without the query) into `out`, which is cleared first.
pub fn normalise(path: &[u8], out: &mut Vec<u8>) -> Result<(), PathProblem> {
    out.clear();
    decode_unreserved(path, out)?;
    check_hidden_segments(out)?;
    remove_dot_segments(out);
    Ok(())
}

fn decode_unreserved(path: &[u8], out: &mut Vec<u8>) -> Result<(), PathProblem> {
    let mut at = 0;
    while at < path.len() {
        let byte = path[at];
        if byte != b'%' {
            out.push(byte);
            at += 1;
            continue;
        }
        let digits = path.get(at + 1..at + 3).ok_or(PathProblem::BadEscape)?;
        let high = hex_value(digits[0]).ok_or(PathProblem::BadEscape)?;
        let low = hex_value(digits[1]).ok_or(PathProblem::BadEscape)?;
        let decoded = high << 4 | low;
        if decoded == 0 {
            return Err(PathProblem::EscapedNul);
        }
        if decoded.is_ascii_alphanumeric() || matches!(decoded, b'-' | b'.' | b'_' | b'~') {
            out.push(decoded);
        } else {
            out.extend_from_slice(&[
                b'%',
                digits[0].to_ascii_uppercase(),
                digits[1].to_ascii_uppercase(),
            ]);
        }
        at += 3;
    }
    Ok(())
}

fn hex_value(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|value| value as u8)
}

/// A segment such as `..%2Fadmin` is a dot segment to whoever decodes before splitting.
fn check_hidden_segments(path: &[u8]) -> Result<(), PathProblem> {
    if !path.contains(&b'%') && !path.contains(&b'\\') {
        return Ok(());
    }
    for segment in path.split(|&byte| byte == b'/') {
        let mut rest = segment;
        let mut pieces = 0;
        let mut dots = false;
        loop {
            let stop = (0..rest.len()).find(|&at| escaped_slash_len(&rest[at..]) > 0);
            let piece = &rest[..stop.unwrap_or(rest.len())];
            dots |= piece == b".." || piece == b".";
            pieces += 1;
            let Some(stop) = stop else { break };
            rest = &rest[stop + escaped_slash_len(&rest[stop..])..];
        }
        if dots && pieces > 1 {
            return Err(PathProblem::HiddenDotSegment);
        }
    }
    Ok(())
}

fn escaped_slash_len(text: &[u8]) -> usize {
    match text {
        [b'\\', ..] => 1,
        [b'%', b'2', b'F', ..] | [b'%', b'5', b'C', ..] => 3,
        _ => 0,
    }
}

/// RFC 3986 section 5.2.4, in place; several slashes count as one.
fn remove_dot_segments(path: &mut Vec<u8>) {
    let mut write = 0;
    let mut read = 0;
    let length = path.len();
    let ends_in_directory = path.ends_with(b"/") || path.ends_with(b"/.") || path.ends_with(b"/..");
    while read < length {
        while read < length && path[read] == b'/' {
            read += 1;
        }
        let stop = path[read..]
            .iter()
            .position(|&byte| byte == b'/')
            .map_or(length, |n| read + n);
        let segment = read..stop;
        match &path[segment.clone()] {
            b"" | b"." => {}
            b".." => {
                while write > 0 {
                    write -= 1;
                    if path[write] == b'/' {
                        break;
                    }
                }
            }
            _ => {
                path[write] = b'/';
                path.copy_within(segment.clone(), write + 1);
                write += 1 + segment.len();
            }
        }
        read = stop;
    }
    path.truncate(write);
    if path.is_empty() || (ends_in_directory && !path.ends_with(b"/")) {
        path.push(b'/');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use outgrow_core::Random;

    #[test]
    fn paths_are_normalised() {
        let check = |path: &str, expected: Result<&str, PathProblem>| {
            let mut out = Vec::new();
            let result = normalise(path.as_bytes(), &mut out);
            let got = result.map(|()| String::from_utf8_lossy(&out).into_owned());
            assert_eq!(
                got.as_deref(),
                expected.as_ref().map(|text| *text),
                "{path}"
            );
        };
        check("/", Ok("/"));
        check("/a/b", Ok("/a/b"));
        check("/a/./b/../c", Ok("/a/c"));
        check("/../../a", Ok("/a"));
        check("/a/..", Ok("/"));
        check("/a/b/..", Ok("/a/"));
        check("/a/.", Ok("/a/"));
        check("//a///b//", Ok("/a/b/"));
        check("/%61%2D%7e", Ok("/a-~"));
        check("/a%2fb%c3%a9", Ok("/a%2Fb%C3%A9"));
        check("/a/%2e%2E/b", Ok("/b"));
        check("/..a/...", Ok("/..a/..."));
        check("/a%", Err(PathProblem::BadEscape));
        check("/a%4", Err(PathProblem::BadEscape));
        check("/%zz", Err(PathProblem::BadEscape));
        check("/%00", Err(PathProblem::EscapedNul));
        check("/public/..%2fadmin", Err(PathProblem::HiddenDotSegment));
        check("/public/x%5C..", Err(PathProblem::HiddenDotSegment));
        check(
            "/public/x\\..\\..\\admin",
            Err(PathProblem::HiddenDotSegment),
        );
        check("/public/..\\admin", Err(PathProblem::HiddenDotSegment));
        check("/a\\b", Ok("/a\\b"));
    }

    #[test]
    fn normalising_twice_changes_nothing() {
        let alphabet = b"/./..%2fa%2e\\b%41/";
        for seed in 0..20_000 {
            let mut random = Random::from_seed(seed);
            let mut path = vec![b'/'];
            for _ in 0..random.below(16) {
                let at = random.below(alphabet.len());
                let end = at + 1 + random.below((alphabet.len() - at).min(3));
                path.extend_from_slice(&alphabet[at..end]);
            }
            let (mut once, mut twice) = (Vec::new(), Vec::new());
            if normalise(&path, &mut once).is_err() {
                let text = String::from_utf8_lossy(&path);
                assert!(!is_normal(&path), "seed {seed}: {text} passes unseen");
                continue;
            }
            assert_eq!(normalise(&once, &mut twice), Ok(()), "seed {seed}");
            assert_eq!(
                once,
                twice,
                "seed {seed}: {}",
                String::from_utf8_lossy(&path)
            );
            assert!(!once.windows(2).any(|pair| pair == b"//"), "seed {seed}");
            if is_normal(&path) {
                assert_eq!(once, path, "seed {seed}");
            }
        }
    }
}
