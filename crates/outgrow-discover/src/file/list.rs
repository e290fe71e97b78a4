//! A list of endpoints as text: JSON or TOML, our own form or Prometheus' `file_sd`. Pure.

use outgrow_core::settings::Address;
use serde_json::{Map, Value};
use toml::de::{DeTable, DeValue};

use crate::found::{Discovered, Found};

/// Most bytes of a list.
pub(super) const BYTES: usize = 4 << 20;

/// What a list is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// JSON: a list.
    Json,
    /// TOML: a list under `endpoints`.
    Toml,
}

/// Reads a list. One that is wrong anywhere is refused whole: half a list would look like
/// endpoints that are gone.
pub(super) fn parse(bytes: &[u8], format: Format) -> Result<Discovered, String> {
    if bytes.len() > BYTES {
        return Err(format!("it is larger than {} MiB", BYTES >> 20));
    }
    let value = match format {
        Format::Json => {
            serde_json::from_slice(bytes).map_err(|error| format!("it is not JSON: {error}"))?
        }
        Format::Toml => toml_value(bytes)?,
    };
    let list = match &value {
        Value::Array(list) => list,
        Value::Object(table) => match table.get("endpoints") {
            Some(Value::Array(list)) => list,
            _ => return Err("there is no list `endpoints` in it".to_owned()),
        },
        _ => return Err("it is not a list".to_owned()),
    };
    let mut endpoints = Vec::new();
    for (index, item) in list.iter().enumerate() {
        read_item(item, &mut endpoints).map_err(|problem| format!("item {index}: {problem}"))?;
    }
    Ok(Discovered::new(endpoints, 0))
}

fn read_item(item: &Value, endpoints: &mut Vec<Found>) -> Result<(), String> {
    let table = match item {
        Value::String(text) => {
            endpoints.push(Found::at(address(text)?));
            return Ok(());
        }
        Value::Object(table) => table,
        _ => return Err("it is neither a text nor a table".to_owned()),
    };
    match table.get("targets") {
        None => endpoints.push(one(table)?),
        Some(Value::Array(targets)) => group(table, targets, endpoints)?,
        Some(_) => return Err("`targets` is not a list".to_owned()),
    }
    Ok(())
}

/// A table as in `endpoints` of a service.
pub(crate) fn one(table: &Map<String, Value>) -> Result<Found, String> {
    let known = ["address", "weight", "priority", "zone", "backup"];
    if let Some(key) = table.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(format!(
            "unknown key {key:?}; known are {}",
            known.join(", ")
        ));
    }
    let Some(Value::String(text)) = table.get("address") else {
        return Err("there is no text `address` in it".to_owned());
    };
    let mut found = Found::at(address(text)?);
    take(table, &mut found)?;
    Ok(found)
}

/// A group of targets with labels, as Prometheus reads them. Labels that are not ours are for
/// others.
fn group(
    table: &Map<String, Value>,
    targets: &[Value],
    endpoints: &mut Vec<Found>,
) -> Result<(), String> {
    let none = Map::new();
    let labels = match table.get("labels") {
        None => &none,
        Some(Value::Object(labels)) => labels,
        Some(_) => return Err("`labels` is not a table".to_owned()),
    };
    for target in targets {
        let Value::String(text) = target else {
            return Err("a target is not a text".to_owned());
        };
        let mut found = Found::at(address(text)?);
        take(labels, &mut found)?;
        endpoints.push(found);
    }
    Ok(())
}

/// Takes over what a table or labels say besides the address.
pub(crate) fn take(table: &Map<String, Value>, found: &mut Found) -> Result<(), String> {
    if let Some(weight) = table.get("weight") {
        found.weight = number(weight, "weight")?;
    }
    if let Some(priority) = table.get("priority") {
        found.priority = number(priority, "priority")?;
    }
    match table.get("zone") {
        None => {}
        Some(Value::String(zone)) => found.zone.clone_from(zone),
        Some(_) => return Err("`zone` is not a text".to_owned()),
    }
    match table.get("backup") {
        None | Some(Value::Bool(false)) => {}
        Some(Value::Bool(true)) => found.priority = u32::MAX,
        Some(_) => return Err("`backup` is not true or false".to_owned()),
    }
    Ok(())
}

/// A number, or the text of one: labels are texts.
fn number(value: &Value, name: &str) -> Result<u32, String> {
    let number = match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    number
        .map(|number| u32::try_from(number).unwrap_or(u32::MAX))
        .ok_or_else(|| format!("`{name}` is not a whole number"))
}

fn address(text: &str) -> Result<Address, String> {
    text.parse()
        .map_err(|problem| format!("{text:?} is not an address: {problem}"))
}

fn toml_value(bytes: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    let table = DeTable::parse(text)
        .map_err(|error| format!("it is not TOML: {}", error.message().replace('\n', " ")))?;
    Ok(Value::Object(entries(table.get_ref())))
}

fn entries(table: &DeTable<'_>) -> Map<String, Value> {
    let entry = |(key, value): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| {
        let key: &std::borrow::Cow<'_, str> = key.get_ref();
        (key.to_string(), json(value.get_ref()))
    };
    table.iter().map(entry).collect()
}

fn json(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).map_or(Value::Null, Value::from)
        }
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Array(items) => items.iter().map(|item| json(item.get_ref())).collect(),
        DeValue::Table(table) => Value::Object(entries(table)),
        DeValue::Float(_) | DeValue::Datetime(_) => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str, format: Format) -> Vec<String> {
        let discovered = parse(text.as_bytes(), format).expect("a list");
        let tell = |found: &Found| {
            let Found {
                address,
                weight,
                priority,
                zone,
            } = found;
            format!("{address} {weight} {priority} {zone}")
        };
        discovered.endpoints().iter().map(tell).collect()
    }

    #[test]
    fn all_forms_say_the_same() {
        let json = r#"["10.0.0.1:80", {"address": "app:81", "weight": 3, "zone": "a"},
            {"address": "unix:/run/a", "backup": true}]"#;
        let toml = "endpoints = [\"10.0.0.1:80\"]\n";
        let tables = "[[endpoints]]\naddress = \"app:81\"\nweight = 3\nzone = \"a\"\n";
        assert_eq!(
            told(json, Format::Json),
            ["10.0.0.1:80 1 0 ", "app:81 3 0 a", "unix:/run/a 1 100 "]
        );
        assert_eq!(told(toml, Format::Toml), ["10.0.0.1:80 1 0 "]);
        assert_eq!(told(tables, Format::Toml), ["app:81 3 0 a"]);
        let groups = r#"[{"targets": ["a:1", "b:2"], "labels": {"weight": "5", "job": "x"}},
            {"targets": ["c:3"]}, {"targets": []}]"#;
        assert_eq!(
            told(groups, Format::Json),
            ["a:1 5 0 ", "b:2 5 0 ", "c:3 1 0 "]
        );
        assert!(told("[]", Format::Json).is_empty());
    }

    #[test]
    fn a_list_that_is_wrong_anywhere_is_refused_whole() {
        let check = |text: &str, format: Format, expected: &str| {
            let problem = parse(text.as_bytes(), format).expect_err(text);
            assert!(problem.contains(expected), "{text}: {problem}");
        };
        check("", Format::Json, "not JSON");
        check("[\"a:1\"", Format::Json, "not JSON");
        check("7", Format::Json, "not a list");
        check("{}", Format::Json, "`endpoints`");
        check("[\"a:1\", 7]", Format::Json, "item 1: it is neither");
        check("[\"a\"]", Format::Json, "the port is missing");
        check(
            "[{\"adress\": \"a:1\"}]",
            Format::Json,
            "unknown key \"adress\"",
        );
        check("[{\"weight\": 1}]", Format::Json, "no text `address`");
        check(
            "[{\"address\": \"a:1\", \"weight\": -1}]",
            Format::Json,
            "whole number",
        );
        check("[{\"targets\": \"a:1\"}]", Format::Json, "`targets`");
        check("[{\"targets\": [1]}]", Format::Json, "a target");
        check(
            "[{\"targets\": [], \"labels\": 1}]",
            Format::Json,
            "`labels`",
        );
        check("endpoints = [", Format::Toml, "not TOML");
        check("endpoint = []", Format::Toml, "`endpoints`");
        check("endpoints = [1.5]", Format::Toml, "item 0");
        assert!(parse(b"endpoints = [\"\xff\"]", Format::Toml).is_err());
        let deep = "[".repeat(100_000);
        check(&deep, Format::Json, "not JSON");
        let large = vec![b' '; BYTES + 1];
        assert!(parse(&large, Format::Json).is_err());
    }
}
