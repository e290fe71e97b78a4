//! The access record: one line per request, in text or JSON, written by each worker in batches.

mod format;
mod sink;

pub(crate) use format::Line;
pub use sink::{RecordSink, RecordWriter};
