//! `outgrow certificates`: what listeners serve, until when, and what keeps others from being got.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use outgrow_admin::client::Verb;
use serde_json::Value;

use super::ask::{AdminArgs, request};
use super::table::{self, list, text, words};
use super::{complain, print};

/// What `outgrow certificates` takes.
#[derive(Debug, Args)]
pub struct CertificatesArgs {
    /// JSON instead of a table.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Runs the command.
pub fn certificates(args: &CertificatesArgs) -> ExitCode {
    let answer = match request(&args.admin, Verb::Get, "/state", b"") {
        Ok(answer) => answer,
        Err(problem) => return complain(&problem),
    };
    let Ok(state) = serde_json::from_str::<Value>(&answer) else {
        return complain("the admin listener's answer is no state of an outgrow");
    };
    print(&match args.json {
        true => format!("{}\n", state["certificates"]),
        false => as_table(&state),
    });
    ExitCode::SUCCESS
}

fn as_table(state: &Value) -> String {
    let mut out = String::new();
    let mut rows = vec![words(&[
        "NAMES",
        "LISTENERS",
        "SOURCE",
        "STATE",
        "UNTIL",
        "NEXT ATTEMPT",
        "FAILURES",
    ])];
    let mut notes = Vec::new();
    for one in list(state, "certificates") {
        let join = |key: &str| list(one, key).map(text).collect::<Vec<_>>().join(",");
        let or = |key: &str| match one[key].as_str() {
            Some(text) => text.to_owned(),
            None => "-".to_owned(),
        };
        let names = join("names");
        let source = match one["source"].as_str() {
            Some("file") => or("name"),
            _ => or("challenge"),
        };
        let state = match one["under_way"].as_bool() {
            Some(true) => format!("{}, under way", text(&one["state"])),
            _ => text(&one["state"]),
        };
        let failures = one["failures"]
            .as_u64()
            .map_or("-".to_owned(), |count| count.to_string());
        if let Some(problem) = one["problem"].as_str() {
            notes.push(format!("{names}: {problem}"));
        }
        rows.push(vec![
            names,
            join("listeners"),
            source,
            state,
            or("not_after"),
            or("next_attempt"),
            failures,
        ]);
    }
    notes.extend(list(state, "ocsp").filter_map(note));
    if rows.len() == 1 {
        return "no certificates\n".to_owned();
    }
    table::write(&mut out, &rows);
    for note in notes {
        let _ = writeln!(out, "{note}");
    }
    out
}

/// What somebody should know of what is stapled to a certificate.
fn note(staple: &Value) -> Option<String> {
    let name = text(&staple["name"]);
    match (staple["status"].as_str(), staple["problem"].as_str()) {
        (Some("revoked"), _) => Some(format!(
            "{name}: REVOKED since {}, says its issuer",
            text(&staple["revoked_at"])
        )),
        (Some("none"), Some(problem)) => Some(format!("{name}: no OCSP response: {problem}")),
        (_, Some(problem)) => Some(format!(
            "{name}: the OCSP response that is there is used until {}: {problem}",
            text(&staple["next_update"])
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_missing_is_told_with_its_reason() {
        let state = json!({ "certificates": [
            { "names": ["a.example", "b.example"], "listeners": ["web"], "source": "acme",
              "challenge": "http-01", "state": "missing", "under_way": false, "failures": 2,
              "not_after": null, "next_attempt": "2026-11-29T12:00:00Z", "problem": "no port 80" },
            { "names": ["c.example"], "listeners": ["web"], "source": "file", "name": "c.pem",
              "state": "valid", "not_after": "2027-01-01T00:00:00Z" },
        ], "ocsp": [
            { "name": "c.example", "status": "good", "problem": null },
            { "name": "d.example", "status": "none", "problem": "no answer in time" },
            { "name": "e.example", "status": "revoked", "revoked_at": "2026-01-02T03:04:05Z" },
        ]});
        let table = as_table(&state);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 6, "{table}");
        assert!(
            lines[1].contains("a.example,b.example") && lines[1].contains("missing"),
            "{table}"
        );
        assert!(
            lines[2].contains("c.pem") && lines[2].contains("2027-01-01"),
            "{table}"
        );
        assert_eq!(lines[3], "a.example,b.example: no port 80");
        assert_eq!(lines[4], "d.example: no OCSP response: no answer in time");
        assert_eq!(
            lines[5],
            "e.example: REVOKED since 2026-01-02T03:04:05Z, says its issuer"
        );
        assert_eq!(as_table(&json!({})), "no certificates\n");
    }
}
