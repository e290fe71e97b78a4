//! Booleans, whole numbers, text, paths of files and secrets.

use std::fmt::{self, Write as _};
use std::path::PathBuf;

use crate::settings::{Kind, Node, Reader, Setting, Value};

impl Setting for bool {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        match &node.value {
            Value::Boolean(value) => Some(*value),
            Value::String {
                text,
                from_environment: true,
            } if text == "true" || text == "false" => Some(text == "true"),
            _ => {
                reader.wrong_type(node, "true or false", "true");
                None
            }
        }
    }

    fn kind() -> Kind {
        Kind::Boolean
    }

    fn text(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// A whole number, from the environment too; tells of anything else.
pub(crate) fn read_integer(node: &Node, reader: &mut Reader, example: &str) -> Option<i128> {
    match &node.value {
        Value::Integer(value) => Some(*value),
        Value::String {
            text,
            from_environment: true,
        } => {
            let value = text.trim().parse().ok();
            if value.is_none() {
                let hint = "the value comes from the environment".to_owned();
                reader.wrong_value(node, text, "is not a whole number", hint);
            }
            value
        }
        _ => {
            reader.wrong_type(node, "a whole number", example);
            None
        }
    }
}

macro_rules! integer {
    ($($type:ty),+) => {$(
        impl Setting for $type {
            fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
                let value = read_integer(node, reader, "10")?;
                let converted = <$type>::try_from(value).ok();
                if converted.is_none() {
                    let message = format!(
                        "{value} is outside of what is possible: {} to {}",
                        <$type>::MIN,
                        <$type>::MAX
                    );
                    reader.error(node.span, message);
                }
                converted
            }

            fn kind() -> Kind {
                Kind::Integer {
                    minimum: <$type>::MIN.into(),
                    maximum: <$type>::MAX.into(),
                }
            }

            fn text(&self) -> Option<String> {
                Some(self.to_string())
            }
        }
    )+};
}

integer!(u8, u16, u32, u64, i64);

impl Setting for String {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        reader
            .string(node, "a string", "\"text\"")
            .map(str::to_owned)
    }

    fn kind() -> Kind {
        Kind::String
    }

    fn text(&self) -> Option<String> {
        Some(toml_string(self))
    }
}

impl Setting for PathBuf {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        let text = reader.string(node, "a path", "\"/etc/outgrow/cert.pem\"")?;
        if text.is_empty() || text.contains('\0') {
            let hint = "a path has at least one byte and no NUL".to_owned();
            reader.wrong_value(node, text, "is not a path", hint);
            return None;
        }
        Some(Self::from(text))
    }

    fn kind() -> Kind {
        Kind::Text {
            name: "a path",
            examples: &["/etc/outgrow/cert.pem"],
        }
    }

    fn text(&self) -> Option<String> {
        Some(toml_string(&self.to_string_lossy()))
    }
}

/// Text as a basic string of TOML.
pub(crate) fn toml_string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if control.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// Text that is never shown: not in records, not in messages, not by `Debug`.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Keeps the text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for comparing and sending only.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether no secret is set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.is_empty() {
            "Secret(empty)"
        } else {
            "Secret(***)"
        })
    }
}

impl Setting for Secret {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        reader
            .string(node, "a string", "\"${TOKEN}\"")
            .map(Self::new)
    }

    fn kind() -> Kind {
        Kind::Secret
    }

    fn text(&self) -> Option<String> {
        Some(if self.is_empty() { "\"\"" } else { "\"***\"" }.to_owned())
    }
}
