//! The access record: one line per request, in text or JSON, written by each worker in batches.

mod format;
mod outlet;
mod sink;

pub(crate) use format::Line;
pub use outlet::{Outlet, Target};
pub use sink::{RecordSink, RecordWriter};
