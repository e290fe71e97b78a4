//! Which index is proposed for which scan, and when none is.

use super::super::explain::{Join, Sort};
use super::super::table::{Column, Index};
use super::*;

fn column(kind: &str, distinct: f64) -> Column {
    Column {
        kind: kind.to_owned(),
        distinct: Some(distinct),
        ..Column::default()
    }
}

/// 200,000 orders of 20,000 customers.
fn orders() -> Table {
    let columns = [
        ("id", column("bigint", -1.0)),
        ("customer_id", column("bigint", 20_000.0)),
        ("status", column("text", 2.0)),
        ("kind", column("text", 2_000.0)),
        ("email", column("character varying(100)", -0.5)),
        ("total", column("numeric", -0.9)),
        ("created", column("timestamp with time zone", -1.0)),
        ("meta", column("jsonb", -1.0)),
        (
            "new",
            Column {
                kind: "text".to_owned(),
                ..Column::default()
            },
        ),
    ];
    Table {
        name: "public.orders".to_owned(),
        rows: 200_000.0,
        pages: 1_667.0,
        columns: columns
            .into_iter()
            .map(|(name, column)| (name.to_owned(), column))
            .collect(),
        indexes: vec![index("orders_pkey", &["id"])],
        immutable: ["lower".to_owned()].into(),
        page_cost: 4.0,
        ..Table::default()
    }
}

fn index(name: &str, keys: &[&str]) -> Index {
    Index {
        name: name.to_owned(),
        method: "btree".to_owned(),
        keys: keys.iter().map(|&key| key.to_owned()).collect(),
        classes: keys.iter().map(|_| "any_ops".to_owned()).collect(),
        is_valid: true,
        is_partial: false,
    }
}

fn scan(filter: &str, rows: f64) -> Scan {
    Scan {
        schema: "public".to_owned(),
        table: "orders".to_owned(),
        alias: "o".to_owned(),
        filter: (!filter.is_empty()).then(|| filter.to_owned()),
        rows,
        cost: 4_167.0,
        ..Scan::default()
    }
}

/// What is created for a scan.
#[track_caller]
fn check(scan: &Scan, table: &Table, expected: Option<&str>) {
    let advice = advise(scan, table);
    let create = advice.as_ref().and_then(|advice| advice.create.as_deref());
    let expected = expected.map(|on| format!("CREATE INDEX CONCURRENTLY ON public.orders {on};"));
    assert_eq!(create, expected.as_deref(), "{scan:?}: {advice:?}");
}

#[test]
fn the_columns_that_tell_rows_apart_come_first() {
    let filter = |filter: &str, rows, expected| check(&scan(filter, rows), &orders(), expected);
    filter("(o.customer_id = $1)", 10.0, Some("(customer_id)"));
    // Half of ten rows is not worth another column.
    filter(
        "((o.status = 'open'::text) AND (o.customer_id = $1))",
        5.0,
        Some("(customer_id)"),
    );
    filter(
        "((o.status = $1) AND (o.kind = $2))",
        50.0,
        Some("(kind, status)"),
    );
    filter(
        "((o.total > $1) AND (o.kind = $2))",
        40.0,
        Some("(kind, total)"),
    );
    filter("(o.customer_id = ANY ($1))", 100.0, Some("(customer_id)"));
    filter("(o.created > $1)", 100.0, Some("(created)"));
    filter("((o.email)::text = $1)", 2.0, Some("(email)"));
    filter(
        "(lower((o.email)::text) = $1)",
        1_000.0,
        Some("(lower((email)::text))"),
    );
    filter(
        "((o.meta ->> 'k'::text) = '1'::text)",
        1_000.0,
        Some("((meta ->> 'k'::text))"),
    );
    filter(
        "((o.email)::text ~~ 'x%'::text)",
        20.0,
        Some("(email text_pattern_ops)"),
    );
}

#[test]
fn what_would_not_help_is_not_proposed() {
    let filter = |filter: &str, rows| check(&scan(filter, rows), &orders(), None);
    filter("", 200_000.0);
    filter("(o.status = $1)", 100_000.0);
    filter("(o.kind <> $1)", 190_000.0);
    filter("(o.created > $1)", 66_667.0);
    // Without statistics nothing can be said.
    filter("(o.new = $1)", 1_000.0);
    filter("((o.customer_id = 1) OR (o.kind = 'x'::text))", 100.0);
    // Functions that depend on more than their values.
    filter("(to_char(o.created, 'x'::text) = $1)", 1_000.0);
    filter("((o.customer_id + 1) = $1)", 1_000.0);
    let mut small = orders();
    small.rows = 9_000.0;
    check(&scan("(o.customer_id = $1)", 10.0), &small, None);
    small = orders();
    small.pages = 50.0;
    check(&scan("(o.customer_id = $1)", 10.0), &small, None);
}

#[test]
fn indexes_that_are_there_are_respected() {
    let with = |index: Index, filter: &str, rows, expected: Option<&str>| {
        let mut table = orders();
        table.indexes.push(index);
        check(&scan(filter, rows), &table, expected);
    };
    let by_customer = "(o.customer_id = $1)";
    with(
        index("i", &["customer_id", "kind"]),
        by_customer,
        10.0,
        None,
    );
    with(
        index("i", &["kind", "customer_id"]),
        by_customer,
        10.0,
        Some("(customer_id)"),
    );
    with(
        index("i", &["kind", "status"]),
        "((o.status = $1) AND (o.kind = $2))",
        50.0,
        None,
    );
    with(
        index("i", &["lower((email)::text)"]),
        "(lower((o.email)::text) = $1)",
        1_000.0,
        None,
    );
    // It has some rows only: with these values it may be used or not.
    let partial = Index {
        is_partial: true,
        ..index("i", &["customer_id"])
    };
    with(partial, by_customer, 10.0, None);
    let begins = "((o.email)::text ~~ 'x%'::text)";
    with(
        index("i", &["email"]),
        begins,
        20.0,
        Some("(email text_pattern_ops)"),
    );
    let mut patterns = index("i", &["email"]);
    patterns.classes = vec!["text_pattern_ops".to_owned()];
    with(patterns, begins, 20.0, None);
    // One that was not finished.
    let mut table = orders();
    table.indexes.push(Index {
        is_valid: false,
        ..index("half", &["customer_id"])
    });
    let advice = advise(&scan(by_customer, 10.0), &table).expect("advice");
    assert_eq!(advice.create, None);
    assert!(advice.what.contains("REINDEX INDEX CONCURRENTLY half"));
}

#[test]
fn sorts_of_which_few_rows_are_wanted() {
    let sorted = |filter: &str, rows, keys: &[&str], limit| Scan {
        sort: Some(Sort {
            keys: keys.iter().map(|&key| key.to_owned()).collect(),
            limit,
        }),
        ..scan(filter, rows)
    };
    let all = 200_000.0;
    check(
        &sorted("", all, &["o.created DESC"], 10.0),
        &orders(),
        Some("(created)"),
    );
    check(
        &sorted("(o.kind = $1)", 100.0, &["o.created DESC"], 10.0),
        &orders(),
        Some("(kind, created)"),
    );
    check(
        &sorted("", all, &["o.kind", "o.created DESC"], 10.0),
        &orders(),
        Some("(kind, created DESC)"),
    );
    check(
        &sorted("", all, &["o.created DESC NULLS LAST"], 10.0),
        &orders(),
        Some("(created DESC NULLS LAST)"),
    );
    check(&sorted("", all, &["(count(*))"], 10.0), &orders(), None);
    check(&sorted("", all, &["o.created"], 150_000.0), &orders(), None);
    let mut table = orders();
    table.indexes.push(index("i", &["created"]));
    check(&sorted("", all, &["o.created DESC"], 10.0), &table, None);
}

#[test]
fn the_other_side_of_a_join_is_looked_up() {
    let joined = |other_rows| Scan {
        join: Some(Join {
            condition: "(o.customer_id = c.id)".to_owned(),
            other_rows,
        }),
        ..scan("", 200_000.0)
    };
    check(&joined(1.0), &orders(), Some("(customer_id)"));
    check(&joined(5_000.0), &orders(), None);
}

#[test]
fn other_kinds_of_index_and_other_words_are_told() {
    let advice = |filter: &str, rows| advise(&scan(filter, rows), &orders()).expect("advice");
    let inside = advice("((o.email)::text ~~ '%x%'::text)", 20.0);
    assert!(
        inside
            .create
            .expect("an index")
            .contains("USING gin (email gin_trgm_ops)")
    );
    assert!(inside.what.contains("pg_trgm"));
    let holds = advice("(o.meta @> $1)", 200.0);
    assert!(holds.create.expect("an index").contains("USING gin (meta)"));
    let converted = advice("((o.id)::numeric = 5.5)", 100.0);
    assert_eq!(converted.create, None);
    assert!(converted.why.contains("converted to numeric"));
    assert!(converted.what.contains("its own type, bigint"));
    let day = advice("((o.created)::date = CURRENT_DATE)", 100.0);
    assert!(day.what.contains("created >= the day"));
    // Too many rows look like it.
    check(
        &scan("((o.email)::text ~~ '%x%'::text)", 50_000.0),
        &orders(),
        None,
    );
}
