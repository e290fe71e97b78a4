//! The life of a TCP connection: accept → way → relay.

mod accept;
mod admit;
mod flow;
mod guard;
mod learn;
mod relay;
mod way;

pub(crate) use accept::{Moved, receive, run as accept};
