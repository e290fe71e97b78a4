//! `outgrow pgbouncer`: PgBouncer's place taken, with its configuration file, its console, its
//! signals and its log, over our Postgres tier. One process, without a keeper.
//!
//! Deliberately different, each for a reason: a statement that nobody prepared is an error of
//! Postgres' own and no disconnect; with `-R` clients change their process when they are at rest, not
//! in the middle of a query, and connections to servers never do; a file with an error changes
//! nothing at all; `SUSPEND` lets what runs run to its end.

mod config;
mod console;
mod control;
mod files;
mod listen;
mod log;
mod map;
mod process;
mod run;
mod show;
mod stats;
mod takeover;
mod tls;

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser};

/// The version of PgBouncer whose behaviour this is, which programs look for.
const PGBOUNCER_VERSION: &str = "1.25.2";

/// The first line of `--version`, and what `SHOW VERSION` says.
fn version() -> String {
    format!(
        "PgBouncer {PGBOUNCER_VERSION} (outgrow {})",
        env!("CARGO_PKG_VERSION")
    )
}

/// What PgBouncer takes.
#[derive(Debug, Args)]
#[command(disable_version_flag = true)]
pub struct BouncerArgs {
    /// PgBouncer's configuration file.
    #[arg(value_name = "FILE.ini")]
    file: Option<PathBuf>,
    /// Run in the background; needs a pidfile.
    #[arg(short = 'd', long)]
    daemon: bool,
    /// Do not log to standard error.
    #[arg(short = 'q', long)]
    quiet: bool,
    /// Take the place of the process that runs, which is asked over its Unix socket: its listening
    /// sockets, and its clients without TLS, each as soon as it has no query or transaction under
    /// way. It ends when the last one has left.
    #[arg(short = 'R', long)]
    reboot: bool,
    /// Become this user after the start.
    #[arg(short = 'u', long, value_name = "USER")]
    user: Option<String>,
    /// Log more; twice: still more.
    #[arg(short = 'v', long, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Print the version and end.
    #[arg(short = 'V', long)]
    version: bool,
}

/// The command line of a binary that is called `pgbouncer`.
#[derive(Debug, Parser)]
#[command(name = "pgbouncer", max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    args: BouncerArgs,
}

/// Runs as PgBouncer when that is what the binary was called as.
pub fn main_if_called() -> Option<ExitCode> {
    let name = std::env::args_os().next()?;
    let is_called = Path::new(&name).file_name() == Some(OsStr::new("pgbouncer"));
    is_called.then(|| main(Cli::parse().args))
}

/// Runs as PgBouncer.
pub fn main(args: BouncerArgs) -> ExitCode {
    if args.version {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{}", version()).and_then(|()| out.flush());
        return ExitCode::SUCCESS;
    }
    let Some(file) = args.file.clone() else {
        let program = std::env::args().next().unwrap_or_default();
        eprintln!("{program}: no configuration file specified");
        eprintln!("Try \"{program} --help\" for more information.");
        return ExitCode::FAILURE;
    };
    match run::run(&args, &file) {
        Ok(()) => ExitCode::SUCCESS,
        Err(()) => ExitCode::FAILURE,
    }
}
