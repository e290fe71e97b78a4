//! The shared connection itself: says what is to be said, reads what is notified.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use outgrow_core::Ticks;
use outgrow_net::Transport;

use super::Fences;
use super::board::Batch;
use crate::making;
use crate::pool::Pool;
use crate::problem::{CONNECTION, Refusal, SHUTDOWN};
use crate::seen::ServerState;
use crate::server::Server;
use crate::standing::Role;
use crate::wire::frame::{self, Frame, HEADER_BYTES};
use crate::wire::{backend, read, write};
use crate::worker::Worker;

/// How long a connection may take to be made: for so long clients wait with their `LISTEN`.
const OPEN_LIMIT: Duration = Duration::from_secs(5);
/// How long the server may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// How often it is looked whether the connection is still the one that is wanted.
const LOOK: Duration = Duration::from_secs(1);
/// After how long without a word the server is asked for one: a connection that died unnoticed would
/// otherwise be believed for ever.
const PROBE: Duration = Duration::from_secs(30);
/// How long the connection is kept when nobody listens.
const LINGER: Duration = Duration::from_secs(10);
/// The longest message that is taken: payloads have 8,000 bytes at most, errors are short.
const MESSAGE_LIMIT: usize = 64 * 1024;
/// What is read at a time.
const READ: usize = 16 * 1024;
/// After so many clients were told, others get their turn.
const TELL_AT_ONCE: u64 = 4_096;

/// What the connection calls itself at the server.
const APPLICATION: &str = "outgrow: LISTEN for its clients";

/// Makes sure that nobody waits for a task that has ended, whatever ended it.
struct Running {
    pool: Arc<Pool>,
    refusal: Refusal,
    failed: Option<Ticks>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.pool.hub.end(&self.refusal, self.failed);
    }
}

/// Runs the shared connection of a pool for as long as somebody listens.
pub(super) async fn run(worker: Arc<Worker>, pool: Arc<Pool>) {
    let mut running = Running {
        pool: Arc::clone(&pool),
        refusal: lost("was lost"),
        failed: None,
    };
    let opened = tokio::time::timeout(OPEN_LIMIT, open(&worker, &pool)).await;
    let Ok(Some(mut server)) = opened else {
        running.failed = Some(worker.now());
        return;
    };
    match serve(&worker, &pool, &mut server).await {
        None => server.close("nobody listens"),
        Some(refusal) => {
            pool.numbers.listening_lost.add(1);
            server.entry.reason.clone_from(&refusal.message);
            running.refusal = refusal;
        }
    }
}

fn lost(how: &str) -> Refusal {
    let message = format!("the connection that listens {how}: notifications may have been missed");
    Refusal::new(CONNECTION, message)
}

async fn open(worker: &Arc<Worker>, pool: &Arc<Pool>) -> Option<Box<Server>> {
    let encoding = pool.hub.lock().encoding.to_string();
    let parameters = vec![
        ("client_encoding".to_owned(), encoding),
        ("application_name".to_owned(), APPLICATION.to_owned()),
    ];
    let (server, _) = making::make_own(worker, pool, parameters).await.ok()?;
    server.entry.seen.set_state(ServerState::Active);
    Some(server)
}

/// What was said, until it is answered.
struct Said {
    batch: Batch,
    fences: Fences,
    at: Ticks,
    has_failed: bool,
}

/// Serves those who listen. Gives why they are ended; none when there are none any more.
async fn serve(worker: &Arc<Worker>, pool: &Arc<Pool>, server: &mut Server) -> Option<Refusal> {
    let hub = &pool.hub;
    let mut said: Option<Said> = None;
    let mut input = Vec::new();
    let mut buffer = vec![0; READ];
    let mut heard_at = worker.now();
    let mut unused_since = None;
    loop {
        let now = worker.now();
        if said.is_none() {
            let next = hub.next();
            let probes = now.since(heard_at) >= PROBE;
            if let Some((batch, fences)) = next.or(probes.then(Default::default)) {
                let mut out = Vec::new();
                write::query(&mut out, &batch.sql);
                let written = server.socket.write_all(&out);
                let written = tokio::time::timeout(ANSWER_LIMIT, written).await;
                said = Some(Said {
                    batch,
                    fences,
                    at: now,
                    has_failed: false,
                });
                if !matches!(written, Ok(Ok(()))) {
                    return Some(lost("was lost"));
                }
            }
        }
        tokio::select! {
            read = poll_fn(|cx| server.socket.poll_read(cx, &mut buffer)) => {
                let count = read.unwrap_or(0);
                if count == 0 {
                    return Some(lost("was lost"));
                }
                input.extend_from_slice(&buffer[..count]);
                heard_at = worker.now();
                if !take(pool, server, &mut input, &mut said).await {
                    return Some(lost("makes no sense"));
                }
            }
            () = hub.changed.notified(), if said.is_none() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
        let now = worker.now();
        if said
            .as_ref()
            .is_some_and(|said| now.since(said.at) >= ANSWER_LIMIT)
        {
            return Some(lost("does not answer"));
        }
        if let Some(refusal) = is_over(pool, server) {
            return Some(refusal);
        }
        let is_unused = said.is_none() && hub.counts().channels == 0;
        unused_since = if is_unused {
            unused_since.or(Some(now))
        } else {
            None
        };
        let lingers = unused_since.is_some_and(|since| now.since(since) < LINGER);
        if is_unused && !lingers && hub.stop_unused() {
            return None;
        }
    }
}

/// Why the connection is of no use any more although it works.
fn is_over(pool: &Pool, server: &Server) -> Option<Refusal> {
    if server
        .standing
        .role()
        .is_some_and(|role| role != Role::Primary)
    {
        return Some(lost("does not lead to the primary any more"));
    }
    if !server.endpoint().is_at(&server.place) {
        // Those who notify are at the new one.
        return Some(lost("leads to an address that its name has no more"));
    }
    if server.generation != pool.generation() || server.entry.seen.is_over() {
        return Some(Refusal::new(SHUTDOWN, "database configuration changed"));
    }
    None
}

/// Takes what has come; false when it makes no sense.
async fn take(pool: &Pool, server: &Server, input: &mut Vec<u8>, said: &mut Option<Said>) -> bool {
    let limit = pool.plan().house.notifications.backlog;
    let (mut start, mut told) = (0, 0);
    loop {
        let header = match frame::look(&input[start..]) {
            Err(_) => return false,
            Ok(Frame::Partial(header)) if header.whole() > MESSAGE_LIMIT => return false,
            Ok(Frame::Whole(header)) => header,
            Ok(_) => break,
        };
        let body = &input[start + HEADER_BYTES..start + header.whole()];
        start += header.whole();
        match header.tag {
            backend::NOTIFICATION_RESPONSE => {
                let Some((process, rest)) = read::number(body) else {
                    return false;
                };
                let Some((channel, rest)) = read::text(rest) else {
                    return false;
                };
                let Some((payload, _)) = read::text(rest) else {
                    return false;
                };
                let process = process.cast_unsigned();
                let (count, overflows) = pool.hub.deliver(process, channel, payload, limit);
                pool.numbers.notification_overflows.add(overflows);
                told += count;
            }
            backend::ERROR_RESPONSE => match said {
                Some(said) if !read::Problem::read(body).is_fatal() => said.has_failed = true,
                _ => return false,
            },
            backend::READY_FOR_QUERY => {
                let Some(said) = said.take() else {
                    return false;
                };
                pool.hub.answered(said.batch, !said.has_failed);
                for (number, ear) in said.fences {
                    ear.set_fenced(number);
                }
            }
            backend::PARAMETER_STATUS
                if read::setting(body).is_some_and(|(name, _)| name == "in_hot_standby") =>
            {
                server.standing.alarm.ring();
            }
            _ => {}
        }
        if told >= TELL_AT_ONCE {
            told = 0;
            tokio::task::yield_now().await;
        }
    }
    input.drain(..start);
    true
}
