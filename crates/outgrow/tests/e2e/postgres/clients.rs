//! Real drivers at work with fifty sessions on five connections: what they print is what they print
//! with Postgres itself.
//!
//! The programs are those of `cargo xtask conform postgres-clients`, which has more of them.

use std::{net::SocketAddr, path::Path, process::Command};

use super::{Tier, modes::connections, run};
use crate::apps::{From, install};

/// The connections that sessions share.
const POOL: u32 = 5;

/// What a program prints.
fn play(program: &mut Command, address: SocketAddr) -> String {
    let output = program
        .args([&address.ip().to_string(), &address.port().to_string()])
        .arg("client")
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let problem = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{problem}");
    assert!(said.lines().count() > 5, "it does nothing: {said}");
    said
}

fn compare(mut program: impl FnMut(&Path) -> Command, name: &str, text: &str) {
    let Some(tier) = Tier::start(&format!("pool_size = {POOL}")) else {
        return;
    };
    let file = tier.outgrow.folder().join(name);
    std::fs::write(&file, text).expect("written");
    let mut direct = tier.direct();
    let mut played = [tier.database.address(), tier.address()].map(|address| {
        run(&mut direct, "DROP DATABASE IF EXISTS client WITH (FORCE)");
        run(&mut direct, "CREATE DATABASE client");
        play(&mut program(&file), address)
    });
    // One more listens for all of them, and one asks the server what the diagnosis wants to know.
    let open = connections(&mut direct);
    assert!(open <= POOL + 2, "{open} connections");
    let [expected, seen] = &mut played;
    assert_eq!(seen, expected);
}

fn python(name: &str, package: &str, text: &str) {
    let Some(library) = install(name, From::PyPi, &[package]) else {
        return;
    };
    let program = |file: &Path| {
        let mut python = Command::new("python3");
        python.arg(file).env("PYTHONPATH", &library);
        python
    };
    compare(program, "client.py", text);
}

#[test]
fn psycopg_is_served_as_by_postgres() {
    let text = include_str!("../../../../../xtask/src/conform/postgres/clients/psycopg_3.py");
    python("psycopg", "psycopg[binary]==3.3.9", text);
}

#[test]
fn asyncpg_is_served_as_by_postgres() {
    let text = include_str!("../../../../../xtask/src/conform/postgres/clients/asyncpg_.py");
    python("asyncpg", "asyncpg==0.32.0", text);
}

#[test]
fn node_postgres_is_served_as_by_postgres() {
    let text = include_str!("../../../../../xtask/src/conform/postgres/clients/node_postgres.js");
    let Some(library) = install("node-postgres", From::Npm, &["pg@8.23.1"]) else {
        return;
    };
    let program = |file: &Path| {
        let mut node = Command::new("node");
        node.arg("--no-deprecation").arg(file);
        node.env("NODE_PATH", library.join("node_modules"));
        node
    };
    compare(program, "client.js", text);
}
