//! The `outgrow` binary: keeper, data process and shim in one file, told apart by their first
//! argument.

#![expect(
    unreachable_pub,
    reason = "nothing of a binary is reachable; pub says what a module offers"
)]

mod assemble;
mod cli;
mod config;
mod settings;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
