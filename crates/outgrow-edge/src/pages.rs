//! Pages for errors, compiled: found by status, filled in with the request's id.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use outgrow_core::context::RequestId;
use outgrow_http::h1::encode::{put_number, reason_of};
use outgrow_message::ledger::Charge;
use outgrow_message::{Fields, Known, Ledger, Method, ResponseHead};

use crate::files::type_of_name;
use crate::settings::{ErrorPageSettings, ErrorStatus};

/// The largest page in bytes.
pub const PAGE_BYTES: usize = 256 * 1_024;

/// The type of a file by its name.
pub fn type_of_file(path: &Path) -> &'static str {
    let name = path.file_name().map(|name| name.as_encoded_bytes());
    type_of_name(name.unwrap_or_default())
}

/// The pages of a route or a listener.
#[derive(Debug, Default)]
pub struct Pages {
    /// Those for a single status first.
    list: Vec<(ErrorStatus, Page)>,
}

/// A page, compiled.
#[derive(Debug)]
pub(crate) struct Page {
    pieces: Vec<Piece>,
    content_type: String,
    intercept: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    RequestId,
    Status,
    Reason,
}

impl Pages {
    /// Compiles pages; `read` gives the text of a file, which was read before. One whose text is not
    /// there is left out: our own short text is sent then.
    pub fn new<'t>(
        settings: &BTreeMap<ErrorStatus, ErrorPageSettings>,
        read: impl Fn(&Path) -> Option<&'t str>,
    ) -> Self {
        let page = |(status, page): (&ErrorStatus, &ErrorPageSettings)| {
            let text = match &page.file {
                Some(file) => read(file)?,
                None => page.text.as_deref()?,
            };
            Some((status.clone(), Page::new(text, page)))
        };
        Self {
            list: settings.iter().filter_map(page).collect(),
        }
    }

    /// The page for an error of ours.
    pub(crate) fn of(&self, status: u16) -> Option<&Page> {
        self.list
            .iter()
            .find(|(these, _)| these.has(status))
            .map(|(_, page)| page)
    }

    /// The page for an endpoint's answer.
    pub(crate) fn instead_of(&self, status: u16) -> Option<&Page> {
        let mut pages = self.list.iter();
        let found = pages.find(|(these, page)| page.intercept && these.has(status));
        found.map(|(_, page)| page)
    }
}

impl Page {
    fn new(text: &str, settings: &ErrorPageSettings) -> Self {
        let content_type = match (&settings.content_type, &settings.file) {
            (Some(text), _) => text.as_str(),
            (None, Some(file)) => type_of_file(file),
            (None, None) => "text/plain; charset=utf-8",
        };
        Self {
            pieces: pieces(text),
            content_type: content_type.to_owned(),
            intercept: settings.intercept,
        }
    }

    /// Fills in the page, and says in the head what it is. The ledger counts it for as long as what comes back is
    /// kept; none where it has no room for it: then nothing is changed. For HEAD there is no body, but its length in
    /// the head.
    #[must_use]
    pub(crate) fn write(
        &self,
        (id, method): (RequestId, Method),
        head: &mut ResponseHead,
        body: &mut Vec<u8>,
        ledger: &Arc<Ledger>,
    ) -> Option<Charge> {
        let reason = reason_of(head.status);
        let lengths = self.pieces.iter().map(|piece| match piece {
            Piece::Text(text) => text.len(),
            Piece::RequestId => id.hex().len(),
            Piece::Status => 3,
            Piece::Reason => reason.len(),
        });
        let length: usize = lengths.sum();
        let is_sent = method != Method::Head;
        let charge = match is_sent {
            true => ledger.charge(length as u64)?,
            false => ledger.charge_anyway(0),
        };
        body.clear();
        head.fields.remove(Known::ContentType);
        head.fields
            .push(b"Content-Type", self.content_type.as_bytes());
        if !is_sent {
            let length = length.to_string();
            head.fields.push(b"Content-Length", length.as_bytes());
            return Some(charge);
        }
        body.reserve_exact(length);
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => body.extend_from_slice(text.as_bytes()),
                Piece::RequestId => body.extend_from_slice(&id.hex()),
                Piece::Status => put_number(body, u64::from(head.status)),
                Piece::Reason => body.extend_from_slice(reason.as_bytes()),
            }
        }
        Some(charge)
    }
}

/// Removes what speaks of a body that is not sent.
pub(crate) fn forget_body(fields: &mut Fields) {
    for known in [
        Known::ContentLength,
        Known::ContentEncoding,
        Known::ContentType,
        Known::Etag,
    ] {
        fields.remove(known);
    }
    for name in [
        &b"Last-Modified"[..],
        b"Accept-Ranges",
        b"Content-Range",
        b"Content-Language",
        b"Content-Disposition",
        b"Content-Digest",
        b"Repr-Digest",
        b"Digest",
        b"Content-MD5",
    ] {
        fields.remove_named(name);
    }
}

/// A text cut at its placeholders. Braces that are none stay, as style sheets have them.
fn pieces(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut from = 0;
    while let Some(place) = rest[from..].find('{').map(|place| from + place) {
        let known = [
            ("{request_id}", Piece::RequestId),
            ("{status}", Piece::Status),
            ("{reason}", Piece::Reason),
        ];
        let mut known = known.into_iter();
        let Some((name, piece)) = known.find(|(name, _)| rest[place..].starts_with(name)) else {
            from = place + 1;
            continue;
        };
        if place > 0 {
            pieces.push(Piece::Text(rest[..place].to_owned()));
        }
        pieces.push(piece);
        rest = &rest[place + name.len()..];
        from = 0;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    pieces
}

#[cfg(test)]
mod tests {
    use outgrow_core::settings::MapKey;

    use super::*;

    #[test]
    fn pages_are_found_and_filled_in() {
        let page = |text: &str, intercept| ErrorPageSettings {
            text: Some(text.to_owned()),
            intercept,
            ..ErrorPageSettings::default()
        };
        let settings = [
            (
                "404",
                page("<b>{status} {reason}</b> a{b:c} {request_id}", false),
            ),
            ("4xx", page("client", true)),
            ("503", page("{{status}}{", true)),
        ];
        let settings = settings.map(|(key, page)| (ErrorStatus::from_key(key).expect(key), page));
        let pages = Pages::new(&settings.into(), |_| None);
        let fill = |page: Option<&Page>, status: u16| {
            let mut head = ResponseHead::default();
            head.status = status;
            head.fields.push(b"Content-Type", b"x/y");
            let mut body = Vec::new();
            let ledger = Ledger::new(1_000_000);
            let asked = (RequestId([0x11; 16]), Method::Get);
            let charge = page?.write(asked, &mut head, &mut body, &ledger);
            assert_eq!(ledger.used_bytes(), body.len() as u64);
            drop(charge);
            assert_eq!(ledger.used_bytes(), 0);
            assert_eq!(
                head.fields.get(Known::ContentType),
                Some(&b"text/plain; charset=utf-8"[..])
            );
            Some(String::from_utf8(body).expect("text"))
        };
        let id = "11".repeat(16);
        let not_found = format!("<b>404 Not Found</b> a{{b:c}} {id}");
        assert_eq!(fill(pages.of(404), 404), Some(not_found));
        assert_eq!(fill(pages.of(400), 400).as_deref(), Some("client"));
        assert_eq!(fill(pages.instead_of(404), 404).as_deref(), Some("client"));
        assert_eq!(fill(pages.of(503), 503).as_deref(), Some("{503}{"));
        assert!(pages.of(500).is_none() && pages.instead_of(500).is_none());
    }

    #[test]
    fn a_file_is_read_before_and_has_the_type_of_its_name() {
        let page = ErrorPageSettings {
            file: Some("errors/404.html".into()),
            ..ErrorPageSettings::default()
        };
        let settings: BTreeMap<_, _> = [(ErrorStatus::from_key("404").expect("one"), page)].into();
        let pages = Pages::new(&settings, |path| {
            (path == Path::new("errors/404.html")).then_some("x")
        });
        let page = pages.of(404).expect("a page");
        assert_eq!(page.content_type, "text/html; charset=utf-8");
        assert!(Pages::new(&settings, |_| None).of(404).is_none());
    }

    #[test]
    fn a_page_that_there_is_no_memory_for_is_not_written() {
        let page = ErrorPageSettings {
            text: Some("x".repeat(1_000)),
            ..ErrorPageSettings::default()
        };
        let page = Page::new(page.text.as_deref().expect("a text"), &page);
        let mut head = ResponseHead::default();
        head.fields.push(b"Content-Type", b"x/y");
        let mut body = b"short".to_vec();
        let (id, ledger) = (RequestId([0x11; 16]), Ledger::new(0));
        let charge = page.write((id, Method::Get), &mut head, &mut body, &ledger);
        assert!(charge.is_none());
        assert_eq!((body.as_slice(), head.fields.len()), (&b"short"[..], 1));
        // Of HEAD it is told how long it is, which needs none.
        let charge = page.write((id, Method::Head), &mut head, &mut body, &ledger);
        assert!(charge.is_some() && body.is_empty());
        let length = head.fields.get(Known::ContentLength);
        assert_eq!((length, ledger.used_bytes()), (Some(&b"1000"[..]), 0));
    }
}
