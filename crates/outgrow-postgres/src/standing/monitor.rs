//! Asks a server from time to time, and at once when somebody waits for it, what it is and how far
//! it has come. One connection of its own, outside of the pools.

use std::sync::Arc;
use std::time::Duration;

use outgrow_upstream::{Endpoint, Service};
use tokio::sync::Notify;

use super::{Lsn, Report, Standing, watched};
use crate::inspect::connection::{self, CONNECT, Patience, Unmade};
use crate::server::open::Failure;
use crate::server::{Broken, Server};
use crate::wire::{backend, read, write};
use crate::worker::Worker;

/// What a server is asked. Every user may ask it, on every version since 10. Which timeline a replica
/// follows is told at once to members of `pg_monitor` only; to others with its next restart point. The
/// last one a primary answers as well, if it was promoted since it was started.
const QUESTION: &[u8] = b"SELECT pg_is_in_recovery(), \
    CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() \
    ELSE pg_current_wal_insert_lsn() END, \
    CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, \
    pg_size_bytes(current_setting('wal_segment_size')), current_setting('wal_block_size'), \
    CASE WHEN pg_is_in_recovery() THEN coalesce((SELECT received_tli FROM pg_stat_wal_receiver), \
    (SELECT timeline_id FROM pg_control_checkpoint())) ELSE \
    ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int END, \
    pg_last_wal_replay_lsn()";

/// Bytes of the header of a page of the log, and of the first page of a segment
/// (`SizeOfXLogShortPHD`, `SizeOfXLogLongPHD`).
const PAGE_HEADER: u64 = 24;
const SEGMENT_HEADER: u64 = 40;

/// How far a primary has come: where the next record is inserted, so that records count that are not
/// written yet (`synchronous_commit = off`). Where that is the first of a page it is behind the page's
/// header, which no replica ever replays alone.
fn position(inserted: Lsn, written: Lsn, segment: u64, page: u64) -> Lsn {
    let is_start_of = |size: u64| size > 0 && written.0.is_multiple_of(size);
    let header = match inserted.since(written) {
        PAGE_HEADER => is_start_of(page) && !is_start_of(segment),
        SEGMENT_HEADER => is_start_of(segment),
        _ => false,
    };
    if header { written } else { inserted }
}

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
    // Before the question: all of them are in the log by then.
    let ended = server.standing.ended();
    let mut out = Vec::new();
    write::query(&mut out, QUESTION);
    let (mut report, mut failed) = (None, false);
    let take = |tag, body: &[u8]| match tag {
        backend::DATA_ROW => report = read_row(body, ended),
        backend::ERROR_RESPONSE => failed = true,
        _ => {}
    };
    server.exchange(&out, ANSWER_LIMIT, take).await?;
    report.filter(|_| !failed).ok_or(Broken)
}

fn read_row(body: &[u8], ended: u64) -> Option<Report> {
    let mut values = read::columns::<7>(body)?.into_iter();
    let mut next = || std::str::from_utf8(values.next()??).ok();
    let is_replica = next()? == "t";
    let inserted = Lsn::read(next()?)?;
    let written = Lsn::read(next()?)?;
    let (segment, page) = (next()?.parse().ok()?, next()?.parse().ok()?);
    let timeline: i64 = next()?.parse().ok()?;
    Some(Report {
        is_replica,
        lsn: position(inserted, written, segment, page),
        timeline: u32::try_from(timeline).ok()?,
        recovered: next().and_then(Lsn::read).filter(|_| !is_replica),
        ended,
    })
}

/// How often a server is asked without being waited for.
const INTERVAL: Duration = Duration::from_millis(500);
/// After an attempt that failed: the pause, and that much more unless somebody waits.
const PAUSE: Duration = Duration::from_millis(200);
const RETRY: Duration = Duration::from_millis(800);

/// Asks a server for as long as it belongs to its service, and somebody can log in there.
pub(crate) async fn run(worker: Arc<Worker>, service: Arc<Service>, endpoint: Arc<Endpoint>) {
    let standing = worker.shared.standings.of(&endpoint);
    let is_known = || {
        let set = service.endpoints().load();
        set.all.iter().any(|known| known.id() == endpoint.id())
    };
    while is_known() {
        let opened = tokio::time::timeout(CONNECT * 2, connect(&worker, &service, &endpoint)).await;
        let mut server = match opened {
            Ok(Ok(server)) => server,
            opened => {
                note(&standing, &worker, opened.unwrap_or(Err(Unmade::NoRoom)));
                // Who waits for a server that is gone must not have it asked without end.
                tokio::time::sleep(PAUSE).await;
                standing.alarm.wait(RETRY).await;
                continue;
            }
        };
        while is_known() {
            let asked = worker.now();
            let answer = tokio::time::timeout(ANSWER_TIMEOUT, ask(&mut server)).await;
            let Ok(Ok(report)) = answer else {
                standing.note_silence(worker.now());
                break;
            };
            let is_watched = worker
                .shared
                .plan
                .load()
                .promotions
                .contains_key(service.name());
            if is_watched {
                let Ok(watched) = watched::ask(&mut server).await else {
                    standing.note_silence(worker.now());
                    break;
                };
                standing.note_watched(watched);
            }
            let all = service.endpoints().load();
            worker
                .shared
                .note_report(&endpoint, &all.all, report, asked);
            standing.alarm.wait(INTERVAL).await;
        }
    }
}

/// Takes note of why there is no connection.
fn note(standing: &Standing, worker: &Worker, opened: Result<Server, Unmade>) {
    match opened {
        Err(Unmade::Failed(Failure::Refused(refusal))) => {
            standing.note_refusal(refusal.message.into_owned());
        }
        Err(Unmade::Failed(Failure::Login(text))) => standing.note_refusal(text),
        Err(Unmade::Failed(_) | Unmade::Unusable) => standing.note_silence(worker.now()),
        Ok(_) | Err(Unmade::NoRoom) => {}
    }
}

/// A connection with the login of who promotes, or of any pool that leads there.
async fn connect(
    worker: &Arc<Worker>,
    service: &Arc<Service>,
    endpoint: &Arc<Endpoint>,
) -> Result<Server, Unmade> {
    let own = worker.shared.promotion_login(service.name());
    let Some((plan, credential)) = own.or_else(|| worker.shared.any_login(service)) else {
        return Err(Unmade::NoRoom);
    };
    connection::connect(worker, &plan, credential, endpoint, None, Patience::Some).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::HEADER_BYTES;

    fn row(values: &[Option<&str>]) -> Vec<u8> {
        let mut out = Vec::new();
        let values: Vec<_> = values.iter().map(|one| one.map(str::as_bytes)).collect();
        write::data_row(&mut out, values.into_iter());
        out[HEADER_BYTES..].to_vec()
    }

    #[test]
    fn headers_of_pages_are_no_records() {
        let check = |inserted, written, expected| {
            let position = position(Lsn(inserted), Lsn(written), 16 << 20, 8192);
            assert_eq!(position, Lsn(expected), "{inserted:x} {written:x}");
        };
        check(0x0400_0028, 0x0400_0000, 0x0400_0000);
        check(0x0400_2018, 0x0400_2000, 0x0400_2000);
        check(0x0400_0018, 0x0400_0000, 0x0400_0018);
        check(0x0400_2028, 0x0400_2000, 0x0400_2028);
        check(0x0400_1018, 0x0400_1000, 0x0400_1018);
        check(0x0400_0100, 0x0400_0100, 0x0400_0100);
        check(0x0400_0200, 0x0400_0100, 0x0400_0200);
    }

    #[test]
    fn answers_are_read() {
        let read = |values: &[Option<&str>]| read_row(&row(values), 7);
        let answer = |is_replica, lsn, timeline| {
            let lsn = Some(lsn);
            let (segment, page) = (Some("16777216"), Some("8192"));
            let timeline = Some(timeline);
            read(&[Some(is_replica), lsn, lsn, segment, page, timeline, lsn])
        };
        assert_eq!(
            answer("t", "0/3000060", "2"),
            Some(Report {
                is_replica: true,
                lsn: Lsn(0x0300_0060),
                timeline: 2,
                recovered: None,
                ended: 7,
            })
        );
        let promoted = answer("f", "0/1", "1").and_then(|report| report.recovered);
        assert_eq!(promoted, Some(Lsn(1)));
        assert_eq!(answer("t", "x", "1"), None);
        assert_eq!(answer("t", "0/1", "-1"), None);
        assert_eq!(read(&[Some("t")]), None);
        assert_eq!(read_row(b"", 0), None);
    }
}
