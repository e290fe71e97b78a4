//! `outgrow postgres findings` and `outgrow postgres statements`: what is wrong with how the database
//! is used, and what its statements cost, for people or as JSON. All of it is from the state of a
//! running outgrow. `outgrow postgres promote` has a file of its own.

mod promote;

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use outgrow_admin::client::Verb;
use serde_json::{Value, json};

use super::ask::{AdminArgs, request};
use super::table::{self, list, text, words};
use super::{complain, print};

/// The longest text of a statement in a table, in characters.
const MOST_TEXT: usize = 100;
/// And of its routes.
const MOST_ROUTE: usize = 40;

/// What `outgrow postgres` takes.
#[derive(Debug, Subcommand)]
pub enum PostgresCommand {
    /// What is wrong with how the database is used, with evidence and what to do. Ends with 1 when
    /// something is at present.
    Findings(FindingsArgs),
    /// What statements cost, the costliest first: calls, errors, rows, and time waiting for a
    /// connection, executing, and with the client silent in a transaction after them.
    Statements(StatementsArgs),
    /// Make a replica the primary: the old one is fenced first, and when it answers queries are held
    /// and nothing is lost. Shows how it goes until it is over.
    Promote(promote::PromoteArgs),
}

/// What `outgrow postgres findings` takes.
#[derive(Debug, Args)]
pub struct FindingsArgs {
    /// One JSON list.
    #[arg(long)]
    json: bool,
    /// Those of the last hour that are over as well.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

/// What `outgrow postgres statements` takes.
#[derive(Debug, Args)]
pub struct StatementsArgs {
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// In which order.
    #[arg(long, value_enum, default_value = "time")]
    by: Order,
    /// How many, at most 100.
    #[arg(short = 'n', long, default_value = "20", value_name = "N")]
    most: usize,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Orders of statements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Order {
    /// By the time that they kept connections.
    Time,
    /// By executions.
    Calls,
    /// By what 95 of 100 executions take at most.
    P95,
    /// By the client's silence in transactions after them.
    Idle,
    /// By the wait for a connection before them.
    Wait,
}

/// Runs the command.
pub fn postgres(command: &PostgresCommand) -> ExitCode {
    match command {
        PostgresCommand::Findings(args) => findings(args),
        PostgresCommand::Statements(args) => statements(args),
        PostgresCommand::Promote(args) => promote::promote(args),
    }
}

/// The tier's part of the state.
fn tier(admin: &AdminArgs) -> Result<Value, String> {
    let text = request(admin, Verb::Get, "/state", b"")?;
    let mut state: Value = serde_json::from_str(&text)
        .map_err(|_| "the admin listener's answer is no state of an outgrow".to_owned())?;
    match state["postgres"].take() {
        Value::Null => Err("this outgrow has no [postgres]".to_owned()),
        tier => Ok(tier),
    }
}

fn findings(args: &FindingsArgs) -> ExitCode {
    let tier = match tier(&args.admin) {
        Ok(tier) => tier,
        Err(problem) => return complain(&problem),
    };
    let holds = |one: &&Value| one["holds"] == true;
    let shown: Vec<&Value> = list(&tier, "findings")
        .filter(|one| args.all || holds(one))
        .collect();
    let is_any = shown.iter().any(holds);
    print(&if args.json {
        format!("{}\n", json!(shown))
    } else {
        findings_text(&shown)
    });
    ExitCode::from(u8::from(is_any))
}

fn findings_text(findings: &[&Value]) -> String {
    if findings.is_empty() {
        return "nothing was found\n".to_owned();
    }
    let mut out = String::new();
    for one in findings {
        let name = |key: &str| one[key].as_str().map(|name| format!(" {key} {name}"));
        let about: String = ["database", "user", "server"]
            .into_iter()
            .filter_map(name)
            .collect();
        let over = if one["holds"] == true { "" } else { " (over)" };
        let _ = writeln!(
            out,
            "{}: {}{over}{about}, since {} ago",
            text(&one["severity"]).to_uppercase(),
            text(&one["kind"]),
            ago(&one["first_ms_ago"]),
        );
        let statement = &one["statement"];
        if let Some(sql) = statement["text"].as_str() {
            let _ = writeln!(
                out,
                "  statement {}: {sql}",
                text(&statement["fingerprint"])
            );
        }
        let origin = &one["origin"];
        let known = |key: &str| origin[key].as_str().map(|name| format!("{key} {name}"));
        let keys = ["action", "application", "client", "trace"];
        let route = route(origin).map(|route| format!("route {route}"));
        let from: Vec<String> = route
            .into_iter()
            .chain(keys.into_iter().filter_map(known))
            .collect();
        if !from.is_empty() {
            let _ = writeln!(out, "  from {}", from.join(", "));
        }
        for line in list(one, "evidence") {
            let _ = writeln!(out, "  - {}", text(line));
        }
        let _ = writeln!(out, "  => {}", text(&one["remedy"]));
    }
    out
}

/// The route of where something comes from; or those of which it is one, or all of which it is.
fn route(origin: &Value) -> Option<String> {
    if let Some(route) = origin["route"].as_str() {
        return Some(route.to_owned());
    }
    let routes: Vec<String> = list(origin, "routes").map(text).collect();
    let all = (!routes.is_empty()).then(|| routes.join(", "))?;
    Some(match origin["route_by"].as_str() {
        Some("one_of") => format!("one of {all}"),
        _ => all,
    })
}

fn ago(millis: &Value) -> String {
    let seconds = millis.as_u64().unwrap_or_default() / 1000;
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}min", seconds / 60),
        _ => format!("{}h", seconds / 3600),
    }
}

fn statements(args: &StatementsArgs) -> ExitCode {
    let tier = match tier(&args.admin) {
        Ok(tier) => tier,
        Err(problem) => return complain(&problem),
    };
    let told = &tier["statements"];
    let shown = ordered(told, args.by, args.most);
    print(&if args.json {
        let (known, evicted) = (&told["known"], &told["evicted"]);
        let all = json!({ "known": known, "evicted": evicted, "statements": shown });
        format!("{all}\n")
    } else {
        statements_table(&shown, told)
    });
    ExitCode::SUCCESS
}

fn ordered(told: &Value, by: Order, most: usize) -> Vec<&Value> {
    let number = |one: &Value, key: &str| one[key].as_u64().unwrap_or_default();
    let weight = |one: &Value| match by {
        Order::Time => number(one, "execute_us") + number(one, "idle_in_transaction_us"),
        Order::Calls => number(one, "calls"),
        Order::P95 => number(one, "p95_us"),
        Order::Idle => number(one, "idle_in_transaction_us"),
        Order::Wait => number(one, "wait_us"),
    };
    let mut all: Vec<&Value> = list(told, "costliest").collect();
    all.sort_by_key(|one| std::cmp::Reverse(weight(one)));
    all.truncate(most);
    all
}

fn statements_table(statements: &[&Value], told: &Value) -> String {
    if statements.is_empty() {
        return "no statement is known yet\n".to_owned();
    }
    let mut rows = vec![words(&[
        "FINGERPRINT",
        "DATABASE",
        "USER",
        "CALLS",
        "ERRORS",
        "ROWS",
        "EXECUTE",
        "MEAN",
        "P95",
        "MAX",
        "WAIT",
        "IDLE",
        "ROUTE",
        "STATEMENT",
    ])];
    for one in statements {
        let calls = one["calls"].as_u64().unwrap_or_default().max(1);
        let execute = one["execute_us"].as_u64().unwrap_or_default();
        rows.push(vec![
            text(&one["fingerprint"]),
            text(&one["database"]),
            text(&one["user"]),
            text(&one["calls"]),
            text(&one["errors"]),
            text(&one["rows"]),
            time(execute),
            time(execute / calls),
            time(one["p95_us"].as_u64().unwrap_or_default()),
            time(one["max_us"].as_u64().unwrap_or_default()),
            time(one["wait_us"].as_u64().unwrap_or_default()),
            time(one["idle_in_transaction_us"].as_u64().unwrap_or_default()),
            short(
                &route(&one["origin"]).unwrap_or_else(|| "-".to_owned()),
                MOST_ROUTE,
            ),
            short(&text(&one["text"]), MOST_TEXT),
        ]);
    }
    let mut out = String::new();
    table::write(&mut out, &rows);
    let _ = writeln!(
        out,
        "\n{} statements are known, {} made room for others",
        text(&told["known"]),
        text(&told["evicted"])
    );
    out
}

/// The start of a text.
fn short(text: &str, most: usize) -> String {
    let mut start: String = text.chars().take(most).collect();
    if start.len() < text.len() {
        start.push('…');
    }
    start
}

/// Microseconds for people.
fn time(micros: u64) -> String {
    match micros {
        0 => "-".to_owned(),
        1..1_000 => format!("{micros}us"),
        1_000..1_000_000 => format!("{:.1}ms", micros as f64 / 1e3),
        1_000_000..120_000_000 => format!("{:.1}s", micros as f64 / 1e6),
        _ => format!("{:.0}min", micros as f64 / 6e7),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_told_with_what_to_do() {
        let finding = json!({
            "kind": "n_plus_one", "severity": "warning", "holds": true, "database": "shop",
            "user": "web", "server": null,
            "statement": { "fingerprint": "00000000000000ab", "text": "SELECT $1" },
            "origin": { "route": "/orders", "application": "web", "client": null },
            "evidence": ["5 statements for 5 rows"], "remedy": "batch them",
            "first_ms_ago": 150_000, "last_ms_ago": 10, "times": 3,
        });
        let expected = "\
WARNING: n_plus_one database shop user web, since 2min ago
  statement 00000000000000ab: SELECT $1
  from route /orders, application web
  - 5 statements for 5 rows
  => batch them
";
        assert_eq!(findings_text(&[&finding]), expected);
        assert_eq!(findings_text(&[]), "nothing was found\n");
    }

    #[test]
    fn statements_are_a_table() {
        let one = |text: &str, calls: u64, execute: u64| {
            json!({
                "fingerprint": "00000000000000ab", "text": text, "database": "shop", "user": "web",
                "calls": calls, "errors": 0, "rows": 12, "wait_us": 0, "execute_us": execute,
                "idle_in_transaction_us": 0, "p95_us": 1500, "max_us": 2_000_000,
                "origin": { "route": null, "routes": ["GET /a", "GET /b"], "route_by": "one_of" },
            })
        };
        let told = json!({
            "known": 2, "evicted": 0,
            "costliest": [one("SELECT 1", 4, 4000), one("SELECT 2", 9, 900)],
        });
        let order = |by| -> Vec<String> {
            let all = ordered(&told, by, 10);
            all.into_iter().map(|one| text(&one["text"])).collect()
        };
        assert_eq!(order(Order::Time), ["SELECT 1", "SELECT 2"]);
        assert_eq!(order(Order::Calls), ["SELECT 2", "SELECT 1"]);
        let expected = "\
FINGERPRINT       DATABASE  USER  CALLS  ERRORS  ROWS  EXECUTE  MEAN   P95    MAX   WAIT  IDLE  ROUTE                  STATEMENT
00000000000000ab  shop      web   4      0       12    4.0ms    1.0ms  1.5ms  2.0s  -     -     one of GET /a, GET /b  SELECT 1

2 statements are known, 0 made room for others
";
        assert_eq!(
            statements_table(&ordered(&told, Order::Time, 1), &told),
            expected
        );
        assert_eq!(statements_table(&[], &told), "no statement is known yet\n");
    }
}
