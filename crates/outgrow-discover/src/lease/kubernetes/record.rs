//! The Lease as the API has it, read and written: pure.
//!
//! What is not ours in the object (labels, owners, fields of a newer API) is written back as it was.

use std::time::Duration;

use outgrow_core::WallTime;
use serde_json::{Value, json};

/// Longest version and time that are read, in bytes.
const TEXT: usize = 256;
/// Longest name of a holder that is told, in characters.
pub(super) const HOLDER: usize = 256;

/// A Lease as it was read.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Lease {
    object: Value,
    /// Which writing of the object it is; nothing follows from its order.
    pub(super) version: String,
    /// Who has it; empty: nobody.
    pub(super) holder: String,
    /// When the holder last renewed it, by the holder's clock: a mark that changes, and no time.
    pub(super) renewed: String,
    /// How long it lasts from a renewal on, where that is said.
    pub(super) lasts: Option<Duration>,
}

/// Reads the API's answer.
pub(super) fn read(bytes: &[u8]) -> Result<Lease, String> {
    let object: Value = serde_json::from_slice(bytes)
        .map_err(|error| format!("the answer is not JSON: {error}"))?;
    let spec = object.get("spec").unwrap_or(&Value::Null);
    if !spec.is_object() && !spec.is_null() {
        return Err("the answer is no Lease".to_owned());
    }
    let version = text(&object, "/metadata/resourceVersion")?;
    if version.is_empty() {
        return Err("there is no resourceVersion in the answer".to_owned());
    }
    let holder = spec.get("holderIdentity").and_then(Value::as_str);
    let seconds = spec.get("leaseDurationSeconds").and_then(Value::as_u64);
    Ok(Lease {
        version,
        holder: holder.unwrap_or_default().to_owned(),
        renewed: text(&object, "/spec/renewTime")?,
        lasts: seconds.filter(|one| *one > 0).map(Duration::from_secs),
        object,
    })
}

/// A text of the object; empty when there is none.
fn text(object: &Value, pointer: &str) -> Result<String, String> {
    let text = object.pointer(pointer).and_then(Value::as_str);
    let text = text.unwrap_or_default();
    if text.len() > TEXT {
        return Err("a text in the answer is too long".to_owned());
    }
    Ok(text.to_owned())
}

/// One that nobody had before, held from now on.
pub(super) fn made(name: &str, holder: &str, seconds: u32, now: WallTime) -> Vec<u8> {
    let now = time(now);
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": { "name": name },
        "spec": {
            "holderIdentity": holder,
            "leaseDurationSeconds": seconds,
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": 0,
        },
    });
    lease.to_string().into_bytes()
}

impl Lease {
    /// The same, taken or renewed. It is written only if nobody has written it since.
    pub(super) fn held(&self, holder: &str, seconds: u32, now: WallTime) -> Vec<u8> {
        let mut object = self.object.clone();
        let spec = &mut object["spec"];
        let mut renewed = time(now);
        // Two writings that are the same are one to the API, and others would not see that it was
        // renewed: a clock that stands still must not do that.
        if renewed == self.renewed {
            renewed = time(WallTime(now.0.saturating_add(1_000)));
        }
        if self.holder != holder {
            let before = spec.get("leaseTransitions").and_then(Value::as_i64);
            let transitions = before.unwrap_or(0).clamp(0, i64::from(i32::MAX) - 1) + 1;
            spec["leaseTransitions"] = transitions.into();
            spec["acquireTime"] = renewed.as_str().into();
        }
        spec["holderIdentity"] = holder.into();
        spec["leaseDurationSeconds"] = seconds.into();
        spec["renewTime"] = renewed.into();
        object.to_string().into_bytes()
    }

    /// The same, given back.
    pub(super) fn given_back(&self, now: WallTime) -> Vec<u8> {
        let mut object = self.object.clone();
        object["spec"]["holderIdentity"] = "".into();
        object["spec"]["renewTime"] = time(now).into();
        object.to_string().into_bytes()
    }
}

fn time(now: WallTime) -> String {
    let mut text = Vec::new();
    now.write_rfc3339_micros(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}
