//! `cargo xtask bench NAME`: ours and the peers', interleaved in one run.
//!
//! `edge` compares ours with the peers, `tls` and `h2` likewise with what they are called, `l4` where nobody looks at the bytes, `balance` our ways of choosing an endpoint with power of two
//! choices, `postgres` ours with other poolers. Deliberately not here: microbenchmarks; what counts is CPU per unit of
//! work at a boundary.

mod contestant;
mod cpu;
mod edge;
mod options;
mod peers;
mod postgres;
pub(crate) mod process;
mod report;
mod scenario;
mod streams;

use std::process::ExitCode;

use anyhow::bail;

use crate::arguments::Arguments;

const NAMES: &str = "`edge`, `tls`, `h2`, `l4`, `balance` and `postgres`";

/// Runs the command.
pub(crate) fn run(mut arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.word().as_deref() {
        Some("edge") => edge::run(options::Options::read(arguments)?),
        Some("tls") => edge::run(options::Options::read_for(arguments, options::Layer::Tls)?),
        Some("h2") => edge::run(options::Options::read_for(
            arguments,
            options::Layer::Http2,
        )?),
        Some("l4") => edge::run(options::Options::read_for(arguments, options::Layer::Four)?),
        Some("balance") => edge::run(options::Options::read(arguments)?.of_ways()),
        Some("postgres") => postgres::run(arguments),
        Some(other) => bail!("there is no bench `{other}`; there are {NAMES}"),
        None => bail!("which bench? there are {NAMES}"),
    }
}
