//! The answer to `/v1/health/service/NAME`, and the rules of its index: pure.

use outgrow_core::settings::Address;
use serde_json::Value;

use crate::found::{Discovered, Found};

/// The index that the next question has. Consul's rules: it is above zero, and one that went back
/// means that the server started anew, so all is asked for at once.
pub(super) fn next_index(asked: u64, header: Option<&[u8]>) -> Result<u64, String> {
    let text = header.ok_or("there is no X-Consul-Index in the answer")?;
    let text = std::str::from_utf8(text).unwrap_or_default();
    let index: u64 = text
        .parse()
        .map_err(|_| "X-Consul-Index is not a number".to_owned())?;
    if index < asked {
        return Ok(0);
    }
    Ok(index.max(1))
}

/// Reads the answer. One service that cannot be read is left out; an answer that is no list is
/// refused.
pub(super) fn read(bytes: &[u8]) -> Result<Discovered, String> {
    let answer: Value = serde_json::from_slice(bytes)
        .map_err(|error| format!("the answer is not JSON: {error}"))?;
    let list = answer.as_array().ok_or("the answer is not a list")?;
    let found: Vec<Option<Found>> = list.iter().map(endpoint).collect();
    let unusable = found.iter().filter(|found| found.is_none()).count();
    Ok(Discovered::new(found.into_iter().flatten(), unusable))
}

fn endpoint(entry: &Value) -> Option<Found> {
    let text = |pointer: &str| entry.pointer(pointer).and_then(Value::as_str);
    // The service's own address, or else its node's.
    let host = text("/Service/Address").filter(|host| !host.is_empty());
    let host = host.or_else(|| text("/Node/Address"))?;
    let port = entry.pointer("/Service/Port")?.as_u64()?;
    let port = u16::try_from(port).ok()?;
    // Read as it would be written, so that it is a name or an address.
    let written = if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    let address: Address = written.parse().ok()?;
    let number = |pointer: &str| entry.pointer(pointer).and_then(Value::as_u64);
    let weight = if is_warning(entry) {
        number("/Service/Weights/Warning")
    } else {
        number("/Service/Weights/Passing")
    };
    let zone = text("/Service/Locality/Zone").or_else(|| text("/Service/Meta/zone"));
    Some(Found {
        weight: u32::try_from(weight.unwrap_or(1)).unwrap_or(u32::MAX),
        zone: zone.unwrap_or_default().to_owned(),
        ..Found::at(address)
    })
}

fn is_warning(entry: &Value) -> bool {
    let checks = entry.get("Checks").and_then(Value::as_array);
    let mut checks = checks.into_iter().flatten();
    checks.any(|check| check.get("Status").and_then(Value::as_str) == Some("warning"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_goes_on_or_starts_anew() {
        let next = |asked, header: &str| next_index(asked, Some(header.as_bytes()));
        assert_eq!(next(0, "7"), Ok(7));
        assert_eq!(next(7, "7"), Ok(7));
        assert_eq!(next(7, "6"), Ok(0), "the server started anew");
        assert_eq!(next(0, "0"), Ok(1), "zero would not wait");
        assert!(next(0, "").is_err() && next(0, "-1").is_err() && next(0, "x").is_err());
        assert!(next_index(0, None).is_err());
    }

    #[test]
    fn services_are_read_and_the_unreadable_left_out() {
        let answer = br#"[
            {"Node":{"Address":"10.0.0.1"},"Service":{"Address":"","Port":80,
             "Weights":{"Passing":3,"Warning":1},"Meta":{"zone":"a"}},"Checks":[{"Status":"passing"}]},
            {"Node":{"Address":"10.0.0.1"},"Service":{"Address":"app","Port":81,
             "Weights":{"Passing":3,"Warning":2}},"Checks":[{"Status":"warning"}]},
            {"Node":{"Address":"10.0.0.1"},"Service":{"Address":"fd00::1","Port":82}},
            {"Service":{"Port":80}}, {"Node":{"Address":"a b"},"Service":{"Port":80}},
            {"Node":{"Address":"a"},"Service":{"Port":70000}}, {"Node":{"Address":"a"}}, 7, null
        ]"#;
        let discovered = read(answer).expect("a list");
        let told: Vec<String> = discovered
            .endpoints()
            .iter()
            .map(|one| format!("{} {} {}", one.address, one.weight, one.zone))
            .collect();
        assert_eq!(
            told,
            ["10.0.0.1:80 3 a", "app:81 2 ", "[fd00::1]:82 1 "]
                .map(str::to_owned)
                .into_iter()
                .collect::<Vec<_>>()
        );
        assert_eq!(discovered.left_out(), 6);
        for wrong in ["", "{}", "7", "[", "Permission denied"] {
            assert!(read(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
