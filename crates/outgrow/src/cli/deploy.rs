//! `outgrow deploy SERVICE`: all instances are replaced, and how that goes is shown until it is over.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use outgrow_admin::client::Verb;
use serde_json::Value;

use super::ask::{AdminArgs, request};
use super::{complain, print};

/// From one look at the state to the next.
const LOOK: Duration = Duration::from_millis(200);

/// What `outgrow deploy` takes.
#[derive(Debug, Args)]
pub struct DeployArgs {
    /// The service whose instances are replaced.
    service: String,
    /// Do not wait: how it goes is in `outgrow state`.
    #[arg(long)]
    detach: bool,
    /// How long to wait; it goes on afterwards all the same.
    #[arg(long, value_name = "SECONDS", default_value = "600")]
    timeout: u64,
    #[command(flatten)]
    admin: AdminArgs,
}

/// How a deploy stands.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    /// A line that shows it.
    Rolling(String),
    Done(String),
    Failed(String),
}

/// Runs the command.
pub fn deploy(args: &DeployArgs) -> ExitCode {
    let body = serde_json::json!({ "service": args.service }).to_string();
    match request(&args.admin, Verb::Post, "/deploy", body.as_bytes()) {
        Ok(_) => {}
        Err(problem) => return complain(&problem),
    }
    if args.detach {
        print(&format!("{}: deploying\n", args.service));
        return ExitCode::SUCCESS;
    }
    let until = Instant::now() + Duration::from_secs(args.timeout);
    let mut shown = String::new();
    while Instant::now() < until {
        std::thread::sleep(LOOK);
        // A look that fails may be an upgrade at this moment: the next one tells.
        let Ok(text) = request(&args.admin, Verb::Get, "/state", b"") else {
            continue;
        };
        let Some(standing) = standing(&text, &args.service) else {
            continue;
        };
        match standing {
            Standing::Rolling(line) if line != shown => {
                print(&format!("{line}\n"));
                shown = line;
            }
            Standing::Rolling(_) => {}
            Standing::Done(line) => {
                print(&format!("{line}\n"));
                return ExitCode::SUCCESS;
            }
            Standing::Failed(line) => return complain(&line),
        }
    }
    complain(&format!(
        "{}: not over after {} s; it goes on, see `outgrow state`",
        args.service, args.timeout
    ))
}

/// What the state says of the service's deploy.
fn standing(state: &str, service: &str) -> Option<Standing> {
    let state: Value = serde_json::from_str(state).ok()?;
    let services = state["services"].as_array()?;
    let deploy = &services.iter().find(|one| one["name"] == service)?["deploy"];
    let number = |key: &str| deploy[key].as_u64().unwrap_or(0);
    let (ready, old, count) = (number("ready"), number("old"), number("count"));
    Some(match deploy["state"].as_str()? {
        "done" => Standing::Done(format!("{service}: deployed, {count} instances are new")),
        "rolled_back" => Standing::Failed(format!(
            "{service}: given up: the new instances failed, the old ones stay; the log says why"
        )),
        "stuck" => Standing::Failed(format!(
            "{service}: the instances fail, and there are no old ones to go back to; the log says \
             why"
        )),
        "canary" => Standing::Rolling(format!(
            "{service}: canary: {ready} new instances are ready beside {old} old ones"
        )),
        _ => Standing::Rolling(format!(
            "{service}: {ready} of {count} new instances are ready, {old} old ones left"
        )),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_tells_how_it_stands() {
        let state = |word: &str| {
            format!(
                r#"{{"services": [{{"name": "other"}}, {{"name": "app", "deploy":
                {{"state": "{word}", "ready": 1, "old": 2, "count": 3, "revision": 1}}}}]}}"#
            )
        };
        let of = |word: &str| standing(&state(word), "app");
        let line = "app: 1 of 3 new instances are ready, 2 old ones left";
        assert_eq!(of("rolling"), Some(Standing::Rolling(line.to_owned())));
        assert!(matches!(of("done"), Some(Standing::Done(_))));
        assert!(matches!(of("rolled_back"), Some(Standing::Failed(_))));
        assert!(matches!(of("stuck"), Some(Standing::Failed(_))));
        assert_eq!(standing(&state("done"), "other"), None);
        assert_eq!(standing("no JSON", "app"), None);
    }
}
