//! The command line. What a command does is in its own file.

mod ask;
mod certificates;
mod check;
mod demo;
mod deploy;
mod explain;
mod postgres;
mod resources;
mod run;
mod source;
mod table;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use outgrow_fleet::{LogFormat, privileges};

pub use source::ConfigSource;

/// One proxy at every tier boundary: it scales each tier and tells you which one to scale.
#[derive(Debug, Parser)]
#[command(name = "outgrow", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run an application as several instances behind the proxy, or what a file says.
    ///
    /// Examples:
    ///   outgrow run -- node server.js
    ///   outgrow run --listen 127.0.0.1:8000 --instances 4 -- python3 -m http.server {port}
    ///   outgrow run --config outgrow.toml
    #[command(verbatim_doc_comment)]
    Run(RunArgs),
    /// See it work: a shop under load while instances are killed, and Outgrow is reloaded and
    /// upgraded.
    Demo(demo::DemoArgs),
    /// Check a configuration file: as many problems at once as can be told.
    Check(check::CheckArgs),
    /// Tell where a request for a URL would go, and why.
    Explain(explain::ExplainArgs),
    /// Read the configuration of a running outgrow again. An invalid one changes nothing.
    Reload(ask::AdminArgs),
    /// Replace the running binary without dropping a connection.
    Upgrade(ask::UpgradeArgs),
    /// Replace all instances of a service, a step at a time, without losing a request. New ones
    /// that do not get ready are given up, and the old ones stay.
    Deploy(deploy::DeployArgs),
    /// Stop a running outgrow: it finishes what is in flight first.
    Stop(ask::AdminArgs),
    /// Tell whether a running outgrow is ready: exit code 0, or 1 with what is missing. For the
    /// health check of a container.
    Ready(ask::AdminArgs),
    /// Show the state of a running outgrow as JSON.
    State(ask::AdminArgs),
    /// Show what instances may use and use, and what the machine has left.
    Resources(resources::ResourcesArgs),
    /// Show the certificates of listeners: until when they are valid, and what keeps others from
    /// being got.
    Certificates(certificates::CertificatesArgs),
    /// Show what is wrong with how the database behind `[postgres]` is used, and what statements cost.
    #[command(subcommand)]
    Postgres(postgres::PostgresCommand),
    /// Take PgBouncer's place: its configuration file, its console, its signals, its log. A binary
    /// that is called `pgbouncer` does so without this word.
    Pgbouncer(crate::bouncer::BouncerArgs),
    /// Print the manual of the configuration file (Markdown).
    Reference,
    /// Print the JSON Schema of the configuration file, for editors.
    Schema,
    /// The data process; started by `outgrow run`, not by hand.
    #[command(hide = true)]
    Data(RunArgs),
    /// The shim of an instance; started by `outgrow run`, not by hand.
    #[command(hide = true)]
    Shim,
    /// The shop that the demo runs: reads PORT and HOST.
    #[command(hide = true)]
    Shop,
}

/// What `outgrow run` takes.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// The configuration file. Without it (and without COMMAND) `outgrow.toml` is read.
    #[arg(short, long, value_name = "FILE", conflicts_with = "command")]
    config: Option<PathBuf>,
    /// Where the application is offered [default: 0.0.0.0:8080].
    #[arg(short, long, value_name = "ADDRESS", requires = "command")]
    listen: Option<String>,
    /// How many instances run [default: one per core, at least 2].
    #[arg(short = 'n', long, value_name = "N", requires = "command")]
    instances: Option<u16>,
    /// Where the admin listener is, or `off` [default: 127.0.0.1:9900].
    #[arg(long, value_name = "ADDRESS", requires = "command")]
    admin: Option<String>,
    /// Where access records go: stdout, stderr, off or a file [default: stdout].
    #[arg(long, value_name = "TO", requires = "command")]
    access: Option<String>,
    /// The path that says whether an instance is ready [default: connecting is enough].
    #[arg(long, value_name = "PATH", requires = "command")]
    check: Option<String>,
    /// Run as this user (a name or a number) when started as root. Only the right to bind ports
    /// below 1024 is kept, and only by the process that binds.
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Run with this group instead of the user's own.
    #[arg(long, value_name = "GROUP", requires = "user")]
    group: Option<String>,
    /// How the log is written, and the output of instances: `text`, or `json` for one object a line.
    #[arg(long, value_name = "FORMAT", value_parser = ["text", "json"], default_value = "text")]
    log: String,
    /// The command to run, with its arguments; everything from its name on is its own, with or without
    /// `--` before it. PORT is set for it; {port} in an argument is replaced.
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl RunArgs {
    fn log_format(&self) -> LogFormat {
        match self.log.as_str() {
            "json" => LogFormat::Json,
            _ => LogFormat::Text,
        }
    }

    /// The configuration file that stands where a command is to be, if that is what it looks like.
    fn only_file(&self) -> Option<&str> {
        match self.command.as_slice() {
            [file] if Path::new(file).extension().is_some_and(|end| end == "toml") => Some(file),
            _ => None,
        }
    }
}

/// Runs the command and tells how it went.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Command::Run(args) => run::run(args),
        Command::Data(args) => {
            privileges::give_low_ports_up();
            crate::assemble::data(ConfigSource::new(&args), args.log_format())
        }
        Command::Shim => {
            privileges::give_low_ports_up();
            ExitCode::from(u8::try_from(outgrow_fleet::shim::run()).unwrap_or(1))
        }
        Command::Shop => run::shop(),
        Command::Pgbouncer(args) => crate::bouncer::main(args),
        Command::Reference => {
            print(&crate::config::reference());
            ExitCode::SUCCESS
        }
        Command::Schema => {
            print(&crate::config::schema());
            ExitCode::SUCCESS
        }
        Command::Demo(args) => demo::demo(&args),
        Command::Check(args) => check::check(&args),
        Command::Explain(args) => explain::explain(&args),
        Command::Reload(args) => ask::reload(&args),
        Command::Upgrade(args) => ask::upgrade(&args),
        Command::Deploy(args) => deploy::deploy(&args),
        Command::Stop(args) => ask::stop(&args),
        Command::Ready(args) => ask::ready(&args),
        Command::State(args) => ask::state(&args),
        Command::Resources(args) => resources::resources(&args),
        Command::Certificates(args) => certificates::certificates(&args),
        Command::Postgres(command) => postgres::postgres(&command),
    }
}

/// Writes to standard output; a reader that has gone away is no reason to fail.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// An error for people, on standard error.
fn complain(message: &str) -> ExitCode {
    eprintln!("outgrow: {message}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(words: &[&str]) -> Option<Vec<String>> {
        let words = ["outgrow", "run"].iter().chain(words);
        match Cli::try_parse_from(words).ok()?.command {
            Command::Run(args) => Some(args.command),
            _ => None,
        }
    }

    #[test]
    fn everything_from_the_commands_name_on_is_its_own() {
        let own = [
            "python3",
            "-m",
            "http.server",
            "--bind",
            "127.0.0.1",
            "{port}",
        ];
        let before = ["--listen", "127.0.0.1:80", "-n", "2"];
        for dashes in [&[][..], &["--"]] {
            let words = [&before[..], dashes, &own[..]].concat();
            assert_eq!(command(&words).unwrap(), own, "{words:?}");
        }
        assert_eq!(command(&["--port", "80", "node"]), None);
    }

    #[test]
    fn a_file_is_no_command() {
        let file = |words: &[&str]| match Cli::try_parse_from(words).unwrap().command {
            Command::Run(args) => args.only_file().map(str::to_owned),
            _ => None,
        };
        assert_eq!(
            file(&["outgrow", "run", "shop.toml"]).as_deref(),
            Some("shop.toml")
        );
        assert_eq!(file(&["outgrow", "run", "cat", "shop.toml"]), None);
    }
}
