//! N+1: a page that asks for each row of a list is named with the query that does it at once; what
//! only looks like it is not.

use std::thread;
use std::time::Duration;

use outgrow_testkit::postgres::{PostgresError, Row, Session};

use super::Tier;
use super::diagnosis::{check, client, findings, wait_finding, words};
use super::run;

/// Pages of a healthy application, each with queries after a list.
const PAGES: usize = 12;

const LIST: &str = "SELECT id, total FROM orders WHERE shop = 1 ORDER BY id LIMIT 20";

/// A database with 40 orders of three items each.
fn tier() -> Option<Tier> {
    let tier = Tier::start("")?;
    let mut direct = tier.direct();
    run(
        &mut direct,
        "CREATE TABLE orders (id int PRIMARY KEY, shop int, owner int, total int); \
         INSERT INTO orders SELECT n * 7, 1, 1000 + n / 2, n % 3 FROM generate_series(1, 40) n; \
         CREATE TABLE items (order_id int, name text); \
         INSERT INTO items SELECT id, 'item' FROM orders, generate_series(1, 3)",
    );
    Some(tier)
}

/// The first column of a list.
fn ids(list: Result<Vec<Row>, PostgresError>) -> Vec<String> {
    let rows = list.expect("a list");
    let ids = rows
        .into_iter()
        .filter_map(|row| row.into_iter().next().flatten());
    ids.collect()
}

/// Shows pages until it is told.
fn show(tier: &Tier, mut page: impl FnMut()) -> serde_json::Value {
    for _ in 0..100 {
        page();
        if !findings(&tier.outgrow, "n_plus_one").is_empty() {
            break;
        }
        thread::sleep(Duration::from_millis(100));
    }
    wait_finding(&tier.outgrow, "n_plus_one")
}

/// Nothing is told after these pages.
fn is_quiet(tier: &Tier, mut page: impl FnMut(usize)) {
    for number in 0..PAGES {
        page(number);
        // A result is looked at twice a second.
        thread::sleep(Duration::from_millis(300));
    }
    let told = findings(&tier.outgrow, "n_plus_one");
    assert_eq!(told, Vec::<serde_json::Value>::new());
}

#[test]
fn a_query_for_each_row_is_named_with_the_one_for_all() {
    let Some(tier) = tier() else {
        return;
    };
    let mut session = client(&tier, "web");
    let found = show(&tier, || {
        for id in ids(session.query(LIST)) {
            let one = format!("SELECT name FROM items WHERE order_id = {id} /*route='%2Forders'*/");
            session.query(&one).expect("items");
        }
    });
    let text = "SELECT name FROM items WHERE order_id = $1";
    assert_eq!(found["statement"]["text"], text, "{found:#}");
    assert_eq!(found["origin"]["route"], "/orders", "{found:#}");
    assert_eq!(found["origin"]["application"], "web", "{found:#}");
    let expected = [
        "row after row of SELECT id, total FROM orders WHERE shop = $1 ORDER BY id LIMIT $2",
        "column id",
        "about 20 for each",
        "SELECT name FROM items WHERE order_id = ANY($1)",
        "prefetch_related",
    ];
    check(&words(&found), &expected);
}

#[test]
fn prepared_statements_with_an_aggregate_are_named_as_well() {
    let Some(tier) = tier() else {
        return;
    };
    let mut session = client(&tier, "web");
    session
        .prepare("list", "SELECT id FROM orders WHERE shop = $1")
        .expect("prepared");
    let one = "SELECT count(*) FROM items WHERE order_id = $1";
    session.prepare("one", one).expect("prepared");
    let found = show(&tier, || {
        run(&mut session, "BEGIN");
        for id in ids(session.execute("list", &[Some("1")])) {
            session.execute("one", &[Some(&id)]).expect("a number");
            // What is done for each besides does not matter.
            let total = format!("UPDATE orders SET total = 1 WHERE id = {id}");
            run(&mut session, &total);
        }
        run(&mut session, "COMMIT");
    });
    assert_eq!(found["statement"]["text"], one, "{found:#}");
    check(
        &words(&found),
        &["unnest($1)", "LATERAL", "order_id = each.value"],
    );
}

#[test]
fn what_only_looks_like_it_is_not_told() {
    let Some(tier) = tier() else {
        return;
    };
    let by_id = |session: &mut Session, id: &str| {
        let sql = "SELECT name FROM items WHERE order_id = $1";
        session.extended(sql, &[Some(id)]).expect("items");
    };
    let mut session = client(&tier, "web");
    // Independent requests over one connection, that want what a list has shown.
    is_quiet(&tier, |page| {
        let ids = ids(session.query(LIST));
        for step in 0..12 {
            by_id(&mut session, &ids[(step * 7 + page * 3) % ids.len()]);
        }
    });
    // The same again and again, which all rows have.
    is_quiet(&tier, |_| {
        session
            .query("SELECT shop, id FROM orders LIMIT 20")
            .expect("rows");
        for _ in 0..12 {
            let one = "SELECT count(*) FROM orders WHERE shop = 1";
            session.query(one).expect("a number");
        }
    });
    // A job that writes row after row.
    is_quiet(&tier, |_| {
        for id in ids(session.query(LIST)) {
            run(
                &mut session,
                &format!("UPDATE orders SET total = 2 WHERE id = {id}"),
            );
            run(
                &mut session,
                &format!("INSERT INTO items VALUES ({id}, 'more')"),
            );
        }
    });
}
