//! What statements are and do, as far as it can be told from their text and the catalogue.
//!
//! For who lends server connections for a transaction and sends what only reads to replicas:
//!
//! ```text
//! text ── lexer ──┬── facts        transactions, settings, prepared statements, copies; why to keep a connection
//!                 ├── read_only    the proof that a replica may have it ── catalogue   which names are suspect
//!                 └── fingerprint  the same statement with other values ── cache       what was found before
//!
//! text ── shapes ──── cache        the same bytes with other values: known without being read
//! ```
//!
//! There is no tree and no grammar. A strict lexer by Postgres' own rules, keywords where they stand, and a proof
//! by names: what could write in any reading counts as a write. A tree would say less, not more: it does not
//! tell that `t.f` calls a function, that an operator, a cast or a domain does, or that a view locks rows; all
//! of that is the catalogue's. Everything here takes time by tokens, once each, without recursion and, where
//! texts are of the usual kinds, without allocation: a lookup by primary key costs some 0.15 µs, an ORM's
//! query of 650 bytes 1 µs, and 1 KB of a long list of numbers 2.6 µs. So a text of megabytes is a matter of
//! milliseconds, and who must not take that long gives it to somebody else.
//!
//! Deliberately not here: what a session's state is, where a statement goes, what a server answers.

pub mod cache;
pub mod catalogue;
pub mod facts;
pub mod fingerprint;
mod hint;
pub mod lexer;
pub(crate) mod name;
pub mod read_only;
mod shapes;
pub(crate) mod walk;
pub(crate) mod words;

pub use hint::Hints;
pub use lexer::{Lexer, Lexing, Token, TokenKind, is_safe_encoding};
pub use name::Name;
