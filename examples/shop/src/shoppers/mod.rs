//! The shoppers: a load client that counts everything and believes nothing.
//!
//! [`Shoppers::start`] runs a number of shoppers, each with one kept HTTP/1.1
//! connection, and WebSockets beside them, on a thread of their own, so they
//! disturb neither a test's runtime nor are disturbed by it. Each answer is
//! compared byte by byte with what the shop must say ([`crate::content`]).
//! [`Shoppers::stats`] is for a live display, [`Shoppers::stop`] gives the
//! [`Totals`].
//!
//! Not here: printing, TLS, HTTP/2.

mod answer;
mod histogram;
mod shopper;
mod tally;
mod visit;
mod web_sockets;
mod wire;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{self, Instant},
};

pub use histogram::Histogram;
use tally::Tally;
pub use tally::{Example, KindCounts, MOST_EXAMPLES, Reason, Stats, Totals, WebSocketCounts};
pub use visit::{CustomRequest, Kind};

/// How fast the shoppers ask.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// Closed loop: each shopper asks again when it has the answer, after a
    /// pause between half and one and a half times this.
    Think(Duration),
    /// Open loop: so many requests a second in all, by a fixed plan. A latency
    /// is counted from the planned time, also when all shoppers were busy then,
    /// so a stall is not hidden (coordinated omission).
    PerSecond(f64),
}

/// What the shoppers do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where the shop is reached.
    pub address: SocketAddr,
    /// Other addresses of the same shop, as a name with several has: shoppers begin with one after
    /// the other; when no connection can be made the next one is tried, each for at most a second,
    /// beginning with the one that was reached last. Default: none.
    pub others: Vec<SocketAddr>,
    /// The Host field. Default: the address.
    pub host: String,
    /// Shoppers, each with one connection. Default 8.
    pub shoppers: usize,
    /// How fast. Default: closed loop without a pause.
    pub pace: Pace,
    /// Kinds of requests with their weights. Default: [`Plan::usual_mix`].
    pub mix: Vec<(Kind, u32)>,
    /// WebSockets held open. Default 0.
    pub web_sockets: usize,
    /// Pause between two messages on a WebSocket. Default 200 ms.
    pub web_socket_pause: Duration,
    /// How long a request (connecting too) or an echo may take. Default 30 s.
    pub time_limit: Duration,
    /// Ends after so many requests. Default: no limit.
    pub requests: Option<u64>,
    /// Ends after this time. Default: no limit.
    pub duration: Option<Duration>,
    /// Makes products, reports and idempotency keys different from those of a
    /// run with another seed. Default 0.
    pub seed: u32,
}

impl Plan {
    /// The defaults for this address.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            others: Vec::new(),
            host: address.to_string(),
            shoppers: 8,
            pace: Pace::Think(Duration::ZERO),
            mix: Self::usual_mix(),
            web_sockets: 0,
            web_socket_pause: Duration::from_millis(200),
            time_limit: Duration::from_secs(30),
            requests: None,
            duration: None,
            seed: 0,
        }
    }

    /// What shoppers in a shop do: mostly look.
    pub fn usual_mix() -> Vec<(Kind, u32)> {
        vec![
            (Kind::Home, 25),
            (Kind::Product, 40),
            (Kind::Report, 4),
            (Kind::Checkout, 10),
            (Kind::Whoami, 8),
            (Kind::Bytes(100_000), 5),
            (Kind::Chunked(10_000), 5),
            (Kind::Echo(10_000), 3),
        ]
    }
}

/// Shoppers at work. Dropping it stops them too, without waiting.
#[derive(Debug)]
pub struct Shoppers {
    floor: Arc<Floor>,
    stop: watch::Sender<bool>,
    thread: Option<thread::JoinHandle<()>>,
}

/// What all shoppers share.
#[derive(Debug)]
struct Floor {
    plan: Plan,
    started: Instant,
    next_number: AtomicU64,
    tally: Mutex<Tally>,
}

impl Floor {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        // Counters are whole after a panic too.
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The next request's number, unless there were enough.
    fn take_number(&self) -> Option<u64> {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        self.plan
            .requests
            .is_none_or(|most| number < most)
            .then_some(number)
    }
}

impl Shoppers {
    /// Sends the shoppers in.
    ///
    /// # Errors
    /// When the plan cannot be carried out (no kind has a weight, a rate that
    /// is not a positive number), or no thread or runtime can be had.
    pub fn start(plan: Plan) -> io::Result<Self> {
        check(&plan)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let floor = Arc::new(Floor {
            plan,
            started: Instant::now(),
            next_number: AtomicU64::new(0),
            tally: Mutex::default(),
        });
        let (stop, stopped) = watch::channel(false);
        let shared = Arc::clone(&floor);
        let thread = thread::Builder::new()
            .name("shoppers".into())
            .spawn(move || runtime.block_on(shop(shared, stopped)))?;
        Ok(Self {
            floor,
            stop,
            thread: Some(thread),
        })
    }

    /// What was counted since the last call of this (or the start).
    pub fn stats(&self) -> Stats {
        let now = self.floor.elapsed();
        self.floor.tally().look(now)
    }

    /// Everything counted since the start, up to now.
    pub fn totals(&self) -> Totals {
        let mut totals = self.floor.tally().totals.clone();
        totals.elapsed = self.floor.elapsed();
        totals
    }

    /// Whether the plan's limit of requests or time was reached.
    pub fn ended(&self) -> bool {
        self.thread
            .as_ref()
            .is_none_or(thread::JoinHandle::is_finished)
    }

    /// No new requests; those in flight are finished and counted, WebSockets
    /// closed. Blocks until then, at most about the plan's time limit.
    pub fn stop(self) -> Totals {
        // An error means that they have stopped already.
        let _ended = self.stop.send(true);
        self.wait()
    }

    /// Blocks until the plan's limit of requests or time is reached.
    pub fn wait(mut self) -> Totals {
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            let now = self.floor.elapsed();
            let mut tally = self.floor.tally();
            tally.example(now, "shoppers", "the shoppers' thread panicked", "");
        }
        self.totals()
    }
}

impl Drop for Shoppers {
    fn drop(&mut self) {
        // An error means that they have stopped already.
        let _ended = self.stop.send(true);
    }
}

fn check(plan: &Plan) -> io::Result<()> {
    let weight: u64 = plan.mix.iter().map(|kind| u64::from(kind.1)).sum();
    let problem = match plan.pace {
        _ if plan.shoppers > 0 && weight == 0 => "no kind of request has a weight",
        Pace::PerSecond(rate) if !(rate > 0.0 && rate.is_finite()) => {
            "the rate must be more than 0 requests a second"
        }
        _ if plan.web_socket_pause.is_zero() => "the pause of WebSockets must be more than 0",
        _ => return Ok(()),
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, problem))
}

async fn shop(floor: Arc<Floor>, stopped: watch::Receiver<bool>) {
    let mut shoppers = JoinSet::new();
    for place in 0..floor.plan.shoppers {
        shoppers.spawn(shopper::run(Arc::clone(&floor), place, stopped.clone()));
    }
    // WebSockets stay until the last shopper has left, or to the end if there
    // are no shoppers.
    let (close, closing) = watch::channel(false);
    let mut holders = JoinSet::new();
    for place in 0..floor.plan.web_sockets {
        holders.spawn(web_sockets::run(Arc::clone(&floor), place, closing.clone()));
    }
    if floor.plan.shoppers == 0 {
        let mut stopped = stopped;
        let limit = floor.plan.duration.unwrap_or(Duration::MAX);
        tokio::select! {
            () = told(&mut stopped) => {}
            () = time::sleep(limit) => {}
        }
    }
    while shoppers.join_next().await.is_some() {}
    close.send_replace(true);
    while holders.join_next().await.is_some() {}
}

/// Ends when `stopped` says so, or its sender is gone.
async fn told(stopped: &mut watch::Receiver<bool>) {
    let _told = stopped.wait_for(|stop| *stop).await;
}
