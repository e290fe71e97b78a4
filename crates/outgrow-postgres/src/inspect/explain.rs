//! Asking for the plan of a statement, and for what is known of the tables in it.
//!
//! The plan is that for any values: the statement's text has none (`normalised`), it is prepared as it
//! is by a message that takes one statement only, and `EXPLAIN EXECUTE` with `plan_cache_mode =
//! force_generic_plan` (since 12) plans it for whatever its parameters may be. So nothing is executed,
//! no function is evaluated for values of a client, none of these values leaves us, and a text that
//! holds more than one statement is refused. `EXPLAIN (GENERIC_PLAN)`, since 16, would give the same,
//! but not by a message that takes one statement only.

use super::connection::{Unanswered, ask, number, send, text};
use crate::diagnosis::server::explain::{self, Plan, Scan};
use crate::diagnosis::server::index;
use crate::diagnosis::server::missing::Trial;
use crate::diagnosis::server::table::{Column, Index, Table};
use crate::server::Server;
use crate::wire::{backend, frontend, read, write};

/// The name that the statement has for the moment.
const NAME: &[u8] = b"outgrow_diagnosis";
/// What it is planned in. Names are those that its user's statements see.
const BEFORE: &[u8] = b"BEGIN READ ONLY; SET LOCAL statement_timeout = 2000; \
    SET LOCAL lock_timeout = 100; SET LOCAL plan_cache_mode = force_generic_plan";
/// Most parameters of a statement that is planned.
const MOST_PARAMETERS: usize = 1_000;
/// Between the parts of a list in an answer.
const BETWEEN: char = '\u{1}';

/// The plan of a statement. None: what came is no plan.
pub(super) async fn plan(server: &mut Server, sql: &str) -> Result<Option<Plan>, Unanswered> {
    let json = explain(server, BEFORE, sql).await?;
    Ok(read_plan(json).await)
}

/// A plan may be long: the worker does other things meanwhile.
async fn read_plan(json: Vec<u8>) -> Option<Plan> {
    let read = tokio::task::spawn_blocking(move || explain::read(&json));
    read.await.ok().flatten()
}

async fn explain(server: &mut Server, before: &[u8], sql: &str) -> Result<Vec<u8>, Unanswered> {
    let mut out = Vec::new();
    write::query(&mut out, before);
    send(server, &out, |_, _| {}).await?;
    let done = explain_in(server, sql).await;
    // Whatever became of it, nothing stays.
    let mut out = Vec::new();
    if server.transaction != crate::server::transaction::NONE {
        write::query(&mut out, b"ROLLBACK");
        send(server, &out, |_, _| {}).await?;
        out.clear();
    }
    write::message(&mut out, frontend::CLOSE, |out| {
        out.push(b'S');
        out.extend_from_slice(NAME);
        out.push(0);
    });
    write::empty(&mut out, frontend::SYNC);
    send(server, &out, |_, _| {}).await?;
    done
}

async fn explain_in(server: &mut Server, sql: &str) -> Result<Vec<u8>, Unanswered> {
    let mut out = Vec::new();
    write::parse(&mut out, NAME, sql.as_bytes(), b"\0\0");
    write::describe(&mut out, b'S', NAME);
    write::empty(&mut out, frontend::SYNC);
    let mut parameters = 0;
    send(server, &out, |tag, body| {
        if tag == backend::PARAMETER_DESCRIPTION
            && let Some((count, _)) = read::short(body)
        {
            parameters = usize::try_from(count).unwrap_or_default();
        }
    })
    .await?;
    let nulls = vec!["NULL"; parameters.min(MOST_PARAMETERS)].join(", ");
    let values = if parameters > 0 {
        format!("({nulls})")
    } else {
        String::new()
    };
    let name = String::from_utf8_lossy(NAME);
    let sql = format!("EXPLAIN (VERBOSE, FORMAT JSON) EXECUTE {name}{values}");
    let mut out = Vec::new();
    write::query(&mut out, sql.as_bytes());
    let mut json = Vec::new();
    send(server, &out, |tag, body| {
        if tag == backend::DATA_ROW
            && let Some([Some(value)]) = read::columns::<1>(body)
        {
            json.extend_from_slice(value);
        }
    })
    .await?;
    Ok(json)
}

/// Tries what a statement costs with an index that is not there, by the extension hypopg.
pub(super) async fn try_index(
    server: &mut Server,
    sql: &str,
    create: &str,
) -> Result<Trial, Unanswered> {
    let mut schema = None;
    let question = "SELECT quote_ident(n.nspname) FROM pg_extension AS e \
        JOIN pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname = 'hypopg'";
    let take = |body: &[u8]| schema = read::columns::<1>(body).map(|[name]| text(name));
    ask(server, question, take).await?;
    let Some(schema) = schema else {
        return Ok(Trial::Untried);
    };
    let create = literal(&create.replace("CONCURRENTLY ", ""));
    let mut before = BEFORE.to_vec();
    let hypothetical = format!("; SELECT {schema}.hypopg_create_index({create})");
    before.extend_from_slice(hypothetical.as_bytes());
    let done = explain(server, &before, sql).await;
    // What is hypothetical stays on the connection: one that cannot forget it is of no use.
    let forget = format!("SELECT {schema}.hypopg_reset()");
    let forgotten = ask(server, &forget, |_| {}).await;
    forgotten.map_err(|_| Unanswered::Broken)?;
    let plan = read_plan(done?).await;
    let is_used = |plan: &Plan| plan.indexes.iter().any(|name| name.starts_with('<'));
    let cost = plan.filter(is_used).map(|plan| plan.cost);
    Ok(cost.map_or(Trial::Unused, Trial::Cost))
}

/// What is known of the table of a scan.
pub(super) async fn table(server: &mut Server, scan: &Scan) -> Result<Table, Unanswered> {
    let (schema, name) = (literal(&scan.schema), literal(&scan.table));
    let its_oid = format!(
        "(SELECT c.oid FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace \
         WHERE n.nspname = {schema} AND c.relname = {name})"
    );
    let calls: Vec<String> = index::calls(scan)
        .iter()
        .map(|call| literal(call))
        .collect();
    let calls = match calls.is_empty() {
        true => "NULL".to_owned(),
        false => calls.join(", "),
    };
    // Each answer has another number of columns.
    let question = format!(
        "SELECT c.oid::regclass::text, c.reltuples, c.relpages, c.relispartition, \
         current_setting('random_page_cost') FROM pg_class AS c WHERE c.oid = {its_oid}; \
         SELECT a.attname, format_type(a.atttypid, a.atttypmod), s.n_distinct, s.null_frac, \
         o.collname IN ('C', 'POSIX') OR (o.collname = 'default' AND (SELECT datcollate \
         FROM pg_database WHERE datname = current_database()) IN ('C', 'POSIX')), NULL \
         FROM pg_attribute AS a LEFT JOIN pg_collation AS o ON o.oid = a.attcollation \
         LEFT JOIN pg_stats AS s ON s.schemaname = {schema} AND s.tablename = {name} \
         AND s.attname = a.attname AND NOT s.inherited \
         WHERE a.attrelid = {its_oid} AND a.attnum > 0 AND NOT a.attisdropped; \
         SELECT i.indexrelid::regclass::text, m.amname, i.indisvalid AND i.indisready, \
         i.indpred IS NOT NULL, array_to_string(ARRAY(SELECT pg_get_indexdef(i.indexrelid, \
         place, false) FROM generate_series(1, i.indnkeyatts) AS place), E'\\x01'), \
         array_to_string(ARRAY(SELECT p.opcname FROM unnest(i.indclass) WITH ORDINALITY \
         AS u(class, place) JOIN pg_opclass AS p ON p.oid = u.class ORDER BY u.place), E'\\x01'), \
         NULL FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid \
         JOIN pg_am AS m ON m.oid = c.relam WHERE i.indrelid = {its_oid}; \
         SELECT proname FROM pg_proc WHERE proname IN ({calls}) GROUP BY proname \
         HAVING bool_and(provolatile = 'i')"
    );
    let mut table = Table::default();
    ask(server, &question, |body| note(&mut table, body)).await?;
    Ok(table)
}

/// Takes note of a row of any of the answers.
fn note(table: &mut Table, body: &[u8]) {
    let is_true = |value: Option<&[u8]>| value == Some(b"t");
    if let Some([name, rows, pages, is_partition, page_cost]) = read::columns::<5>(body) {
        table.name = text(name);
        table.rows = number(rows).unwrap_or_default();
        table.pages = number(pages).unwrap_or_default();
        table.is_partition = is_true(is_partition);
        table.page_cost = number(page_cost).unwrap_or(4.0);
    } else if let Some([name, kind, distinct, nulls, is_bytewise, _]) = read::columns::<6>(body) {
        let column = Column {
            kind: text(kind),
            distinct: number(distinct).filter(|distinct| *distinct != 0.0),
            nulls: number(nulls).unwrap_or_default(),
            is_bytewise: is_true(is_bytewise),
        };
        table.columns.insert(text(name), column);
    } else if let Some([name, method, is_valid, is_partial, keys, classes, _]) =
        read::columns::<7>(body)
    {
        let parts = |value| text(value).split(BETWEEN).map(str::to_owned).collect();
        table.indexes.push(Index {
            name: text(name),
            method: text(method),
            keys: parts(keys),
            classes: parts(classes),
            is_valid: is_true(is_valid),
            is_partial: is_true(is_partial),
        });
    } else if let Some([name]) = read::columns::<1>(body) {
        table.immutable.insert(text(name));
    }
}

/// A text as a literal, whatever the server's setting for backslashes is.
fn literal(value: &str) -> String {
    let doubled = value.replace('\'', "''");
    if doubled.contains('\\') {
        format!("E'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_hold_anything() {
        let check = |value, expected: &str| assert_eq!(literal(value), expected);
        check("orders", "'orders'");
        check("it's", "'it''s'");
        check("a\\'b", "E'a\\\\''b'");
    }
}
