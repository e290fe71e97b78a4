//! Asks a server from time to time, and at once when somebody waits for it, what it is and how far
//! it has come. One connection of its own, outside of the pools.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use outgrow_net::Transport;
use outgrow_upstream::{Endpoint, Service};
use tokio::sync::Notify;

use super::{Lsn, Report};
use crate::seen::ServerEntry;
use crate::server::open::{self, Making};
use crate::server::{Broken, Server};
use crate::wire::frame::{self, Frame, HEADER_BYTES};
use crate::wire::{backend, read, write};
use crate::worker::Worker;

/// What a server is asked. Every user may ask it, on every version since 10. Which timeline a replica
/// follows is told at once to members of `pg_monitor` only; to others with its next restart point.
const QUESTION: &[u8] = b"SELECT pg_is_in_recovery(), \
    CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() \
    ELSE pg_current_wal_insert_lsn() END, \
    CASE WHEN pg_is_in_recovery() THEN coalesce((SELECT received_tli FROM pg_stat_wal_receiver), \
    (SELECT timeline_id FROM pg_control_checkpoint())) ELSE \
    ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int END";

/// The longest answer that is taken, in bytes.
const ANSWER_LIMIT: usize = 16 * 1024;

/// How long an answer may take.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Wakes the monitor of a server before its time.
#[derive(Debug, Default)]
pub(crate) struct Alarm(Notify);

impl Alarm {
    /// Somebody waits for the server to come further.
    pub(crate) fn ring(&self) {
        self.0.notify_one();
    }

    /// Until it rings, at most for `limit`.
    pub(crate) async fn wait(&self, limit: Duration) {
        let _ = tokio::time::timeout(limit, self.0.notified()).await;
    }
}

/// Asks once.
pub(crate) async fn ask(server: &mut Server) -> Result<Report, Broken> {
    let mut out = Vec::new();
    write::query(&mut out, QUESTION);
    server.socket.write_all(&out).await.map_err(|_| Broken)?;
    let mut input: Vec<u8> = Vec::new();
    let mut report = None;
    loop {
        while let Frame::Whole(header) = frame::look(&input).map_err(|_| Broken)? {
            let body = &input[HEADER_BYTES..header.whole()];
            match header.tag {
                backend::DATA_ROW => report = read_row(body),
                backend::READY_FOR_QUERY => return report.ok_or(Broken),
                backend::ERROR_RESPONSE => return Err(Broken),
                _ => {}
            }
            input.drain(..header.whole());
        }
        if input.len() > ANSWER_LIMIT {
            return Err(Broken);
        }
        let mut buffer = [0; 1024];
        match poll_fn(|cx| server.socket.poll_read(cx, &mut buffer)).await {
            Ok(0) | Err(_) => return Err(Broken),
            Ok(count) => input.extend_from_slice(&buffer[..count]),
        }
    }
}

fn read_row(body: &[u8]) -> Option<Report> {
    let (count, mut rest) = read::short(body)?;
    if count != 3 {
        return None;
    }
    let mut next = || {
        let (length, after) = read::number(rest)?;
        let length = usize::try_from(length).ok()?;
        let value = std::str::from_utf8(after.get(..length)?).ok()?;
        rest = &after[length..];
        Some(value)
    };
    let is_replica = next()? == "t";
    let lsn = Lsn::read(next()?)?;
    let timeline: i64 = next()?.parse().ok()?;
    Some(Report {
        is_replica,
        lsn,
        timeline: u32::try_from(timeline).ok()?,
    })
}

/// How often a server is asked without being waited for.
const INTERVAL: Duration = Duration::from_millis(500);
/// After an attempt that failed.
const RETRY: Duration = Duration::from_secs(1);

/// Asks a server for as long as it belongs to its service, and pools lead there.
pub(crate) async fn run(worker: Arc<Worker>, service: Arc<Service>, endpoint: Arc<Endpoint>) {
    let standing = worker.shared.standings.of(&endpoint);
    let is_known = || {
        let set = service.endpoints().load();
        set.all.iter().any(|known| known.id() == endpoint.id())
    };
    while is_known() {
        let opened = tokio::time::timeout(CONNECT, connect(&worker, &service, &endpoint)).await;
        let Ok(Some(mut server)) = opened else {
            tokio::time::sleep(RETRY).await;
            continue;
        };
        while is_known() {
            let asked = worker.now();
            let answer = tokio::time::timeout(ANSWER_TIMEOUT, ask(&mut server)).await;
            let Ok(Ok(report)) = answer else { break };
            let all = service.endpoints().load();
            worker
                .shared
                .standings
                .note(&endpoint, &all.all, report, asked);
            standing.alarm.wait(INTERVAL).await;
        }
    }
}

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);

/// A connection with the login of any pool that leads there.
async fn connect(
    worker: &Arc<Worker>,
    service: &Arc<Service>,
    endpoint: &Arc<Endpoint>,
) -> Option<Server> {
    let (plan, credential) = worker.shared.any_login(service)?;
    let making = Making {
        entry: ServerEntry::new(
            &worker.shared,
            &plan.server_database.as_str().into(),
            &plan.server_user.as_str().into(),
            None,
        ),
        plan: &plan,
        credential,
        permit: endpoint.permit()?,
        shares: Vec::new(),
        generation: 0,
        parameters: Vec::new(),
        standing: worker.shared.standings.of(endpoint),
        now: worker.now(),
    };
    let (server, _) = open::open(making).await.ok()?;
    Some(server)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[Option<&str>]) -> Vec<u8> {
        let mut out = Vec::new();
        let values: Vec<_> = values.iter().map(|one| one.map(str::as_bytes)).collect();
        write::data_row(&mut out, values.into_iter());
        out[HEADER_BYTES..].to_vec()
    }

    #[test]
    fn answers_are_read() {
        let read = |values: &[Option<&str>]| read_row(&row(values));
        assert_eq!(
            read(&[Some("t"), Some("0/3000060"), Some("2")]),
            Some(Report {
                is_replica: true,
                lsn: Lsn(0x0300_0060),
                timeline: 2,
            })
        );
        assert!(read(&[Some("f"), Some("0/1"), Some("1")]).is_some());
        assert_eq!(read(&[Some("t"), None, Some("1")]), None);
        assert_eq!(read(&[Some("t"), Some("x"), Some("1")]), None);
        assert_eq!(read(&[Some("t")]), None);
        assert_eq!(read_row(b""), None);
    }
}
