//! A connection of ours outside of the pools, and questions on it that leave nothing behind.

use std::sync::Arc;
use std::time::Duration;

use outgrow_upstream::Endpoint;

use crate::login::Credential;
use crate::plan::PoolPlan;
use crate::seats::Holder;
use crate::seen::ServerEntry;
use crate::server::open::{self, Failure, Making};
use crate::server::{Server, transaction};
use crate::wire::{backend, read, write};
use crate::worker::Worker;

/// The longest message of an answer that is taken, in bytes.
const ANSWER_LIMIT: usize = 512 * 1024;
/// How long a question may take until its connection is given up: more than the server gives it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// What every question runs in. The server ends what takes long or waits for a lock, nothing is
/// changed, and nothing of ours stays if the server is itself a pool.
const BEFORE: &str = "BEGIN READ ONLY; SET LOCAL statement_timeout = 2000; \
    SET LOCAL lock_timeout = 100; ";
/// Names in questions of ours are the server's own, whatever a user has defined.
const NAMES: &str = "SET LOCAL search_path = pg_catalog; ";
const AFTER: &str = "; ROLLBACK";

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// The connection is of no use any more.
    Broken,
    /// The server refused: SQLSTATE and text.
    Refused(String, String),
}

/// How long a connection may take to be made, the wait for room not counted.
pub(crate) const CONNECT: Duration = Duration::from_secs(5);

/// Why there is no connection.
#[derive(Clone, Debug)]
pub(crate) enum Unmade {
    /// There is no room for it.
    NoRoom,
    /// The endpoint is not to be used at the moment.
    Unusable,
    /// It was tried.
    Failed(Failure),
}

/// What becomes of a connection for which there is no room on the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// It is not made.
    None,
    /// It is waited for, as by a pool.
    Some,
}

/// A connection with this login, outside of the pools.
pub(crate) async fn connect(
    worker: &Arc<Worker>,
    plan: &PoolPlan,
    credential: Credential,
    endpoint: &Arc<Endpoint>,
    application: Option<&str>,
    patience: Patience,
) -> Result<Server, Unmade> {
    let permit = endpoint.permit().ok_or(match endpoint.is_usable() {
        true => Unmade::NoRoom,
        false => Unmade::Unusable,
    })?;
    let seating = worker.shared.seats.of(endpoint.label());
    let (terms, holder) = (plan.house.seats, Holder::default());
    let seat = match patience {
        Patience::None => seating.take(terms, &holder).ok_or(Unmade::NoRoom)?,
        Patience::Some => {
            let mut place = seating.enter(terms, holder);
            (&mut place.answer).await.map_err(|_| Unmade::NoRoom)?
        }
    };
    let named = application.map(|name| ("application_name".to_owned(), name.to_owned()));
    let making = Making {
        entry: ServerEntry::new(
            &worker.shared,
            &plan.server_database.as_str().into(),
            &plan.server_user.as_str().into(),
            None,
        ),
        plan,
        credential,
        permit,
        shares: Vec::new(),
        seat: Some(seat),
        generation: 0,
        worker: worker.index,
        parameters: named.into_iter().collect(),
        standing: worker.shared.standings.of(endpoint),
        now: worker.now(),
    };
    let opened = tokio::time::timeout(CONNECT, open::open(making)).await;
    let (server, _) = opened
        .unwrap_or(Err(Failure::Broken("it takes too long to connect")))
        .map_err(Unmade::Failed)?;
    Ok(server)
}

/// Asks something of the server's own views: gives the bodies of the rows.
pub(crate) async fn ask(
    server: &mut Server,
    question: &str,
    mut row: impl FnMut(&[u8]),
) -> Result<(), Unanswered> {
    let sql = format!("{BEFORE}{NAMES}{question}{AFTER}");
    let mut out = Vec::new();
    write::query(&mut out, sql.as_bytes());
    send(server, &out, |tag, body| {
        if tag == backend::DATA_ROW {
            row(body);
        }
    })
    .await
}

/// Sends messages of ours up to ReadyForQuery, gives what is answered by tag and body, and ends the
/// transaction that is open after a refusal.
pub(crate) async fn send(
    server: &mut Server,
    messages: &[u8],
    mut take: impl FnMut(u8, &[u8]),
) -> Result<(), Unanswered> {
    let mut refused = None;
    exchange(server, messages, |tag, body| {
        if tag == backend::ERROR_RESPONSE {
            let problem = read::Problem::read(body);
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            refused.get_or_insert((text(problem.code), text(problem.message)));
        }
        take(tag, body);
    })
    .await?;
    if server.transaction == transaction::FAILED {
        let mut out = Vec::new();
        write::query(&mut out, b"ROLLBACK");
        exchange(server, &out, |_, _| {}).await?;
    }
    match refused {
        None => Ok(()),
        Some((code, text)) => Err(Unanswered::Refused(code, text)),
    }
}

async fn exchange(
    server: &mut Server,
    messages: &[u8],
    take: impl FnMut(u8, &[u8]),
) -> Result<(), Unanswered> {
    let exchange = server.exchange(messages, ANSWER_LIMIT, take);
    let done = tokio::time::timeout(ANSWER_TIMEOUT, exchange).await;
    match done {
        Ok(Ok(true)) => Ok(()),
        _ => Err(Unanswered::Broken),
    }
}

/// A text of a row.
pub(super) fn text(value: Option<&[u8]>) -> String {
    String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
}

/// A number of a row; none for a null and for what is none.
pub(super) fn number<N: std::str::FromStr>(value: Option<&[u8]>) -> Option<N> {
    std::str::from_utf8(value?).ok()?.parse().ok()
}

/// A time of a row in milliseconds; those of the future are zero.
pub(super) fn millis(value: Option<&[u8]>) -> Option<Duration> {
    let millis: i64 = number(value)?;
    Some(Duration::from_millis(millis.max(0) as u64))
}
