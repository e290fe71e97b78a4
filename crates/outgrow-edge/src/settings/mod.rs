//! The edge's tables: `[listener.NAME]`, `[route.NAME]` and `[access]`, and its part of
//! `[service.NAME]`.
//!
//! The doc comments of the fields are the manual's text. Rules between tables (a route's service
//! exists, no two listeners at one address) are checked in the binary, which knows all tables.

mod access;
mod header;
mod host;
mod listener;
mod request_key;
mod route;
mod service;

#[cfg(test)]
mod tests;

pub use access::{AccessDestination, AccessFormat, AccessSettings};
pub use header::{HeaderEdits, HeaderName, HeaderNameError, HeaderText, HeaderTextError};
pub use host::{HostPattern, HostPatternError, PathPrefix, PathPrefixError};
pub use listener::{
    CertificateSettings, ListenerSettings, ListenerTimeouts, ListenerTls, Protocol,
};
pub use request_key::{RequestKey, RequestKeyError};
pub use route::{RespondSettings, RouteSettings, ServiceName};
pub use service::{AffinitySettings, Gone, StickySettings};
