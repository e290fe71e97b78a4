//! Conditions as the server writes them.

use super::*;

fn shown(key: &Key) -> String {
    match key {
        Key::Column(column) => column.written.clone(),
        Key::Converted { column, to } => format!("{} as {to}", column.written),
        Key::Expression { text, calls, .. } => format!("[{text}] by {}", calls.join(" ")),
    }
}

#[track_caller]
fn check(filter: &str, expected: &[(&str, Test)]) {
    let found: Vec<_> = conditions(filter, "o")
        .into_iter()
        .map(|one| (shown(&one.key), one.test))
        .collect();
    let expected: Vec<_> = expected
        .iter()
        .map(|(key, test)| ((*key).to_owned(), test.clone()))
        .collect();
    assert_eq!(found, expected, "{filter}");
}

#[test]
fn comparisons_are_read() {
    check("(o.customer_id = $1)", &[("customer_id", Test::Equal)]);
    check(
        "((o.total > $2) AND (o.customer_id = $1) AND (o.status = 'and (x'::text))",
        &[
            ("total", Test::Range),
            ("customer_id", Test::Equal),
            ("status", Test::Equal),
        ],
    );
    check("o.active", &[("active", Test::Truth)]);
    check("(NOT o.active)", &[("active", Test::Truth)]);
    check("(o.active IS TRUE)", &[("active", Test::Truth)]);
    check("(o.gone IS NULL)", &[("gone", Test::Null)]);
    check("(o.gone IS NOT NULL)", &[("gone", Test::Other)]);
    check("(o.a IS DISTINCT FROM 1)", &[("a", Test::Other)]);
    check("(o.a <> 1)", &[("a", Test::Other)]);
    check(
        "(o.a = ANY ('{1,2,3}'::integer[]))",
        &[("a", Test::Member(3.0))],
    );
    check("(o.a = ANY ($1))", &[("a", Test::Member(10.0))]);
    check("(o.a <> ALL ('{1,2}'::integer[]))", &[("a", Test::Other)]);
    check("(c.id = o.customer_id)", &[("customer_id", Test::Equal)]);
    check("(c.id < o.customer_id)", &[("customer_id", Test::Range)]);
    check(
        "(o.customer_id = (SubPlan 1))",
        &[("customer_id", Test::Equal)],
    );
    check("(c.id = 5)", &[]);
    check("", &[]);
    check("(o.\"Order\" = 1)", &[("\"Order\"", Test::Equal)]);
}

#[test]
fn patterns_are_told_apart() {
    check("(o.name ~~ 'x%'::text)", &[("name", Test::Prefix)]);
    check("(o.name ~~ '%x%'::text)", &[("name", Test::Inside)]);
    check("(o.name ~~ '_x'::text)", &[("name", Test::Inside)]);
    check("(o.name ~~ 'x'::text)", &[("name", Test::Equal)]);
    check("(o.name ~~ $1)", &[("name", Test::Pattern)]);
    check("(o.name ~~* 'x%'::text)", &[("name", Test::Inside)]);
    check("(o.name ~ '^x'::text)", &[("name", Test::Inside)]);
    check("(o.name !~~ 'x%'::text)", &[("name", Test::Other)]);
    check("('x' ~~ o.name)", &[("name", Test::Other)]);
    check(
        "(o.meta @> '{\"k\": 1}'::jsonb)",
        &[("meta", Test::Holds("@>".to_owned()))],
    );
}

#[test]
fn expressions_are_kept_without_the_alias() {
    check(
        "((o.email)::text = 'x'::text)",
        &[("email as text", Test::Equal)],
    );
    check(
        "((o.email)::character varying(20) = 'x')",
        &[("email as character varying(20)", Test::Equal)],
    );
    check(
        "(lower((o.email)::text) = $1)",
        &[("[lower((email)::text)] by :: lower", Test::Equal)],
    );
    check(
        "((o.meta ->> 'k'::text) = '1'::text)",
        &[("[meta ->> 'k'::text] by ->> ::", Test::Equal)],
    );
    check("((o.a + 1) = 5)", &[("[a + 1] by +", Test::Equal)]);
    check(
        "((o.a = 1) OR (o.b = 2))",
        &[("[(a = 1) OR (b = 2)] by = OR", Test::Other)],
    );
    check("(o.a = o.b)", &[("[a = b] by =", Test::Other)]);
}

#[test]
fn sorts_are_read() {
    let check = |text, key: &str, order: &str| {
        let read = sort_key(text, "o").map(|(key, order)| (shown(&key), order));
        assert_eq!(read, Some((key.to_owned(), order.to_owned())), "{text}");
    };
    check("o.created", "created", "");
    check("o.created DESC", "created", "DESC");
    check("o.created DESC NULLS LAST", "created", "DESC NULLS LAST");
    check("(lower(o.name))", "[lower(name)] by lower", "");
    assert_eq!(sort_key("c.created", "o"), None);
    assert_eq!(sort_key("(count(*))", "o"), None);
}

#[test]
fn nonsense_is_no_condition() {
    let mut random = outgrow_core::Random::from_seed(7);
    const PIECES: [&str; 12] = [
        "(", ")", "o", ".", "a", " AND ", "=", "'x'", "::", "NOT ", " IS ", "[",
    ];
    for _ in 0..20_000 {
        let length = random.next_u64() % 12;
        let text: String = (0..length)
            .map(|_| PIECES[(random.next_u64() % 12) as usize])
            .collect();
        let _read = (conditions(&text, "o"), sort_key(&text, "o"));
    }
}
