//! Commands that ask a running outgrow over its admin listener.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use outgrow_admin::client::{self, Verb};
use outgrow_core::settings::{Address, Secret};

use super::{complain, print};

/// Where the running outgrow is.
#[derive(Debug, Args)]
pub struct AdminArgs {
    /// Address of its admin listener.
    #[arg(
        long,
        default_value = "127.0.0.1:9900",
        env = "OUTGROW_ADMIN",
        value_name = "ADDRESS"
    )]
    admin: String,
    /// Its token.
    #[arg(
        long,
        default_value = "",
        env = "OUTGROW_ADMIN_TOKEN",
        hide_env_values = true
    )]
    token: String,
}

/// What `outgrow upgrade` takes.
#[derive(Debug, Args)]
pub struct UpgradeArgs {
    #[command(flatten)]
    admin: AdminArgs,
    /// The new binary [default: the file that the running one was started from].
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// `outgrow reload`.
pub fn reload(args: &AdminArgs) -> ExitCode {
    ask(args, Verb::Post, "/reload", b"")
}

/// `outgrow stop`.
pub fn stop(args: &AdminArgs) -> ExitCode {
    ask(args, Verb::Post, "/stop", b"")
}

/// `outgrow ready`.
pub fn ready(args: &AdminArgs) -> ExitCode {
    ask(args, Verb::Get, "/readyz", b"")
}

/// `outgrow state`.
pub fn state(args: &AdminArgs) -> ExitCode {
    ask(args, Verb::Get, "/state", b"")
}

/// `outgrow upgrade`.
pub fn upgrade(args: &UpgradeArgs) -> ExitCode {
    let body = match &args.binary {
        None => String::new(),
        // Relative to the one who asks, not to the one who is asked.
        Some(binary) => match std::path::absolute(binary) {
            Ok(path) => serde_json::json!({ "binary": path }).to_string(),
            Err(error) => return complain(&format!("{}: {error}", binary.display())),
        },
    };
    ask(&args.admin, Verb::Post, "/upgrade", body.as_bytes())
}

fn ask(args: &AdminArgs, verb: Verb, path: &str, body: &[u8]) -> ExitCode {
    match request(args, verb, path, body) {
        Ok(text) => {
            print(&format!("{text}\n"));
            ExitCode::SUCCESS
        }
        Err(problem) => complain(&problem),
    }
}

/// The answer to a request that was granted, or else why not, for people.
pub(super) fn request(
    args: &AdminArgs,
    verb: Verb,
    path: &str,
    body: &[u8],
) -> Result<String, String> {
    let address: Address = args
        .admin
        .parse()
        .map_err(|error| format!("--admin {}: {error}", args.admin))?;
    let token = Secret::new(args.token.as_str());
    let answer = client::request(&address, &token, verb, path, body);
    let (status, body) = answer.map_err(|problem| problem.to_string())?;
    let text = String::from_utf8_lossy(&body);
    let text = text.trim_end();
    if is_page(text) {
        return Err(format!(
            "what answers at {address} is no outgrow: it sends a page (status {status})\n\
             hint: --admin ADDRESS names the admin listener; it is `listen` of [admin]"
        ));
    }
    if (200..300).contains(&status) {
        Ok(text.to_owned())
    } else {
        Err(for_people(text))
    }
}

/// Whether it is somebody else's answer: an admin listener sends none of these.
fn is_page(text: &str) -> bool {
    text.trim_start().starts_with('<')
}

/// A refusal as lines: what is wrong, each finding, what to do.
fn for_people(answer: &str) -> String {
    let Ok(value) = serde_json::from_str::<serde_json::Value>(answer) else {
        return answer.to_owned();
    };
    let Some(problem) = value["problem"].as_str() else {
        return answer.to_owned();
    };
    let details = value["details"].as_array().into_iter().flatten();
    let mut lines = vec![problem.to_owned()];
    lines.extend(details.filter_map(|line| line.as_str().map(str::to_owned)));
    lines.extend(value["hint"].as_str().map(|hint| format!("hint: {hint}")));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::for_people;

    #[test]
    fn a_refusal_is_shown_as_the_lines_that_it_is() {
        let check = |answer: &str, expected: &str| assert_eq!(for_people(answer), expected);
        check(
            r#"{"problem": "f:1:2: \"x\" is wrong", "details": ["  x", "  ^"]}"#,
            "f:1:2: \"x\" is wrong\n  x\n  ^",
        );
        check(r#"{"problem": "no", "hint": "do"}"#, "no\nhint: do");
        check("plain", "plain");
        check(r#"{"other": 1}"#, r#"{"other": 1}"#);
    }
}
