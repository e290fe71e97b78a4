//! Names of other tables, as a route writes them. That there is such a table is checked in the
//! binary.

use outgrow_core::settings::{Kind, MapKey, Name, Node, Reader, Setting};

macro_rules! name_of {
    ($(#[$doc:meta])* $type:ident, $what:literal, $example:literal, $table:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(pub Name);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }

        impl Setting for $type {
            fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
                let text = reader.string(node, $what, concat!("\"", $example, "\""))?;
                match Name::from_key(text) {
                    Ok(name) => Some(Self(name)),
                    Err(reason) => {
                        let hint = concat!("name a table [", $table, ".NAME]").to_owned();
                        reader.wrong_value(node, text, reason, hint);
                        None
                    }
                }
            }

            fn kind() -> Kind {
                Kind::Text {
                    name: $what,
                    examples: &[$example],
                }
            }

            fn text(&self) -> Option<String> {
                self.0.as_str().to_owned().text()
            }
        }
    };
}

name_of!(
    /// The name of a service.
    ServiceName,
    "the name of a service",
    "web",
    "service"
);
name_of!(
    /// The name of a listener.
    ListenerName,
    "the name of a listener",
    "public",
    "listener"
);
