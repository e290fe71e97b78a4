//! What choosing an endpoint costs: choose, permit, checkout, release and report together are to
//! stay below 200 ns. Measured, so only on demand:
//! `cargo test --profile e2e -p outgrow-upstream --test hot_path -- --ignored --nocapture`

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use outgrow_core::settings::Address;
use outgrow_core::{Random, Ticks};
use outgrow_upstream::settings::{Balance, Endpoint, ServiceSettings};
use outgrow_upstream::{Freshness, Opening, Outcome, Registry, Wish, connect};

const ROUNDS: u32 = 1_000_000;

async fn nanos_per_request(balance: Balance, weights: &[u32]) -> f64 {
    let mut listeners = Vec::new();
    let mut endpoints = Vec::new();
    for &weight in weights {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        listeners.push(listener);
        let mut endpoint = Endpoint::at(Address::tcp("127.0.0.1", port));
        endpoint.0.weight = weight;
        endpoints.push(endpoint);
    }
    let registry = Registry::new(2);
    let settings = ServiceSettings {
        endpoints,
        balance,
        ..ServiceSettings::default()
    };
    registry.apply(&BTreeMap::from([("web".to_owned(), settings)]), Ticks(1));
    let service = registry.service("web").expect("it was applied");
    for endpoint in &service.endpoints().load().all {
        let opening = Opening {
            connect: Duration::from_secs(5),
            unacknowledged: Duration::ZERO,
            silence: Duration::ZERO,
        };
        let connection = connect(
            endpoint,
            opening,
            (None, outgrow_upstream::Speaks::Http1),
            Ticks(1),
        )
        .await
        .expect("it listens");
        endpoint.release(0, connection, Ticks(1), None);
    }
    let mut view = service.view(0);
    let mut random = Random::from_seed(1);
    let started = Instant::now();
    for round in 0..ROUNDS {
        let now = Ticks(u64::from(round));
        let wish = Wish {
            key: Some(u64::from(round)),
            ..Wish::default()
        };
        let permit = service
            .choose(&mut view, now, &mut random, wish)
            .expect("nothing is in flight");
        let endpoint = permit.endpoint();
        let connection = endpoint
            .checkout(0, now, Freshness::Any)
            .expect("it came back");
        let connection = black_box(connection);
        endpoint.release(0, connection, now, None);
        endpoint.report(Outcome::Success, now);
    }
    started.elapsed().as_nanos() as f64 / f64::from(ROUNDS)
}

#[tokio::test]
#[ignore = "measures: run it alone, optimised"]
async fn a_request_costs_less_than_200_nanoseconds() {
    for (balance, weights) in [
        (Balance::PowerOfTwo, vec![1; 4]),
        (Balance::PowerOfTwo, vec![1, 2, 3, 4]),
        (Balance::RoundRobin, vec![1; 4]),
        (Balance::RoundRobin, vec![1, 2, 3, 4]),
        (Balance::PowerOfTwo, vec![1]),
    ] {
        let mut least = f64::INFINITY;
        for _ in 0..3 {
            least = least.min(nanos_per_request(balance, &weights).await);
        }
        eprintln!("{balance} with weights {weights:?}: {least:.0} ns");
        assert!(least < 200.0, "{balance}: {least} ns");
    }
}
