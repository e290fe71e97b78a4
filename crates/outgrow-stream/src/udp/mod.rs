//! Datagrams: those of one source are a session, with a connected socket towards one endpoint.

mod crowds;
mod listen;
mod session;
pub mod sessions;
#[cfg(test)]
mod tests;

pub(crate) use crowds::Crowds;
pub(crate) use listen::run as listen;
