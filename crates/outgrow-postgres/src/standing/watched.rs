//! What is known of a server beyond its role and position, for who may promote a replica: whether it
//! can be asked at all, whom a replica hears, and for whom commits of a primary wait.

use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use outgrow_core::Ticks;

use super::monitor::ANSWER_TIMEOUT;
use super::{Lsn, Standing};
use crate::promotion::Upstream;
use crate::server::{Broken, Server};
use crate::wire::{backend, read, write};

/// The longest answer that is taken, in bytes.
const ANSWER_LIMIT: usize = 16 * 1024;

/// What a server is asked besides, since version 11. To whom a receiver is connected, and when
/// something came from there, members of `pg_monitor` are told; others see that there is one. The
/// timeline is the newest of which anything is in the data.
const QUESTION: &[u8] = b"SELECT pg_last_wal_receive_lsn(), r.pid IS NOT NULL, \
    r.sender_host || ':' || r.sender_port, \
    (extract(epoch FROM clock_timestamp() - r.last_msg_receipt_time) * 1000)::bigint, \
    (extract(epoch FROM current_setting('wal_receiver_timeout')::interval) * 1000)::bigint, \
    current_setting('synchronous_standby_names'), greatest(r.received_tli, \
    (SELECT min_recovery_end_timeline FROM pg_control_recovery()), \
    (SELECT timeline_id FROM pg_control_checkpoint())) \
    FROM (SELECT) one LEFT JOIN pg_stat_wal_receiver r \
    ON coalesce(r.status, 'streaming') = 'streaming'";

/// What matters for a promotion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Watched {
    /// Of a replica: how far it has received the log.
    pub(crate) received: Lsn,
    /// Of a replica: the newest timeline that it has something of.
    pub(crate) timeline: u32,
    /// Whom a replica hears.
    pub(crate) upstream: Option<Upstream>,
    /// For how many standbys commits wait.
    pub(crate) synchronous: u32,
    /// Since when all attempts to ask it have failed.
    pub(crate) failing: Option<Ticks>,
    /// What it says instead of letting us in.
    pub(crate) refuses: Option<String>,
}

impl Standing {
    /// What matters for a promotion.
    pub(crate) fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It has answered.
    pub(super) fn note_word(&self) {
        let mut watched = self.watched();
        (watched.failing, watched.refuses) = (None, None);
    }

    /// It could not be asked.
    pub(super) fn note_silence(&self, now: Ticks) {
        let mut watched = self.watched();
        watched.failing.get_or_insert(now);
        watched.refuses = None;
    }

    /// It lives, and lets nobody in: for example while it starts.
    pub(super) fn note_refusal(&self, text: String) {
        let mut watched = self.watched();
        (watched.failing, watched.refuses) = (None, Some(text));
    }

    /// Takes over what it said; whether it can be asked is known by other ways.
    pub(super) fn note_watched(&self, told: Watched) {
        let mut watched = self.watched();
        let (failing, refuses) = (watched.failing, watched.refuses.take());
        *watched = Watched {
            failing,
            refuses,
            ..told
        };
    }
}

/// Asks once.
pub(super) async fn ask(server: &mut Server) -> Result<Watched, Broken> {
    let mut out = Vec::new();
    write::query(&mut out, QUESTION);
    let mut answer = None;
    let take = |tag, body: &[u8]| {
        if tag == backend::DATA_ROW {
            answer = read_row(body);
        }
    };
    let asked = server.exchange(&out, ANSWER_LIMIT, take);
    let asked = tokio::time::timeout(ANSWER_TIMEOUT, asked).await;
    asked.map_err(|_| Broken)?.map_err(|_| Broken)?;
    answer.ok_or(Broken)
}

fn read_row(body: &[u8]) -> Option<Watched> {
    let [
        received,
        is_receiving,
        from,
        silent,
        patience,
        names,
        timeline,
    ] = read::columns::<7>(body)?;
    let text = |value: Option<&[u8]>| Some(String::from_utf8_lossy(value?).into_owned());
    let millis = |value: Option<&[u8]>| {
        let millis: i64 = text(value)?.parse().ok()?;
        Some(Duration::from_millis(u64::try_from(millis).unwrap_or(0)))
    };
    let upstream = (is_receiving == Some(b"t")).then(|| Upstream {
        from: text(from),
        silent: millis(silent),
        timeout: millis(patience).unwrap_or_default(),
    });
    Some(Watched {
        received: text(received)
            .and_then(|lsn| Lsn::read(&lsn))
            .unwrap_or_default(),
        timeline: text(timeline).and_then(|one| one.parse().ok()).unwrap_or(0),
        upstream,
        synchronous: awaited(&text(names).unwrap_or_default()),
        failing: None,
        refuses: None,
    })
}

/// For how many standbys commits wait, by `synchronous_standby_names`: none, a list (for its first), or
/// `FIRST n (...)`, `ANY n (...)`, `n (...)`.
fn awaited(names: &str) -> u32 {
    let names = names.trim();
    if names.is_empty() {
        return 0;
    }
    let Some((before, _)) = names.split_once('(') else {
        return 1;
    };
    let count = before.split_whitespace().next_back();
    count.and_then(|count| count.parse().ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::HEADER_BYTES;

    #[test]
    fn for_how_many_standbys_commits_wait_is_read() {
        for (names, expected) in [
            ("", 0),
            ("  ", 0),
            ("*", 1),
            ("a, b", 1),
            ("2 (a, b, c)", 2),
            ("FIRST 3 (a)", 3),
            ("any 2(a, b)", 2),
            ("\"odd (name\"", 1),
        ] {
            assert_eq!(awaited(names), expected, "{names}");
        }
    }

    #[test]
    fn answers_are_read() {
        let row = |values: &[Option<&str>]| {
            let mut out = Vec::new();
            let values: Vec<_> = values.iter().map(|one| one.map(str::as_bytes)).collect();
            write::data_row(&mut out, values.into_iter());
            read_row(&out[HEADER_BYTES..])
        };
        let from = Some("10.0.0.1:5432");
        let told = row(&[
            Some("0/3000060"),
            Some("t"),
            from,
            Some("1500"),
            Some("60000"),
            Some(""),
            Some("2"),
        ]);
        let told = told.expect("a row");
        assert_eq!((told.received, told.timeline), (Lsn(0x0300_0060), 2));
        let upstream = told.upstream.expect("it receives");
        assert_eq!(upstream.from.as_deref(), from);
        assert_eq!(upstream.silent, Some(Duration::from_millis(1_500)));
        assert!(upstream.may_hear());
        // Nothing is told to who may not know, and nothing received.
        let hidden = row(&[None, Some("t"), None, None, Some("60000"), None, Some("1")]);
        let upstream = hidden.and_then(|one| one.upstream).expect("it receives");
        assert_eq!((upstream.from, upstream.silent), (None, None));
        let primary = row(&[None, Some("f"), None, None, Some("0"), Some("*"), Some("1")]);
        let primary = primary.expect("a row");
        assert_eq!((primary.upstream, primary.synchronous), (None, 1));
        assert_eq!(row(&[Some("t")]), None);
    }
}
