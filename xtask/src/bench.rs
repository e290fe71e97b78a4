//! `cargo xtask bench NAME`: ours and the peers', interleaved in one run.
//!
//! One bench exists: `edge`. Deliberately not here: microbenchmarks; what counts is CPU per unit of
//! work at a boundary.

mod contestant;
mod cpu;
mod edge;
mod options;
mod peers;
pub(crate) mod process;
mod report;
mod scenario;

use std::process::ExitCode;

use anyhow::bail;

use crate::arguments::Arguments;

/// Runs the command.
pub(crate) fn run(mut arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.word().as_deref() {
        Some("edge") => edge::run(options::Options::read(arguments)?),
        Some(other) => bail!("there is no bench `{other}`; there is `edge`"),
        None => bail!("which bench? there is `edge`"),
    }
}
