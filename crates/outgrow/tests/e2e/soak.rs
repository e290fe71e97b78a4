//! Continuous load with a client that counts everything, and what is done to outgrow meanwhile.
//! What goes wrong is put down to the event during which it happened.
//!
//! Not here: how often each event comes, and what is allowed (`survive`).

use std::{
    fmt,
    ops::Range,
    thread,
    time::{Duration, Instant},
};

use outgrow_shop::shoppers::{Kind, Pace, Plan, Shoppers, Totals};
use outgrow_testkit::{http, outgrow::Outgrow, wait};

use crate::shop::{self, Beside, SOON};

/// Requests of the slowest kind take up to 400 ms: after this, all that were in flight when an
/// event began have ended.
const SETTLE: Duration = Duration::from_millis(700);

/// Shoppers at the supervised service; each has one request in flight.
const SHOPPERS: usize = 8;
/// Shoppers at the static service.
const OTHERS: usize = 3;
/// WebSockets at each.
const WEB_SOCKETS: usize = 4;
/// When those of an endpoint that was taken away are told to come again: in the last quarter of the time in
/// which they have to be gone (`drain_timeout`, less 5 s for their answer). A second is for what it takes until
/// that is known here.
const TOLD: Range<Duration> = Duration::from_millis(18_750)..Duration::from_secs(26);

/// What is done to outgrow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A reload that changes the routes.
    Reload,
    /// A reload that adds an endpoint to the static service or removes one.
    Endpoints,
    /// Another data process takes over.
    Upgrade,
    /// SIGKILL to an instance.
    KillInstance,
    /// SIGKILL to the data process.
    KillData,
}

/// What went wrong while one kind of event happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Losses {
    pub(crate) events: u64,
    pub(crate) requests: u64,
    /// Failed though they may be repeated.
    pub(crate) failed_idempotent: u64,
    /// Failed and may not be repeated.
    pub(crate) failed_others: u64,
    pub(crate) truncated: u64,
    /// Sent once more by the client, since a kept connection was closed without an answer.
    pub(crate) resent: u64,
    pub(crate) web_sockets: u64,
    /// WebSockets that were told to come again, since their endpoint was taken away long enough ago.
    pub(crate) told: u64,
    /// The longest time until a new connection was answered again, in milliseconds.
    pub(crate) away_ms: u64,
}

impl fmt::Display for Losses {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} times, {} requests: failed {} idempotent and {} others, truncated {}, resent by \
             clients {}, WebSockets broken {}, told to leave {}, away at most {} ms",
            self.events,
            self.requests,
            self.failed_idempotent,
            self.failed_others,
            self.truncated,
            self.resent,
            self.web_sockets,
            self.told,
            self.away_ms
        )
    }
}

/// One outgrow under load.
pub(crate) struct Soak {
    outgrow: Outgrow,
    statics: [Beside; 3],
    /// Which endpoints the static service has; changes at each [`Event::Endpoints`].
    endpoints: usize,
    /// Since when one of them is away.
    away: Option<Instant>,
    /// The same for those that were away when a data process was followed by another one: it does not learn
    /// that they have come back.
    away_for_good: Vec<Instant>,
    /// When was counted last.
    counted: Instant,
    reloads: usize,
    supervised: Shoppers,
    others: Shoppers,
    before: [Totals; 2],
    victim: usize,
}

impl Soak {
    /// Starts outgrow, both services, and the load.
    pub(crate) fn start() -> Self {
        let statics = [(); 3].map(|()| Beside::start().expect("a shop beside"));
        let outgrow = Outgrow::start(&config(&statics, 0, 0)).expect("outgrow starts");
        shop::wait_ready(&outgrow, 3);
        let public = outgrow.address("public").expect("an address");
        let plan = Plan {
            shoppers: SHOPPERS,
            pace: Pace::Think(Duration::from_millis(8)),
            web_sockets: WEB_SOCKETS,
            time_limit: Duration::from_secs(15),
            ..Plan::new(public)
        };
        let others = Plan {
            host: "static.example".to_owned(),
            shoppers: OTHERS,
            mix: vec![
                (Kind::Product, 60),
                (Kind::Bytes(50_000), 20),
                (Kind::Chunked(20_000), 20),
            ],
            seed: 1,
            ..plan.clone()
        };
        let supervised = Shoppers::start(plan).expect("shoppers");
        let others = Shoppers::start(others).expect("shoppers");
        let open = || {
            let counts = [supervised.totals(), others.totals()];
            let all = counts
                .iter()
                .all(|one| one.web_sockets.open == WEB_SOCKETS as u64);
            all.then_some(counts)
        };
        let before = wait::until("all WebSockets are open", SOON, open).expect("WebSockets");
        Self {
            outgrow,
            statics,
            endpoints: 0,
            away: None,
            away_for_good: Vec::new(),
            counted: Instant::now(),
            reloads: 0,
            supervised,
            others,
            before,
            victim: 0,
        }
    }

    /// Lets one event happen and puts to `losses` what it cost.
    pub(crate) fn suffer(&mut self, event: Event, losses: &mut Losses) {
        let began = Instant::now();
        match event {
            Event::Reload => {
                self.reloads += 1;
                self.reload();
            }
            Event::Endpoints => {
                self.endpoints += 1;
                self.away = (used(self.endpoints).len() < 3).then(Instant::now);
                self.reload();
            }
            Event::Upgrade => {
                self.away_for_good.extend(self.away);
                self.outgrow.upgrade(None).expect("an upgrade");
            }
            Event::KillInstance => self.kill_instance(),
            Event::KillData => {
                let data = shop::data_pid(&self.outgrow);
                self.outgrow.kill9(data).expect("killed");
            }
        }
        if event == Event::KillData {
            let away = self.time_away();
            losses.away_ms = losses.away_ms.max(away.as_millis() as u64);
            self.outgrow
                .wait("the data process is back", SOON, |outgrow| {
                    outgrow.is_ready().then_some(())
                })
                .expect("ready again");
        }
        thread::sleep(SETTLE);
        if event == Event::KillInstance {
            shop::wait_ready(&self.outgrow, 3);
        }
        self.count(losses);
        eprintln!("{event:?} took {:?}; so far: {losses}", began.elapsed());
    }

    fn reload(&mut self) {
        let config = config(&self.statics, self.endpoints, self.reloads);
        self.outgrow.reload(&config).expect("a reload");
    }

    fn kill_instance(&mut self) {
        let pids = shop::wait_ready(&self.outgrow, 3);
        self.victim += 1;
        let pid = pids[self.victim % pids.len()];
        self.outgrow.kill9(pid).expect("killed");
        let gone = |outgrow: &Outgrow| (!shop::ready_pids(outgrow).contains(&pid)).then_some(());
        self.outgrow
            .wait("the kill is seen", SOON, gone)
            .expect("seen");
    }

    /// How long it takes until somebody who comes now is answered.
    fn time_away(&self) -> Duration {
        let began = Instant::now();
        let url = self.outgrow.url("public", "/product/1");
        let answered = || {
            http::get(&url)
                .ok()
                .filter(|response| response.status == 200)
        };
        wait::until("an answer", SOON, answered).expect("an answer");
        began.elapsed()
    }

    fn count(&mut self, losses: &mut Losses) {
        let now = [self.supervised.totals(), self.others.totals()];
        losses.events += 1;
        for (before, now) in self.before.iter().zip(&now) {
            let (was, is) = (before.all(), now.all());
            losses.requests += is.requests - was.requests;
            let idempotent = is.failed_idempotent - was.failed_idempotent;
            losses.failed_idempotent += idempotent;
            losses.failed_others += is.failed - was.failed - idempotent;
            losses.truncated += is.truncated - was.truncated;
            losses.resent += is.retried - was.retried;
            losses.web_sockets += now.web_sockets.broken() - before.web_sockets.broken();
        }
        let told = now[1].web_sockets.told - self.before[1].web_sockets.told;
        let (from, to) = (self.counted, Instant::now());
        self.counted = to;
        // Each of them had so many WebSockets at most.
        let since = self.away_for_good.iter().chain(&self.away);
        let due = since.filter(|&&since| since + TOLD.start < to && from < since + TOLD.end);
        let told = told.min((due.count() * WEB_SOCKETS) as u64);
        losses.told += told;
        losses.web_sockets -= told;
        self.before = now;
    }

    /// Most requests that can be in flight at one moment.
    pub(crate) fn in_flight() -> u64 {
        (SHOPPERS + OTHERS) as u64
    }

    /// The same at the service whose instances are killed.
    pub(crate) fn in_flight_supervised() -> u64 {
        SHOPPERS as u64
    }

    /// Ends the load and outgrow; gives all totals and everything that went wrong, as text.
    pub(crate) fn end(self) -> (Totals, Totals, String) {
        let (supervised, others) = (self.supervised.stop(), self.others.stop());
        let complaints = format!(
            "supervised:\n{}static:\n{}outgrow wrote:\n{}",
            supervised.complaints(40),
            others.complaints(40),
            self.outgrow.stderr()
        );
        self.outgrow.stop().expect("a clean stop");
        (supervised, others, complaints)
    }
}

/// Which of the three the static service has after so many changes.
fn used(endpoints: usize) -> &'static [usize] {
    match endpoints % 4 {
        0 => &[0, 1],
        1 => &[0, 1, 2],
        2 => &[1, 2],
        _ => &[0, 2],
    }
}

/// The supervised service for every host, the static one for its own; `reloads` makes texts
/// differ, `endpoints` says which of the three the static service has.
fn config(statics: &[Beside; 3], endpoints: usize, reloads: usize) -> String {
    let used: Vec<String> = used(endpoints)
        .iter()
        .map(|place| format!("\"{}\"", statics[*place].address))
        .collect();
    let used = used.join(", ");
    // Kills that come as fast as here are no crash loop.
    let shop = shop::config(3, "crash_loop_window = \"1s\"");
    let extra = if reloads % 2 == 1 {
        "[route.extra]\nhost = \"extra.example\"\nrespond = { status = 404 }\n"
    } else {
        ""
    };
    format!(
        r#"{shop}
response_headers = {{ set = {{ X-Reloads = "{reloads}" }} }}

[service.static]
endpoints = [{used}]

[route.static]
host = "static.example"
service = "static"

{extra}"#
    )
}
