//! Getting a seat for a pool, and making room for it; and asking a server how many it has.

use std::sync::Arc;
use std::time::Duration;

use super::{Capacity, Seat, Seating};
use crate::events::{Level, Topic};
use crate::plan::{Manner, PoolPlan};
use crate::pool::Pool;
use crate::server::{Broken, Server};
use crate::wire::{backend, read, write};
use crate::worker::Worker;

/// How often who waits looks whether it is still wanted, and whether something idle is in its way.
const LOOK: Duration = Duration::from_millis(50);
/// What a server is asked: the last has been there since version 16.
const QUESTION: &[u8] = b"SELECT current_setting('max_connections'), \
    current_setting('superuser_reserved_connections'), \
    coalesce(nullif(current_setting('reserved_connections', true), ''), '0')";
/// How long the answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest answer that is taken, in bytes.
const ANSWER_LIMIT: usize = 16 * 1024;

/// A seat for one more connection of a pool, as soon as it is its turn. None when nobody wants the
/// connection any more; `is_own`: somebody does, outside of the pool's line.
pub(crate) async fn seat(
    worker: &Worker,
    pool: &Arc<Pool>,
    plan: &PoolPlan,
    seating: &Arc<Seating>,
    is_own: bool,
) -> Option<Seat> {
    let (terms, holder) = (plan.house.seats, pool.holder());
    let is_wanted = || is_own || pool.load().waiting > 0;
    if !is_wanted() {
        return seating.take(terms, &holder);
    }
    let mut place = seating.enter(terms, holder);
    loop {
        if let Ok(seat) = place.answer.try_recv() {
            return Some(seat);
        }
        if place.is_first() {
            make_room(worker, pool, seating);
        }
        match tokio::time::timeout(LOOK, &mut place.answer).await {
            Ok(seat) => return seat.ok(),
            Err(_) if is_wanted() => {}
            Err(_) => return None,
        }
    }
}

/// Has an idle connection closed of the pool that has the most, of those that owe one; among equals
/// the one that is idle for longest.
fn make_room(worker: &Worker, pool: &Arc<Pool>, seating: &Arc<Seating>) {
    let now = worker.now();
    let others = worker.shared.pools().into_iter();
    let others = others.filter(|other| !Arc::ptr_eq(other, pool));
    let owing = others.filter_map(|other| {
        let since = other.oldest_idle_at(seating)?;
        let holder = other.holder();
        let is_owed = seating.wants_idle(&holder, now.since(since));
        is_owed.then(|| (seating.held(&holder), std::cmp::Reverse(since), other))
    });
    if let Some((_, _, other)) = owing.max_by_key(|(held, since, _)| (*held, *since)) {
        other.give_up_idle(seating, now);
    }
}

/// Asks a server how many connections it takes, if nobody has asked it yet.
///
/// # Errors
/// The connection is of no use any more.
pub(crate) async fn learn(
    worker: &Worker,
    plan: &PoolPlan,
    seating: &Arc<Seating>,
    server: &mut Server,
) -> Result<(), Broken> {
    if plan.house.manner != Manner::Postgres || !seating.is_to_be_asked(worker.now()) {
        return Ok(());
    }
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, ask(server)).await;
    let capacity = answer.unwrap_or(Err(Broken));
    seating.learn(capacity.unwrap_or(None), worker.now());
    if let Ok(Some(capacity)) = capacity {
        warn(worker, plan, capacity, server.endpoint().label());
    }
    capacity.map(|_| ())
}

async fn ask(server: &mut Server) -> Result<Option<Capacity>, Broken> {
    let mut out = Vec::new();
    write::query(&mut out, QUESTION);
    let mut capacity = None;
    let take = |tag, body: &[u8]| {
        if tag == backend::DATA_ROW {
            capacity = read_row(body);
        }
    };
    server.exchange(&out, ANSWER_LIMIT, take).await?;
    Ok(capacity)
}

fn read_row(body: &[u8]) -> Option<Capacity> {
    let mut values = read::columns::<3>(body)?.into_iter();
    let mut next = || {
        std::str::from_utf8(values.next()??)
            .ok()?
            .parse::<u32>()
            .ok()
    };
    let connections = next()?;
    Some(Capacity {
        connections,
        reserved: next()?.saturating_add(next()?),
    })
}

/// Says so when more is configured than the server takes.
fn warn(worker: &Worker, plan: &PoolPlan, capacity: Capacity, address: &str) {
    let terms = plan.house.seats;
    let usual = capacity.connections.saturating_sub(capacity.reserved);
    let (size, edges) = (plan.limits.size, terms.edges.max(1));
    let (what, wanted) = if terms.most > usual {
        ("max_server_connections is", terms.most)
    } else if size.saturating_mul(edges) > usual {
        (
            "the pools of all edges may want",
            size.saturating_mul(edges),
        )
    } else {
        return;
    };
    worker.shared.say(Level::Warning, Topic::Other, &address, || {
        format!(
            "{what} {wanted}, and the server takes {usual} connections (max_connections {}, of which \
             {} are reserved): no more than those are made",
            capacity.connections, capacity.reserved
        )
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::HEADER_BYTES;

    #[test]
    fn what_a_server_takes_is_read() {
        let check = |values: &[Option<&str>], expected: Option<(u32, u32)>| {
            let mut out = Vec::new();
            let bytes = values.iter().map(|one| one.map(str::as_bytes));
            write::data_row(&mut out, bytes);
            let read = read_row(&out[HEADER_BYTES..]);
            let read = read.map(|one| (one.connections, one.reserved));
            assert_eq!(read, expected, "{values:?}");
        };
        check(&[Some("100"), Some("3"), Some("2")], Some((100, 5)));
        check(&[Some("100"), Some("3"), None], None);
        check(&[Some("-1"), Some("3"), Some("0")], None);
        check(&[Some("100")], None);
    }
}
