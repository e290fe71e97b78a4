//! Starting other programs, with errors that say which one and what became of it.
//!
//! Deliberately not here: pinned and supervised processes of the bench (`bench/process.rs`).

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

/// The cargo that started us, or the one of the PATH.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Runs with our own standard streams; true when it ended with 0.
pub(crate) fn succeeds(command: &mut Command) -> anyhow::Result<bool> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", name(command)))?;
    Ok(status.success())
}

/// Runs with our own standard streams; an error unless it ended with 0.
pub(crate) fn must(command: &mut Command) -> anyhow::Result<()> {
    if !succeeds(command)? {
        bail!("{} failed", line(command));
    }
    Ok(())
}

/// Runs and returns standard output and standard error, one after the other.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {}", name(command)))?;
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{} failed: {}", line(command), text.trim());
    }
    Ok(text.into_owned())
}

/// Where the PATH finds `program`.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let executable = |path: &Path| {
        path.metadata()
            .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
    };
    let path = std::env::var_os("PATH")?;
    // Debian keeps servers in /usr/sbin, which is not in everybody's PATH.
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder: PathBuf| folder.join(program))
        .find(|path| executable(path))
}

fn name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

fn line(command: &Command) -> String {
    let mut line = name(command);
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}
