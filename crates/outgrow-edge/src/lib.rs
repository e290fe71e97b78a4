//! The edge: accept → http → route → filter → forward → record.
//!
//! [`way`] reads as the life of a request. What is configured is in [`settings`], compiled into a
//! [`plan`]; who the endpoints are is the upstream room's. The files that name certificates and
//! records are opened by the binary.

mod accept;
mod alt_svc;
pub mod backend;
mod compress;
mod connection;
mod decompress;
mod files;
pub mod floors;
mod forward;
mod grpc_web;
mod http2;
#[cfg(feature = "http3")]
mod http3;
mod identity;
mod matched;
pub mod metrics;
pub mod mirror;
pub mod pages;
pub mod plan;
mod pool;
mod proxied;
pub mod record;
mod request_key;
mod respond;
pub mod rewrite;
pub mod router;
pub mod run;
mod secure;
mod session;
pub mod settings;
pub mod shapes;
mod shown;
pub mod split;
pub mod sticky;
mod tunnel;
mod turned_away;
mod way;
pub mod worker;

pub use accept::ListenerSlot;
pub use alt_svc::AltSvc;
pub use backend::Picking;
pub use decompress::inspect;
pub use files::{FilePlan, OpenFiles};
#[cfg(feature = "http3")]
pub use http3::Http3Plan;
pub use plan::{Action, Edits, ListenerPlan, Plan, RoutePlan};
pub use record::{Outlet, RecordSink, RecordWriter};
pub use run::Edge;
pub use worker::{Drain, Shared};
