//! What a session's settings have to do with how its texts read.

/// What a session's settings make of a text. Both are reported by the server (`ParameterStatus`), at
/// login and whenever they change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lexing {
    /// The setting `standard_conforming_strings`: without it a backslash in `'text'` escapes. `None`
    /// when it is not known, as while a statement that sets it is under way: then a text is unknown
    /// from its first such string with a backslash on.
    pub standard_conforming_strings: Option<bool>,
    /// Whether the client's encoding has ASCII bytes for ASCII characters only (see
    /// [`is_safe_encoding`]). Otherwise every text with a byte from 128 on is unknown.
    pub safe_encoding: bool,
}

impl Default for Lexing {
    /// What servers are set to unless somebody changes it.
    fn default() -> Self {
        Self {
            standard_conforming_strings: Some(true),
            safe_encoding: true,
        }
    }
}

/// Whether no byte of a character that is not ASCII looks like an ASCII one in this encoding, named as
/// the server reports `client_encoding`. It is not so in SJIS, BIG5, GBK, UHC, JOHAB and GB18030, in
/// which a quote or a backslash may be half of a character; encodings that nobody has heard of yet
/// are not safe either.
pub fn is_safe_encoding(name: &[u8]) -> bool {
    const SAFE: [&[u8]; 6] = [
        b"UTF8",
        b"SQL_ASCII",
        b"MULE_INTERNAL",
        b"EUC_JP",
        b"EUC_CN",
        b"EUC_KR",
    ];
    const SAFE_FAMILIES: [&[u8]; 6] = [
        b"EUC_TW",
        b"EUC_JIS_2004",
        b"LATIN",
        b"ISO_8859_",
        b"WIN",
        b"KOI8",
    ];
    SAFE.contains(&name) || SAFE_FAMILIES.iter().any(|family| name.starts_with(family))
}
