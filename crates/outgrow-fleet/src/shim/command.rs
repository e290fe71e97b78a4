//! Starts the instance's command, and says in plain words why it could not.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command as Process, Stdio};

use rustix::io::Errno;

use crate::protocol::Command;
use crate::protocol::shim::ShimSpec;

/// A command that runs.
#[derive(Debug)]
pub(super) struct Running {
    /// Its pid, which is its process group as well.
    pub(super) pid: u32,
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
}

/// Starts it in a process group of its own. The error is a text for people.
pub(super) fn spawn(spec: &ShimSpec) -> Result<Running, String> {
    if let Some(directory) = &spec.directory
        && !Path::new(directory).is_dir()
    {
        return Err(format!(
            "the directory {directory} does not exist or is none: correct `directory` of the service"
        ));
    }
    let mut process = process(&spec.command)?;
    // Whoever may read an instance's environment (a debug page is enough) must
    // not get at the admin listener by it.
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"OUTGROW_ADMIN") {
            process.env_remove(name);
        }
    }
    process.envs(&spec.environment);
    if let Some(directory) = &spec.directory {
        process.current_dir(directory);
    }
    process
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let mut child = process.spawn().map_err(|error| explain(spec, &error))?;
    Ok(Running {
        pid: child.id(),
        stdout: child.stdout.take().map(OwnedFd::from),
        stderr: child.stderr.take().map(OwnedFd::from),
    })
}

fn process(command: &Command) -> Result<Process, String> {
    match command {
        Command::Shell(line) => {
            let mut process = Process::new("/bin/sh");
            process.arg("-c").arg(line);
            Ok(process)
        }
        Command::Words(words) => {
            let (program, arguments) = words
                .split_first()
                .ok_or("the command is empty: set `command` of the service")?;
            let mut process = Process::new(program);
            process.args(arguments);
            Ok(process)
        }
    }
}

fn explain(spec: &ShimSpec, error: &io::Error) -> String {
    let program = match &spec.command {
        Command::Shell(_) => "/bin/sh",
        Command::Words(words) => words.first().map_or("", String::as_str),
    };
    match Errno::from_io_error(error) {
        Some(Errno::NOENT) if program.contains('/') => format!(
            "command not found: {program} does not exist (or its #! line names a program that does not)"
        ),
        Some(Errno::NOENT) => format!(
            "command not found: {program} is in no directory of PATH; is it installed? \
             (a command given as a list is not read by a shell: write it as one string for that)"
        ),
        Some(Errno::ACCESS) => {
            format!("command not executable: {program}; try chmod +x {program}")
        }
        Some(Errno::NOEXEC) => format!(
            "command not executable: {program} is neither a program for this machine nor a script with a #! line"
        ),
        _ => format!("the command {program} could not be started: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::LogFormat;
    use crate::protocol::Limits;

    fn failure(words: &[&str], directory: Option<&str>) -> String {
        let spec = ShimSpec {
            name: "web.1".into(),
            command: Command::Words(words.iter().map(|word| (*word).to_owned()).collect()),
            directory: directory.map(str::to_owned),
            environment: BTreeMap::new(),
            log_format: LogFormat::Text,
            stop_grace_ms: 0,
            orphan_grace_ms: 0,
            open_files: None,
            socket: None,
            limits: Limits::default(),
            grant: None,
        };
        spawn(&spec).unwrap_err()
    }

    #[test]
    fn each_mistake_has_its_message() {
        let check = |words: &[&str], directory, expected: &str| {
            let message = failure(words, directory);
            assert!(message.contains(expected), "{message}");
        };
        check(&["outgrow-no-such-command"], None, "command not found");
        check(&["outgrow-no-such-command"], None, "PATH");
        check(&["/no/such/command"], None, "does not exist");
        check(&["/dev/null"], None, "chmod +x");
        check(
            &["true"],
            Some("/no/such/directory"),
            "/no/such/directory does not exist",
        );
        check(&[], None, "empty");
    }
}
