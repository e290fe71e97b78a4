//! The upstream room: services, their endpoints, and everything that stands between a request and
//! a connection to one of them. It knows no protocol, so every tier uses it.
//!
//! - [`Registry`] interns services by name and endpoints by service and address: health, ejection,
//!   counters and pools live on when the configuration is read again.
//! - [`Service`] is chosen from: [`Service::choose`] picks an endpoint and takes a [`Permit`],
//!   [`Service::wait`] stands in line when all are full.
//! - [`Endpoint`] keeps idle connections for each worker; [`connect()`] makes a new one,
//!   encrypted by a [`Seal`] where there is one. A [`Session`] is one that many requests share.
//! - [`check`] asks the endpoints all the time; [`Event`] and [`state`] tell what became of them.
//!
//! The algorithms and the rules of ejection are in `outgrow-balance`. What a response means, when
//! a request is sent again and when a waiting one gives up is the tier's to decide.

pub mod check;
pub mod connect;
pub mod endpoint;
pub mod event;
pub mod parting;
pub mod permit;
pub mod pool;
mod queue;
pub mod registry;
pub mod resolve;
pub mod sample;
pub mod scram;
pub mod service;
pub mod sessions;
pub mod settings;
pub mod state;

pub use connect::{
    Opening, Place, Seal, Sealing, Speaks, connect, dial, dial_again, limit_silence,
};
pub use endpoint::{Endpoint, EndpointId, Outcome, identity_of};
pub use event::{EjectionCause, Event, Subject};
pub use parting::{LongStay, Part};
pub use permit::Permit;
pub use pool::{Connection, Freshness, Origin};
pub use queue::Wait;
pub use registry::Registry;
pub use service::{
    EndpointOptions, EndpointSet, Health, Recollection, Service, ServiceView, Stay, Unavailable,
    Wish,
};
pub use sessions::{Opened, Session, opened};
pub use state::{EndpointState, ServiceState};
