//! The JSON Schema (draft 2020-12) of the file, for editors, generated from what the rooms declare.
//!
//! It says less than `outgrow check`: rules between keys are not in it.

use outgrow_core::settings::{FieldDescription, Kind, Node, Table, TableDescription, Value};
use serde_json::{Map, Value as Json, json};

use super::{Config, tree};

/// Text with something from the environment in it may stand for anything.
const FROM_ENVIRONMENT: &str = r"\$\{";

/// The schema as JSON text with a newline at the end.
pub fn schema() -> String {
    let mut tables = Map::new();
    let root = table(&Config::describe(), &mut tables);
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "outgrow.schema.json",
        "title": "outgrow configuration",
        "$defs": tables,
    });
    if let (Json::Object(schema), Json::Object(root)) = (&mut schema, root) {
        schema.extend(root);
    }
    format!("{schema:#}\n")
}

fn table(description: &TableDescription, tables: &mut Map<String, Json>) -> Json {
    let mut properties = Map::new();
    for field in &description.fields {
        properties.insert(field.name.to_owned(), property(field, tables));
    }
    let required: Vec<&str> = description
        .fields
        .iter()
        .filter(|field| field.required)
        .map(|field| field.name)
        .collect();
    let mut object = json!({
        "type": "object",
        "description": description.doc,
        "properties": properties,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        object["required"] = json!(required);
    }
    object
}

fn property(field: &FieldDescription, tables: &mut Map<String, Json>) -> Json {
    let range = field
        .range
        .as_ref()
        .map(|(low, high)| (low.as_str(), high.as_str()));
    let mut property = kind(&field.kind, range, tables);
    property["description"] = json!(field.doc);
    let is_shown = !field.required && !field.default_is_words;
    if let (true, Some(default)) = (is_shown, field.default.as_deref().and_then(json_of)) {
        property["default"] = default;
    }
    property
}

fn kind(kind_: &Kind, range: Option<(&str, &str)>, tables: &mut Map<String, Json>) -> Json {
    match kind_ {
        Kind::Boolean => or_environment(json!({ "type": "boolean" })),
        Kind::Integer { minimum, maximum } => {
            let bound = |text: &str| text.parse().ok();
            let low = range.and_then(|(low, _)| bound(low)).unwrap_or(*minimum);
            let high = range.and_then(|(_, high)| bound(high)).unwrap_or(*maximum);
            or_environment(integer(low, high))
        }
        Kind::Percent => or_environment(integer(0, 100)),
        Kind::Decimal => {
            let bound = |text: &str| text.parse::<f64>().ok();
            let low = range.and_then(|(low, _)| bound(low)).unwrap_or(0.0);
            let mut schema = json!({ "type": "number", "minimum": low });
            if let Some(high) = range.and_then(|(_, high)| bound(high)) {
                schema["maximum"] = json!(high);
            }
            or_environment(schema)
        }
        Kind::String | Kind::Secret => json!({ "type": "string" }),
        Kind::Duration => text_of_form(r"\d+ *(ms|s|m|h|d)"),
        Kind::Size => json!({ "anyOf": [
            integer(0, i128::from(i64::MAX)),
            text_of_form(r"\d+ *([KMGT]i?B|B)?"),
        ] }),
        Kind::Text { examples, .. } => json!({ "type": "string", "examples": examples }),
        Kind::Choice(choices) => {
            let each = choices
                .iter()
                .map(|choice| json!({ "const": choice.name, "description": choice.doc }));
            json!({ "anyOf": each.chain([environment()]).collect::<Vec<_>>() })
        }
        Kind::List(item) => json!({ "type": "array", "items": kind(item, None, tables) }),
        Kind::Map(value) => json!({
            "type": "object",
            "additionalProperties": kind(value, None, tables),
        }),
        Kind::Table(description) => {
            if !tables.contains_key(description.name) {
                // The place is taken first, so that a table within itself would end.
                tables.insert(description.name.to_owned(), Json::Null);
                let schema = table(description, tables);
                tables.insert(description.name.to_owned(), schema);
            }
            json!({ "$ref": format!("#/$defs/{}", description.name) })
        }
        Kind::Any(kinds) => {
            let kinds: Vec<Json> = kinds.iter().map(|each| kind(each, None, tables)).collect();
            json!({ "anyOf": kinds })
        }
    }
}

/// TOML has no integer beyond 64 bits, so neither has the schema.
fn integer(low: i128, high: i128) -> Json {
    let clamp = |bound: i128| bound.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
    json!({ "type": "integer", "minimum": clamp(low), "maximum": clamp(high) })
}

fn environment() -> Json {
    json!({ "type": "string", "pattern": FROM_ENVIRONMENT })
}

fn or_environment(schema: Json) -> Json {
    json!({ "anyOf": [schema, environment()] })
}

fn text_of_form(pattern: &str) -> Json {
    json!({ "type": "string", "pattern": format!("^({pattern})$|{FROM_ENVIRONMENT}") })
}

/// A value as it is written in TOML, as JSON.
fn json_of(toml: &str) -> Option<Json> {
    let root = tree::parse(&format!("value = {toml}\n")).ok()?;
    root.entry("value").map(|entry| json_of_node(&entry.node))
}

/// A tree as JSON, for the schema's defaults and for checking files against it.
pub(super) fn json_of_node(node: &Node) -> Json {
    match &node.value {
        Value::String { text, .. } | Value::Datetime(text) => json!(text),
        Value::Float(text) => match text.replace('_', "").parse::<f64>() {
            Ok(number) => json!(number),
            Err(_) => json!(text),
        },
        Value::Integer(number) => json!(i64::try_from(*number).unwrap_or(i64::MAX)),
        Value::Boolean(value) => json!(value),
        Value::Array(items) => Json::Array(items.iter().map(json_of_node).collect()),
        Value::Table(entries) => {
            let each = |entry: &outgrow_core::settings::Entry| {
                (entry.key.clone(), json_of_node(&entry.node))
            };
            Json::Object(entries.iter().map(each).collect())
        }
    }
}
