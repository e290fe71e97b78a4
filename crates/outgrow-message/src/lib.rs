//! What every protocol, filter and cache speaks: heads as bytes with spans, bodies as pushed
//! slices with an honest end, the one normalised path, and the ledger that bounds memory.
//!
//! No protocol's syntax is here: see the http room.

pub mod body;
pub mod claims;
pub mod fields;
pub mod head;
pub mod ledger;
pub mod names;
pub mod path;

pub use body::{BodyEnd, BodyLength, BodySource};
pub use fields::{Field, Fields, Span};
pub use head::{Method, RequestHead, ResponseHead, Target, Version};
pub use ledger::{Block, Blocks, Ledger, Need, Waiting};
pub use names::Known;
