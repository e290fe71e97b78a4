//! What telling statements apart costs. Measured, so only on demand:
//! `cargo test --profile e2e -p outgrow-postgres --test sql -- --ignored --nocapture cost`

use std::hint::black_box;
use std::time::Instant;

use outgrow_core::Random;
use outgrow_postgres::sql::cache::Cache;
use outgrow_postgres::sql::catalogue::{Builder, Catalogue, Limits};
use outgrow_postgres::sql::facts::Facts;
use outgrow_postgres::sql::fingerprint::{Identity, Secret, fingerprint};
use outgrow_postgres::sql::read_only::{Verdict, examine, prove};
use outgrow_postgres::sql::{Lexer, Lexing};

/// What a server of version 15 has to begin with.
const STOCK: &str = include_str!("../../src/sql/catalogue/stock_15.tsv");

/// What a primary-key lookup looks like, in pgbench and elsewhere.
const KEY: &str = "SELECT abalance FROM pgbench_accounts WHERE aid = 4711;";

/// What Django asks for a list of orders with their customers.
const ORM: &str = r#"SELECT "shop_order"."id", "shop_order"."number", "shop_order"."created_at", "shop_order"."state", "shop_order"."total", "shop_order"."currency", "shop_order"."customer_id", "shop_customer"."id", "shop_customer"."name", "shop_customer"."email", "shop_customer"."created_at" FROM "shop_order" INNER JOIN "shop_customer" ON ("shop_order"."customer_id" = "shop_customer"."id") LEFT OUTER JOIN "shop_region" ON ("shop_customer"."region_id" = "shop_region"."id") WHERE ("shop_order"."state" IN ('open', 'paid') AND "shop_order"."total" > 100.00 AND UPPER("shop_customer"."name"::text) LIKE UPPER('%a%')) ORDER BY "shop_order"."created_at" DESC LIMIT 21"#;

pub(crate) fn stock() -> Catalogue {
    let mut builder = Builder::new(Limits::default());
    for line in STOCK.lines() {
        let (kind, name) = line.split_once('\t').expect("two columns");
        builder.row(kind.as_bytes(), name.as_bytes());
    }
    builder.finish()
}

/// The least of several measurements: what it costs when nothing else runs.
fn nanos<T>(mut work: impl FnMut() -> T) -> f64 {
    const ROUNDS: u32 = 500;
    let mut least = f64::MAX;
    for _ in 0..1000 {
        let began = Instant::now();
        for _ in 0..ROUNDS {
            black_box(work());
        }
        least = least.min(began.elapsed().as_secs_f64() * 1e9 / f64::from(ROUNDS));
    }
    least
}

#[test]
#[ignore = "measures, and means something only with optimisation and an idle machine"]
fn nanoseconds_for_each_statement() {
    let catalogue = stock();
    let lexing = Lexing::default();
    let mut random = Random::from_seed(1);
    let secret = Secret::new(|| random.next_u64());
    let mut cache = Cache::new(1 << 20, secret.clone());
    for (name, text) in [("primary key", KEY), ("ORM", ORM)] {
        let text = text.as_bytes();
        assert_eq!(prove(text, lexing, &catalogue), Verdict::ReadOnly, "{name}");
        println!(
            "{name}: {} bytes, {} tokens",
            text.len(),
            Lexer::new(text, lexing).count()
        );
        let costs = [
            (
                "lexer",
                nanos(|| Lexer::new(black_box(text), lexing).count()),
            ),
            (
                "identity",
                nanos(|| Identity::of(black_box(text), lexing, &secret)),
            ),
            (
                "fingerprint",
                nanos(|| fingerprint(black_box(text), lexing)),
            ),
            ("facts", nanos(|| Facts::of(black_box(text), lexing))),
            (
                "proof",
                nanos(|| prove(black_box(text), lexing, &catalogue)),
            ),
            (
                "both",
                nanos(|| examine(black_box(text), lexing, &catalogue)),
            ),
            (
                "known",
                nanos(|| cache.know(black_box(text), lexing, &catalogue)),
            ),
        ];
        for (what, cost) in costs {
            println!("  {what}: {cost:.0} ns");
        }
    }
    let list = format!(
        "SELECT * FROM t WHERE id IN ({})",
        vec!["4711"; 100_000].join(", ")
    );
    let whole = nanos_once(|| examine(list.as_bytes(), lexing, &catalogue));
    println!(
        "a list of {} KB: {:.1} µs per KB",
        list.len() / 1024,
        whole / 1000.0 / (list.len() as f64 / 1024.0)
    );
    println!(
        "catalogue: {:?}, {} KB",
        catalogue.counts(),
        catalogue.bytes() / 1024
    );
}

fn nanos_once<T>(work: impl FnOnce() -> T) -> f64 {
    let began = Instant::now();
    black_box(work());
    began.elapsed().as_secs_f64() * 1e9
}
