//! `key=value key='other value'`: what stands behind the name of a database, user or peer.
//!
//! Deliberately not here: which keys there are (`entry.rs`).

/// The text is no sequence of pairs: an `=`, a value or a quote is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

/// The pairs of `text`. Values with blanks stand in single quotes, where a quote is written twice;
/// a value is never empty.
pub(super) fn pairs(text: &str) -> Result<Vec<(&str, String)>, Broken> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_ascii_start();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').ok_or(Broken)?;
        let key = key.trim_ascii_end();
        if key.is_empty() || key.contains(|letter: char| letter.is_ascii_whitespace()) {
            return Err(Broken);
        }
        let (value, after) = value(after.trim_ascii_start())?;
        pairs.push((key, value));
        rest = after.trim_ascii_start();
    }
    Ok(pairs)
}

/// The value at the start of `text` and what follows it.
fn value(text: &str) -> Result<(String, &str), Broken> {
    let (value, after) = match text.strip_prefix('\'') {
        Some(quoted) => unquoted(quoted)?,
        None => {
            let end = text.find(' ').unwrap_or(text.len());
            let (value, after) = text.split_at(end);
            (value.to_owned(), after)
        }
    };
    // What follows a quote directly would be lost in PgBouncer.
    let is_apart =
        after.is_empty() || after.starts_with(|letter: char| letter.is_ascii_whitespace());
    if value.is_empty() || !is_apart {
        return Err(Broken);
    }
    Ok((value, after))
}

/// The value before the closing quote, and what follows that.
fn unquoted(text: &str) -> Result<(String, &str), Broken> {
    let mut value = String::new();
    let mut rest = text;
    loop {
        let (part, after) = rest.split_once('\'').ok_or(Broken)?;
        value.push_str(part);
        let Some(again) = after.strip_prefix('\'') else {
            return Ok((value, after));
        };
        value.push('\'');
        rest = again;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_as_pgbouncer_does() {
        let check = |text: &str, expected: Result<&[(&str, &str)], Broken>| {
            let found = pairs(text).map(|pairs| {
                let pairs = pairs.into_iter();
                pairs
                    .map(|(key, value)| format!("{key}>{value}"))
                    .collect::<Vec<_>>()
            });
            let expected = expected.map(|pairs| {
                let pairs = pairs.iter();
                pairs.map(|(key, value)| format!("{key}>{value}")).collect()
            });
            assert_eq!(found, expected, "{text:?}");
        };
        check("", Ok(&[]));
        check("  ", Ok(&[]));
        check("host=a", Ok(&[("host", "a")]));
        check("host=a  port=1 ", Ok(&[("host", "a"), ("port", "1")]));
        check("host = a port= 1", Ok(&[("host", "a"), ("port", "1")]));
        check("host=a,b", Ok(&[("host", "a,b")]));
        check("password=a=b'c", Ok(&[("password", "a=b'c")]));
        check("q='a b' x=1", Ok(&[("q", "a b"), ("x", "1")]));
        check("q='it''s'", Ok(&[("q", "it's")]));
        check("q='a''' x=1", Ok(&[("q", "a'"), ("x", "1")]));
        check("a=1 a=2", Ok(&[("a", "1"), ("a", "2")]));
        for broken in [
            "host", "=a", "host=", "host= ", "a b=1", "q='a", "q=''", "q='a'b=1", "q='a''",
        ] {
            check(broken, Err(Broken));
        }
    }
}
