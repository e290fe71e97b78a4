//! One passage to another process of this outgrow: drives the records. At one end is a process that
//! leaves and offers its clients, at the other the next one.

mod landings;
mod offers;
mod sending;
mod taking;

use std::sync::Arc;
use std::time::Duration;

use outgrow_net::{Mailboxes, Packet, Passage};
use tokio::sync::mpsc;

use landings::{Announced, Landings};
use offers::{Pending, pump};
pub(crate) use sending::Outgoing;
use sending::write;
use taking::Taker;

use super::record::{Assembly, MOST_CLIENTS, Record, VERSION};
use super::state::{self, ClientState};
use super::{Account, Answer, Offer, Stayed};
use crate::client::{Moved, NotTaken, arrive, cancel_here};
use crate::events::{Level, Topic};
use crate::problem::Refusal;
use crate::shared::Shared;

/// What may wait to be sent.
const OUTGOING: usize = 16;
/// How long the next process may take to say what becomes of a client. Then nothing more is said on
/// the link, and what was not answered before stays.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a cancel request of another process may take here.
const CANCEL_LIMIT: Duration = Duration::from_secs(10);

/// A link.
struct Link {
    number: u64,
    shared: Arc<Shared>,
    passage: Arc<Passage>,
    out: mpsc::Sender<Outgoing>,
    taker: Taker,
    /// Clients that are to come and listen.
    landings: Arc<Landings>,
    pending: Arc<Pending>,
    /// The other side is the next process; else it is one that leaves.
    is_successor: bool,
    has_heard: bool,
    /// Offers that are passed on once the other side has said that it takes clients.
    offers: Option<mpsc::Receiver<Offer>>,
}

/// Speaks on a passage until the other side is gone. `is_successor`: it is the next process, which
/// takes this one's clients; that is known at once, whenever the future runs.
pub(crate) fn run(
    shared: Arc<Shared>,
    mailboxes: Mailboxes<Moved>,
    passage: Passage,
    is_successor: bool,
) -> impl Future<Output = ()> + Send {
    let passage = Arc::new(passage);
    let (out, outgoing) = mpsc::channel(OUTGOING);
    // Before anybody else can say something.
    let hello = Record::Hello {
        version: VERSION,
        oldest_state: state::VERSION,
        newest_state: state::WITH_CHANNELS,
    };
    let _ = out.try_send(Outgoing::Say(hello));
    let number = shared.add_link(out.clone());
    let mut link = Link {
        number,
        taker: Taker {
            shared: Arc::clone(&shared),
            mailboxes,
            out: out.clone(),
        },
        shared,
        landings: Arc::default(),
        passage: Arc::clone(&passage),
        out,
        pending: Arc::default(),
        is_successor,
        has_heard: false,
        offers: None,
    };
    if is_successor {
        link.meet();
    }
    async move {
        let writer = tokio::spawn(write(passage, outgoing));
        link.listen().await;
        link.end();
        writer.abort();
    }
}

impl Link {
    /// The next process is there.
    fn meet(&mut self) {
        let (sender, offers) = mpsc::channel(MOST_CLIENTS);
        self.offers = Some(offers);
        let mut inner = self.shared.handover.lock();
        inner.leaving.meet(self.shared.clock.now());
        let replaced = inner.offers.replace((self.number, sender));
        self.shared.handover.crossings.set_possible(false);
        let now = self.shared.clock.now();
        let is_new = self.shared.handover.settle(&inner, now);
        drop(inner);
        // What the one before has prepared is not there: its clients begin anew.
        if let Some((link, _)) = replaced {
            self.shared.handover.crossings.lose(link);
        }
        if is_new {
            self.shared.nudge_all();
        }
    }

    /// Until the other side is gone.
    async fn listen(&mut self) {
        let mut buffer = Vec::new();
        let mut assembly = Assembly::default();
        let mut looks = tokio::time::interval(PATIENCE / 10);
        let mut is_broken = false;
        loop {
            let packet = tokio::select! {
                packet = self.passage.receive(&mut buffer) => packet,
                _ = looks.tick() => {
                    self.landings.age(self.shared.clock.now());
                    if !is_broken && self.pending.is_late(self.shared.clock.now()) {
                        self.complain("the next data process does not say what it takes");
                        is_broken = true;
                        self.passage.shut();
                    }
                    continue;
                }
            };
            let Ok(Some(packet)) = packet else { return };
            match assembly.take(&buffer[..packet.length]) {
                Ok(None) => {}
                // What was said before the other side heard of the end still counts.
                Ok(Some(record)) => {
                    if let Err(problem) = self.hear(record, packet).await {
                        self.complain(&problem);
                        is_broken = true;
                        self.passage.shut();
                    }
                }
                Err(_) if is_broken => {}
                Err(error) => {
                    self.complain(&format!(
                        "another data process says what makes no sense: {error}"
                    ));
                    is_broken = true;
                    self.passage.shut();
                }
            }
        }
    }

    async fn hear(&mut self, record: Record, packet: Packet) -> Result<(), String> {
        match record {
            Record::Hello {
                version,
                oldest_state,
                newest_state,
            } if !self.has_heard => {
                self.has_heard = true;
                let reads = (oldest_state..=newest_state).contains(&state::VERSION);
                let listeners = (oldest_state..=newest_state).contains(&state::WITH_CHANNELS);
                self.greeted(version == VERSION && reads, listeners);
            }
            _ if !self.has_heard => {
                return Err("another data process does not say who it is".into());
            }
            Record::Hello { .. } => {}
            Record::Taken(clients) if self.is_successor => {
                for client in clients {
                    self.pending.answer(client, Answer::Taken);
                }
            }
            Record::Refused { client, told, why } if self.is_successor => {
                self.shared.say(Level::Log, Topic::Other, &"", || {
                    format!("a client is not handed over: {why}")
                });
                let told = told.map(|(code, message)| Refusal {
                    code: code.into(),
                    message: message.into(),
                });
                self.pending.answer(client, Answer::Refused(told));
            }
            Record::NotNow { client, why } if self.is_successor => {
                self.shared.say(Level::Log, Topic::Other, &"", || {
                    format!("a client that listens is not handed over for now: {why}")
                });
                self.pending.answer(client, Answer::Lost);
            }
            Record::Clients(clients) if !self.is_successor => {
                self.take_in(clients, packet).await?;
            }
            Record::Cancel {
                number,
                process,
                secret,
            } => self.cancel(number, process, secret),
            Record::Cancelled { number, found } => {
                let waiting = self.shared.handover.lock().cancels.remove(&number);
                if let Some(waiting) = waiting {
                    let _ = waiting.send(found);
                }
            }
            Record::Told { given, told } if !self.is_successor => {
                let told = told.into_iter().filter_map(|(reason, count)| {
                    let reason = Stayed::ALL.get(usize::from(reason))?;
                    Some((reason.as_str(), count))
                });
                let account = Account {
                    given,
                    told: told.collect(),
                };
                self.shared.handover.note_account(self.number, account);
            }
            Record::Expect {
                ticket,
                encoding,
                channel,
                word,
                state,
            } if !self.is_successor => {
                let announced = Announced {
                    ticket,
                    encoding,
                    channel,
                    word,
                    state,
                };
                landings::expect(&self.taker, &self.landings, announced);
            }
            Record::Stays { ticket } if !self.is_successor => self.landings.remove(ticket),
            Record::Expected { ticket, problem } if self.is_successor => {
                if let Some(problem) = &problem {
                    self.shared.say(Level::Log, Topic::Other, &"", || {
                        format!("a client that listens is not handed over: {problem}")
                    });
                }
                let listens = problem.is_none();
                let crossings = &self.shared.handover.crossings;
                crossings.answer(self.number, ticket, listens);
            }
            Record::Taken(_)
            | Record::Refused { .. }
            | Record::Clients(_)
            | Record::Expect { .. }
            | Record::Expected { .. }
            | Record::Stays { .. }
            | Record::NotNow { .. }
            | Record::Told { .. } => {
                return Err("another data process says what is not its to say".into());
            }
        }
        Ok(())
    }

    /// The other side has said who it is, whether that is somebody to work with, and whether it takes
    /// clients that listen.
    fn greeted(&mut self, is_known: bool, takes_listeners: bool) {
        if !is_known {
            self.complain(
                "another data process is of a version that hands clients over in another way",
            );
        }
        if !self.is_successor {
            return;
        }
        let now = self.shared.clock.now();
        let mut inner = self.shared.handover.lock();
        // Another one may have come meanwhile.
        if inner
            .offers
            .as_ref()
            .is_none_or(|(link, _)| *link != self.number)
        {
            return;
        }
        inner.leaving.hear(is_known);
        let crossings = &self.shared.handover.crossings;
        crossings.set_possible(is_known && takes_listeners);
        if !is_known {
            inner.offers = None;
        }
        let _ = self.shared.handover.settle(&inner, now);
        drop(inner);
        if let Some(offers) = self.offers.take().filter(|_| is_known) {
            let pump = pump(
                Arc::clone(&self.shared),
                offers,
                Arc::clone(&self.pending),
                self.out.clone(),
            );
            tokio::spawn(pump);
        }
        self.shared.nudge_all();
    }

    /// Takes in what is taken of these clients, says so, and only then has them served.
    async fn take_in(
        &mut self,
        clients: Vec<(u64, Vec<u8>)>,
        packet: Packet,
    ) -> Result<(), String> {
        if packet.has_lost || packet.descriptors.len() != clients.len() {
            let why = "their descriptors did not come along: is the limit of open files reached?";
            for (client, _) in clients {
                self.taker
                    .refuse(client, NotTaken::untold(why.to_owned()))
                    .await;
            }
            return Ok(());
        }
        let (mut taken, mut numbers) = (Vec::new(), Vec::new());
        for ((client, state), descriptor) in clients.into_iter().zip(packet.descriptors) {
            let arrived = match ClientState::decode(&state) {
                Ok(state) => match state.ticket {
                    Some(ticket) => {
                        let whose = (client, ticket);
                        landings::land(&self.taker, &self.landings, whose, state, descriptor);
                        continue;
                    }
                    None => arrive::take(&self.shared, state, descriptor, None),
                },
                Err(error) => Err(error.into()),
            };
            match arrived {
                Ok(arrived) => {
                    taken.push(arrived);
                    numbers.push(client);
                }
                Err(why) => self.taker.refuse(client, why).await,
            }
        }
        if !numbers.is_empty() && !self.taker.confirm(numbers, taken).await {
            return Err("another data process is gone before its clients were taken".into());
        }
        Ok(())
    }

    /// Passes on a cancel request: here, and where that is not it, elsewhere.
    fn cancel(&self, number: u64, process: u32, secret: Vec<u8>) {
        let (shared, out) = (Arc::clone(&self.shared), self.out.clone());
        let from = self.number;
        // Who leaves asks the next one, which knows all others.
        let asks_on = !self.is_successor;
        tokio::spawn(async move {
            let work = async {
                cancel_here(&shared, process, &secret).await
                    || (asks_on
                        && shared
                            .handover
                            .cancel_elsewhere(process, &secret, Some(from))
                            .await)
            };
            let found = tokio::time::timeout(CANCEL_LIMIT, work).await;
            let found = found.unwrap_or(true);
            let _ = out
                .send(Outgoing::Say(Record::Cancelled { number, found }))
                .await;
        });
    }

    fn complain(&self, problem: &str) {
        self.shared
            .say(Level::Warning, Topic::Other, &"hand-over", || {
                problem.to_owned()
            });
    }

    /// The other side is gone.
    fn end(&self) {
        let now = self.shared.clock.now();
        let mut inner = self.shared.handover.lock();
        inner.links.remove(&self.number);
        let is_newest = inner
            .offers
            .as_ref()
            .is_some_and(|(link, _)| *link == self.number);
        if is_newest {
            inner.offers = None;
            inner.leaving.lose(now);
            self.shared.handover.crossings.set_possible(false);
        }
        let _ = self.shared.handover.settle(&inner, now);
        drop(inner);
        self.landings.clear();
        self.shared.handover.crossings.lose(self.number);
        for (_, (waiting, _)) in self.pending.lock().drain() {
            let _ = waiting.send(Answer::Lost);
        }
        if self.is_successor {
            self.shared.nudge_all();
        }
    }
}

#[cfg(test)]
mod tests;
