//! Names with values in one text: the query and the Cookie field. Nothing is copied.

/// The pairs of a query as forms write it (`a=1&b=2`), still encoded. A key without `=` has an
/// empty value.
pub(super) fn query(query: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let pairs = query.split(|&byte| byte == b'&');
    pairs.filter(|pair| !pair.is_empty()).map(split)
}

/// The pairs of a Cookie field (RFC 6265 section 4.2). What has no `=` is passed over.
pub(super) fn cookies(field: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let pairs = field.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
    pairs.filter(|pair| pair.contains(&b'=')).map(|pair| {
        let (name, value) = split(pair);
        (name.trim_ascii_end(), value.trim_ascii_start())
    })
}

fn split(pair: &[u8]) -> (&[u8], &[u8]) {
    match pair.iter().position(|&byte| byte == b'=') {
        Some(at) => (&pair[..at], &pair[at + 1..]),
        None => (pair, &[]),
    }
}

/// The bytes of a part of a query, decoded: `%41` is an A, `+` a blank; a `%` without two
/// hexadecimal digits stands for itself.
pub(super) fn decoded(text: &[u8]) -> Decoded<'_> {
    Decoded { rest: text }
}

#[derive(Clone, Debug)]
pub(super) struct Decoded<'t> {
    rest: &'t [u8],
}

impl Iterator for Decoded<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        match (first, rest) {
            (b'+', _) => Some(b' '),
            (b'%', [high, low, rest @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => {
                    self.rest = rest;
                    Some((high << 4 | low) as u8)
                }
                _ => Some(b'%'),
            },
            (byte, _) => Some(*byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told<'t>(pairs: impl Iterator<Item = (&'t [u8], &'t [u8])>) -> Vec<String> {
        let text = |bytes: &[u8]| String::from_utf8(decoded(bytes).collect()).unwrap();
        let each = |(name, value): (&[u8], &[u8])| format!("{}={}", text(name), text(value));
        pairs.map(each).collect()
    }

    #[test]
    fn pairs_are_split_and_decoded() {
        assert_eq!(
            told(query(b"a=1&&b&c=&=d&e=f=g&%61=%2b+%zz%")),
            ["a=1", "b=", "c=", "=d", "e=f=g", "a=+ %zz%"]
        );
        assert_eq!(told(query(b"")), [""; 0]);
        assert_eq!(
            told(cookies(b"a=1; b = 2 ;; c; d=e=f;g=")),
            ["a=1", "b=2", "d=e=f", "g="]
        );
    }
}
