//! Asking a server for a user's secret (`auth_query`), on a connection of a pool of its own user.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::events::{Level, Topic};
use crate::lease::Lease;
use crate::login::auth_query::{Answer, Reader};
use crate::problem::Refusal;
use crate::server::{Cut, Server, transaction};
use crate::wire::{backend, frontend, read, write};
use crate::worker::Worker;

/// How long an answer may take, the wait for a connection included.
const LIMIT: Duration = Duration::from_secs(15);
/// The longest answer that is taken, in bytes: a secret has up to 64 KiB.
const ANSWER_LIMIT: usize = 256 * 1024;

/// A question about a user.
#[derive(Debug)]
pub(crate) struct Ask {
    /// The database in which it is asked.
    pub(crate) database: Arc<str>,
    /// The user who asks.
    pub(crate) asker: Arc<str>,
    pub(crate) query: String,
    /// The user who is asked about.
    pub(crate) user: String,
    /// The answer, or what clients are told that wait for the same pool, where that is why there is
    /// none.
    pub(crate) answer: oneshot::Sender<Result<Answer, Option<Refusal>>>,
}

/// Answers a question, on the worker that owns the pool.
pub(crate) async fn run(worker: Arc<Worker>, ask: Ask) {
    let asked = tokio::time::timeout(LIMIT, answer(&worker, &ask)).await;
    let result = asked.unwrap_or(Err(None));
    let _ = ask.answer.send(result);
}

async fn answer(worker: &Arc<Worker>, ask: &Ask) -> Result<Answer, Option<Refusal>> {
    let pool = worker.pool(&ask.database, &ask.asker).ok_or(None)?;
    worker.learn_credential(&pool, None);
    let mut lease = Lease::of_ours(&pool, worker).await?;
    let Some(server) = lease.server() else {
        return Err(None);
    };
    let answer = query(server, &ask.query, &ask.user).await;
    if let Err(problem) = &answer {
        server.entry.reason = "error response from auth_query".into();
        server
            .entry
            .say(Level::Error, Topic::Other, || problem.clone());
    }
    if server.transaction == transaction::NONE && answer.is_ok() {
        lease.give_back();
    }
    answer.map_err(|_| None)
}

async fn query(server: &mut Server, sql: &str, user: &str) -> Result<Answer, String> {
    let mut out = Vec::new();
    write::parse(&mut out, b"", sql.as_bytes(), b"\0\0");
    write::message(&mut out, frontend::BIND, |out| {
        out.extend_from_slice(b"\0\0\0\0\0\x01");
        out.extend_from_slice(&(user.len() as u32).to_be_bytes());
        out.extend_from_slice(user.as_bytes());
        out.extend_from_slice(b"\0\0");
    });
    write::describe(&mut out, b'P', b"");
    write::message(&mut out, frontend::EXECUTE, |out| {
        out.extend_from_slice(b"\0\0\0\0\0");
    });
    write::empty(&mut out, frontend::SYNC);
    let mut reader = Reader::new(user);
    let mut problem: Option<String> = None;
    let take = |tag, body: &[u8]| {
        let read = match tag {
            backend::ROW_DESCRIPTION => reader.description(body),
            backend::DATA_ROW => reader.row(body),
            backend::ERROR_RESPONSE => {
                let said = read::Problem::read(body);
                let said = String::from_utf8_lossy(said.message);
                problem.get_or_insert(format!("error in auth_query: ERROR: {said}"));
                Ok(())
            }
            _ => Ok(()),
        };
        if let Err(error) = read {
            problem.get_or_insert(error.to_string());
        }
    };
    let exchanged = server.exchange(&out, ANSWER_LIMIT, take).await;
    exchanged.map_err(|cut| match cut {
        Cut::Ended => "the server ended the connection".to_owned(),
        Cut::TooMuch => "auth_query answers too much".to_owned(),
    })?;
    problem.map_or(Ok(reader.end()), Err)
}
