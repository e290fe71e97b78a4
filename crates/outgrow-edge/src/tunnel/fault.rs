//! What ends a tunnel early.

use outgrow_core::{Cause, Fault, Phase, Sent};
use outgrow_http::conn::Problem;

pub(super) fn push_fault(error: &std::io::Error) -> Fault {
    match error.kind() {
        std::io::ErrorKind::OutOfMemory => no_memory(),
        _ => upstream_gone(),
    }
}

pub(super) fn read_fault(problem: &Problem) -> Fault {
    match problem {
        Problem::Memory => no_memory(),
        _ => upstream_gone(),
    }
}

pub(super) fn idle_fault() -> Fault {
    Fault::outgrow(Phase::Tunnel, Cause::StreamIdleTimeout)
}

fn no_memory() -> Fault {
    Fault::outgrow(Phase::Tunnel, Cause::MemoryLimit)
}

pub(super) fn upstream_gone() -> Fault {
    Fault::upstream(Phase::Tunnel, Cause::UpstreamReset, Sent::Maybe)
}
