//! What is read of Leases and written into them, and whose they are.

use std::time::Duration;

use outgrow_core::{Random, WallTime};
use serde_json::{Value, json};

use super::record::{self, Lease};
use super::sight::{Record, Sight};
use crate::lease::time::BootTime;

/// Within the year 2026.
const NOW: WallTime = WallTime(1_790_000_000_123_456_789);
const NOW_TEXT: &str = "2026-09-21T14:13:20.123456Z";

fn lease(spec: &Value) -> Value {
    json!({
        "kind": "Lease",
        "metadata": { "name": "x", "uid": "u", "resourceVersion": "7", "labels": { "a": "b" } },
        "spec": spec,
    })
}

fn read(object: &Value) -> Lease {
    record::read(object.to_string().as_bytes()).expect("a Lease")
}

fn parsed(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

#[test]
fn leases_are_read_or_refused() {
    let check = |spec: Value, holder: &str, renewed: &str, lasts: Option<u64>| {
        let lease = read(&lease(&spec));
        assert_eq!(lease.version, "7");
        assert_eq!(
            (lease.holder.as_str(), lease.renewed.as_str()),
            (holder, renewed)
        );
        assert_eq!(lease.lasts, lasts.map(Duration::from_secs), "{spec}");
    };
    check(Value::Null, "", "", None);
    check(json!({}), "", "", None);
    check(json!({ "holderIdentity": null }), "", "", None);
    let full = json!({ "holderIdentity": "a", "renewTime": "t", "leaseDurationSeconds": 15 });
    check(full, "a", "t", Some(15));
    for seconds in [json!(0), json!(-3), json!("x"), json!(1.5)] {
        check(json!({ "leaseDurationSeconds": seconds }), "", "", None);
    }
    let long = json!({ "metadata": { "resourceVersion": "7".repeat(300) } }).to_string();
    for wrong in [
        "",
        "[1]",
        "7",
        "null",
        "{}",
        r#"{"metadata":{"resourceVersion":""}}"#,
        r#"{"metadata":{"resourceVersion":7}}"#,
        r#"{"metadata":{"resourceVersion":"7"},"spec":[]}"#,
        r#"{"metadata":{"resourceVersion":"7"},"spec":"x"}"#,
        long.as_str(),
    ] {
        assert!(record::read(wrong.as_bytes()).is_err(), "{wrong}");
    }
}

#[test]
fn nonsense_neither_panics_nor_is_written_on() {
    let mut random = Random::from_seed(5);
    let full = lease(&json!({ "holderIdentity": "a", "renewTime": "t" })).to_string();
    for _ in 0..20_000 {
        let mut bytes = full.clone().into_bytes();
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len());
            bytes[at] = b"{}[]\",:0a"[random.below(9)];
        }
        if let Ok(lease) = record::read(&bytes) {
            let written = parsed(&lease.held("b", 3, NOW));
            assert_eq!(written["spec"]["holderIdentity"], "b");
            drop(lease.given_back(NOW));
        }
    }
}

#[test]
fn what_is_taken_is_counted_and_what_is_renewed_is_not() {
    let check = |before: Value, expected: Value| {
        let written = parsed(&read(&lease(&before)).held("me", 3, NOW));
        assert_eq!(written, lease(&expected), "{before}");
    };
    let mine = |acquired: &str, transitions: i64| {
        json!({
            "holderIdentity": "me",
            "leaseDurationSeconds": 3,
            "acquireTime": acquired,
            "renewTime": NOW_TEXT,
            "leaseTransitions": transitions,
        })
    };
    check(Value::Null, mine(NOW_TEXT, 1));
    check(
        json!({ "holderIdentity": "", "leaseTransitions": 4 }),
        mine(NOW_TEXT, 5),
    );
    let other = json!({ "holderIdentity": "other", "leaseTransitions": 4, "acquireTime": "t" });
    check(other, mine(NOW_TEXT, 5));
    check(mine("then", 4), {
        let mut renewed = mine("then", 4);
        // The same moment again: a microsecond later, or nobody would see it.
        renewed["renewTime"] = json!("2026-09-21T14:13:20.123457Z");
        renewed
    });
    let most = json!({ "leaseTransitions": i32::MAX });
    check(most, mine(NOW_TEXT, i64::from(i32::MAX)));
    check(json!({ "leaseTransitions": -9 }), mine(NOW_TEXT, 1));
    // What we know nothing of stays.
    let mut strange = mine("then", 4);
    strange["strategy"] = json!("OldestEmulationVersion");
    let written = parsed(&read(&lease(&strange)).held("me", 3, NOW));
    assert_eq!(written["spec"]["strategy"], "OldestEmulationVersion");
    let given = parsed(&read(&lease(&mine("then", 4))).given_back(NOW));
    let mut expected = mine("then", 4);
    expected["holderIdentity"] = json!("");
    assert_eq!(given, lease(&expected));
    let made = parsed(&record::made("x", "me", 3, NOW));
    assert_eq!(made["spec"], mine(NOW_TEXT, 0));
    assert_eq!(made["metadata"], json!({ "name": "x" }));
}

#[test]
fn another_one_s_is_over_when_we_have_seen_the_same_for_long_enough() {
    let mut sight = Sight::default();
    // A second, a version, a holder and a time of renewal; until when it is that holder's.
    let mut check =
        |second: u64, record: Option<(&str, &str, &str)>, expected: Option<(&str, u64)>| {
            let at = |second| BootTime::default() + Duration::from_secs(second);
            let record = record.map(|(version, holder, renewed)| Record {
                version,
                holder,
                renewed,
                lasts: Duration::from_secs(10),
            });
            let seen = sight.look(record, "me", at(second));
            let expected = expected.map(|(holder, until)| (holder, at(until)));
            assert_eq!(seen, expected, "{second} {record:?}");
        };
    check(0, None, None);
    check(1, Some(("1", "", "")), None);
    check(2, Some(("1", "me", "")), None);
    // Whatever its own times say.
    check(10, Some(("5", "a", "2001")), Some(("a", 20)));
    check(19, Some(("5", "a", "2001")), Some(("a", 20)));
    check(20, Some(("5", "a", "2001")), None);
    check(21, Some(("6", "a", "2001")), Some(("a", 31)));
    // A restored cluster repeats a version.
    check(25, Some(("6", "a", "2000")), Some(("a", 35)));
    check(26, Some(("6", "b", "2000")), Some(("b", 36)));
    // Deleted: its holder does not know that yet.
    check(30, None, Some(("b", 36)));
    check(36, None, None);
    // Given back, and taken by us.
    check(40, Some(("9", "b", "")), Some(("b", 50)));
    check(41, Some(("10", "", "")), None);
    check(42, None, None);
    check(43, Some(("11", "b", "")), Some(("b", 53)));
    check(44, Some(("12", "me", "")), None);
    check(45, None, None);
}
