//! Settings that are text of a certain form: anything with `FromStr` and `Display`.

use std::fmt::Display;
use std::str::FromStr;

use crate::settings::{Node, Reader};

/// Reads text of a certain form; what [`text_setting!`](crate::text_setting!) expands to.
#[doc(hidden)]
pub fn read_text<T>(node: &Node, reader: &mut Reader, name: &str, examples: &[&str]) -> Option<T>
where
    T: FromStr,
    T::Err: Display,
{
    let examples: Vec<String> = examples.iter().map(|text| format!("{text:?}")).collect();
    let first = examples.first().map_or("\"text\"", String::as_str);
    let text = reader.string(node, name, first)?;
    match text.parse() {
        Ok(value) => Some(value),
        Err(error) => {
            let hint = format!("write for example {}", examples.join(" or "));
            reader.wrong_value(node, text, format_args!("is not {name}: {error}"), hint);
            None
        }
    }
}

/// Makes a type with `FromStr` and `Display` a setting: its type, what it is (with its article),
/// and examples.
///
/// The texts of its errors follow a colon: `"x" is not an address: the port is missing`.
#[macro_export]
macro_rules! text_setting {
    ($type:ty, $name:literal, [$($example:literal),+ $(,)?]) => {
        impl $crate::settings::Setting for $type {
            fn read(
                node: &$crate::settings::Node,
                reader: &mut $crate::settings::Reader,
            ) -> Option<Self> {
                $crate::settings::text::read_text(node, reader, $name, &[$($example),+])
            }

            fn kind() -> $crate::settings::Kind {
                $crate::settings::Kind::Text {
                    name: $name,
                    examples: &[$($example),+],
                }
            }

            fn text(&self) -> Option<::std::string::String> {
                $crate::settings::Setting::text(&::std::string::ToString::to_string(self))
            }
        }
    };
}
