//! The settings language: how every room says which settings it has.
//!
//! A room declares its tables with [`settings!`](crate::settings!) and its choices with
//! [`choice!`](crate::choice!): one declaration gives the struct, its default, the reader that
//! reports every error at once with its place, and the description from which the manual and the
//! JSON Schema are made. The doc comments are the manual's text.
//!
//! Deliberately not here: TOML, files and the environment. The binary turns a file into a tree of
//! [`Node`]s (`outgrow/src/config`) and is the only one that reads files.

pub mod address;
pub mod choice;
pub mod collection;
pub mod decimal;
pub mod describe;
pub mod network;
pub mod node;
mod peers;
pub mod problem;
pub mod quantity;
pub mod reader;
pub mod request_path;
pub mod scalar;
pub mod table;
pub mod text;

#[cfg(test)]
#[expect(unreachable_pub, reason = "the macros make public items")]
mod tests;

pub use address::{Address, AddressError};
pub use collection::{MapKey, Name, OneOrMany};
pub use decimal::Decimal;
pub use describe::{ChoiceDescription, FieldDescription, Kind, TableDescription};
pub use network::Network;
pub use node::{Entry, Node, Span, Value};
pub use problem::{Problem, Severity, nearest};
pub use quantity::{ByteSize, Percent};
pub use reader::{Reader, TableReader};
pub use request_path::RequestPath;
pub use scalar::Secret;
pub use table::{Table, read_table};

/// A type that can be the value of a setting.
pub trait Setting: Sized {
    /// Reads the value; on any error tells `reader` and gives `None`, so that the reading of the
    /// other settings goes on and all errors are reported at once.
    fn read(node: &Node, reader: &mut Reader) -> Option<Self>;

    /// What may be written, for the manual and the schema.
    fn kind() -> Kind;

    /// The value as one would write it in TOML; `None` when it is not set. Secrets give `"***"`.
    fn text(&self) -> Option<String>;
}
