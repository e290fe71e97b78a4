//! `error_pages`: what clients see when something goes wrong.

use std::cmp::Ordering;
use std::path::PathBuf;

use outgrow_core::settings::{MapKey, TableReader};

use super::HeaderText;

outgrow_core::settings! {
    /// A page for errors, in a file or as text. In it `{request_id}` stands for the id of the request,
    /// by which it is found in the access record, `{status}` for the status and `{reason}` for its
    /// name. The fields of the answer stay (`Allow`, `Retry-After`, `X-Request-Id`); so does its
    /// `Cache-Control: no-store`.
    #[check = check_page]
    pub struct ErrorPageSettings {
        /// A file, at most 256 KiB of UTF-8. It is read when the configuration is, and that again when
        /// it changes; one that cannot be read is a mistake in the configuration.
        pub file: Option<PathBuf> = None;
        /// The page itself.
        pub text: Option<String> = None;
        /// Its `Content-Type`.
        pub content_type: Option<HeaderText> = None,
            shown = "by the name of the file; text/plain; charset=utf-8 for a text";
        /// Whether the page also takes the place of what endpoints answer with such a status, not
        /// only of our own errors. The fields of their answer stay, but for those that speak of its
        /// body. gRPC is left alone.
        pub intercept: bool = false;
    }
}

/// Which errors a page is for: `404`, `4xx` or `5xx`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorStatus {
    text: String,
    first: u16,
    last: u16,
}

impl ErrorStatus {
    /// Whether a status is one of these.
    pub fn has(&self, status: u16) -> bool {
        (self.first..=self.last).contains(&status)
    }

    /// How many there are: a page for fewer is the one that is meant.
    fn width(&self) -> u16 {
        self.last - self.first
    }
}

/// Pages for a single status first.
impl Ord for ErrorStatus {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |status: &Self| (status.width(), status.first);
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for ErrorStatus {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl MapKey for ErrorStatus {
    fn from_key(text: &str) -> Result<Self, String> {
        let (first, last) = match text {
            "4xx" => (400, 499),
            "5xx" => (500, 599),
            text => match text.parse() {
                Ok(status @ 400..=599) if text.len() == 3 => (status, status),
                _ => return Err("is no status from 400 to 599, and neither 4xx nor 5xx".to_owned()),
            },
        };
        Ok(Self {
            text: text.to_owned(),
            first,
            last,
        })
    }

    fn as_key(&self) -> &str {
        &self.text
    }
}

fn check_page(page: &ErrorPageSettings, table: &mut TableReader<'_, '_>) {
    let hint = "write either file = \"404.html\" or text = \"Not here.\"";
    match (&page.file, &page.text) {
        (Some(_), Some(_)) => table.problem("text", "a page is a file or a text, not both", hint),
        (None, None) => {
            let span = table.span();
            let message = "this page has neither a file nor a text";
            table.reader().error_with_hint(span, message, hint);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_statuses_come_first() {
        let mut all: Vec<_> = ["5xx", "4xx", "503", "404"]
            .into_iter()
            .map(|text| ErrorStatus::from_key(text).expect(text))
            .collect();
        all.sort();
        let texts: Vec<_> = all.iter().map(ErrorStatus::as_key).collect();
        assert_eq!(texts, ["404", "503", "4xx", "5xx"]);
        assert!(all[2].has(400) && all[2].has(499) && !all[2].has(500) && !all[0].has(405));
        for text in ["200", "399", "600", "0404", "+404", "xx", "3xx", ""] {
            assert!(ErrorStatus::from_key(text).is_err(), "{text}");
        }
    }
}
