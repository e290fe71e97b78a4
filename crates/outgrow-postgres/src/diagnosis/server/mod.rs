//! What a server's own views say: who waits for whose lock, which transactions are open for long,
//! which plans read whole tables, why a replica is behind, whether memory is cold.
//!
//! Pure: rows of answers and the time go in, findings come out. What is asked, when and on which
//! connection is `crate::inspect`'s.

pub mod buffers;
pub mod explain;
pub mod index;
pub mod locks;
pub mod missing;
mod other;
pub mod predicate;
pub mod replicas;
pub mod session;
pub mod table;
pub mod transactions;
