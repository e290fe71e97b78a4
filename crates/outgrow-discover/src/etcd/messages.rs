//! What is said to etcd's JSON gateway, and what it says: pure.
//!
//! Numbers of 64 bits are texts there, keys and values Base64; fields that are zero are left out.

use outgrow_core::base64::{decode, encode};
use serde_json::{Value, json};

use crate::file::list;
use crate::found::{Found, LIMIT};

/// Most keys that are read; those beyond cannot become endpoints anyway.
const KEYS: usize = 2 * LIMIT;

/// One key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
}

/// Everything below a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(crate) revision: u64,
    pub(crate) pairs: Vec<Pair>,
    /// How many keys there are in all.
    pub(crate) count: usize,
}

/// What one line of a watch says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Watched {
    /// Nothing that changes anything.
    Nothing,
    /// Keys have another value, or, without one, are gone.
    Changes(Vec<(Vec<u8>, Option<Vec<u8>>)>),
    /// What follows is not known any more: all must be read anew.
    Lost(String),
}

/// The question for everything below `prefix`.
pub(super) fn range(prefix: &str) -> Vec<u8> {
    let question = json!({
        "key": encode(prefix.as_bytes()),
        "range_end": encode(&end_of(prefix.as_bytes())),
        "limit": KEYS.to_string(),
    });
    question.to_string().into_bytes()
}

/// The question for every change below `prefix` behind a revision.
pub(super) fn watch(prefix: &str, revision: u64) -> Vec<u8> {
    let question = json!({ "create_request": {
        "key": encode(prefix.as_bytes()),
        "range_end": encode(&end_of(prefix.as_bytes())),
        "start_revision": revision.saturating_add(1).to_string(),
    }});
    question.to_string().into_bytes()
}

/// The question for a token.
pub(crate) fn authenticate(user: &str, password: &str) -> Vec<u8> {
    let question = json!({ "name": user, "password": password });
    question.to_string().into_bytes()
}

/// The first key behind all that begin with `prefix`; a single zero is behind everything.
pub(super) fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

/// Reads the answer to [`authenticate`].
pub(crate) fn read_token(bytes: &[u8]) -> Result<String, String> {
    let answer = parse(bytes)?;
    let token = answer.get("token").and_then(Value::as_str);
    token
        .map(str::to_owned)
        .ok_or_else(|| "there is no token in the answer".to_owned())
}

/// Reads the answer to [`range`].
pub(crate) fn read_range(bytes: &[u8]) -> Result<Listing, String> {
    let answer = parse(bytes)?;
    let revision = answer.pointer("/header/revision").and_then(number);
    let revision = revision.ok_or("there is no revision in the answer")?;
    let pairs = match answer.get("kvs") {
        None => Vec::new(),
        Some(Value::Array(pairs)) => pairs.iter().map(pair).collect::<Result<_, _>>()?,
        Some(_) => return Err("`kvs` is not a list".to_owned()),
    };
    if pairs.len() > KEYS {
        return Err("there are more keys in the answer than were asked for".to_owned());
    }
    let count = answer.get("count").and_then(number).unwrap_or(0);
    Ok(Listing {
        revision,
        count: usize::try_from(count)
            .unwrap_or(usize::MAX)
            .max(pairs.len()),
        pairs,
    })
}

/// Reads one line of the answer to [`watch`].
pub(crate) fn read_watch(line: &[u8]) -> Result<Watched, String> {
    let answer = parse(line)?;
    if let Some(error) = answer.get("error") {
        let message = error.get("message").and_then(Value::as_str);
        return Err(format!(
            "the watch failed: {}",
            message.unwrap_or("it does not say why")
        ));
    }
    let result = answer
        .get("result")
        .ok_or("there is no result in the answer")?;
    if result.get("canceled").and_then(Value::as_bool) == Some(true) {
        let reason = result.get("cancel_reason").and_then(Value::as_str);
        let is_compacted = result.get("compact_revision").and_then(number) > Some(0);
        let reason = match reason {
            Some(reason) => reason,
            None if is_compacted => "compacted",
            None => "the watch was ended",
        };
        return Ok(Watched::Lost(reason.to_owned()));
    }
    let events = match result.get("events") {
        None => return Ok(Watched::Nothing),
        Some(Value::Array(events)) => events,
        Some(_) => return Err("`events` is not a list".to_owned()),
    };
    let change = |event: &Value| {
        let Pair { key, value } = pair(event.get("kv").ok_or("an event has no key")?)?;
        match event.get("type").map(Value::as_str) {
            None | Some(Some("PUT")) => Ok((key, Some(value))),
            Some(Some("DELETE")) => Ok((key, None)),
            Some(_) => Err("an event of an unknown kind".to_owned()),
        }
    };
    let changes: Vec<_> = events.iter().map(change).collect::<Result<_, String>>()?;
    Ok(Watched::Changes(changes))
}

/// The endpoint that a value says: an address, etcd's own form for endpoints
/// (`{"Addr": "10.0.0.1:80"}`), or a table as in `endpoints`.
pub(crate) fn endpoint(value: &[u8]) -> Option<Found> {
    let text = std::str::from_utf8(value).ok()?.trim();
    if !text.starts_with('{') {
        return text.parse().ok().map(Found::at);
    }
    let table: Value = serde_json::from_str(text).ok()?;
    let table = table.as_object()?;
    match table.get("Addr") {
        Some(Value::String(address)) => {
            let mut found = Found::at(address.parse().ok()?);
            if let Some(Value::Object(metadata)) = table.get("Metadata") {
                list::take(metadata, &mut found).ok()?;
            }
            Some(found)
        }
        _ => list::one(table).ok(),
    }
}

pub(super) fn parse(bytes: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(bytes).map_err(|error| format!("the answer is not JSON: {error}"))
}

pub(super) fn number(value: &Value) -> Option<u64> {
    match value {
        Value::String(text) => text.parse().ok(),
        value => value.as_u64(),
    }
}

pub(super) fn pair(value: &Value) -> Result<Pair, String> {
    let bytes = |name: &str| match value.get(name) {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => decode(text).ok_or(format!("`{name}` is not Base64")),
        Some(_) => Err(format!("`{name}` is not a text")),
    };
    let key = bytes("key")?;
    if key.is_empty() {
        return Err("a key is empty".to_owned());
    }
    let value = bytes("value")?;
    Ok(Pair { key, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_behind_all_that_begin_with_it() {
        assert_eq!(end_of(b"/a/"), b"/a0");
        assert_eq!(end_of(b"a\xff\xff"), b"b");
        assert_eq!(end_of(b"\xff"), b"\0");
    }

    #[test]
    fn listings_are_read_or_refused() {
        let good = br#"{"header":{"revision":"7"},"kvs":[{"key":"YQ==","value":"eA=="},
            {"key":"Yg=="}],"count":"5"}"#;
        let listing = read_range(good).expect("a listing");
        assert_eq!((listing.revision, listing.count), (7, 5));
        assert_eq!(listing.pairs[1].value, b"");
        let empty = read_range(br#"{"header":{"revision":7}}"#).expect("a listing");
        assert!(empty.pairs.is_empty());
        for wrong in [
            "",
            "[]",
            "{}",
            r#"{"kvs":[]}"#,
            r#"{"header":{"revision":"-1"}}"#,
            r#"{"header":{"revision":"1"},"kvs":{}}"#,
            r#"{"header":{"revision":"1"},"kvs":[{}]}"#,
            r#"{"header":{"revision":"1"},"kvs":[{"key":"?"}]}"#,
            r#"{"header":{"revision":"1"},"kvs":[{"key":1}]}"#,
            r#"{"error":"permission denied","code":7}"#,
        ] {
            assert!(read_range(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn lines_of_a_watch_are_read_or_refused() {
        let read = |line: &str| read_watch(line.as_bytes());
        let created = r#"{"result":{"header":{"revision":"1"},"created":true}}"#;
        assert_eq!(read(created), Ok(Watched::Nothing));
        let events = r#"{"result":{"events":[{"kv":{"key":"YQ==","value":"eA=="}},
            {"type":"DELETE","kv":{"key":"Yg=="}}]}}"#;
        let expected = vec![(b"a".to_vec(), Some(b"x".to_vec())), (b"b".to_vec(), None)];
        assert_eq!(read(events), Ok(Watched::Changes(expected)));
        let compacted = r#"{"result":{"canceled":true,"compact_revision":"9"}}"#;
        assert_eq!(read(compacted), Ok(Watched::Lost("compacted".to_owned())));
        for wrong in [
            "",
            "{}",
            r#"{"error":{"message":"no"}}"#,
            r#"{"result":{"events":1}}"#,
            r#"{"result":{"events":[{}]}}"#,
            r#"{"result":{"events":[{"type":"MOVE","kv":{"key":"YQ=="}}]}}"#,
            r#"{"result":{"events":[{"type":7,"kv":{"key":"YQ=="}}]}}"#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn values_are_addresses_in_three_forms() {
        let told = |value: &str| {
            endpoint(value.as_bytes()).map(|one| (one.address.to_string(), one.weight))
        };
        let at = |text: &str, weight| Some((text.to_owned(), weight));
        assert_eq!(told("10.0.0.1:80\n"), at("10.0.0.1:80", 1));
        assert_eq!(
            told(r#"{"Op":0,"Addr":"a:1","Metadata":null}"#),
            at("a:1", 1)
        );
        assert_eq!(
            told(r#"{"Addr":"a:1","Metadata":{"weight":"4"}}"#),
            at("a:1", 4)
        );
        assert_eq!(told(r#"{"address":"a:1","weight":3}"#), at("a:1", 3));
        for wrong in [
            "",
            "a",
            "{}",
            "{",
            r#"{"Addr":1}"#,
            r#"{"address":"a:1","x":3}"#,
        ] {
            assert_eq!(told(wrong), None, "{wrong}");
        }
        assert_eq!(endpoint(b"\xff:1"), None);
    }
}
