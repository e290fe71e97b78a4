//! The value of a [`RequestKey`] in a request: what a choice goes by, hashed.

use std::net::IpAddr;

use outgrow_balance::hash::hash;
use outgrow_message::{Known, RequestHead};

use crate::identity::{self, Peer};
use crate::settings::RequestKey;

/// The hash of what `by` names, as the request came; none when it has no such thing.
#[inline]
pub(crate) fn value_of(
    by: &RequestKey,
    request: &RequestHead,
    peer: &Peer,
    trusts: impl Fn(IpAddr) -> bool,
) -> Option<u64> {
    let bytes = match by {
        RequestKey::Address => identity::client(&request.fields, peer, trusts),
        RequestKey::Certificate => peer.shown.as_ref()?.holder().as_bytes(),
        RequestKey::Path => request.path(),
        RequestKey::Header(name) => request.fields.get_named(name.as_str().as_bytes())?,
        RequestKey::Cookie(name) => cookie(request, name.as_bytes())?,
        RequestKey::Query(name) => query(request, name.as_bytes())?,
    };
    (!bytes.is_empty()).then(|| hash(bytes))
}

/// The value of a cookie (RFC 6265 section 5.4): of the first one of that name.
pub(crate) fn cookie<'r>(request: &'r RequestHead, name: &[u8]) -> Option<&'r [u8]> {
    request.fields.values(Known::Cookie).find_map(|line| {
        line.split(|&byte| byte == b';').find_map(|pair| {
            let value = pair.trim_ascii_start().strip_prefix(name)?;
            Some(value.strip_prefix(b"=")?.trim_ascii_end())
        })
    })
}

/// The value of a key in the query, as it came: of the first one of that name.
fn query<'r>(request: &'r RequestHead, name: &[u8]) -> Option<&'r [u8]> {
    let query = request.text(request.query?);
    query
        .split(|&byte| byte == b'&')
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &str, query: &str, lines: &[(&str, &str)]) -> RequestHead {
        let mut head = RequestHead::default();
        head.clear();
        head.raw_path = head.fields.push_bytes(path.as_bytes());
        head.query = (!query.is_empty()).then(|| head.fields.push_bytes(query.as_bytes()));
        for (name, value) in lines {
            head.fields.push(name.as_bytes(), value.as_bytes());
        }
        head.normalise_path().expect("a path");
        head
    }

    #[test]
    fn each_part_is_found_where_it_stands() {
        let head = request(
            "/a/b",
            "user=1&user=2&x",
            &[
                ("Cookie", "first=1; session=abc ;other=x"),
                ("cookie", "second=2; session=zzz"),
                ("X-User", "ann"),
                ("X-Forwarded-For", "1.1.1.1, 2.2.2.2"),
            ],
        );
        let check = |key: &str, trusted: bool, expected: Option<&str>| {
            let key: RequestKey = key.parse().expect("a key");
            let peer = Peer::new(Some(IpAddr::from([192, 0, 2, 7])), trusted, false);
            let expected = expected.map(|text| hash(text.as_bytes()));
            assert_eq!(value_of(&key, &head, &peer, |_| false), expected, "{key}");
        };
        check("address", false, Some("192.0.2.7"));
        check("address", true, Some("2.2.2.2"));
        check("path", false, Some("/a/b"));
        check("header:x-user", false, Some("ann"));
        check("header:X-Other", false, None);
        check("cookie:session", false, Some("abc"));
        check("cookie:second", false, Some("2"));
        check("cookie:sess", false, None);
        check("cookie:fir", false, None);
        check("query:user", false, Some("1"));
        check("query:x", false, None);
        check("query:use", false, None);
    }

    #[test]
    fn keys_are_written_as_they_are_read() {
        for text in ["address", "path", "header:X-A", "cookie:a", "query:b_c"] {
            let key: RequestKey = text.parse().expect("a key");
            assert_eq!(key.to_string(), text);
        }
        for text in [
            "",
            "ip",
            "header:",
            "header:a b",
            "cookie:",
            "cookie:a;b",
            "path:x",
        ] {
            assert!(text.parse::<RequestKey>().is_err(), "{text}");
        }
    }
}
