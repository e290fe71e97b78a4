//! Connections and datagrams whose protocol is not looked into: accept → (PROXY header) → (ClientHello) → choose
//! → permit → connect → relay → record.
//!
//! [`tcp`] reads as the life of a connection, [`udp`] has the sessions of datagrams. What is configured is in [`settings`], compiled into
//! a [`plan`]; who the endpoints are, whether they are well and how one is chosen is the upstream
//! room's. TLS is never ended here: what its first message says in the clear is looked at
//! ([`hello`]), no more. Deliberately not here: files and the configuration's text; records go to
//! whoever takes them ([`record::Records`]).

pub mod addresses;
pub mod end;
pub mod hello;
pub mod metrics;
pub mod plan;
pub mod record;
pub mod run;
pub mod settings;
pub mod shared;
pub mod tcp;
pub mod udp;
mod worker;

pub use end::End;
pub use plan::{ListenerPlan, ListenerSlot, Slot, Target, UdpPlan, UdpSlot};
pub use record::{Record, Records};
pub use run::Streams;
pub use shared::{Drain, Shared};
