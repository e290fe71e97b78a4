//! The shop over real sockets, and the shoppers against the shop, against
//! scripted backends and through a proxy that does harm.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

mod cart;
mod drain;
mod load;
mod pages;
mod running;
mod verdicts;
