//! `outgrow explain`: where a request would go, and why not elsewhere.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::source::{ConfigSource, look};
use crate::config;

/// What `outgrow explain` takes.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The URL of the request.
    url: String,
    /// The configuration file.
    #[arg(short, long, default_value = "outgrow.toml")]
    config: PathBuf,
    /// The method.
    #[arg(short, long, default_value = "GET")]
    method: String,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

/// Explains; 0 when something would answer.
pub fn explain(args: &ExplainArgs) -> ExitCode {
    let (config, _) = match ConfigSource::File(args.config.clone()).load(look(args.json)) {
        Ok(loaded) => loaded,
        Err(problems) => {
            eprint!("{problems}");
            return ExitCode::FAILURE;
        }
    };
    match config::explain(&config, &args.url, &args.method) {
        Ok(explanation) if args.json => super::print(&format!("{}\n", explanation.to_json())),
        Ok(explanation) => super::print(&explanation.to_string()),
        Err(error) => return super::complain(&error.to_string()),
    }
    ExitCode::SUCCESS
}
