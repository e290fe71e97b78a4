//! Asking a server for a user's secret (`auth_query`), on a connection of a pool of its own user.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use outgrow_net::Transport;
use tokio::sync::oneshot;

use crate::events::{Level, Topic};
use crate::login::auth_query::{Answer, Reader};
use crate::problem::Refusal;
use crate::server::{Server, transaction};
use crate::wire::frame::{self, Frame, HEADER_BYTES};
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
    let now = worker.now();
    let server = match pool.try_lend(now) {
        Some(server) => server,
        None => {
            let mut place = pool.enter(now);
            worker.grow(&pool);
            let lent = poll_fn(|cx| Pin::new(&mut place.answer).poll(cx)).await;
            lent.map_err(|_| None)?.map_err(Some)?
        }
    };
    let mut lease = crate::lease::Lease::new(server, &pool, worker);
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
    let gone = || "the server ended the connection".to_owned();
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
    server.socket.write_all(&out).await.map_err(|_| gone())?;
    let mut reader = Some(Reader::new(user));
    let mut problem = None;
    let mut input: Vec<u8> = Vec::new();
    loop {
        while let Frame::Whole(header) = frame::look(&input).map_err(|_| gone())? {
            let body = &input[HEADER_BYTES..header.whole()];
            let read = match (header.tag, &mut reader) {
                (backend::ROW_DESCRIPTION, Some(reader)) => reader.description(body),
                (backend::DATA_ROW, Some(reader)) => reader.row(body),
                (backend::ERROR_RESPONSE, _) => {
                    let said = read::Problem::read(body);
                    let said = String::from_utf8_lossy(said.message);
                    problem.get_or_insert(format!("error in auth_query: ERROR: {said}"));
                    Ok(())
                }
                (backend::READY_FOR_QUERY, _) => {
                    server.transaction = *body.first().ok_or_else(gone)?;
                    let answer = reader.take().map(Reader::end).ok_or_else(gone)?;
                    return problem.map_or(Ok(answer), Err);
                }
                _ => Ok(()),
            };
            if let Err(error) = read {
                problem.get_or_insert(error.to_string());
            }
            input.drain(..header.whole());
        }
        if input.len() > ANSWER_LIMIT {
            return Err("auth_query answers too much".to_owned());
        }
        let mut buffer = [0; 4096];
        match poll_fn(|cx| server.socket.poll_read(cx, &mut buffer)).await {
            Ok(0) | Err(_) => return Err(gone()),
            Ok(count) => input.extend_from_slice(&buffer[..count]),
        }
    }
}
