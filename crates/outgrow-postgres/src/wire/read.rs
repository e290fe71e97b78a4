//! Reading the bodies of messages.

/// A text that ends with a zero byte, and what follows it.
#[inline]
pub fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(0, bytes)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

/// A 32-bit number, and what follows it.
#[inline]
pub fn number(bytes: &[u8]) -> Option<(i32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    Some((i32::from_be_bytes(*number), rest))
}

/// A 16-bit number, and what follows it.
#[inline]
pub fn short(bytes: &[u8]) -> Option<(i16, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<2>()?;
    Some((i16::from_be_bytes(*number), rest))
}

/// The fields of an ErrorResponse or NoticeResponse that are looked at here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Problem<'b> {
    /// `ERROR`, `FATAL`, `PANIC`, not translated (field V, since 9.6; else S).
    pub severity: &'b [u8],
    /// The SQLSTATE.
    pub code: &'b [u8],
    /// The message.
    pub message: &'b [u8],
}

impl<'b> Problem<'b> {
    /// Reads a body; what is malformed is left empty.
    pub fn read(body: &'b [u8]) -> Self {
        let mut problem = Self::default();
        let mut rest = body;
        while let Some((&field, after)) = rest.split_first() {
            let Some((value, after)) = text(after) else {
                break;
            };
            match field {
                b'V' => problem.severity = value,
                b'S' if problem.severity.is_empty() => problem.severity = value,
                b'C' => problem.code = value,
                b'M' => problem.message = value,
                _ => {}
            }
            rest = after;
        }
        problem
    }

    /// Whether the server closes the connection after it.
    pub fn is_fatal(&self) -> bool {
        matches!(self.severity, b"FATAL" | b"PANIC")
    }
}

/// The parts of a Parse message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parse<'b> {
    /// The statement's name; empty for the unnamed one.
    pub name: &'b [u8],
    /// Its text.
    pub query: &'b [u8],
    /// The number and types of its parameters, as they are in the message.
    pub types: &'b [u8],
}

impl<'b> Parse<'b> {
    /// Reads a whole body.
    pub fn read(body: &'b [u8]) -> Option<Self> {
        let (name, rest) = text(body)?;
        let (query, types) = text(rest)?;
        let (count, oids) = short(types)?;
        (oids.len() == usize::try_from(count).ok()? * 4).then_some(Self { name, query, types })
    }
}

/// The portal and the statement at the start of a Bind message, and the bytes that they take.
/// None while the second one's end is not there.
pub fn bind(body: &[u8]) -> Option<(&[u8], &[u8], usize)> {
    let (portal, rest) = text(body)?;
    let (statement, rest) = text(rest)?;
    Some((portal, statement, body.len() - rest.len()))
}

/// What a Describe or Close message is about: `S` or `P`, and the name.
pub fn target(body: &[u8]) -> Option<(u8, &[u8])> {
    let (&kind, rest) = body.split_first()?;
    let (name, rest) = text(rest)?;
    (matches!(kind, b'S' | b'P') && rest.is_empty()).then_some((kind, name))
}

/// A ParameterStatus: name and value.
pub fn parameter(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, rest) = text(body)?;
    let (value, rest) = text(rest)?;
    rest.is_empty().then_some((name, value))
}

/// A ParameterStatus in texts. One that is not UTF-8 is none: it cannot be set for anybody either.
pub fn setting(body: &[u8]) -> Option<(&str, &str)> {
    let (name, value) = parameter(body)?;
    Some((
        std::str::from_utf8(name).ok()?,
        std::str::from_utf8(value).ok()?,
    ))
}

/// The values of a DataRow that has just so many columns; none for a null.
pub fn columns<const COUNT: usize>(body: &[u8]) -> Option<[Option<&[u8]>; COUNT]> {
    let (count, mut rest) = short(body)?;
    if usize::try_from(count).ok()? != COUNT {
        return None;
    }
    let mut values = [None; COUNT];
    for value in &mut values {
        let (length, after) = number(rest)?;
        rest = after;
        if let Ok(length) = usize::try_from(length) {
            *value = Some(rest.get(..length)?);
            rest = &rest[length..];
        }
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_read() {
        let body = b"SFEHLER\0VERROR\0C42P01\0Mno such table\0P15\0\0";
        let problem = Problem::read(body);
        assert_eq!(problem.severity, b"ERROR");
        assert_eq!(problem.code, b"42P01");
        assert_eq!(problem.message, b"no such table");
        assert!(!problem.is_fatal());
        assert!(Problem::read(b"SFATAL\0C57P01\0\0").is_fatal());
        assert_eq!(Problem::read(b"Mcut of").message, b"");
        assert_eq!(Problem::read(b""), Problem::default());
    }

    #[test]
    fn extended_messages_are_read() {
        let parse = Parse::read(b"s\0select $1\0\0\x01\0\0\0\x17").expect("whole");
        assert_eq!((parse.name, parse.query), (&b"s"[..], &b"select $1"[..]));
        assert_eq!(parse.types, b"\0\x01\0\0\0\x17");
        for bad in [
            &b"s\0select"[..],
            b"s\0q\0\0\x01\0\0",
            b"s\0q\0\xff\xff",
            b"",
        ] {
            assert_eq!(Parse::read(bad), None, "{bad:?}");
        }
        assert_eq!(bind(b"p\0s\0\0\0"), Some((&b"p"[..], &b"s"[..], 4)));
        assert_eq!(bind(b"p\0s"), None);
        assert_eq!(target(b"Sx\0"), Some((b'S', &b"x"[..])));
        assert_eq!(target(b"P\0"), Some((b'P', &b""[..])));
        assert_eq!(target(b"X\0"), None);
        assert_eq!(target(b"Sx\0y"), None);
        assert_eq!(parameter(b"a\0b\0"), Some((&b"a"[..], &b"b"[..])));
        assert_eq!(parameter(b"a\0b"), None);
        assert_eq!(setting(b"a\0b\0"), Some(("a", "b")));
        assert_eq!(setting(b"a\0\xff\0"), None);
    }

    #[test]
    fn rows_are_read() {
        let row = b"\0\x02\0\0\0\x011\xff\xff\xff\xff";
        assert_eq!(columns(row), Some([Some(&b"1"[..]), None]));
        assert_eq!(columns::<1>(row), None);
        assert_eq!(columns::<2>(&row[..row.len() - 1]), None);
        assert_eq!(columns::<1>(b"\0\x01\0\0\0\x02x"), None);
        assert_eq!(columns::<0>(b""), None);
    }
}
