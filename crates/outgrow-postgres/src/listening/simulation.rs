//! Clients that listen and change their process, over many seeds: a server with its log of what was
//! notified, the hub of the process that leaves and that of the next one, each with a connection that
//! is as late as it likes, and a link between them. Boards, ears and crossings are the real ones.
//!
//! What must hold: a client that stays connected is told everything that was committed since it
//! listens, once each, in order; one that was told to reconnect, or whose process died, was told
//! everything up to some point, and nothing twice.

mod client;
mod server;

use std::collections::VecDeque;
use std::sync::Arc;

use outgrow_core::{Clock, Random};
use outgrow_message::Ledger;

use super::crossing::Marker;
use super::*;
use crate::seen::{ClientEntry, Far};
use crate::shared::Shared;
use client::{Client, Where};
use server::{Connection, Log};

/// How many clients there are.
const CLIENTS: usize = 3;
/// Most bytes that wait for a client.
const LIMIT: usize = 4_000;
const MOST: u32 = 100;

/// What is said on the link, each way in its order.
enum Said {
    Expect(usize, u64, Marker, Vec<board::Name>),
    Expected(usize, u64, bool),
    Stays(u64),
    Offer(usize, u64, Vec<board::Name>),
    Taken(usize),
    Refused(usize),
}

/// A client that the next process expects.
struct Expected {
    client: usize,
    ticket: u64,
    ear: Arc<Ear>,
    channels: Vec<board::Name>,
    is_said: bool,
    offered: Option<Vec<board::Name>>,
}

/// A process.
struct Process {
    shared: Arc<Shared>,
    hub: Hub,
    connection: Connection,
    is_alive: bool,
}

impl Process {
    fn new() -> Self {
        let hub = Hub::default();
        hub.lock().is_running = true;
        Self {
            shared: Shared::new(Clock::start(), Ledger::new(1 << 20), 1),
            hub,
            connection: Connection::default(),
            is_alive: true,
        }
    }

    fn entry(&self) -> ClientEntry {
        let far = Far::Unix {
            process: 1,
            port: 0,
        };
        ClientEntry::new(&self.shared, far, None)
    }

    /// One step of its shared connection.
    fn step(&mut self, log: &mut Log, random: &mut Random) {
        let is_running = self.hub.lock().is_running;
        if self.is_alive && is_running {
            self.connection.step(&self.hub, log, random);
        }
    }

    /// Until everything was said and heard.
    fn settle(&mut self, log: &mut Log, random: &mut Random) {
        for _ in 0..1_000_000 {
            let inner = self.hub.lock();
            let is_asked = inner.board.has_more() || !inner.marks.is_empty();
            if !self.is_alive || !inner.is_running || !is_asked && self.connection.is_quiet(log) {
                return;
            }
            drop(inner);
            self.step(log, random);
        }
        panic!("it comes to no end");
    }

    fn lose_connection(&mut self) {
        self.connection = Connection::default();
        self.hub.end(&Refusal::new(TOO_MUCH, "lost"), None);
    }
}

struct World {
    random: Random,
    log: Log,
    old: Process,
    next: Process,
    has_link: bool,
    to_next: VecDeque<Said>,
    to_old: VecDeque<Said>,
    clients: Vec<Client>,
    expected: Vec<Expected>,
    tickets: u64,
    /// How likely something fails, in ten thousand steps.
    harm: usize,
}

/// What became of the clients of all worlds.
#[derive(Debug, Default)]
struct Sum {
    moved: usize,
    stayed: usize,
    told: usize,
    died: usize,
    heard: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::from_seed(seed);
        let mut old = Process::new();
        let mut log = Log::default();
        let clients = (0..CLIENTS).map(|_| Client::new(&old)).collect();
        let harm = [0, 0, 3][random.below(3)];
        let mut world = Self {
            log: Log::default(),
            next: Process::new(),
            has_link: true,
            to_next: VecDeque::new(),
            to_old: VecDeque::new(),
            clients,
            expected: Vec::new(),
            tickets: 0,
            harm,
            old: Process::new(),
            random: Random::from_seed(seed ^ 1),
        };
        for client in &mut world.clients {
            for name in ["a", "b", "c"] {
                if random.below(3) > 0 || name == "a" {
                    client.listen(name, &mut old, &mut log, &mut random);
                }
            }
        }
        world.old = old;
        world.log = log;
        world
    }

    fn step(&mut self) {
        // Connections are faster than what is notified, in the long run.
        match self.random.below(40) {
            0 => {
                let channel = ["a", "b", "c", "d"][self.random.below(4)];
                self.log.notify(channel);
            }
            1..=11 => self.old.step(&mut self.log, &mut self.random),
            12..=22 => self.next.step(&mut self.log, &mut self.random),
            23 | 24 => self.deliver_to_next(),
            25 | 26 => self.deliver_to_old(),
            27..=29 => self.step_next(),
            _ => {
                let client = self.random.below(CLIENTS);
                self.step_client(client);
            }
        }
        if self.random.below(10_000) < self.harm {
            self.fail();
        }
    }

    fn fail(&mut self) {
        match self.random.below(6) {
            0 => self.old.lose_connection(),
            1 => self.next.lose_connection(),
            2 => self.cut_link(),
            3 => {
                self.next.is_alive = false;
                self.expected.clear();
                self.cut_link();
            }
            4 => {
                self.old.is_alive = false;
                self.cut_link();
            }
            // Somebody has seen the channel of a marker, or floods.
            _ => match self.random.below(2) {
                0 => {
                    let channel = self
                        .expected
                        .first()
                        .and_then(|one| one.ear.marker_channel());
                    if let Some(channel) = channel {
                        self.log.forge(&channel);
                    }
                }
                _ => {
                    for _ in 0..200 {
                        self.log.notify("a");
                    }
                }
            },
        }
    }

    /// What was said before is still heard, unless who should hear it is dead.
    fn cut_link(&mut self) {
        if !self.has_link {
            return;
        }
        self.has_link = false;
        while !self.to_old.is_empty() {
            self.deliver_to_old();
        }
        self.to_next.clear();
        for one in std::mem::take(&mut self.expected) {
            self.next.hub.forget(&one.ear);
        }
        for client in &mut self.clients {
            client.ear.lose_crossing();
            if client.place == Where::Offered {
                client.stay(&self.old);
            }
        }
    }

    fn deliver_to_next(&mut self) {
        let Some(said) = self.to_next.pop_front() else {
            return;
        };
        match said {
            Said::Expect(client, ticket, marker, channels) => {
                let ear = Ear::of_arriving(self.next.shared.next_number(), marker);
                if self.next.hub.lock().is_running {
                    for name in &channels {
                        self.next.hub.lock().want(name, &ear, MOST);
                    }
                }
                self.next.hub.expect_mark(&ear, MOST);
                self.expected.push(Expected {
                    client,
                    ticket,
                    ear,
                    channels,
                    is_said: false,
                    offered: None,
                });
            }
            Said::Stays(ticket) => self.drop_expected(ticket),
            Said::Offer(client, ticket, channels) => {
                let mut all = self.expected.iter_mut();
                match all.find(|one| one.ticket == ticket) {
                    Some(expected) => expected.offered = Some(channels),
                    None => self.to_old.push_back(Said::Refused(client)),
                }
            }
            _ => unreachable!("not said to it"),
        }
    }

    fn drop_expected(&mut self, ticket: u64) {
        let place = self.expected.iter().position(|one| one.ticket == ticket);
        if let Some(place) = place {
            let one = self.expected.swap_remove(place);
            self.next.hub.forget(&one.ear);
        }
    }

    /// What the next process does for those that it expects.
    fn step_next(&mut self) {
        if !self.next.is_alive || self.expected.is_empty() {
            return;
        }
        let place = self.random.below(self.expected.len());
        let one = &mut self.expected[place];
        let (client, ticket) = (one.client, one.ticket);
        if !one.is_said {
            if one.ear.is_prepared().is_none() {
                return;
            }
            one.is_said = true;
            let listens = one.ear.begin_arriving(one.channels.len());
            if !listens {
                self.drop_expected(ticket);
            }
            self.to_old
                .push_back(Said::Expected(client, ticket, listens));
            return;
        }
        let Some(channels) = one.offered.clone() else {
            return;
        };
        let is_late = self.harm > 0 && self.random.below(20) == 0;
        if !one.ear.is_marked() && !is_late {
            return;
        }
        let entry = self.next.entry();
        match one.ear.land(&entry.seen, &channels) {
            Some(marker) => {
                let ear = Arc::clone(&one.ear);
                self.next.hub.leave(&[marker], &ear);
                self.expected.swap_remove(place);
                self.clients[client].arriving = Some((ear, entry));
                self.to_old.push_back(Said::Taken(client));
            }
            None => {
                self.drop_expected(ticket);
                self.to_old.push_back(Said::Refused(client));
            }
        }
    }

    fn deliver_to_old(&mut self) {
        let Some(said) = self.to_old.pop_front() else {
            return;
        };
        match said {
            Said::Expected(client, ticket, listens) => {
                let client = &self.clients[client];
                if client.ticket == ticket {
                    client.ear.set_heard_there(listens);
                }
            }
            // It is the next one's, wherever that is said.
            Said::Taken(client) => self.clients[client].arrive(&self.old),
            Said::Refused(client) => {
                let client = &mut self.clients[client];
                client.stay(&self.old);
                client.place = Where::Told;
            }
            _ => unreachable!("not said to it"),
        }
    }

    fn run(mut self) -> Sum {
        for _ in 0..6_000 {
            self.step();
        }
        // No more is notified, and everything comes to its end.
        for _ in 0..12 {
            self.harm = 0;
            for _ in 0..400 {
                if self.random.below(4) == 0 {
                    self.old.step(&mut self.log, &mut self.random);
                    self.next.step(&mut self.log, &mut self.random);
                }
                self.deliver_to_next();
                self.deliver_to_old();
                self.step_next();
                for client in 0..CLIENTS {
                    self.step_client(client);
                }
            }
            self.old.settle(&mut self.log, &mut self.random);
            self.next.settle(&mut self.log, &mut self.random);
        }
        let mut sum = Sum::default();
        for client in &self.clients {
            let all = client.should_hear(&self.log);
            let heard = &client.heard;
            sum.heard += heard.len();
            let is_alive = match client.place {
                Where::Next => self.next.is_alive,
                _ => self.old.is_alive,
            };
            let is_complete = match client.place {
                Where::Told => false,
                _ => is_alive && client.ear.over().is_none(),
            };
            if is_complete {
                assert_eq!(*heard, all, "it is told everything once, in order");
            } else {
                assert!(
                    all.starts_with(heard),
                    "{heard:?} is no beginning of {all:?}"
                );
            }
            match client.place {
                _ if !is_alive => sum.died += 1,
                Where::Told => sum.told += 1,
                _ if !is_complete => sum.told += 1,
                Where::Next => sum.moved += 1,
                Where::Old | Where::Crossing | Where::Offered => sum.stayed += 1,
            }
        }
        sum
    }
}

#[test]
fn clients_that_listen_change_their_process_and_miss_nothing() {
    let seeds = match std::env::var("SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("a number");
            seed..seed + 1
        }
        Err(_) => 0..600,
    };
    let is_all = seeds.end > seeds.start + 1;
    let mut sum = Sum::default();
    for seed in seeds {
        let one = std::panic::catch_unwind(|| World::new(seed).run());
        let one = one.unwrap_or_else(|_| panic!("with SEED={seed}"));
        sum.moved += one.moved;
        sum.stayed += one.stayed;
        sum.told += one.told;
        sum.died += one.died;
        sum.heard += one.heard;
    }
    println!("{sum:?}");
    if is_all {
        assert!(sum.moved > 600 && sum.heard > 50_000, "{sum:?}");
        assert!(sum.stayed > 20 && sum.told > 20 && sum.died > 20, "{sum:?}");
    }
}
