//! `cargo xtask deny`: cargo-deny with the house's deny.toml.
//!
//! Not part of `cargo xtask test`: advisories need the network and change from day to day.
//! Deliberately not here: the rules; they are in deny.toml.

use std::process::ExitCode;

use crate::arguments::Arguments;
use crate::command;
use crate::workspace::Workspace;

/// Runs the command.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    arguments.finish()?;
    let workspace = Workspace::load()?;
    if command::find("cargo-deny").is_none() {
        eprintln!("missing: cargo-deny; install it with `cargo install cargo-deny --locked`");
        return Ok(ExitCode::FAILURE);
    }
    let mut cargo = command::cargo();
    cargo.current_dir(&workspace.root).args(["deny", "check"]);
    Ok(if command::succeeds(&mut cargo)? {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
