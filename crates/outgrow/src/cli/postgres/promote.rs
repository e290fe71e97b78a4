//! `outgrow postgres promote`: a replica becomes the primary, and how that goes is shown until it is
//! over; or only what would be done.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use outgrow_admin::client::Verb;
use serde_json::{Value, json};

use super::super::ask::{AdminArgs, request};
use super::super::{complain, print};

/// From one look at the state to the next.
const LOOK: Duration = Duration::from_millis(200);

/// What `outgrow postgres promote` takes.
#[derive(Debug, Args)]
pub struct PromoteArgs {
    /// The service [default: the only one with a table `promote`].
    service: Option<String>,
    /// The address of the replica, as in the service's endpoints [default: the one that is furthest].
    #[arg(long, value_name = "ADDRESS")]
    to: Option<String>,
    /// Only tell what would be done, and what stands against it.
    #[arg(long)]
    dry_run: bool,
    /// Do not run the fence command. What the old primary still takes is lost: only when it is down
    /// for certain.
    #[arg(long)]
    force_without_fence: bool,
    /// Promote although something that was acknowledged may be lost (`max_lag`, standbys that commits
    /// waited for).
    #[arg(long)]
    accept_loss: bool,
    /// Do not wait: how it goes is in `outgrow state`.
    #[arg(long)]
    detach: bool,
    /// How long to wait; it goes on afterwards all the same.
    #[arg(long, value_name = "SECONDS", default_value = "600")]
    timeout: u64,
    #[command(flatten)]
    admin: AdminArgs,
}

/// How it stands.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    /// A line that shows it.
    Going(String),
    Done(String),
    Failed(String),
}

/// Runs the command.
pub(super) fn promote(args: &PromoteArgs) -> ExitCode {
    let body = json!({
        "service": args.service,
        "to": args.to,
        "dry_run": args.dry_run,
        "force_without_fence": args.force_without_fence,
        "accept_loss": args.accept_loss,
    });
    let answer = request(
        &args.admin,
        Verb::Post,
        "/postgres/promote",
        body.to_string().as_bytes(),
    );
    let answer: Value = match answer {
        Ok(text) => serde_json::from_str(&text).unwrap_or_default(),
        Err(problem) => return complain(&problem),
    };
    let message = answer["message"].as_str().unwrap_or_default();
    print(&format!("{message}\n"));
    let (service, number) = (&answer["details"]["service"], &answer["details"]["number"]);
    let (Some(service), Some(number)) = (service.as_str(), number.as_u64()) else {
        return ExitCode::from(u8::from(message.starts_with("nothing would be promoted")));
    };
    if args.detach {
        return ExitCode::SUCCESS;
    }
    follow(args, service, number)
}

fn follow(args: &PromoteArgs, service: &str, number: u64) -> ExitCode {
    let until = Instant::now() + Duration::from_secs(args.timeout);
    let mut shown = String::new();
    while Instant::now() < until {
        std::thread::sleep(LOOK);
        // A look that fails may be an upgrade at this moment: the next one tells.
        let Ok(text) = request(&args.admin, Verb::Get, "/state", b"") else {
            continue;
        };
        match standing(&text, service, number) {
            Some(Standing::Going(line)) if line != shown => {
                print(&format!("{line}\n"));
                shown = line;
            }
            Some(Standing::Going(_)) | None => {}
            Some(Standing::Done(line)) => {
                print(&format!("{line}\n"));
                return ExitCode::SUCCESS;
            }
            Some(Standing::Failed(line)) => return complain(&line),
        }
    }
    let seconds = args.timeout;
    complain(&format!(
        "{service}: not over after {seconds} s; it goes on, see `outgrow state`"
    ))
}

/// What the state says of the service's promotion of this number.
fn standing(state: &str, service: &str, number: u64) -> Option<Standing> {
    let state: Value = serde_json::from_str(state).ok()?;
    let all = state["postgres"]["promotions"].as_array()?;
    let one = all.iter().find(|one| one["service"] == service)?;
    let count = |key: &str| one[key].as_u64().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if count("done") + count("failed") >= number {
        let told = format!("{service}: {}", text(&one["last"]["text"]));
        return Some(match one["last"]["done"] == true {
            true => Standing::Done(told),
            false => Standing::Failed(told),
        });
    }
    if count("begun") < number {
        return Some(Standing::Failed(format!(
            "{service}: the process that had begun it is gone; outgrow state and the log show how far it was"
        )));
    }
    let mut line = format!("{service}: {}", text(&one["phase"]));
    if let Some(to) = one["to"].as_str() {
        line.push_str(&format!(" ({to})"));
    }
    if let Some(problem) = one["problem"].as_str() {
        line.push_str(&format!(
            ": {problem}; next step: {}",
            text(&one["next_step"])
        ));
    }
    Some(Standing::Going(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_tells_how_it_stands() {
        let of = |begun: u64, done: u64, problem: &str| {
            let one = json!({
                "service": "db", "phase": "fencing", "to": "b:1", "begun": begun, "done": done,
                "failed": 0, "problem": Some(problem).filter(|text| !text.is_empty()),
                "next_step": "wait", "last": { "done": true, "text": "b:1 is the primary" },
            });
            let state = json!({ "postgres": { "promotions": [one] } });
            standing(&state.to_string(), "db", 2)
        };
        let going = |line: &str| Some(Standing::Going(line.to_owned()));
        assert_eq!(of(2, 1, ""), going("db: fencing (b:1)"));
        assert_eq!(
            of(2, 1, "it is late"),
            going("db: fencing (b:1): it is late; next step: wait")
        );
        let done = Standing::Done("db: b:1 is the primary".to_owned());
        assert_eq!(of(2, 2, ""), Some(done));
        assert!(matches!(of(0, 0, ""), Some(Standing::Failed(_))));
        assert_eq!(standing("no JSON", "db", 1), None);
        assert_eq!(standing("{}", "db", 1), None);
    }
}
