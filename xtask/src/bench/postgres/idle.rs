//! Memory of clients that do nothing, from /proc.
//!
//! Counted is the proportional set size: pages that several processes share are counted once. What the
//! kernel holds for each socket is the same for all contestants, and not in it.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use anyhow::Context;

use super::scenario::IDLE;
use crate::bench::cpu;
use crate::command;
use crate::postgres::wire::Client;

/// Bytes per client of the processes under `process`: each client has logged in and done one query.
pub(crate) fn measure(address: SocketAddr, process: u32) -> anyhow::Result<f64> {
    let mut limit = Command::new("prlimit");
    let descriptors = IDLE + 4_096;
    limit.arg(format!("--nofile={descriptors}"));
    limit.args(["--pid", &std::process::id().to_string()]);
    command::output(&mut limit).context("more descriptors are not allowed")?;
    let before = tree_bytes(process)?;
    let mut clients = Vec::with_capacity(IDLE);
    for number in 0..IDLE {
        let connected = Client::connect(address, "postgres", "postgres").and_then(|mut client| {
            client.run("SELECT 1")?;
            Ok(client)
        });
        clients.push(connected.with_context(|| format!("client {number}"))?);
    }
    let after = tree_bytes(process)?;
    // They are all still served.
    for client in clients.iter_mut().step_by(IDLE / 10) {
        client.run("SELECT 1").context("an idle client")?;
    }
    Ok(after.saturating_sub(before) as f64 / IDLE as f64)
}

/// The proportional set size of the tree under `root`.
fn tree_bytes(root: u32) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for process in cpu::tree(root)? {
        let path = format!("/proc/{process}/smaps_rollup");
        // It may have ended since it was listed.
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        bytes += read_pss(&text).with_context(|| format!("{path} is not as known"))?;
    }
    Ok(bytes)
}

/// `Pss:  1234 kB`
fn read_pss(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read() {
        let text = "Rss:   9 kB\nPss:    7 kB\nPss_Anon:  5 kB\n";
        assert_eq!(read_pss(text), Some(7 * 1024));
        assert!(tree_bytes(std::process::id()).unwrap() > 0);
    }
}
