//! What statements are and do, as far as it can be told from their text and the catalogue.
pub mod cache;
pub mod catalogue;
pub mod facts;
pub mod fingerprint;
mod hint;
mod name;
pub mod read_only;
mod walk;
mod words;
pub use name::Name;
pub mod lexer;
pub use hint::Hints;
pub use lexer::{Lexer, Lexing, Token, TokenKind, is_safe_encoding};
