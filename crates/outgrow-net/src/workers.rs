//! The workers' threads of a tier: each runs its own runtime, its listeners and its connections.
//!
//! What is accepted and what becomes of it is the tier's ([`Tier`]); here is what is the same for
//! all: threads, orders, hand-on between workers, the turning wheel.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use outgrow_core::{Clock, Ticks};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::listen::Socket;
use crate::ticker::Ticker;
use crate::wheel::{SLOT, Wheel};

/// After so many turns without a timer that waits a worker rests.
const REST_AFTER: u32 = 32;
/// How many turns come together then.
const TOGETHER: u32 = 4;
/// Connections that wait to be taken over by a worker.
const MAILBOX: usize = 1024;
/// Orders that wait for a worker.
const ORDERS: usize = 256;
/// A worker keeps a connection while it has at most this many more than the least loaded one;
/// moving one costs about as much as a request.
const CLEARLY_MORE: usize = 2;

/// Where the connections of each worker are handed on to, by its number.
pub type Mailboxes<M> = Arc<[mpsc::Sender<M>]>;

/// One worker of a tier. Its futures run on its own thread.
pub trait Tier: Send + Sync + 'static {
    /// What a listener is to do, as it is known to all workers.
    type Slot: Clone + Send + 'static;
    /// A connection on its way to another worker.
    type Moved: Send + 'static;

    /// Its timers.
    fn wheel(&self) -> &Wheel;

    /// Accepts for ever; aborted when the listener goes or drains.
    fn accept(
        self: Arc<Self>,
        socket: Socket,
        slot: Self::Slot,
        others: Mailboxes<Self::Moved>,
    ) -> impl Future<Output = ()> + Send + 'static;

    /// Takes over what another worker has handed on.
    fn receive(self: &Arc<Self>, moved: Self::Moved);

    /// Called for each turn of the wheel, about every 32 ms: `turns` counts them, `lag` is how much
    /// later than planned it comes. While the worker rests those of 128 ms come together.
    fn turn(self: &Arc<Self>, now: Ticks, turns: u32, lag: Duration);

    /// Whether the turns may come together while no timer waits: nothing is to be looked at in time.
    fn is_idle(&self) -> bool {
        true
    }

    /// Called when the worker ends.
    fn end(self: &Arc<Self>);
}

/// What a worker is told.
enum Order<T: Tier> {
    Listen {
        key: String,
        socket: OwnedFd,
        slot: T::Slot,
    },
    Unlisten {
        key: String,
    },
    StopListening,
    WakeAll,
    End,
}

/// The running workers of a tier.
pub struct Workers<T: Tier> {
    orders: Vec<mpsc::Sender<Order<T>>>,
    mailboxes: Mailboxes<T::Moved>,
    threads: Vec<JoinHandle<()>>,
}

impl<T: Tier> std::fmt::Debug for Workers<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Workers({})", self.orders.len())
    }
}

impl<T: Tier> Workers<T> {
    /// Starts a thread, called `name-0` and so on, for each of `tiers`.
    pub fn start(name: &str, clock: Clock, tiers: Vec<Arc<T>>) -> io::Result<Self> {
        let (mailboxes, receivers): (Vec<_>, Vec<_>) =
            tiers.iter().map(|_| mpsc::channel(MAILBOX)).unzip();
        let mut workers = Self {
            orders: Vec::new(),
            mailboxes: mailboxes.into(),
            threads: Vec::new(),
        };
        for (index, (tier, mailbox)) in tiers.into_iter().zip(receivers).enumerate() {
            let (sender, orders) = mpsc::channel(ORDERS);
            workers.orders.push(sender);
            let inbox = Inbox {
                orders,
                mailbox,
                mailboxes: Arc::clone(&workers.mailboxes),
            };
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .enable_time()
                .event_interval(61)
                .build()?;
            let thread = std::thread::Builder::new()
                .name(format!("{name}-{index}"))
                .spawn(move || runtime.block_on(run(tier, inbox, clock)))?;
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    /// Where connections are handed on to.
    pub fn mailboxes(&self) -> &Mailboxes<T::Moved> {
        &self.mailboxes
    }

    /// Accepts on `sockets`, which are spread over the workers; at best there is one for each.
    pub async fn listen(&self, key: &str, sockets: Vec<OwnedFd>, slot: &T::Slot) {
        for (index, socket) in sockets.into_iter().enumerate() {
            let key = key.to_owned();
            let order = Order::Listen {
                key,
                socket,
                slot: slot.clone(),
            };
            let _ = self.orders[index % self.orders.len()].send(order).await;
        }
    }

    /// Accepts no more on the sockets of `key`. Connections stay.
    pub async fn unlisten(&self, key: &str) {
        for orders in &self.orders {
            let _ = orders
                .send(Order::Unlisten {
                    key: key.to_owned(),
                })
                .await;
        }
    }

    /// Accepts no more at all, and wakes every connection that has a timer.
    pub async fn stop_listening(&self) {
        for orders in &self.orders {
            let _ = orders.send(Order::StopListening).await;
            let _ = orders.send(Order::WakeAll).await;
        }
    }

    /// Wakes every connection that has a timer.
    pub async fn wake_all(&self) {
        for orders in &self.orders {
            let _ = orders.send(Order::WakeAll).await;
        }
    }

    /// Ends the workers with all their connections, and waits for their threads.
    pub async fn end(self) {
        for orders in &self.orders {
            let _ = orders.send(Order::End).await;
        }
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

/// For how long the calling thread has run, of the time that passes.
pub fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

struct Inbox<T: Tier> {
    orders: mpsc::Receiver<Order<T>>,
    mailbox: mpsc::Receiver<T::Moved>,
    mailboxes: Mailboxes<T::Moved>,
}

async fn run<T: Tier>(tier: Arc<T>, mut inbox: Inbox<T>, clock: Clock) {
    let turning = tokio::spawn(turn(Arc::clone(&tier), clock));
    let mut listening: HashMap<String, Vec<AbortHandle>> = HashMap::new();
    loop {
        tokio::select! {
            order = inbox.orders.recv() => match order {
                Some(Order::Listen { key, socket, slot }) => {
                    // The socket listens already: the keeper made it. What can fail is the
                    // registration with this runtime, for want of memory.
                    if let Ok(socket) = Socket::new(socket) {
                        let others = Arc::clone(&inbox.mailboxes);
                        let task = Arc::clone(&tier).accept(socket, slot, others);
                        listening.entry(key).or_default().push(tokio::spawn(task).abort_handle());
                    }
                }
                Some(Order::Unlisten { key }) => {
                    listening.remove(&key).into_iter().flatten().for_each(|task| task.abort());
                }
                Some(Order::StopListening) => {
                    listening.drain().flat_map(|(_, tasks)| tasks).for_each(|task| task.abort());
                }
                Some(Order::WakeAll) => tier.wheel().wake_all(),
                Some(Order::End) | None => break,
            },
            moved = inbox.mailbox.recv() => {
                if let Some(moved) = moved {
                    tier.receive(moved);
                }
            }
        }
    }
    turning.abort();
    tier.end();
}

/// Turns the wheel, and lets the tier do what else is due from time to time.
async fn turn<T: Tier>(tier: Arc<T>, clock: Clock) {
    let mut turning = Turning {
        turns: 0,
        expected: clock.now() + SLOT,
    };
    let mut ticker = Ticker::new(SLOT);
    let mut idle = 0;
    loop {
        ticker.tick().await;
        turning.turn(&tier, clock.now(), 1);
        idle = match tier.wheel().is_empty() && tier.is_idle() {
            true => idle + 1,
            false => 0,
        };
        if idle >= REST_AFTER && tier.wheel().rest() {
            ticker.set_period(SLOT * TOGETHER);
            turning.expected = clock.now() + SLOT * TOGETHER;
            rest(&tier, clock, &mut ticker, &mut turning).await;
            ticker.set_period(SLOT);
            turning.expected = clock.now() + SLOT;
            idle = 0;
        }
    }
}

/// Several turns at a time, until a timer comes or the tier has something to look at. A machine with many
/// cores has as many workers of each tier, most of them with nothing to do.
async fn rest<T: Tier>(tier: &Arc<T>, clock: Clock, ticker: &mut Ticker, turning: &mut Turning) {
    while tier.is_idle() {
        tokio::select! {
            () = ticker.tick() => turning.turn(tier, clock.now(), TOGETHER),
            () = tier.wheel().roused() => return,
        }
    }
}

struct Turning {
    turns: u32,
    expected: Ticks,
}

impl Turning {
    fn turn<T: Tier>(&mut self, tier: &Arc<T>, now: Ticks, count: u32) {
        let lag = now.since(self.expected);
        self.expected = now + SLOT * count;
        tier.wheel().advance(now);
        for _ in 0..count {
            self.turns = self.turns.wrapping_add(1);
            tier.turn(now, self.turns, lag);
        }
    }
}

/// A worker with clearly fewer connections than `own`. The kernel spreads them by hash: of eight
/// connections over two workers 6 : 2 or worse is nothing rare.
pub fn least_loaded(loads: &[AtomicUsize], own: usize) -> Option<usize> {
    let mine = loads[own].load(Ordering::Relaxed);
    let (other, least) = loads
        .iter()
        .enumerate()
        .map(|(index, load)| (index, load.load(Ordering::Relaxed)))
        .min_by_key(|&(_, load)| load)?;
    (mine > least + CLEARLY_MORE + least / 8).then_some(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_clearly_uneven_loads_are_evened() {
        let check = |loads: &[usize], own, expected| {
            let loads: Vec<_> = loads.iter().copied().map(AtomicUsize::new).collect();
            assert_eq!(least_loaded(&loads, own), expected);
        };
        check(&[1, 0], 0, None);
        check(&[2, 0], 0, None);
        check(&[3, 0], 0, Some(1));
        check(&[103, 100], 0, None);
        check(&[120, 100, 110], 0, Some(1));
        check(&[0, 9], 0, None);
        check(&[5], 0, None);
    }
}
