//! Shoppers against a shop that does everything right, and how they are paced.

use std::time::{Duration, Instant};

use outgrow_shop::{
    ServerOptions,
    shoppers::{Kind, Pace, Plan, Shoppers},
};
use outgrow_testkit::{
    faults::{Fault, Proxy},
    wait,
};

use crate::running::{RunningShop, SOON};

#[test]
fn everything_is_right_at_a_shop_that_works() {
    let shop = RunningShop::start();
    let mut plan = Plan::new(shop.address);
    plan.requests = Some(1000);
    plan.web_sockets = 3;
    plan.web_socket_pause = Duration::from_millis(10);
    plan.mix.push((Kind::Bytes(1_000_000), 1));
    plan.mix.push((Kind::Echo(1_000_000), 1));
    let totals = Shoppers::start(plan).unwrap().wait();
    let all = totals.all();
    assert_eq!(
        (all.requests, all.ok),
        (1000, 1000),
        "{}",
        totals.complaints(5)
    );
    assert_eq!(totals.connects, 8);
    assert_eq!(totals.kinds.len(), 8);
    assert_eq!(all.latency.count(), 1000);
    let report = &totals.kinds["report"];
    assert!(report.latency.quantile(0.5) >= Duration::from_millis(50));
    let sockets = &totals.web_sockets;
    assert_eq!((sockets.opened, sockets.open, sockets.broken()), (3, 0, 0));
    assert!(sockets.echoes >= 3 && sockets.ticks >= 3, "{sockets:?}");
}

#[test]
fn live_stats_are_those_since_the_last_look() {
    let shop = RunningShop::start();
    let shoppers = Shoppers::start(Plan::new(shop.address)).unwrap();
    let mut seen = 0;
    for _ in 0..3 {
        let stats = wait::until("some requests", SOON, || {
            let stats = shoppers.stats();
            (stats.counts.requests > 0).then_some(stats)
        });
        let stats = stats.unwrap();
        assert!(stats.rate() > 0.0);
        seen += stats.counts.requests;
    }
    let totals = shoppers.stop();
    assert!(totals.all().requests >= seen);
    assert_eq!(totals.complaints(5), "");
}

#[test]
fn an_open_loop_keeps_its_rate_and_hides_no_stall() {
    let shop = RunningShop::start();
    let proxy = Proxy::start(shop.address).unwrap();
    let mut plan = Plan::new(proxy.address());
    plan.shoppers = 4;
    plan.mix = vec![(Kind::Product, 1)];
    plan.pace = Pace::PerSecond(200.0);
    plan.duration = Some(Duration::from_millis(1500));
    let begin = Instant::now();
    let shoppers = Shoppers::start(plan).unwrap();
    wait::until("the load runs", SOON, || {
        (shoppers.totals().all().ok >= 20).then_some(())
    })
    .unwrap();
    proxy.set(Fault::Stall).unwrap();
    let stalled = Instant::now();
    wait::until("half a second", SOON, || {
        (stalled.elapsed() >= Duration::from_millis(500)).then_some(())
    })
    .unwrap();
    proxy.set(Fault::None).unwrap();
    let totals = shoppers.wait();
    assert!(begin.elapsed() >= Duration::from_millis(1450));
    let all = totals.all();
    assert_eq!(
        (all.requests, all.ok),
        (300, 300),
        "{}",
        totals.complaints(5)
    );
    // 100 of 300 were planned during the stall; without the correction only
    // the 4 in flight would show it.
    assert!(all.latency.quantile(0.8) >= Duration::from_millis(100));
}

#[test]
fn web_socket_breaks_are_told_apart() {
    let mut shop = RunningShop::with(ServerOptions {
        drain_delay: Duration::ZERO,
        ..ServerOptions::default()
    });
    let proxy = Proxy::start(shop.address).unwrap();
    let mut plan = Plan::new(proxy.address());
    plan.shoppers = 0;
    plan.web_sockets = 2;
    plan.web_socket_pause = Duration::from_millis(10);
    let shoppers = Shoppers::start(plan).unwrap();
    let sockets =
        |what: &str, wanted: &dyn Fn(&outgrow_shop::shoppers::WebSocketCounts) -> bool| {
            wait::until(what, SOON, || {
                wanted(&shoppers.totals().web_sockets).then_some(())
            })
            .unwrap();
        };
    sockets("two open", &|now| now.open == 2 && now.echoes >= 4);
    proxy.set(Fault::Reset).unwrap();
    sockets("two reset", &|now| now.reset == 2);
    proxy.set(Fault::None).unwrap();
    sockets("two open again", &|now| now.open == 2);
    proxy.set(Fault::CutAfter(0)).unwrap();
    sockets("two ended", &|now| now.ended == 2);
    proxy.set(Fault::None).unwrap();
    sockets("two open once more", &|now| now.open == 2);
    shop.join();
    sockets("two closed by the shop", &|now| now.closed == 2);
    sockets("refused", &|now| now.refused > 0);
    let totals = shoppers.stop();
    let all = totals.web_sockets;
    assert_eq!(
        (all.broken(), all.silent, all.wrong, all.open),
        (6, 0, 0, 0)
    );
    assert!(
        totals
            .examples
            .iter()
            .any(|one| one.detail.starts_with("1001"))
    );
}

#[test]
fn plans_that_cannot_be_are_refused() {
    let address = ([127, 0, 0, 1], 1).into();
    let mut plan = Plan::new(address);
    plan.mix.clear();
    assert!(Shoppers::start(plan).is_err());
    for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let mut plan = Plan::new(address);
        plan.pace = Pace::PerSecond(rate);
        assert!(Shoppers::start(plan).is_err(), "{rate}");
    }
}
