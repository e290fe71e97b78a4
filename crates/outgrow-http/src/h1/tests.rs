//! Tests of the core, in tables: what a head means, why it is refused, what is written. The list of
//! known tricks and the comparison with other parsers are in `tests/hostile`.

mod chunks;
mod requests;
mod responses;
mod written;

use super::Reject;
use outgrow_core::{Fault, Phase};

/// A refusal as a client would see it: the status, and what exactly was wrong.
fn refusal(reject: Reject) -> String {
    let status = crate::status::of(Fault::client(Phase::RequestHead, reject.cause));
    format!("{} {}", status.unwrap_or(0), reject.detail)
}
