//! `outgrow run`: checks the configuration, then becomes the keeper.

use std::ffi::OsString;
use std::process::ExitCode;

use outgrow_fleet::keeper::{self, KeeperOptions};

use super::source::look;
use super::{ConfigSource, RunArgs, complain};

/// Checks the configuration for its errors and becomes the keeper, which never reads it.
pub fn run(args: RunArgs) -> ExitCode {
    if let Err(problems) = ConfigSource::new(&args).load(look(false)) {
        eprint!("{problems}");
        return ExitCode::FAILURE;
    }
    raise_descriptor_limit();
    let mut arguments = vec![OsString::from("data")];
    // Whatever stood behind `run` stands behind `data`: the same configuration.
    arguments.extend(std::env::args_os().skip(2));
    let mut options = KeeperOptions::new(arguments, vec![OsString::from("shim")]);
    env!("CARGO_PKG_VERSION").clone_into(&mut options.version);
    match keeper::run(options) {
        Ok(code) => code,
        Err(error) => complain(&error.to_string()),
    }
}

/// Connections are descriptors: as many as the system allows, without asking for more than that.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Instances inherit it, which is what they would get from a service manager as well.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}

/// The shop of the demo.
pub fn shop() -> ExitCode {
    outgrow_shop::main_from_env()
}
