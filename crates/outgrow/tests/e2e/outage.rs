//! Registries that are away for minutes: names, etcd, Consul (a fake) and Kubernetes (a fake) at
//! once, under load, while the data process is replaced and killed. `OUTGROW_OUTAGE_SECONDS` says
//! for how long; `cargo xtask soak discover --for 5m` sets it.
//!
//! Not here: changes of one source (`discover`).

use std::env;
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use outgrow_shop::shoppers::{CustomRequest, Kind, Pace, Plan, Shoppers};
use outgrow_testkit::authority::Authority;
use outgrow_testkit::consul::{self, FakeConsul};
use outgrow_testkit::dns::{DnsServer, Fault};
use outgrow_testkit::etcd::Etcd;
use outgrow_testkit::folder::Folder;
use outgrow_testkit::kubernetes::{self, FakeKubernetes};
use outgrow_testkit::outgrow::Outgrow;
use outgrow_testkit::processes;
use serde_json::Value;

use crate::discover::{everywhere, processor_time};
use crate::shop::{self, SOON};

const SOURCES: [&str; 4] = ["names", "etcd", "consul", "kubernetes"];

/// All registries, with two endpoints each.
struct Registries {
    names: DnsServer,
    etcd: Etcd,
    consul: FakeConsul,
    kubernetes: FakeKubernetes,
    authority: Authority,
    folder: Folder,
}

impl Registries {
    fn start(at: &[SocketAddr]) -> Self {
        let authority = Authority::new().expect("an authority");
        let registries = Self {
            names: DnsServer::start().expect("a server of names"),
            etcd: Etcd::start().expect("etcd"),
            consul: FakeConsul::start("").expect("a fake"),
            kubernetes: FakeKubernetes::start(&authority, "token").expect("a fake"),
            folder: Folder::new("outage").expect("a folder"),
            authority,
        };
        registries.names.set_ttl(1);
        registries.tell(at);
        registries
    }

    fn tell(&self, at: &[SocketAddr]) {
        let ips: Vec<IpAddr> = at.iter().map(SocketAddr::ip).collect();
        self.names.set_addresses("app.test", &ips);
        for number in 0..2 {
            let key = format!("/services/app/{number}");
            match at.get(number) {
                Some(one) => self.etcd.put(&key, &one.to_string()).map(drop),
                None => self.etcd.delete(&key),
            }
            .expect("told");
        }
        self.consul.set(at);
        self.kubernetes.put_ready("shop", "app", "app-a", at);
    }

    fn config(&self, port: u16) -> String {
        let token = self.folder.write("token", "token").expect("a token");
        let ca = self.authority.ca_file().expect("a file");
        let names = self.names.address();
        let mut text = "[listener.public]\naddress = \"%public%\"\n".to_owned();
        for source in SOURCES {
            text.push_str(&format!(
                "[service.{source}]\n[route.{source}]\npath = \"/{source}\"\nservice = \"{source}\"\n"
            ));
        }
        text.push_str(&format!(
            "[service.names.discover]\ndns = \"app.test:{port}\"\nnameservers = [\"{names}\"]\n\
             [service.etcd.discover.etcd]\nservers = [\"http://{}\"]\nprefix = \"/services/app/\"\n\
             [service.consul.discover.consul]\nserver = \"http://{}\"\nservice = \"app\"\n\
             [service.kubernetes.discover.kubernetes]\nservice = \"app\"\nnamespace = \"shop\"\n\
             port = \"http\"\nserver = \"https://{}\"\ntoken_file = \"{}\"\ntls = {{ ca = \"{}\" }}\n",
            self.etcd.address(),
            self.consul.address(),
            self.kubernetes.address(),
            token.display(),
            ca.display(),
        ));
        text
    }

    fn go_away(&mut self) {
        self.names.set_fault(Fault::Silent);
        self.etcd.kill();
        self.consul.set_mood(consul::Mood::Failing);
        self.kubernetes.set_mood(kubernetes::Mood::Failing);
        self.kubernetes.cut();
    }

    fn come_back(&mut self) {
        self.names.set_fault(Fault::None);
        self.etcd.start_again().expect("etcd again");
        self.consul.set_mood(consul::Mood::Good);
        self.kubernetes.set_mood(kubernetes::Mood::Good);
    }
}

/// Waits until every service has so many endpoints, and whether its source fails.
fn wait(outgrow: &Outgrow, endpoints: usize, fails: bool) {
    let as_it_should = |service: &Value| {
        let discovery = &service["discovery"];
        discovery["endpoints"] == endpoints && discovery["problem"].is_string() == fails
    };
    let all = |outgrow: &Outgrow| {
        let state = shop::try_state(outgrow)?;
        let services = state["services"].as_array()?;
        (services.len() == SOURCES.len() && services.iter().all(as_it_should)).then_some(())
    };
    let waited = outgrow.wait("every source", SOON * 3, all);
    waited.unwrap_or_else(|error| panic!("{error}\n{}", shop::state(outgrow)["services"]));
}

/// Processor time per second and requests per second of the data process within a time.
fn measure(outgrow: &Outgrow, shoppers: &Shoppers, time: Duration) -> (f64, f64) {
    let data = shop::data_pid(outgrow);
    let begin = Instant::now();
    let (used, asked) = (processor_time(data), shoppers.totals().all().requests);
    thread::sleep(time);
    let seconds = begin.elapsed().as_secs_f64();
    let used = (processor_time(data) - used) as f64 / 100.0;
    let asked = shoppers.totals().all().requests - asked;
    (used / seconds, asked as f64 / seconds)
}

#[test]
fn all_registries_are_away_for_a_while() {
    outage(Duration::from_secs(6));
}

#[test]
#[ignore = "takes minutes: cargo xtask soak discover"]
fn all_registries_are_away_for_long() {
    let seconds = env::var("OUTGROW_OUTAGE_SECONDS").ok();
    let seconds = seconds.and_then(|text| text.parse().ok()).unwrap_or(300);
    outage(Duration::from_secs(seconds));
}

#[expect(
    clippy::print_stdout,
    reason = "the summary that `cargo xtask soak` promises"
)]
fn outage(time: Duration) {
    let port = everywhere();
    let listeners = [[127, 0, 4, 1], [127, 0, 4, 2]].map(|ip| SocketAddr::from((ip, port)));
    let mut registries = Registries::start(&listeners);
    let outgrow = Outgrow::start(&registries.config(port)).expect("outgrow starts");
    wait(&outgrow, 2, false);
    let one = |source: &str| {
        (
            Kind::Custom(CustomRequest::get(&format!("/{source}")).into()),
            1,
        )
    };
    let plan = Plan {
        shoppers: 4,
        pace: Pace::PerSecond(200.0),
        mix: SOURCES.iter().map(|source| one(source)).collect(),
        ..Plan::new(outgrow.address("public").expect("an address"))
    };
    let shoppers = Shoppers::start(plan).expect("shoppers");
    let (before, rate) = measure(&outgrow, &shoppers, Duration::from_secs(3));

    registries.go_away();
    wait(&outgrow, 2, true);
    let (during, rate_during) = measure(&outgrow, &shoppers, time / 2);
    outgrow.upgrade(None).expect("an upgrade");
    let in_flight = shoppers.totals().all();
    processes::kill9(shop::data_pid(&outgrow)).expect("killed");
    wait(&outgrow, 2, true);
    let killed = shoppers.totals().all();
    let lost = killed.failed - in_flight.failed;
    thread::sleep(time / 2);
    wait(&outgrow, 2, true);

    registries.come_back();
    registries.tell(&listeners[..1]);
    wait(&outgrow, 1, false);
    let totals = shoppers.stop();
    let all = totals.all();
    eprintln!(
        "processor: {:.1} % at {rate:.0} requests a second, {:.1} % at {rate_during:.0} in the outage",
        before * 100.0,
        during * 100.0
    );
    println!(
        "{} requests, {} failed, {lost} lost",
        all.requests,
        all.failed - lost
    );
    // Each shopper has one in flight, and cannot connect for the moment without a data process.
    assert!(lost <= 4, "{}", totals.complaints(20));
    assert_eq!(
        all.failed,
        lost,
        "{}{}",
        totals.complaints(20),
        outgrow.stderr()
    );
    assert!(
        during < before * 1.5 + 0.05,
        "{during} of a processor in the outage, {before} before"
    );
    outgrow.stop().expect("stopped");
}
