//! The process side of Outgrow: the keeper that owns sockets and instances, the
//! shim that each instance runs under, and the data process's side of the
//! conversation with them.
//!
//! Where what is:
//! - `keeper`: what `outgrow run` starts; single-threaded, no runtime.
//! - `shim`: what `outgrow shim` starts, one per instance.
//! - `protocol`: the words they use, and how packets carry them.
//! - `privileges`: whose rights the processes have.
//! - `client`: the data process's end (the only place with tokio).
//! - `cgroup`: the limits of instances, and what outgrow itself is allowed.
//! - `supervise`: which instances should be started and stopped, and when again
//!   after an exit: pure.
//! - `resources`, `diagnose`, `sockets`: what `/proc` says about an instance.
//! - `machine`: what it says about the machine.
//!
//! What an instance answers to requests is deliberately not known here:
//! readiness and liveness are the upstream room's checks.

pub mod cgroup;
pub mod client;
pub mod diagnose;
mod events;
pub mod keeper;
pub mod machine;
pub mod moment;
mod orphans;
pub mod privileges;
mod processes;
pub mod protocol;
pub mod resources;
pub mod settings;
pub mod shim;
pub mod sockets;
mod standard;
pub mod supervise;

mod log;

pub use log::LogFormat;
