//! What the server is asked for the diagnosis: locks and old transactions are named with who has
//! them and what to do; where nothing is wrong nothing is found.

use std::time::Duration;

use outgrow_testkit::outgrow::Outgrow;
use outgrow_testkit::postgres::{Session, message::query};
use serde_json::Value;

use super::{Tier, backend, run, value};
use crate::checks::is_there;
use crate::shop::{SOON, try_state};

const ASKING: &str = "[postgres.diagnosis]\ninterval = \"1s\"\nlock_wait = \"1s\"\n\
    long_transaction = \"2s\"\n";

/// The settings of the tier with these of the diagnosis behind them.
fn tier(settings: &str) -> Option<Tier> {
    Tier::start(&format!("{settings}\n{ASKING}"))
}

/// The findings of a kind that hold.
pub(super) fn findings(outgrow: &Outgrow, kind: &str) -> Vec<Value> {
    let state = try_state(outgrow).unwrap_or_default();
    let all = state["postgres"]["findings"].as_array().cloned();
    let mut all = all.unwrap_or_default();
    all.retain(|one| one["kind"] == kind && one["holds"] == true);
    all
}

/// Waits for a finding of a kind of which this is true.
pub(super) fn wait_finding(
    outgrow: &Outgrow,
    kind: &str,
    limit: Duration,
    is_it: impl Fn(&Value) -> bool,
) -> Value {
    let found = outgrow.wait(kind, limit, |outgrow| {
        findings(outgrow, kind).into_iter().find(|one| is_it(one))
    });
    found.unwrap_or_else(|error| {
        let all = findings(outgrow, kind);
        panic!("{error}; {all:?}; outgrow: {}", outgrow.stderr())
    })
}

/// All evidence and the remedy in one text.
pub(super) fn told(finding: &Value) -> String {
    let lines = finding["evidence"].as_array().cloned().unwrap_or_default();
    let lines: Vec<&str> = lines.iter().filter_map(Value::as_str).collect();
    let remedy = finding["remedy"].as_str().unwrap_or_default();
    format!("{}\n{remedy}", lines.join("\n"))
}

#[track_caller]
pub(super) fn says(finding: &Value, parts: &[&str]) {
    let told = told(finding);
    for part in parts {
        assert!(told.contains(part), "{part:?} is not in: {told}");
    }
}

fn named(tier: &Tier, application: &str) -> Session {
    let start = [
        ("user", "postgres"),
        ("database", "postgres"),
        ("application_name", application),
    ];
    Session::start(tier.address(), &start).expect("let in")
}

#[test]
fn who_keeps_others_waiting_is_named() {
    let Some(tier) = tier("pool_size = 2") else {
        return;
    };
    let mut direct = tier.direct();
    run(
        &mut direct,
        "CREATE TABLE orders (id int PRIMARY KEY, total int); INSERT INTO orders VALUES (7, 0)",
    );
    let mut holder = named(&tier, "forgetful");
    run(
        &mut holder,
        "BEGIN; UPDATE orders SET total = 1 WHERE id = 7",
    );
    let process = backend(&mut holder);
    let address = holder.stream().local_addr().expect("an address");
    // Both connections of the pool are stuck now, which keeps nobody from asking.
    let mut other = named(&tier, "patient");
    let wanted = "UPDATE orders SET total = total + 1 WHERE id = 7";
    other.send(&query(wanted)).expect("sent");
    let found = wait_finding(&tier.outgrow, "lock_wait", SOON, |_| true);
    says(
        &found,
        &[
            "for a row of public.orders",
            "is idle in transaction for",
            "with RowExclusiveLock on public.orders",
            &format!("behind process {process}: client"),
            &address.to_string(),
            "application forgetful",
            "application patient: UPDATE orders SET total = total + $1 WHERE id = $2",
            &format!("pg_terminate_backend({process})"),
            "idle_transaction",
        ],
    );
    assert_eq!(found["statement"]["text"], "SELECT pg_backend_pid()");
    assert_eq!(found["origin"]["application"], "forgetful");
    assert_eq!(found["database"], "postgres");
    // Nobody says it any more once the lock is gone.
    run(&mut holder, "COMMIT");
    other.until_ready().expect("it goes on");
    wait_finding(&tier.outgrow, "lock_wait", SOON, |one| {
        one["last_ms_ago"].as_u64() > Some(4_000)
    });
}

#[test]
fn old_transactions_are_named_also_those_of_others() {
    let Some(tier) = tier("pool_size = 2") else {
        return;
    };
    let mut direct = tier.direct();
    run(
        &mut direct,
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1",
    );
    let process = backend(&mut direct);
    let mut client = named(&tier, "report");
    run(&mut client, "BEGIN; SELECT 2");
    let of =
        |process: String| move |one: &Value| told(one).contains(&format!("process {process} "));
    let found = wait_finding(&tier.outgrow, "long_transaction", SOON, of(process));
    says(
        &found,
        &[
            "idle in transaction",
            "not come through this pool",
            "cannot be cleaned up",
        ],
    );
    let process = value(&mut client, "SELECT pg_backend_pid()");
    let found = wait_finding(&tier.outgrow, "long_transaction", SOON, of(process));
    says(
        &found,
        &[
            "behind process",
            "application report",
            "pg_terminate_backend",
        ],
    );
}

#[test]
fn deadlocks_are_told() {
    let Some(tier) = tier("pool_size = 4") else {
        return;
    };
    let mut direct = tier.direct();
    run(
        &mut direct,
        "CREATE TABLE pair (id int); INSERT INTO pair VALUES (1), (2)",
    );
    let mut watcher = tier.client();
    run(&mut watcher, "SELECT 1");
    // What is counted before the first look is of before.
    std::thread::sleep(Duration::from_millis(2_500));
    let (mut one, mut other) = (tier.client(), tier.client());
    run(&mut one, "BEGIN; UPDATE pair SET id = id WHERE id = 1");
    run(&mut other, "BEGIN; UPDATE pair SET id = id WHERE id = 2");
    one.send(&query("UPDATE pair SET id = id WHERE id = 2"))
        .expect("sent");
    other
        .send(&query("UPDATE pair SET id = id WHERE id = 1"))
        .expect("sent");
    // The server ends one of them.
    let answers = [one.answer(), other.answer()];
    let ended = answers.iter().filter(|answer| answer.is_err()).count();
    assert_eq!(ended, 1, "{answers:?}");
    drop((one, other));
    let found = wait_finding(&tier.outgrow, "deadlock", 4 * SOON, |_| true);
    says(&found, &["40P01", "same order"]);
}

/// The user of a pool often may not see what others do: that is said, once, and what can be said
/// without is.
#[test]
fn what_may_not_be_seen_is_said() {
    let Some(tier) = tier("pool_size = 2\n[postgres.user.app]") else {
        return;
    };
    let mut direct = tier.direct();
    run(
        &mut direct,
        "CREATE ROLE app LOGIN; CREATE TABLE orders (id int); INSERT INTO orders VALUES (7); \
         GRANT ALL ON orders TO app",
    );
    let process = backend(&mut direct);
    run(&mut direct, "BEGIN; UPDATE orders SET id = 8");
    let start = [("user", "app"), ("database", "postgres")];
    let mut client = Session::start(tier.address(), &start).expect("let in");
    client
        .send(&query("UPDATE orders SET id = 9"))
        .expect("sent");
    let found = wait_finding(&tier.outgrow, "lock_wait", SOON, |_| true);
    says(
        &found,
        &["may not see", &format!("process {process} (user postgres")],
    );
    let said = tier.outgrow.stderr();
    assert_eq!(said.matches("GRANT pg_monitor TO app").count(), 1, "{said}");
    run(&mut direct, "COMMIT");
    client.answer().expect("it goes on");
}

#[test]
fn where_nothing_is_wrong_nothing_is_found() {
    let Some(tier) = tier("pool_size = 2") else {
        return;
    };
    let mut direct = tier.direct();
    run(
        &mut direct,
        "CREATE TABLE accounts (id int PRIMARY KEY, balance int); \
         INSERT INTO accounts SELECT one, 0 FROM generate_series(1, 50000) AS one; \
         ANALYZE accounts",
    );
    std::thread::scope(|scope| {
        for user in 0..4 {
            let mut client = tier.client();
            scope.spawn(move || {
                let end = std::time::Instant::now() + Duration::from_secs(5);
                let mut number = user;
                while std::time::Instant::now() < end {
                    number = (number * 7919 + 13) % 50_000 + 1;
                    run(&mut client, &format!(
                        "BEGIN; UPDATE accounts SET balance = balance + 1 WHERE id = {number}; COMMIT"
                    ));
                    value(&mut client, &format!("SELECT balance FROM accounts WHERE id = {number}"));
                }
            });
        }
    });
    for kind in [
        "lock_wait",
        "long_transaction",
        "deadlock",
        "missing_index",
        "replica_lag",
        "cold_cache",
    ] {
        let found = findings(&tier.outgrow, kind);
        assert!(found.is_empty(), "{found:?}");
    }
    let said = tier.outgrow.stderr();
    assert!(!said.contains("refused an answer"), "{said}");
    // It was asked all the while, on one connection.
    let asking = value(
        &mut direct,
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'outgrow diagnosis'",
    );
    assert_eq!(asking, "1");
}

/// A table of 200,000 orders whose rows of a customer nobody can find by an index.
fn orders(tier: &Tier) {
    run(
        &mut tier.direct(),
        "CREATE TABLE customers (id bigint PRIMARY KEY, email text, meta jsonb); \
         CREATE TABLE orders (id bigserial PRIMARY KEY, customer_id bigint, status text, \
         created timestamptz DEFAULT now()); \
         INSERT INTO customers SELECT one, 'c' || one || '@x.org', '{}' \
         FROM generate_series(1, 50000) AS one; \
         INSERT INTO orders (customer_id, status) SELECT one % 20000, 'paid' \
         FROM generate_series(1, 200000) AS one; ANALYZE",
    );
}

/// The finding whose statement begins like this.
fn about(text: &'static str) -> impl Fn(&Value) -> bool {
    move |one| {
        one["statement"]["text"]
            .as_str()
            .is_some_and(|all| all.starts_with(text))
    }
}

const EXPLAINING: &str = "[postgres.diagnosis]\ninterval = \"1s\"\nexplain_interval = \"1s\"\n";

#[test]
fn a_missing_index_is_named_and_proposed() {
    let Some(tier) = Tier::start(&format!("pool_size = 2\n{EXPLAINING}")) else {
        return;
    };
    orders(&tier);
    let mut client = named(&tier, "shop");
    for number in 0..20 {
        let sql = format!("SELECT id FROM orders WHERE customer_id = {number} AND status = 'paid'");
        run(&mut client, &sql);
        let parameter = number.to_string();
        let rows = client.extended(
            "UPDATE orders SET status = 'open' WHERE customer_id = $1::bigint",
            &[Some(&parameter)],
        );
        rows.expect("changed");
        run(
            &mut client,
            "SELECT id FROM orders ORDER BY created DESC LIMIT 5",
        );
        run(
            &mut client,
            "SELECT id FROM customers WHERE lower(email) = 'c5@x.org'",
        );
        run(
            &mut client,
            "SELECT id FROM customers WHERE email LIKE '%5@x%' LIMIT 3",
        );
        run(
            &mut client,
            &format!(
                "SELECT count(*) FROM customers c JOIN orders o ON o.customer_id = c.id \
             WHERE c.id BETWEEN {number} AND {number} + 1"
            ),
        );
        // All of these are as they should be.
        run(
            &mut client,
            &format!("SELECT * FROM orders WHERE id = {number}"),
        );
        run(&mut client, "SELECT count(*) FROM orders");
        run(
            &mut client,
            "SELECT count(*) FROM orders WHERE status = 'paid'",
        );
    }
    let wait = |text| wait_finding(&tier.outgrow, "missing_index", 2 * SOON, about(text));
    let found = wait("SELECT id FROM orders WHERE customer_id");
    says(&found, &["hypopg is not installed"]);
    says(
        &found,
        &[
            "reads all 200,000 rows",
            "of public.orders for about 10",
            "no index is on what it looks for: customer_id = …",
            "CREATE INDEX CONCURRENTLY ON public.orders (customer_id);",
            "10 rows each",
        ],
    );
    assert_eq!(found["user"], "postgres");
    let by_customer = "CREATE INDEX CONCURRENTLY ON public.orders (customer_id);";
    says(&wait("UPDATE orders"), &[by_customer]);
    let by_time = "CREATE INDEX CONCURRENTLY ON public.orders (created);";
    says(
        &wait("SELECT id FROM orders ORDER BY"),
        &[by_time, "of which 5 are wanted"],
    );
    let by_email = "CREATE INDEX CONCURRENTLY ON public.customers (lower(email));";
    says(&wait("SELECT id FROM customers WHERE lower"), &[by_email]);
    // Nothing that is proposed is what the server refuses, or has no use for.
    let mut direct = tier.direct();
    for sql in [by_customer, by_time, by_email] {
        run(&mut direct, sql);
    }
    for finding in findings(&tier.outgrow, "missing_index") {
        let text = finding["statement"]["text"].as_str().expect("a text");
        let is_good = text.contains("orders WHERE id") || text.contains("count(*) FROM orders");
        assert!(!is_good, "{finding}");
    }
}

/// Where hypopg is there, an index is tried before it is proposed.
#[test]
fn an_index_is_tried_where_it_can_be() {
    let Some(tier) = Tier::start(&format!("pool_size = 2\n{EXPLAINING}")) else {
        return;
    };
    orders(&tier);
    let mut direct = tier.direct();
    let available = "SELECT count(*) FROM pg_available_extensions WHERE name = 'hypopg'";
    let is_available = value(&mut direct, available) != "0";
    if !is_there(is_available, "postgresql-15-hypopg (or of your version)") {
        return;
    }
    run(
        &mut direct,
        "CREATE SCHEMA \"Odd\"; CREATE EXTENSION hypopg SCHEMA \"Odd\"",
    );
    let mut client = named(&tier, "shop");
    for number in 0..20 {
        let sql = format!("SELECT id FROM orders WHERE customer_id = {number}");
        run(&mut client, &sql);
    }
    let is_it = about("SELECT id FROM orders WHERE customer_id");
    let found = wait_finding(&tier.outgrow, "missing_index", SOON, is_it);
    says(
        &found,
        &[
            "with it (hypopg)",
            "CREATE INDEX CONCURRENTLY ON public.orders (customer_id);",
        ],
    );
    // Nothing of it stays.
    let indexes = "SELECT count(*) FROM pg_indexes WHERE tablename = 'orders'";
    assert_eq!(value(&mut direct, indexes), "1");
}

/// What a statement would do is not done for its plan.
#[test]
fn plans_execute_nothing() {
    let Some(tier) = Tier::start(&format!("pool_size = 2\n{EXPLAINING}")) else {
        return;
    };
    orders(&tier);
    run(
        &mut tier.direct(),
        "CREATE TABLE called (id int); CREATE FUNCTION touch(bigint) RETURNS bigint \
         LANGUAGE plpgsql AS 'BEGIN INSERT INTO called VALUES (1); RETURN $1; END'",
    );
    let mut client = named(&tier, "shop");
    for number in 0..5 {
        run(
            &mut client,
            &format!("SELECT touch(id) FROM orders WHERE customer_id = {number}"),
        );
        run(
            &mut client,
            &format!("DELETE FROM orders WHERE customer_id = {}", number + 100),
        );
        run(
            &mut client,
            &format!("SELECT pg_sleep(0.01); DELETE FROM called WHERE id = {number}"),
        );
    }
    let before = value(&mut client, "SELECT count(*) FROM called");
    let rows = value(&mut client, "SELECT count(*) FROM orders");
    wait_finding(&tier.outgrow, "missing_index", SOON, about("SELECT touch"));
    wait_finding(
        &tier.outgrow,
        "missing_index",
        SOON,
        about("DELETE FROM orders"),
    );
    assert_eq!(value(&mut client, "SELECT count(*) FROM called"), before);
    assert_eq!(value(&mut client, "SELECT count(*) FROM orders"), rows);
}
