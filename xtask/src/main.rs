//! The workshop: `cargo xtask COMMAND`, everything that is done to the code rather than by it.
//!
//! Kept to two dependencies, because every other command waits for this one to be compiled. The bench's
//! load generator is a crate of its own (`bench/load`). Deliberately not here: anything the product does.
#![expect(
    clippy::print_stdout,
    reason = "a command-line program that answers on its standard output"
)]

mod arguments;
mod bench;
mod binary;
mod command;
mod conform;
mod deny;
mod docs;
mod fuzz;
mod package;
mod postgres;
mod profiled;
mod setup;
mod soak;
mod suite;
mod tidy;
mod workspace;

use std::process::ExitCode;

use crate::arguments::Arguments;

const HELP: &str = "\
cargo xtask COMMAND

  test [FILTER…] [--allow-missing]
      Set-up, format, lints, tidy, documentation examples, end-to-end binary, tests. With a FILTER
      only the binary and the tests whose names contain it.
  tidy
      The house rules that no compiler checks: the map's tables, file openings, file lengths.
  docs
      Writes the golden files under docs/ anew and says what changed.
  deny
      Licences, advisories and sources of everything we depend on, by cargo-deny.
  bench edge [--peers nginx,haproxy,envoy,traefik] [--rounds 5] [--seconds 3]
             [--scenarios a,b] [--cores one|split] [--binary PATH | --plain] [--json]
      Ours and the peers' CPU time per request, interleaved in one run. Ours is what packages have (see
      `profiled`), or a plain release build. `bench tls`, `bench h2` (with
      Debian's h2load) and `bench l4` are the same for handshakes, streams and connections.
  bench balance [--rounds 5] [--seconds 3] [--scenarios a,b] [--binary PATH] [--json]
      Our ways of choosing an endpoint beside power of two choices, in the same way.
  bench postgres [--peers pgbouncer,pgpool] [--pgbouncer EXE] [--rounds 5] [--for 3s]
                 [--scenarios a,b] [--cores one|split] [--scale 20] [--binary PATH | --plain]
                 [--json]
      Ours and other poolers in front of one Postgres, by pgbench: CPU time per query, latency of
      clients that wait, bytes of idle ones. A scenario is also found by the beginning of its name.
  conform h1spec|h2spec|kubernetes [--suite PATH] [--binary PATH]
      A public suite against a fresh outgrow; each failure with its reason. PATH is a checkout of the
      suite, which is cloned otherwise. h1spec runs on deno (in the PATH, else by npm); h2spec is the
      one in the PATH, else built of the checkout with Debian's Go and its libraries. kubernetes
      is discovery from a real API server, and the leader lease in it: PATH is the binary of a
      kube-apiserver.
  conform pgbouncer [--suite PATH] [--binary PATH | --peer EXE] [--workers 1] [--filter EXPRESSION]
      PgBouncer's own tests against `outgrow pgbouncer`, or against another binary that is started as
      PgBouncer is. EXPRESSION is as for `pytest -k`. Needs Debian's postgresql, socat, iptables and
      python3-venv, and namespaces; takes twelve minutes with one worker.
  conform libpq-pipeline|pgproto [--suite PATH] [--binary PATH]
      Postgres' tests of pipelines, and scripts of messages for Pgpool-II's pgproto: through outgrow,
      in transaction mode, there is no difference from Postgres. PATH is an unpacked source of Postgres
      or of Pgpool-II, which is Debian's otherwise.
  conform postgres-clients [--binary PATH]
      psycopg, asyncpg, SQLAlchemy, Django, node-postgres, Sequelize, JDBC and tokio-postgres at work
      through outgrow, in transaction mode, as with Postgres itself.
  conform attacks [--only NAME,…] [--binary PATH] [--json]
      Attacks by one host (floods and slowness over HTTP/1.1, HTTP/2 and TLS, PROXY headers, datagrams):
      how long others wait without and with each, what it costs in memory and processor time, against
      its limits. Takes a quarter of an hour, on a machine that does nothing else.
  fuzz request|response|chunked|…|all [--runs 1000000]
      A fuzz target of fuzz/, with the kept corpus. Needs a nightly compiler and cargo-fuzz.
  soak edge|discover [--for T] [--binary PATH]
      edge: reloads, upgrades and killed processes under load, again and again for that time.
      discover: all registries are away for that time (5m).
  profiled [--output PATH]
      The binary that packages have: compiled for what it does most, which a first build of it counted
      over the benches' exchanges. Takes half an hour. Needs llvm-profdata and llvm-nm of the compiler
      (rustup component add llvm-tools) and what the benches need.
  package deb [--binary PATH] [--output DIR] [--try]
      The Debian package. --try installs it in a copy of this machine (needs root), runs what it
      brings, and removes it; the unit is read by systemd-analyze, the package by lintian if there is one.
";

fn main() -> ExitCode {
    let mut arguments = Arguments::new(std::env::args().skip(1));
    let outcome = match arguments.word().as_deref() {
        Some("test") => suite::run(arguments),
        Some("tidy") => tidy::run(arguments),
        Some("docs") => docs::run(arguments),
        Some("deny") => deny::run(arguments),
        Some("bench") => bench::run(arguments),
        Some("conform") => conform::run(arguments),
        Some("fuzz") => fuzz::run(arguments),
        Some("soak") => soak::run(arguments),
        Some("package") => package::run(arguments),
        Some("profiled") => profiled::run(arguments),
        Some("help" | "--help" | "-h") => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        Some(other) => {
            eprintln!("there is no command `{other}`\n\n{HELP}");
            Ok(ExitCode::from(2))
        }
        None => {
            eprint!("{HELP}");
            Ok(ExitCode::from(2))
        }
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
