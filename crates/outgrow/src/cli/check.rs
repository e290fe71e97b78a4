//! `outgrow check`: as many problems of a configuration file at once as can be told, and when there is none, of what it
//! names.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::source::{ConfigSource, look};

/// What `outgrow check` takes.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The configuration file [default: outgrow.toml].
    #[arg(value_name = "FILE")]
    named: Option<PathBuf>,
    /// The same, as `outgrow run` takes it.
    #[arg(short, long, value_name = "FILE", conflicts_with = "named")]
    config: Option<PathBuf>,
    /// One JSON object per problem.
    #[arg(long)]
    json: bool,
}

/// Checks; 0 when the file can be run.
pub fn check(args: &CheckArgs) -> ExitCode {
    let file = args.named.as_ref().or(args.config.as_ref());
    let path = file.map_or(Path::new(super::source::DEFAULT_FILE), PathBuf::as_path);
    if let Err(error) = std::fs::metadata(path) {
        let file = path.display();
        let problem = format!("outgrow: {file}: {error}\nhint: name a file: outgrow check FILE");
        return refuse(path, &problem, args.json);
    }
    let source = ConfigSource::File(path.to_owned());
    let text = match source.text() {
        Ok(text) => text,
        Err(problem) => return refuse(path, &problem, args.json),
    };
    match source.load_text(&text, look(args.json)) {
        Ok((config, warnings)) => {
            eprint!("{warnings}");
            // Everything that a start would read.
            let read = [
                crate::assemble::check_certificates(&config),
                crate::assemble::check_postgres_files(&config),
            ];
            let problems: Vec<String> = read.into_iter().filter_map(Result::err).collect();
            if !problems.is_empty() {
                return refuse(path, &problems.join("\n"), args.json);
            }
            if !args.json {
                super::print(&format!(
                    "{}: good: {} listeners, {} services, {} routes\n",
                    path.display(),
                    config.listener.len() + config.tcp.len() + config.udp.len(),
                    config.service.len(),
                    config.route.len()
                ));
            }
            ExitCode::SUCCESS
        }
        Err(problems) => {
            eprint!("{problems}");
            ExitCode::FAILURE
        }
    }
}

/// Tells what was not found in the text itself: one line each, with a hint below it or not.
fn refuse(path: &Path, problems: &str, json: bool) -> ExitCode {
    if !json {
        eprintln!("{}", problems.trim_end());
        return ExitCode::FAILURE;
    }
    let mut lines = problems.lines().peekable();
    while let Some(line) = lines.next() {
        let hint = lines.next_if(|next| next.trim_start().starts_with("hint: "));
        let object = serde_json::json!({
            "severity": "error",
            "file": path.display().to_string(),
            "line": null,
            "column": null,
            "path": "",
            "message": line.strip_prefix("outgrow: ").unwrap_or(line),
            "hint": hint.map(|hint| hint.trim_start().trim_start_matches("hint: ")),
        });
        eprintln!("{object}");
    }
    ExitCode::FAILURE
}
