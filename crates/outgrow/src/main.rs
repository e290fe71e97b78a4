//! The `outgrow` binary: keeper, data process and shim in one file, told apart by their first
//! argument.

#![expect(
    unreachable_pub,
    reason = "nothing of a binary is reachable; pub says what a module offers"
)]

mod assemble;
mod bouncer;
mod cli;
mod config;
mod settings;

use std::process::ExitCode;

fn main() -> ExitCode {
    bouncer::main_if_called().unwrap_or_else(cli::main)
}
