//! `outgrow run`: gives the rights of root up, checks the configuration, then becomes the keeper.

use std::ffi::OsString;
use std::process::ExitCode;

use outgrow_fleet::keeper::{self, KeeperOptions};
use outgrow_fleet::privileges;

use super::source::look;
use super::{ConfigSource, RunArgs, complain};

/// Checks the configuration for its errors and becomes the keeper, which never reads it. A keeper
/// that was upgraded comes by here again, with everything that runs in its hands: whatever the file
/// says by now, it goes on.
pub fn run(args: RunArgs) -> ExitCode {
    if let Some(file) = args.only_file() {
        return complain(&format!(
            "`{file}` is no command to run: for a configuration file write --config {file}"
        ));
    }
    // Before anything is read: what cannot be read as that user is found now.
    if let Some(user) = args.user.as_deref().filter(|_| !keeper::is_resuming())
        && let Err(problem) = privileges::become_user(user, args.group.as_deref())
    {
        return complain(&problem.to_string());
    }
    if !keeper::is_resuming()
        && let Err(problems) = ConfigSource::new(&args).load(look(false))
    {
        eprint!("{problems}");
        return ExitCode::FAILURE;
    }
    let mut arguments = vec![OsString::from("data")];
    // Whatever stood behind `run` stands behind `data`: the same configuration.
    arguments.extend(std::env::args_os().skip(2));
    let mut options = KeeperOptions::new(arguments, vec![OsString::from("shim")]);
    env!("CARGO_PKG_VERSION").clone_into(&mut options.version);
    options.log_format = args.log_format();
    match keeper::run(options) {
        Ok(code) => code,
        Err(error) => complain(&error.to_string()),
    }
}

/// The shop of the demo.
pub fn shop() -> ExitCode {
    outgrow_shop::main_from_env()
}
