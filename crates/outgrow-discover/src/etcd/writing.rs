//! What is said to etcd's JSON gateway to write under leases, and what it says to that: pure.

use outgrow_core::base64::encode;
use serde_json::{Value, json};

use super::messages::{Pair, end_of, number, pair, parse};

/// The number of a lease; never zero.
pub(crate) type LeaseId = u64;

/// The answer to a question that is also a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Whether the condition held, and so what was to be done was done.
    pub(crate) is_done: bool,
    /// Otherwise the key's value, when there is the key.
    pub(crate) found: Option<Vec<u8>>,
    /// As of this revision.
    pub(crate) revision: u64,
}

fn bytes(question: &Value) -> Vec<u8> {
    question.to_string().into_bytes()
}

/// The question for a lease of so many seconds.
pub(crate) fn grant(seconds: u64) -> Vec<u8> {
    bytes(&json!({ "TTL": seconds.to_string() }))
}

/// Reads the answer to [`grant`].
pub(crate) fn read_grant(answer: &[u8]) -> Result<LeaseId, String> {
    let answer = parse(answer)?;
    let id = answer.get("ID").and_then(number).filter(|id| *id > 0);
    id.ok_or_else(|| "there is no lease in the answer".to_owned())
}

/// The question that makes a lease's time begin anew; ends a lease as well.
pub(crate) fn lease(id: LeaseId) -> Vec<u8> {
    bytes(&json!({ "ID": id.to_string() }))
}

/// Reads the answer to a lease that is kept alive: whether there is that lease (still).
pub(crate) fn read_kept(answer: &[u8]) -> Result<bool, String> {
    let line = answer.split(|byte| *byte == b'\n').next();
    let answer = parse(line.unwrap_or_default())?;
    let result = answer
        .get("result")
        .ok_or("there is no result in the answer")?;
    Ok(result.get("TTL").and_then(number).unwrap_or(0) > 0)
}

/// The question to write a key under a lease, whatever it was.
pub(crate) fn put(key: &str, value: &str, id: LeaseId) -> Vec<u8> {
    bytes(&put_request(key, value, id))
}

fn put_request(key: &str, value: &str, id: LeaseId) -> Value {
    json!({
        "key": encode(key.as_bytes()),
        "value": encode(value.as_bytes()),
        "lease": id.to_string(),
    })
}

/// The question for the names of all keys below a prefix.
pub(crate) fn names(prefix: &str) -> Vec<u8> {
    bytes(&json!({
        "key": encode(prefix.as_bytes()),
        "range_end": encode(&end_of(prefix.as_bytes())),
        "keys_only": true,
    }))
}

/// The question for one key.
pub(crate) fn get(key: &str) -> Vec<u8> {
    bytes(&json!({ "key": encode(key.as_bytes()) }))
}

/// The question for every change of one key behind a revision.
pub(crate) fn watch_key(key: &str, revision: u64) -> Vec<u8> {
    bytes(&json!({ "create_request": {
        "key": encode(key.as_bytes()),
        "start_revision": revision.saturating_add(1).to_string(),
    }}))
}

fn transaction(compare: &Value, success: &Value, key: &str) -> Vec<u8> {
    bytes(&json!({
        "compare": compare,
        "success": success,
        "failure": [{ "request_range": { "key": encode(key.as_bytes()) } }],
    }))
}

fn if_absent(key: &str) -> Value {
    json!({ "key": encode(key.as_bytes()), "target": "CREATE", "create_revision": "0" })
}

fn if_value(key: &str, value: &str) -> Value {
    let (key, value) = (encode(key.as_bytes()), encode(value.as_bytes()));
    json!({ "key": key, "target": "VALUE", "value": value })
}

fn if_lease(key: &str, id: LeaseId) -> Value {
    json!({ "key": encode(key.as_bytes()), "target": "LEASE", "lease": id.to_string() })
}

/// Writes a key under a lease if nobody has it.
pub(crate) fn put_if_absent(key: &str, value: &str, id: LeaseId) -> Vec<u8> {
    let put = json!([{ "request_put": put_request(key, value, id) }]);
    transaction(&json!([if_absent(key)]), &put, key)
}

/// Brings a key that has this value already under another lease.
pub(crate) fn put_if_value(key: &str, value: &str, id: LeaseId) -> Vec<u8> {
    let put = json!([{ "request_put": put_request(key, value, id) }]);
    transaction(&json!([if_value(key, value)]), &put, key)
}

/// Whether a key has this value and this lease; nothing is written.
pub(crate) fn is_ours(key: &str, value: &str, id: LeaseId) -> Vec<u8> {
    let compare = json!([if_value(key, value), if_lease(key, id)]);
    transaction(&compare, &json!([]), key)
}

fn delete_request(key: &str) -> Value {
    json!([{ "request_delete_range": { "key": encode(key.as_bytes()) } }])
}

/// Removes a key if it has this value.
pub(crate) fn delete_if_value(key: &str, value: &str) -> Vec<u8> {
    transaction(&json!([if_value(key, value)]), &delete_request(key), key)
}

/// Removes a key if it is under this lease.
pub(crate) fn delete_if_lease(key: &str, id: LeaseId) -> Vec<u8> {
    transaction(&json!([if_lease(key, id)]), &delete_request(key), key)
}

/// Reads the answer to one of the conditions.
pub(crate) fn read_verdict(answer: &[u8]) -> Result<Verdict, String> {
    let answer = parse(answer)?;
    let revision = answer.pointer("/header/revision").and_then(number);
    let revision = revision.ok_or("there is no revision in the answer")?;
    let is_done = answer.get("succeeded").and_then(Value::as_bool) == Some(true);
    let found = match answer.pointer("/responses/0/response_range/kvs/0") {
        Some(found) if !is_done => {
            let Pair { value, .. } = pair(found)?;
            Some(value)
        }
        _ => None,
    };
    Ok(Verdict {
        is_done,
        found,
        revision,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_or_refused() {
        assert_eq!(read_grant(br#"{"ID":"7","TTL":"5"}"#), Ok(7));
        for wrong in ["", "{}", r#"{"ID":"0"}"#, r#"{"ID":"-1"}"#, "[1]"] {
            assert!(read_grant(wrong.as_bytes()).is_err(), "{wrong}");
        }
        let kept = |line: &str| read_kept(line.as_bytes());
        assert_eq!(
            kept("{\"result\":{\"ID\":\"7\",\"TTL\":\"5\"}}\n"),
            Ok(true)
        );
        assert_eq!(kept(r#"{"result":{"ID":"7"}}"#), Ok(false));
        assert!(kept("").is_err() && kept(r#"{"error":{"message":"no"}}"#).is_err());
    }

    #[test]
    fn verdicts_are_read_or_refused() {
        let read = |text: &str| read_verdict(text.as_bytes());
        let done = r#"{"header":{"revision":"3"},"succeeded":true,"responses":[{}]}"#;
        let expected = |is_done, found: Option<&str>| {
            let found = found.map(|text| text.as_bytes().to_vec());
            let revision = 3;
            Ok(Verdict {
                is_done,
                found,
                revision,
            })
        };
        assert_eq!(read(done), expected(true, None));
        let other = r#"{"header":{"revision":"3"},"responses":[{"response_range":
            {"kvs":[{"key":"YQ==","value":"eA=="}],"count":"1"}}]}"#;
        assert_eq!(read(other), expected(false, Some("x")));
        let gone = r#"{"header":{"revision":"3"},"responses":[{"response_range":{}}]}"#;
        assert_eq!(read(gone), expected(false, None));
        for wrong in [
            "",
            "{}",
            r#"{"header":{"revision":"3"},"responses":[{"response_range":{"kvs":[{}]}}]}"#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
