//! Lists, tables with free keys, and settings that may be left out.

use std::collections::BTreeMap;
use std::fmt;

use crate::settings::scalar::toml_string;
use crate::settings::{Kind, Node, Reader, Setting, Value};

impl<T: Setting> Setting for Option<T> {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        T::read(node, reader).map(Some)
    }

    fn kind() -> Kind {
        T::kind()
    }

    fn text(&self) -> Option<String> {
        self.as_ref().and_then(T::text)
    }
}

impl<T: Setting> Setting for Vec<T> {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        let Value::Array(nodes) = &node.value else {
            reader.wrong_type(node, "a list", "[ ]");
            return None;
        };
        let before = reader.count();
        let read = |(index, node): (usize, &Node)| {
            reader.inside(index.to_string(), |reader| T::read(node, reader))
        };
        let items: Vec<T> = nodes.iter().enumerate().filter_map(read).collect();
        (reader.count() == before).then_some(items)
    }

    fn kind() -> Kind {
        Kind::List(Box::new(T::kind()))
    }

    fn text(&self) -> Option<String> {
        let items: Vec<String> = self.iter().filter_map(T::text).collect();
        Some(format!("[{}]", items.join(", ")))
    }
}

/// A list that may be written as its only item: `host = "a"` for `host = ["a"]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneOrMany<T>(pub Vec<T>);

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> std::ops::Deref for OneOrMany<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: Setting> Setting for OneOrMany<T> {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        match &node.value {
            Value::Array(_) => Vec::read(node, reader).map(Self),
            _ => T::read(node, reader).map(|item| Self(vec![item])),
        }
    }

    fn kind() -> Kind {
        Kind::Any(vec![T::kind(), Kind::List(Box::new(T::kind()))])
    }

    fn text(&self) -> Option<String> {
        match self.0.as_slice() {
            [] => None,
            [item] => item.text(),
            _ => self.0.text(),
        }
    }
}

/// What can be the key of a table with free keys.
pub trait MapKey: Ord + Sized {
    /// Reads the key, or says why it cannot be one: `has a blank in it`.
    fn from_key(text: &str) -> Result<Self, String>;

    /// The key as text.
    fn as_key(&self) -> &str;
}

impl MapKey for String {
    fn from_key(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn as_key(&self) -> &str {
        self
    }
}

/// The name of a listener, service or route: 1 to 64 letters, digits, `-`, `_` and `.`, so that it
/// can stand in records, metrics and paths as it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// The name when it can be one.
    pub fn new(text: &str) -> Option<Self> {
        Self::from_key(text).ok()
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl MapKey for Name {
    fn from_key(text: &str) -> Result<Self, String> {
        let is_right = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if (1..=64).contains(&text.len()) && text.bytes().all(is_right) {
            Ok(Self(text.to_owned()))
        } else {
            Err("cannot be a name: 1 to 64 of letters, digits, - _ .".to_owned())
        }
    }

    fn as_key(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for Name {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text).ok_or("it has 1 to 64 of letters, digits, - _ .")
    }
}

crate::text_setting!(Name, "a name", ["web-1"]);

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl<K: MapKey, T: Setting> Setting for BTreeMap<K, T> {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        let Value::Table(entries) = &node.value else {
            reader.wrong_type(node, "a table", "{ name = \"value\" }");
            return None;
        };
        let before = reader.count();
        let mut map = Self::new();
        for entry in entries {
            reader.inside(entry.key.as_str(), |reader| {
                let value = T::read(&entry.node, reader);
                match K::from_key(&entry.key) {
                    Ok(key) if map.contains_key(&key) => {
                        let message = format!("{:?} is here twice", entry.key);
                        reader.error_with_hint(entry.key_span, message, "remove one of them");
                    }
                    Ok(key) => {
                        map.extend(value.map(|value| (key, value)));
                    }
                    Err(reason) => {
                        let text = crate::settings::reader::quoted(&entry.key);
                        reader.error(entry.key_span, format!("{text} {reason}"));
                    }
                }
            });
        }
        (reader.count() == before).then_some(map)
    }

    fn kind() -> Kind {
        Kind::Map(Box::new(T::kind()))
    }

    fn text(&self) -> Option<String> {
        let item = |(key, value): (&K, &T)| {
            let text = value.text()?;
            Some(format!("{} = {text}", toml_key(key.as_key())))
        };
        let items: Vec<String> = self.iter().filter_map(item).collect();
        if items.is_empty() {
            return Some("{}".to_owned());
        }
        Some(format!("{{ {} }}", items.join(", ")))
    }
}

/// A key as it is written in TOML: bare when it may be.
fn toml_key(key: &str) -> String {
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !key.is_empty() && key.bytes().all(is_bare) {
        key.to_owned()
    } else {
        toml_string(key)
    }
}
