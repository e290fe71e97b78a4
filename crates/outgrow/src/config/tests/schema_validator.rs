//! A validator for the part of JSON Schema that the generated schema uses. There is no engine for
//! patterns here: all but the one for `${` are taken as matched.

use serde_json::Value as Json;

/// Why `value` does not fit `schema`, or nothing when it fits.
pub(super) fn misfit(schema: &Json, value: &Json, root: &Json, path: &str) -> Option<String> {
    let Json::Object(words) = schema else {
        return Some(format!("{path}: the schema is not an object"));
    };
    words.iter().find_map(|(word, rule)| match word.as_str() {
        "$schema" | "$id" | "$defs" | "title" | "description" | "default" | "examples" => None,
        // The pattern for what comes from the environment; the others are taken as matched.
        "pattern" if rule == r"\$\{" => {
            (!value.as_str()?.contains("${")).then(|| format!("{path}: nothing from outside"))
        }
        "pattern" => None,
        "$ref" => {
            let name = rule.as_str()?.strip_prefix("#/$defs/")?;
            misfit(&root["$defs"][name], value, root, path)
        }
        "anyOf" => {
            let reasons: Option<Vec<String>> = rule
                .as_array()?
                .iter()
                .map(|each| misfit(each, value, root, path))
                .collect();
            reasons.map(|reasons| reasons.join("; "))
        }
        "type" => {
            (!has_type(value, rule.as_str()?)).then(|| format!("{path}: not {rule}: {value}"))
        }
        "const" => (value != rule).then(|| format!("{path}: not {rule}")),
        "minimum" => (value.as_f64()? < rule.as_f64()?).then(|| format!("{path}: below {rule}")),
        "maximum" => (value.as_f64()? > rule.as_f64()?).then(|| format!("{path}: above {rule}")),
        "required" => {
            let missing = |key: &&Json| value.get(key.as_str().unwrap_or_default()).is_none();
            let key = rule.as_array()?.iter().find(missing)?;
            Some(format!("{path}: {key} is missing"))
        }
        "properties" => value
            .as_object()?
            .iter()
            .find_map(|(key, inner)| misfit(rule.get(key)?, inner, root, &format!("{path}.{key}"))),
        "additionalProperties" => value.as_object()?.iter().find_map(|(key, inner)| {
            let path = format!("{path}.{key}");
            let is_known = words
                .get("properties")
                .is_some_and(|known| known.get(key).is_some());
            match rule {
                _ if is_known => None,
                Json::Bool(false) => Some(format!("{path}: unknown")),
                rule => misfit(rule, inner, root, &path),
            }
        }),
        "items" => value
            .as_array()?
            .iter()
            .enumerate()
            .find_map(|(index, inner)| misfit(rule, inner, root, &format!("{path}.{index}"))),
        other => Some(format!("{path}: the validator does not know {other:?}")),
    })
}

fn has_type(value: &Json, name: &str) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        _ => false,
    }
}
