//! What tokens of HTTP are made of: methods, names of fields and of cookies. Their lengths, and which
//! of them are refused all the same, is with each.

/// A `tchar` of RFC 9110 section 5.6.2.
pub(super) fn is_token_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delimiters_and_what_is_not_ascii_are_no_token() {
        assert!("azAZ09!#$%&'*+-.^_`|~".chars().all(is_token_character));
        assert!(
            !"\"(),/:;<=>?@[\\]{} \t\0\u{7f}é"
                .chars()
                .any(is_token_character)
        );
    }
}
