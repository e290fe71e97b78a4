//! Clients that change their process in an upgrade: the process that leaves hands those that are at
//! rest to the next one, connection, session and all, and they notice nothing.
//!
//! The keeper gives both processes an end of a [`Passage`](outgrow_net::Passage). On it the leaving
//! one sends clients' states ([`state`]) in records ([`record`]), with their descriptors. At any time
//! one process reads from a connection and writes to it: the leaving one stops to listen to a client
//! before it sends it, and forgets it only once the next one has said that it is its own; the next
//! one serves it only once that is said. What is said before a process dies is still heard, so both
//! always agree. A client whose answer never comes stays.
//!
//! A client that listens is announced before it is offered, so that both listen for it ([`crossings`]).
//!
//! What becomes of clients while there is no next process is decided by [`way`]. Cancel requests find
//! their client in whichever process it is ([`Handover::cancel_elsewhere`]).
//!
//! Not here: which clients move and what they take along (`client/depart.rs`), how they are taken in
//! (`client/arrive.rs`), where the passages come from (the binary, and the keeper).

mod coding;
mod crossings;
mod link;
pub(crate) mod record;
pub(crate) mod state;
mod way;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use outgrow_core::Ticks;
use outgrow_core::metrics::Counter;
use tokio::sync::{Semaphore, mpsc, oneshot};

pub(crate) use coding::CodingError;
use crossings::Crossings;
pub(crate) use crossings::{Traveller, prepare};
pub(crate) use link::run;
use record::Record;
use way::Leaving;
pub(crate) use way::Way;

use crate::problem::Refusal;
use crate::shared::Shared;

/// How long the last word may take.
const LAST_WORD: Duration = Duration::from_millis(500);
/// Processes whose accounts are remembered.
const MOST_ACCOUNTS: usize = 16;
/// Clients whose states are in memory for being handed over, at a time.
const AT_ONCE: usize = record::MOST_CLIENTS;

/// A client that is to be taken.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) state: Vec<u8>,
    /// A copy of its connection's descriptor.
    pub(crate) descriptor: OwnedFd,
    pub(crate) answer: oneshot::Sender<Answer>,
}

/// What became of that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is the other process's.
    Taken,
    /// It is not, and may be told this.
    Refused(Option<Refusal>),
    /// Nobody has it.
    Lost,
}

/// Why a client that was at rest was told to reconnect instead of being handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stayed {
    /// It has TLS, whose keys do not change their process.
    Tls,
    /// It listens for notifications, of which some might be missed: the next process does not listen
    /// for it.
    Listens,
    /// Its session has something that does not change its process.
    Session,
    /// Its session is larger than what is handed over.
    TooLarge,
    /// The next process does not take it.
    Refused,
    /// There is no next process that takes clients.
    NoSuccessor,
}

impl Stayed {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Tls,
        Self::Listens,
        Self::Session,
        Self::TooLarge,
        Self::Refused,
        Self::NoSuccessor,
    ];

    /// Its name in the state and the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Listens => "listens",
            Self::Session => "session",
            Self::TooLarge => "too_large",
            Self::Refused => "refused",
            Self::NoSuccessor => "no_successor",
        }
    }
}

/// What is counted.
#[derive(Debug, Default)]
pub struct HandoverNumbers {
    /// Clients that were taken over from the process before this one.
    pub taken: Counter,
    /// Clients that it offered and that were not taken.
    pub refused: Counter,
    /// Clients that were handed to the next process.
    pub given: Counter,
    /// Clients that were at rest and told to reconnect instead, by [`Stayed`].
    pub told: [Counter; Stayed::ALL.len()],
}

/// How many clients were handed over, and how many told to reconnect, by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Handed over.
    pub given: u64,
    /// Told, by the reason's name; those of none are left out.
    pub told: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Default)]
struct Inner {
    leaving: Leaving,
    /// Where clients are offered to the next process, with the number of its link.
    offers: Option<(u64, mpsc::Sender<Offer>)>,
    /// All links, by number.
    links: BTreeMap<u64, mpsc::Sender<link::Outgoing>>,
    /// What processes that leave, or have left, say of their clients, by link.
    accounts: BTreeMap<u64, Account>,
    /// What the next process was last told of this one's.
    said: Option<(u64, Account)>,
    /// Cancel requests that were passed on and are not answered.
    cancels: BTreeMap<u64, oneshot::Sender<bool>>,
}

/// What this process has to do with others, for its clients' sake.
#[derive(Debug)]
pub(crate) struct Handover {
    inner: Mutex<Inner>,
    way: AtomicU8,
    numbers: AtomicU64,
    permits: Semaphore,
    crossings: Crossings,
    pub(crate) counts: HandoverNumbers,
}

impl Default for Handover {
    fn default() -> Self {
        Self {
            inner: Mutex::default(),
            way: AtomicU8::new(Way::Tell as u8),
            numbers: AtomicU64::new(0),
            permits: Semaphore::new(AT_ONCE),
            crossings: Crossings::default(),
            counts: HandoverNumbers::default(),
        }
    }
}

impl Handover {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number that is used for nothing else here.
    pub(crate) fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// What a client at rest does while this process leaves.
    #[inline]
    pub(crate) fn way(&self) -> Way {
        Way::of(self.way.load(Ordering::Acquire))
    }

    /// Takes over what follows from what is known; whether it is something else than before.
    fn settle(&self, inner: &Inner, now: Ticks) -> bool {
        let way = inner.leaving.way(now);
        self.way.swap(way as u8, Ordering::AcqRel) != way as u8
    }

    /// Offers a client to the next process, and waits for what becomes of it. To be called by who
    /// does not listen to it meanwhile. One with a ticket is nothing to another process than the one
    /// that has prepared it.
    pub(crate) async fn offer(
        &self,
        state: Vec<u8>,
        descriptor: OwnedFd,
        ticket: Option<u64>,
    ) -> Answer {
        let prepared = ticket.map(|ticket| self.crossings.link(ticket));
        let offers = self.lock().offers.clone();
        let is_good = |link: &u64| prepared.is_none_or(|prepared| prepared == Some(*link));
        let Some((_, offers)) = offers.filter(|(link, _)| is_good(link)) else {
            return Answer::Lost;
        };
        let (answer, answered) = oneshot::channel();
        let offer = Offer {
            state,
            descriptor,
            answer,
        };
        if offers.send(offer).await.is_err() {
            return Answer::Lost;
        }
        answered.await.unwrap_or(Answer::Lost)
    }

    /// Waits until a client's state may be made for being offered.
    pub(crate) async fn turn(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        self.permits.acquire().await.ok()
    }

    /// The link to the next process, and what is to be sent on it.
    fn next_process(&self) -> Option<(u64, mpsc::Sender<link::Outgoing>)> {
        let inner = self.lock();
        let (link, _) = inner.offers.as_ref()?;
        let out = inner.links.get(link)?;
        Some((*link, out.clone()))
    }

    /// Takes note that a client was told to reconnect.
    pub(crate) fn note_told(&self, reason: Stayed) {
        self.counts.told[reason as usize].add_shared(1);
    }

    /// Has a client's work cancelled that is not of this process: asks all others, but for one;
    /// whether one of them knew it. The caller limits the time.
    pub(crate) async fn cancel_elsewhere(
        &self,
        process: u32,
        secret: &[u8],
        except: Option<u64>,
    ) -> bool {
        let links: Vec<_> = {
            let inner = self.lock();
            let others = inner
                .links
                .iter()
                .filter(|(link, _)| except != Some(**link));
            others.map(|(_, out)| out.clone()).collect()
        };
        for out in links {
            let number = self.next_number();
            let (sender, answer) = oneshot::channel();
            self.lock().cancels.insert(number, sender);
            let forget = Forget(self, number);
            let record = Record::Cancel {
                number,
                process,
                secret: secret.to_vec(),
            };
            if out.send(link::Outgoing::Say(record)).await.is_ok() && answer.await == Ok(true) {
                return true;
            }
            drop(forget);
        }
        false
    }

    fn note_account(&self, link: u64, account: Account) {
        let mut inner = self.lock();
        inner.accounts.insert(link, account);
        if inner.accounts.len() > MOST_ACCOUNTS {
            inner.accounts.pop_first();
        }
    }

    /// What became of this process's clients, as it is told.
    fn told(&self) -> Record {
        let told = self.counts.told.iter().enumerate();
        let told = told.map(|(reason, count)| (reason as u8, count.get()));
        Record::Told {
            given: self.counts.given.get(),
            told: told.filter(|(_, count)| *count > 0).collect(),
        }
    }

    fn account(&self) -> Account {
        let told = Stayed::ALL.into_iter().zip(&self.counts.told);
        let told = told.map(|(reason, count)| (reason.as_str(), count.get()));
        Account {
            given: self.counts.given.get(),
            told: told.filter(|(_, count)| *count > 0).collect(),
        }
    }
}

/// A cancel request that nobody waits for any more.
struct Forget<'h>(&'h Handover, u64);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.0.lock().cancels.remove(&self.1);
    }
}

impl Shared {
    /// What is counted of clients that change their process.
    pub fn handover_numbers(&self) -> &HandoverNumbers {
        &self.handover.counts
    }

    /// What became of this process's clients while it leaves.
    pub fn handover_account(&self) -> Account {
        self.handover.account()
    }

    /// The same of processes that leave, as far as they say so.
    pub fn leaving_accounts(&self) -> Vec<Account> {
        self.handover.lock().accounts.values().cloned().collect()
    }

    /// Whether there is, or was, a process to hand clients to.
    pub fn has_successor(&self) -> bool {
        self.handover.lock().leaving.has_successor()
    }

    /// Takes note of the time, and says to the next process what became of clients; to be called a
    /// few times a second while this process leaves.
    pub fn step_handover(&self, now: Ticks) {
        let account = self.handover.account();
        let mut inner = self.handover.lock();
        let is_new = self.handover.settle(&inner, now);
        let successor = inner.offers.as_ref().map(|(link, _)| *link);
        let said = successor.map(|link| (link, account));
        let is_said = inner.said == said;
        let out = successor.filter(|_| !is_said);
        let out = out.and_then(|link| inner.links.get(&link).cloned());
        inner.said = said;
        drop(inner);
        if is_new {
            self.nudge_all();
        }
        if let Some(out) = out {
            let _ = out.try_send(link::Outgoing::Say(self.handover.told()));
        }
    }

    /// Says for the last time to the next process what became of clients, as far as it listens.
    pub async fn finish_handover(&self) {
        let Some((_, out)) = self.handover.next_process() else {
            return;
        };
        let (confirm, confirmed) = oneshot::channel();
        let last = link::Outgoing::Confirm(self.handover.told(), confirm);
        let say = async {
            if out.send(last).await.is_ok() {
                let _ = confirmed.await;
            }
        };
        let _ = tokio::time::timeout(LAST_WORD, say).await;
    }

    /// Nobody is handed over any more: everything stops.
    pub fn end_handover(&self) {
        let mut inner = self.handover.lock();
        inner.leaving = Leaving::default();
        inner.offers = None;
        let _ = self.handover.settle(&inner, self.clock.now());
        drop(inner);
        self.nudge_all();
    }

    /// Lets every client look whether something concerns it.
    pub(crate) fn nudge_all(&self) {
        for client in self.seen.clients() {
            client.nudge();
        }
    }

    /// A number for a link, and what is to be sent on it.
    fn add_link(self: &Arc<Self>, out: mpsc::Sender<link::Outgoing>) -> u64 {
        let number = self.handover.next_number();
        self.handover.lock().links.insert(number, out);
        number
    }
}
