//! A small real shop, and the shoppers that visit it.
//!
//! The shop ([`serve`], [`main_from_env`]) is an application like any that
//! stands behind Outgrow: it knows nothing of it, uses none of its crates, and
//! is written on hyper. The [`shoppers`] are the client that counts: they know
//! every byte of what the shop answers ([`content`]), so a response that is
//! wrong, short or missing is seen.
//!
//! Not here: instances, balancing, anything that Outgrow does. The shop keeps
//! no data on disk and shares none between instances.

pub mod content;
mod server;
pub mod shoppers;

pub use server::{Address, Server, ServerOptions, ShopError, main_from_env, serve};
