//! What follows a head (RFC 9112 section 6), and whether the connection goes on after it.

use outgrow_core::Cause;
use outgrow_message::fields::list_members;
use outgrow_message::{BodyLength, Fields, Known, Version};

use super::Reject;

/// The length that `Content-Length` and `Transfer-Encoding` give together; none when neither
/// is there.
pub(crate) fn declared(fields: &Fields, version: Version) -> Result<Option<BodyLength>, Reject> {
    let encoded = fields.may_have(Known::TransferEncoding);
    let measured = fields.may_have(Known::ContentLength);
    match (encoded, measured) {
        (false, false) => Ok(None),
        (true, true) => Err(Reject::framing(
            "both Transfer-Encoding and Content-Length are there",
        )),
        (true, false) if version == Version::Http10 => {
            Err(Reject::framing("HTTP/1.0 has no Transfer-Encoding"))
        }
        (true, false) => chunked(fields).map(Some),
        (false, true) => measured_length(fields).map(Some),
    }
}

fn chunked(fields: &Fields) -> Result<BodyLength, Reject> {
    let mut values = fields.values(Known::TransferEncoding);
    let first = values.next().unwrap_or_default();
    if values.next().is_some() {
        return Err(Reject::framing("Transfer-Encoding is repeated"));
    }
    if first.eq_ignore_ascii_case(b"chunked") {
        return Ok(BodyLength::Unknown);
    }
    let codings = || list_members(std::iter::once(first));
    let ends_chunked = codings()
        .last()
        .is_some_and(|last| last.eq_ignore_ascii_case(b"chunked"));
    let times = codings()
        .filter(|coding| coding.eq_ignore_ascii_case(b"chunked"))
        .count();
    let well_formed = !first.is_empty() && codings().all(super::token::is_token);
    if well_formed && ends_chunked && times == 1 {
        return Err(Reject::new(
            Cause::NotImplemented,
            "a transfer coding is not implemented",
        ));
    }
    Err(Reject::framing("Transfer-Encoding is not chunked"))
}

fn measured_length(fields: &Fields) -> Result<BodyLength, Reject> {
    let mut values = fields.values(Known::ContentLength);
    let first = values.next().unwrap_or_default();
    if values.next().is_some() {
        return Err(Reject::framing("Content-Length is repeated"));
    }
    parse_length(first)
        .map(BodyLength::Known)
        .ok_or(Reject::framing("Content-Length is not a number"))
}

/// `1*DIGIT` up to 2^63 - 1: larger ones overflow in other readers.
pub fn parse_length(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 19 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = text
        .iter()
        .fold(0_u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    i64::try_from(value).ok().map(|_| value)
}

/// More options of `Connection` than anybody has: each that is unusual is looked for in all fields.
const MOST_OPTIONS: usize = 32;

/// What the `Connection` lines ask for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ConnectionOptions {
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) upgrade: bool,
}

impl ConnectionOptions {
    pub(super) fn of(fields: &Fields) -> Result<Self, Reject> {
        let mut options = Self::default();
        if !fields.may_have(Known::Connection) {
            return Ok(options);
        }
        for (index, option) in list_members(fields.values(Known::Connection)).enumerate() {
            if index == MOST_OPTIONS {
                return Err(Reject::bad("too many Connection options"));
            }
            if !super::token::is_token(option) {
                return Err(Reject::bad("a Connection option is not a token"));
            }
            options.close |= option.eq_ignore_ascii_case(b"close");
            options.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            options.upgrade |= option.eq_ignore_ascii_case(b"upgrade");
        }
        Ok(options)
    }

    pub(super) fn persists(self, version: Version) -> bool {
        match version {
            Version::Http10 => self.keep_alive && !self.close,
            _ => !self.close,
        }
    }
}
