//! `outgrow run`: gives the rights of root up, checks the configuration, then becomes the keeper.

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use outgrow_fleet::keeper::{self, KeeperOptions};
use outgrow_fleet::privileges;

use super::source::look;
use super::{ConfigSource, RunArgs, complain};

/// What shells end with when there is no such command.
const NOT_FOUND: u8 = 127;

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
    // Without PATH the system looks in places of its own.
    if !keeper::is_resuming()
        && let Some(path) = std::env::var_os("PATH")
        && let Some(program) = missing_program(&args.command, &path)
    {
        // It would be tried again and again: of a file's services others may be well meanwhile.
        complain(&format!(
            "command not found: `{program}` is in no directory of PATH; is it installed?"
        ));
        return ExitCode::from(NOT_FOUND);
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

/// The program of the command, where it is looked for in PATH and is not there. A line for the shell
/// and a path are left to who runs them.
fn missing_program<'a>(command: &'a [String], path: &OsStr) -> Option<&'a str> {
    let program = command.first()?;
    let is_line = command.len() == 1 && program.contains(char::is_whitespace);
    if is_line || program.contains(['/', '{']) || program.is_empty() {
        return None;
    }
    let is_there = std::env::split_paths(path).any(|folder| folder.join(program).is_file());
    (!is_there).then_some(program)
}

/// The shop of the demo.
pub fn shop() -> ExitCode {
    outgrow_shop::main_from_env()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_in_no_directory_is_found_missing() {
        let check = |words: &[&str], expected: Option<&str>| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            let found = missing_program(&words, OsStr::new("/nowhere:/bin"));
            assert_eq!(found, expected, "{words:?}");
        };
        check(&["sh", "-c", "true"], None);
        check(&["no-such-program", "x"], Some("no-such-program"));
        check(&["no-such-program"], Some("no-such-program"));
        for others in ["no-such-program x", "./no-such-program", "run-{port}", ""] {
            check(&[others], None);
        }
        check(&[], None);
    }
}
