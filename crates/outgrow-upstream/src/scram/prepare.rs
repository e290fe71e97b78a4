//! SASLprep (RFC 4013) of passwords, with Postgres' freedoms: a password that cannot be prepared
//! is taken as it is, since it may be in another encoding.
//!
//! The steps are Postgres', not the library's: what is prohibited, unassigned (in Unicode 3.2) or
//! of both directions is looked for before normalisation. The two differ for presentation forms
//! and for characters that are younger than Unicode 3.2, and who differs cannot log in.

use std::borrow::Cow;

use stringprep::tables;
use unicode_normalization::UnicodeNormalization;

/// The bytes that keys are derived from.
pub fn prepare(password: &[u8]) -> Cow<'_, [u8]> {
    if password.is_ascii() {
        return Cow::Borrowed(password);
    }
    let prepared = std::str::from_utf8(password).ok().and_then(prepare_text);
    prepared.map_or(Cow::Borrowed(password), |text| {
        Cow::Owned(text.into_bytes())
    })
}

fn prepare_text(password: &str) -> Option<String> {
    let mapped: Vec<char> = password.chars().filter_map(map).collect();
    let (first, last) = (mapped.first()?, mapped.last()?);
    if mapped.iter().copied().any(is_refused) {
        return None;
    }
    if mapped.iter().copied().any(tables::bidi_r_or_al) {
        let is_right_to_left = tables::bidi_r_or_al(*first) && tables::bidi_r_or_al(*last);
        if !is_right_to_left || mapped.iter().copied().any(tables::bidi_l) {
            return None;
        }
    }
    Some(mapped.into_iter().nfkc().collect())
}

/// RFC 4013 section 2.1.
fn map(character: char) -> Option<char> {
    if tables::non_ascii_space_character(character) {
        Some(' ')
    } else if tables::commonly_mapped_to_nothing(character) {
        None
    } else {
        Some(character)
    }
}

/// RFC 4013 sections 2.3 and 2.5. Surrogates cannot be in UTF-8, and non-ASCII spaces are mapped.
fn is_refused(character: char) -> bool {
    tables::ascii_control_character(character)
        || tables::non_ascii_control_character(character)
        || tables::private_use(character)
        || tables::non_character_code_point(character)
        || tables::inappropriate_for_plain_text(character)
        || tables::inappropriate_for_canonical_representation(character)
        || tables::change_display_properties_or_deprecated(character)
        || tables::tagging_character(character)
        || tables::unassigned_code_point(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of RFC 4013 section 3 and more; what a real server makes of such passwords is
    /// in the tests with real servers.
    #[test]
    fn passwords_are_prepared_or_left_alone() {
        let check = |password: &str, expected: &str| {
            let prepared = prepare(password.as_bytes());
            assert_eq!(String::from_utf8_lossy(&prepared), expected, "{password:?}");
        };
        check("I\u{ad}X", "IX");
        check("user", "user");
        check("USER", "USER");
        check("\u{aa}", "a");
        check("\u{2168}", "IX");
        // Refused by the RFC, taken as they are by Postgres.
        check("\u{7}", "\u{7}");
        check("\u{627}1", "\u{627}1");
        check("\u{ad}", "\u{ad}");
        check("é\u{7}", "é\u{7}");
        check("\u{e001}é", "\u{e001}é");
        check("e\u{301}", "é");
        check("a\u{a0}b\u{200b}c", "a b c");
        // Younger than Unicode 3.2: unassigned there.
        check("\u{1d2c}", "\u{1d2c}");
        check("\u{340}", "\u{340}");
        // A presentation form, which ends in a mark of no direction once it is normalised.
        check("\u{fb1d}", "\u{5d9}\u{5b4}");
        assert_eq!(*prepare(b"\xe9t\xe9"), *b"\xe9t\xe9");
    }
}
