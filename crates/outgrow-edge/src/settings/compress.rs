//! `[route.NAME.compress]`: which responses are compressed, and how.

use std::fmt;
use std::str::FromStr;

use outgrow_core::settings::{ByteSize, TableReader};

use super::codings::check_codings;
use super::token::is_token_character;

/// Types that shrink and that nobody has compressed already. Not here: `text/event-stream`, whose
/// streams each hold the memory of a compressor for as long as a user looks at a page.
const TYPES: [&str; 20] = [
    "text/html",
    "text/css",
    "text/plain",
    "text/javascript",
    "text/xml",
    "text/csv",
    "text/markdown",
    "text/calendar",
    "application/javascript",
    "application/json",
    "application/x-ndjson",
    "application/xml",
    "application/wasm",
    "application/manifest+json",
    "application/vnd.ms-fontobject",
    "font/ttf",
    "font/otf",
    "image/bmp",
    "*+json",
    "*+xml",
];

outgrow_core::settings! {
    /// Compresses responses for clients that take it (`Accept-Encoding`). `compress = {}` switches it
    /// on with what is here. A response stays as it is when it is compressed already, has none of
    /// `types`, is smaller than `min_size`, is a part (206), says `Cache-Control: no-transform` or
    /// carries a digest of its bytes; so does gRPC. What could be compressed says `Vary:
    /// Accept-Encoding`. A strong `ETag` becomes a weak one with a mark of ours, and the endpoint's
    /// own again when it comes back in `If-None-Match`, or in the `If-Match` of a request that changes
    /// something. A `Range` with a weak tag in `If-Range`, or with a date where this client takes a
    /// coding, is not sent on: it would be a part of something else than the client has.
    ///
    /// A page that shows a secret (a CSRF token that stays the same) beside text that the request
    /// chose should not be compressed: whoever sees the size of many responses can guess the secret
    /// (BREACH). Masking the token anew for each response, as most frameworks do, is enough.
    #[check = check_compress]
    pub struct CompressSettings {
        /// The codings that are offered. Of those that a client likes best (the highest `q`) it gets
        /// the first one here.
        pub codings: Vec<ContentCoding> =
            vec![ContentCoding::Zstd, ContentCoding::Br, ContentCoding::Gzip];
        /// The types of content that are compressed: `"text/html"`, `"text/*"`, `"*+json"`.
        /// `text/event-stream` is so only where it is named: each event is flushed to the client,
        /// but each stream holds 0.4 to 4 MB of memory.
        pub types: Vec<TypePattern> = TYPES.iter().filter_map(|text| text.parse().ok()).collect();
        /// Responses that say that they are smaller stay as they are.
        pub min_size: ByteSize = ByteSize::kib(1), in ByteSize(0)..=ByteSize::gib(1);
        /// How hard gzip tries.
        pub gzip_level: u32 = 5, in 1..=9;
        /// How hard zstd tries.
        pub zstd_level: u32 = 3, in 1..=12;
        /// How hard Brotli tries. Above 6 one response would take tens of megabytes; what is
        /// compressed beforehand may be so with 11.
        pub br_level: u32 = 4, in 0..=6;
    }
}

outgrow_core::choice! {
    /// How a response is compressed.
    pub enum ContentCoding {
        /// Zstandard (RFC 8878): the least work for what it saves.
        Zstd = "zstd",
        /// Brotli (RFC 7932): the smallest text, over TLS only in browsers.
        Br = "br",
        /// gzip (RFC 1952): every client has it.
        Gzip = "gzip",
    }
}

impl ContentCoding {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Zstd, Self::Br, Self::Gzip];
}

/// A type of content, or several: `text/html`, `text/*`, `*+json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TypePattern {
    /// This one.
    Exact(String),
    /// All that begin so: `text/`.
    Prefix(String),
    /// All that end so: `+json`.
    Suffix(String),
}

/// A text that is no type of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no type/subtype, type/* or *+suffix")]
pub struct TypePatternError;

impl TypePattern {
    /// Whether it stands for `essence`, a type without parameters, in any case.
    pub fn matches(&self, essence: &[u8]) -> bool {
        match self {
            Self::Exact(text) => essence.eq_ignore_ascii_case(text.as_bytes()),
            Self::Prefix(text) => essence
                .get(..text.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(text.as_bytes())),
            Self::Suffix(text) => essence
                .len()
                .checked_sub(text.len())
                .is_some_and(|at| essence[at..].eq_ignore_ascii_case(text.as_bytes())),
        }
    }
}

impl FromStr for TypePattern {
    type Err = TypePatternError;

    fn from_str(text: &str) -> Result<Self, TypePatternError> {
        let is_token = |text: &str| {
            !text.is_empty() && text.chars().all(is_token_character) && !text.contains('*')
        };
        if let Some(suffix) = text.strip_prefix("*+")
            && is_token(suffix)
        {
            return Ok(Self::Suffix(text[1..].to_ascii_lowercase()));
        }
        let (kind, subtype) = text.split_once('/').ok_or(TypePatternError)?;
        match subtype {
            "*" if is_token(kind) => Ok(Self::Prefix(format!("{}/", kind.to_ascii_lowercase()))),
            _ if is_token(kind) && is_token(subtype) => Ok(Self::Exact(text.to_ascii_lowercase())),
            _ => Err(TypePatternError),
        }
    }
}

impl fmt::Display for TypePattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) => formatter.write_str(text),
            Self::Prefix(text) => write!(formatter, "{text}*"),
            Self::Suffix(text) => write!(formatter, "*{text}"),
        }
    }
}

outgrow_core::text_setting!(
    TypePattern,
    "a type of content",
    ["text/html", "text/*", "*+json"]
);

fn check_compress(compress: &CompressSettings, table: &mut TableReader<'_, '_>) {
    check_codings(&compress.codings, ("codings", Some("compress")), table);
    if compress.types.is_empty() {
        let hint = "leave `compress` out to compress nothing";
        table.problem("types", "without a type nothing is compressed", hint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_written_and_matched() {
        let table = [
            ("text/html", "TEXT/html", true),
            ("text/html", "text/htmlx", false),
            ("text/*", "text/css", true),
            ("text/*", "text", false),
            ("*+json", "application/ld+JSON", true),
            ("*+json", "application/json", false),
            ("*+json", "+", false),
        ];
        for (text, essence, expected) in table {
            let pattern: TypePattern = text.parse().expect(text);
            assert_eq!(pattern.to_string(), text);
            assert_eq!(
                pattern.matches(essence.as_bytes()),
                expected,
                "{text} {essence}"
            );
        }
        for text in [
            "",
            "*",
            "*/*",
            "text",
            "text/",
            "/html",
            "text/*+json",
            "*+",
            "a b/c",
            "a/b;q=1",
        ] {
            assert!(text.parse::<TypePattern>().is_err(), "{text}");
        }
        assert_eq!(CompressSettings::default().types.len(), TYPES.len());
    }
}
