//! How much of what statements want is in a server's memory.

use std::sync::Arc;

use super::connection::{Unanswered, ask, number, text};
use crate::diagnosis::server::buffers::{Reading, Relation};
use crate::pool::Pool;
use crate::server::Server;
use crate::wire::read;

/// Bytes of a page.
const PAGE: u64 = 8_192;
/// Tables and indexes that are named.
const NAMED: usize = 5;

/// What is counted now, at the server and through the pools of its database that lead there.
pub(super) async fn reading(
    server: &mut Server,
    pools: &[Arc<Pool>],
) -> Result<Option<Reading>, Unanswered> {
    const QUESTION: &str = "SELECT (extract(epoch FROM pg_postmaster_start_time()) * 1000)::bigint, \
        blks_read, blks_hit FROM pg_stat_database WHERE datname = current_database()";
    let mut counted = None;
    ask(server, QUESTION, |body| {
        if let Some([started, reads, hits]) = read::columns::<3>(body) {
            counted = number(started).zip(number(reads)).zip(number(hits));
        }
    })
    .await?;
    let of_primary = || pools.iter().filter(|pool| pool.endpoint.is_none());
    Ok(counted.map(|((started, reads), hits)| Reading {
        started,
        reads,
        hits,
        queries: of_primary().map(|pool| pool.numbers.queries.get()).sum(),
        query_micros: of_primary()
            .map(|pool| pool.numbers.query_micros.get())
            .sum(),
    }))
}

/// The tables and indexes that are used most, since the server counts.
pub(super) async fn hottest(server: &mut Server) -> Result<Vec<Relation>, Unanswered> {
    let question = format!(
        "SELECT c.oid::regclass::text, c.relpages FROM (SELECT relid, \
         heap_blks_read + heap_blks_hit AS used FROM pg_statio_user_tables \
         UNION ALL SELECT indexrelid, idx_blks_read + idx_blks_hit \
         FROM pg_statio_user_indexes) AS s JOIN pg_class AS c ON c.oid = s.relid \
         WHERE s.used > 0 ORDER BY s.used DESC LIMIT {NAMED}"
    );
    let mut relations = Vec::new();
    ask(server, &question, |body| {
        if let Some([name, pages]) = read::columns::<2>(body) {
            relations.push(Relation {
                name: text(name),
                bytes: number(pages).unwrap_or(0) * PAGE,
            });
        }
    })
    .await?;
    Ok(relations)
}
