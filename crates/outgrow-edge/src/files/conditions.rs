//! Conditional requests (RFC 9110 section 13) for a file. Pure.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use outgrow_message::Fields;

/// What is known of a file besides its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Validators {
    /// Its strong tag, quotes included; none where its time says nothing.
    pub(super) tag: Option<String>,
    /// When it was last changed, in seconds since 1970.
    pub(super) modified: Option<u64>,
}

impl Validators {
    /// What of it may be told at a moment: no time of change that is yet to come. The moment itself is what RFC 9110
    /// section 8.8.2.1 has in its place; but that is another one with each answer, and would be a date in `If-Range`
    /// that stands for no state of the file. So there is none.
    pub(super) fn at(&self, moment: u64) -> Self {
        Self {
            tag: self.tag.clone(),
            modified: self.modified.filter(|modified| *modified <= moment),
        }
    }
}

/// Whether a request asks for less than the whole, or under a condition.
pub(crate) fn is_conditional(fields: &Fields) -> bool {
    let begins_with = |name: &[u8], beginning: &[u8]| {
        let start = name.get(..beginning.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(beginning))
    };
    fields
        .iter()
        .any(|(_, name, _)| name.eq_ignore_ascii_case(b"Range") || begins_with(name, b"If-"))
}

/// What a request's conditions lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// As if there were none.
    Proceed,
    /// 304.
    NotModified,
    /// 412.
    Failed,
}

/// In the order of section 13.2.2, for GET and HEAD.
pub(super) fn verdict(fields: &Fields, file: &Validators) -> Verdict {
    let has = |name: &[u8]| fields.get_named(name).is_some();
    if has(b"If-Match") {
        if !matches(fields, b"If-Match", file, Comparison::Strong) {
            return Verdict::Failed;
        }
    } else if let (Some(date), Some(modified)) =
        (date_of(fields, b"If-Unmodified-Since"), file.modified)
        && modified > date
    {
        return Verdict::Failed;
    }
    if has(b"If-None-Match") {
        if matches(fields, b"If-None-Match", file, Comparison::Weak) {
            return Verdict::NotModified;
        }
    } else if let (Some(date), Some(modified)) =
        (date_of(fields, b"If-Modified-Since"), file.modified)
        && modified <= date
    {
        return Verdict::NotModified;
    }
    Verdict::Proceed
}

/// Whether a `Range` counts: there is no `If-Range`, or it speaks of the file as it is (section
/// 13.1.5). A weak tag never does. Dates have to be the very same, and count only where `date_is_strong`: where
/// there are several codings of a file, a date is that of each (section 8.8.2.2). Ours have a tag beside them, so few
/// use one.
pub(super) fn range_counts(fields: &Fields, file: &Validators, date_is_strong: bool) -> bool {
    if fields.get_named(b"If-Range").is_none() {
        return true;
    }
    match only(fields, b"If-Range").unwrap_or_default() {
        tag @ [b'"', ..] => file.tag.as_deref().is_some_and(|own| own.as_bytes() == tag),
        [b'W', b'/', ..] => false,
        date => date_is_strong && file.modified.is_some() && parse_date(date) == file.modified,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

/// Whether a list names the file's tag, or any.
fn matches(fields: &Fields, name: &[u8], file: &Validators, comparison: Comparison) -> bool {
    let lines = fields
        .iter()
        .filter(|line| line.1.eq_ignore_ascii_case(name));
    for (_, _, value) in lines {
        if value.trim_ascii() == b"*" {
            return true;
        }
        let Some(tag) = &file.tag else { continue };
        let mut rest = value;
        while let Some(start) = rest.iter().position(|&byte| byte == b'"') {
            let Some(length) = rest[start + 1..].iter().position(|&byte| byte == b'"') else {
                break;
            };
            let end = start + length + 2;
            let is_weak = rest[..start].ends_with(b"W/");
            let fits = comparison == Comparison::Weak || !is_weak;
            if fits && &rest[start..end] == tag.as_bytes() {
                return true;
            }
            rest = &rest[end..];
        }
    }
    false
}

fn date_of(fields: &Fields, name: &[u8]) -> Option<u64> {
    parse_date(only(fields, name)?)
}

/// The value of a field that is no list; none where it is there more than once, which says nothing.
pub(super) fn only<'a>(fields: &'a Fields, name: &[u8]) -> Option<&'a [u8]> {
    let mut lines = fields
        .iter()
        .filter(|line| line.1.eq_ignore_ascii_case(name));
    let (_, _, value) = lines.next()?;
    lines.next().is_none().then_some(value)
}

/// Seconds since 1970 of any of the three forms of a date (section 5.6.7).
fn parse_date(text: &[u8]) -> Option<u64> {
    let time = httpdate::parse_http_date(std::str::from_utf8(text).ok()?).ok()?;
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    Some(since.as_secs())
}

/// Seconds since 1970 as a date.
pub(super) fn date(seconds: u64) -> String {
    let longest = Duration::from_secs(253_402_300_799);
    let since = Duration::from_secs(seconds).min(longest);
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + since)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const SAME: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const OLD_FORM: &str = "Sunday, 06-Nov-94 08:49:37 GMT";

    fn fields(lines: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::default();
        for (name, value) in lines {
            fields.push(name.as_bytes(), value.as_bytes());
        }
        fields
    }

    fn file() -> Validators {
        Validators {
            tag: Some("\"a\"".to_owned()),
            modified: Some(784_111_777),
        }
    }

    #[test]
    fn conditions_are_looked_at_in_their_order() {
        use Verdict::{Failed, NotModified, Proceed};
        let table: &[(&[(&str, &str)], Verdict)] = &[
            (&[], Proceed),
            (&[("If-Match", "\"a\"")], Proceed),
            (&[("If-Match", "*")], Proceed),
            (&[("If-Match", "W/\"a\"")], Failed),
            (&[("If-Match", "\"b\", \"a\"")], Proceed),
            (&[("If-Match", "\"b\"")], Failed),
            (
                &[("If-Match", "\"a\""), ("If-Unmodified-Since", BEFORE)],
                Proceed,
            ),
            (&[("If-Unmodified-Since", BEFORE)], Failed),
            (&[("If-Unmodified-Since", SAME)], Proceed),
            (&[("If-Unmodified-Since", "yesterday")], Proceed),
            (&[("If-None-Match", "\"a\"")], NotModified),
            (&[("If-None-Match", "W/\"a\"")], NotModified),
            (
                &[("If-None-Match", "\"b\""), ("if-none-match", "\"a\"")],
                NotModified,
            ),
            (&[("If-None-Match", "*")], NotModified),
            (&[("If-None-Match", "\"b\"")], Proceed),
            (&[("If-None-Match", "\"b, \", \"a")], Proceed),
            (
                &[("If-None-Match", "\"b\""), ("If-Modified-Since", SAME)],
                Proceed,
            ),
            (&[("If-Modified-Since", SAME)], NotModified),
            (&[("If-Modified-Since", OLD_FORM)], NotModified),
            (&[("If-Modified-Since", BEFORE)], Proceed),
            (&[("If-Modified-Since", "")], Proceed),
            (&[("If-Match", "\"b\""), ("If-None-Match", "\"a\"")], Failed),
            (
                &[("If-Modified-Since", SAME), ("If-Modified-Since", SAME)],
                Proceed,
            ),
        ];
        for (lines, expected) in table {
            assert_eq!(verdict(&fields(lines), &file()), *expected, "{lines:?}");
        }
        let unknown = Validators::default();
        assert_eq!(
            verdict(&fields(&[("If-None-Match", "\"\"")]), &unknown),
            Proceed
        );
        assert_eq!(
            verdict(&fields(&[("If-Modified-Since", SAME)]), &unknown),
            Proceed
        );
        assert_eq!(verdict(&fields(&[("If-Match", "\"a\"")]), &unknown), Failed);
    }

    #[test]
    fn what_is_to_come_is_not_told() {
        assert_eq!(file().at(784_111_777), file());
        let early = file().at(784_111_776);
        assert_eq!((early.tag, early.modified), (file().tag, None));
    }

    #[test]
    fn a_part_is_of_the_file_as_it_was() {
        for (value, expected) in [
            ("\"a\"", true),
            ("\"b\"", false),
            ("W/\"a\"", false),
            (SAME, true),
            (BEFORE, false),
            ("", false),
        ] {
            let fields = fields(&[("If-Range", value)]);
            assert_eq!(range_counts(&fields, &file(), true), expected, "{value}");
            let by_tag = expected && value.starts_with('"');
            assert_eq!(range_counts(&fields, &file(), false), by_tag, "{value}");
            assert!(!range_counts(&fields, &Validators::default(), true));
        }
        assert!(range_counts(&Fields::default(), &file(), false));
        let twice = fields(&[("If-Range", "\"a\""), ("If-Range", "\"a\"")]);
        assert!(!range_counts(&twice, &file(), true));
        assert_eq!(date(784_111_777), SAME);
    }
}
