//! `outgrow check`: as many problems of a configuration file at once as can be told, and when there is none, of what it
//! names.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::source::{ConfigSource, look};
use crate::config::Config;

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
                super::print(&format!("{}: good: {}\n", path.display(), summary(&config)));
            }
            ExitCode::SUCCESS
        }
        Err(problems) => {
            eprint!("{problems}");
            ExitCode::FAILURE
        }
    }
}

/// What there is, in a few words: "1 listener, 2 services". Something always is: what serves nothing is
/// refused.
fn summary(config: &Config) -> String {
    let postgres = config.postgres.iter().map(|one| one.listen.len()).sum();
    let counts = [
        (config.listener.len(), "listener"),
        (config.tcp.len(), "tcp listener"),
        (config.udp.len(), "udp listener"),
        (postgres, "postgres listener"),
        (config.service.len(), "service"),
        (config.route.len(), "route"),
    ];
    let words = counts.into_iter().filter_map(|(count, name)| match count {
        0 => None,
        1 => Some(format!("1 {name}")),
        _ => Some(format!("{count} {name}s")),
    });
    words.collect::<Vec<_>>().join(", ")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_is_told_in_a_few_words() {
        let told = |text: &str| {
            let source = ConfigSource::File(PathBuf::from("outgrow.toml"));
            let loaded = source.load_text(text, look(false));
            summary(&loaded.expect("a good configuration").0)
        };
        let postgres = "[postgres]\nlisten = [\"127.0.0.1:1\"]\nservice = \"db\"\nauth = \"trust\"\n\
                        [postgres.user.shop]\n[service.db]\nendpoints = [\"127.0.0.1:2\"]\n";
        assert_eq!(told(postgres), "1 postgres listener, 1 service");
        let two = format!(
            "{postgres}[service.other]\nendpoints = [\"127.0.0.1:3\"]\n\
             [tcp.passed]\naddress = \"127.0.0.1:4\"\nservice = \"other\"\n"
        );
        assert_eq!(
            told(&two),
            "1 tcp listener, 1 postgres listener, 2 services"
        );
    }
}
