//! Autobahn's 517 cases of WebSockets, with limits and compression, by the runner `kosoku`: over
//! HTTP/1.1, and over HTTP/2 on both of outgrow's sides.
//!
//! The runner speaks HTTP/1.1 only, so for HTTP/2 one outgrow stands in front of another one: the first
//! opens its tunnels by extended CONNECT (RFC 8441), the second takes them. Behind both is an echo of
//! Python's `websockets`. Deliberately not here: a verdict on that; what it fails alone is explained.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::Value;

use super::target::{self, Listener, Target};
use super::{Failure, Verdict, python};
use crate::bench::process::Running;
use crate::workspace::Workspace;

/// The suite's name.
pub(super) const NAME: &str = "kosoku";

const PACKAGES: [&str; 2] = ["kosoku==0.1.0", "websockets==15.0.1"];
/// All of Autobahn's.
const CASES: usize = 517;
/// Seconds that all cases over one way may take; on two cores they take two to five minutes.
const LIMIT: &str = "1500";
const START_LIMIT: Duration = Duration::from_secs(10);

const ECHO: &str = "\
import asyncio, sys
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

async def echo(socket):
    try:
        async for message in socket:
            await socket.send(message)
    except ConnectionClosed:
        pass

async def main():
    async with serve(echo, '127.0.0.1', int(sys.argv[1]), max_size=None, ping_interval=None):
        await asyncio.Future()

asyncio.run(main())
";

const BACKENDS: &str = "the echo's own: asked directly, it closes with 1002 too";
const EXPLAINED: [(&str, &str); 2] = [("HTTP/1.1 7.1.5", BACKENDS), ("HTTP/2 7.1.5", BACKENDS)];

/// Runs all cases over both ways.
pub(super) fn run(workspace: &Workspace, outgrow: &Path) -> anyhow::Result<Verdict> {
    let folder = workspace.target.join("conform").join(NAME);
    let (one, two) = (folder.join("taker"), folder.join("opener"));
    for folder in [&one, &two] {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let programs = python::environment(&folder, NAME, &PACKAGES)?;
    let (_echo, backend) = echo(&folder, &programs)?;
    let taker = Target::start(outgrow, &one, Listener::Cleartext, backend, "")?;
    let by_http2 = "http_version = \"2\"";
    let opener = Target::start(outgrow, &two, Listener::Cleartext, taker.address, by_http2)?;
    let mut verdict = Verdict {
        explained: &EXPLAINED,
        ..Verdict::default()
    };
    for (way, target) in [("HTTP/1.1", &taker), ("HTTP/2", &opener)] {
        eprintln!("{CASES} cases over {way}");
        let reports = folder.join("reports");
        let _ = fs::remove_dir_all(&reports);
        let mut runner = Command::new("timeout");
        runner
            .arg(LIMIT)
            .arg(programs.join(NAME))
            .args(["--parallelism", "2", "--outdir"])
            .arg(&reports)
            .arg(target.address.to_string());
        let text = super::result_of(runner, &reports.join("index.json")).with_context(|| {
            let said = target.last_lines();
            format!("no end in {LIMIT} s over {way}; outgrow said: {said}")
        })?;
        read(&text, way, &mut verdict)?;
    }
    Ok(verdict)
}

fn echo(folder: &Path, programs: &Path) -> anyhow::Result<(Running, SocketAddr)> {
    let script = folder.join("echo.py");
    fs::write(&script, ECHO).with_context(|| format!("cannot write {}", script.display()))?;
    let address = target::free_port()?.local_addr()?;
    let mut command = Command::new(programs.join("python"));
    command.arg(&script).arg(address.port().to_string());
    let running = Running::spawn("the echo", command, &folder.join("echo.log"), None)?;
    let until = Instant::now() + START_LIMIT;
    while TcpStream::connect(address).is_err() {
        anyhow::ensure!(
            Instant::now() < until,
            "the echo does not listen: {}",
            running.last_lines()
        );
        thread::sleep(Duration::from_millis(20));
    }
    Ok((running, address))
}

/// Reads the runner's index of one way into the verdict.
fn read(text: &str, way: &str, verdict: &mut Verdict) -> anyhow::Result<()> {
    let index: BTreeMap<String, BTreeMap<String, Value>> =
        serde_json::from_str(text).context("the index is not of the form that is known")?;
    let mut cases = 0;
    for (case, result) in index.values().flatten() {
        cases += 1;
        let word = |key: &str| result[key].as_str().unwrap_or("nothing").to_owned();
        let (behaviour, close) = (word("behavior"), word("behaviorClose"));
        let is_fine = |word: &str| matches!(word, "OK" | "NON-STRICT" | "INFORMATIONAL");
        if is_fine(&behaviour) && is_fine(&close) {
            verdict.passed += 1;
        } else {
            verdict.failures.push(Failure {
                case: format!("{way} {case}"),
                reason: format!("{behaviour}, at the close {close}"),
            });
        }
    }
    anyhow::ensure!(
        cases == CASES,
        "{cases} of {CASES} cases were run over {way}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn index(cases: usize) -> Value {
        let fine = json!({ "behavior": "OK", "behaviorClose": "OK" });
        let cases = (0..cases).map(|number| (format!("1.1.{number}"), fine.clone()));
        json!({ "echo": cases.collect::<BTreeMap<_, _>>() })
    }

    #[test]
    fn every_case_must_be_there_and_be_fine() {
        let mut verdict = Verdict::default();
        read(&index(CASES).to_string(), "HTTP/1.1", &mut verdict).unwrap();
        assert_eq!((verdict.passed, verdict.failures.len()), (CASES, 0));
        assert!(read(&index(3).to_string(), "HTTP/1.1", &mut verdict).is_err());

        let mut index = index(CASES);
        index["echo"]["1.1.7"] = json!({ "behavior": "FAILED", "behaviorClose": "OK" });
        index["echo"]["1.1.8"] = json!({});
        let mut verdict = Verdict::default();
        read(&index.to_string(), "HTTP/2", &mut verdict).unwrap();
        let failed: Vec<_> = verdict.failures.iter().map(|one| &*one.case).collect();
        assert_eq!(failed, ["HTTP/2 1.1.7", "HTTP/2 1.1.8"]);
    }
}
