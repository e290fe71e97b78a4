//! Clients that listen and change their process, over many seeds: a server with its log of what was
//! notified, the hub of the process that leaves and those of the next one and of who replaces that,
//! each with a connection that is as late as it likes, and a link to each. Boards, ears and crossings
//! are the real ones.
//!
//! What must hold: a client that stays connected is told everything that was committed since it
//! listens, once each, in order; one that was told to reconnect, or whose process died, was told
//! everything up to some point, and nothing twice. One that the next process refuses was told
//! everything that its process has heard.

mod client;
mod link;
mod process;
mod server;

use outgrow_core::Random;

use client::{Client, Where};
use link::Link;
use process::Process;
use server::Log;

/// How many clients there are.
const CLIENTS: usize = 3;
/// Most bytes that wait for a client.
const LIMIT: usize = 4_000;
const MOST: u32 = 100;
/// Most next processes, one after the other.
const LINKS: usize = 3;

struct World {
    random: Random,
    log: Log,
    old: Process,
    /// The next processes; clients are offered to the last one.
    links: Vec<Link>,
    clients: Vec<Client>,
    tickets: u64,
    /// How likely something fails, in ten thousand steps.
    harm: usize,
    /// Whether next processes are replaced though nothing fails.
    replaces: bool,
    sum: Sum,
}

/// What became of the clients of all worlds.
#[derive(Debug, Default)]
struct Sum {
    moved: usize,
    /// Of those, to one that has replaced another one.
    to_replacement: usize,
    stayed: usize,
    told: usize,
    /// Of those, by the next process.
    refused: usize,
    died: usize,
    heard: usize,
    /// Clients that began anew after they were offered.
    not_now: usize,
    reconnected: usize,
    failed_batches: usize,
}

impl Sum {
    fn add(&mut self, one: &Self) {
        self.moved += one.moved;
        self.to_replacement += one.to_replacement;
        self.stayed += one.stayed;
        self.told += one.told;
        self.refused += one.refused;
        self.died += one.died;
        self.heard += one.heard;
        self.not_now += one.not_now;
        self.reconnected += one.reconnected;
        self.failed_batches += one.failed_batches;
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::from_seed(seed);
        let mut old = Process::new();
        let mut log = Log::default();
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::new(&old)).collect();
        let harm = [0, 4, 15][random.below(3)];
        for client in &mut clients {
            for name in ["a", "b", "c"] {
                if random.below(3) > 0 || name == "a" {
                    client.listen(name, &mut old, &mut log, &mut random);
                }
            }
        }
        Self {
            log,
            links: vec![Link::new()],
            clients,
            tickets: 0,
            harm,
            replaces: random.below(3) == 0,
            old,
            random: Random::from_seed(seed ^ 1),
            sum: Sum::default(),
        }
    }

    fn current(&self) -> usize {
        self.links.len() - 1
    }

    fn has_link(&self, link: usize) -> bool {
        self.links[link].is_open
    }

    fn step(&mut self) {
        let link = self.random.below(self.links.len());
        let fails = self.harm > 0;
        // Connections are faster than what is notified, in the long run.
        match self.random.below(40) {
            0 => {
                let channel = ["a", "b", "c", "d"][self.random.below(4)];
                self.log.notify(channel);
            }
            1..=11 => self.old.step(&mut self.log, &mut self.random, fails),
            12..=22 => self.step_processes(fails),
            23 | 24 => self.deliver_to_next(link),
            25 | 26 => self.deliver_to_old(link),
            27..=29 => self.step_next(link),
            _ => {
                let client = self.random.below(CLIENTS);
                self.step_client(client);
            }
        }
        if self.replaces && self.links.len() < LINKS && self.random.below(500) == 0 {
            self.replace();
        }
        if self.random.below(10_000) < self.harm {
            self.fail();
        }
    }

    fn step_processes(&mut self, fails: bool) {
        for link in &mut self.links {
            link.process.step(&mut self.log, &mut self.random, fails);
        }
    }

    fn fail(&mut self) {
        let (current, links) = (self.current(), self.links.len());
        match self.random.below(7) {
            0 => self.old.lose_connection(),
            1 => self.links[current].process.lose_connection(),
            2 => self.cut_link(current),
            3 => {
                self.links[current].die();
                self.cut_link(current);
            }
            4 => {
                self.old.is_alive = false;
                (0..links).for_each(|link| self.cut_link(link));
            }
            5 if links < LINKS && self.old.is_alive => self.replace(),
            // Somebody has seen the channel of a marker, or floods.
            _ => match self.random.below(2) {
                0 => {
                    if let Some(channel) = self.links[current].marker_channel() {
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

    /// Another next process comes, while the one before lives, or after it.
    fn replace(&mut self) {
        self.links.push(Link::new());
        for client in &self.clients {
            client.ear.lose_crossing();
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
                    self.old.step(&mut self.log, &mut self.random, false);
                    self.step_processes(false);
                }
                for link in 0..self.links.len() {
                    self.deliver_to_next(link);
                    self.deliver_to_old(link);
                    self.step_next(link);
                }
                for client in 0..CLIENTS {
                    self.step_client(client);
                }
            }
            self.old.settle(&mut self.log, &mut self.random);
            for link in &mut self.links {
                link.process.settle(&mut self.log, &mut self.random);
            }
        }
        self.judge()
    }

    fn judge(mut self) -> Sum {
        let processes = self.links.iter().map(|link| &link.process);
        let failed = processes.chain([&self.old]).map(|one| one.failed_batches());
        self.sum.failed_batches = failed.sum();
        for client in &self.clients {
            let all = client.should_hear(&self.log, usize::MAX);
            let heard = &client.heard;
            let is_alive = match client.place {
                Where::Next(link) => self.links[link].process.is_alive,
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
            let sum = &mut self.sum;
            sum.heard += heard.len();
            match client.place {
                _ if !is_alive => sum.died += 1,
                Where::Told => sum.told += 1,
                _ if !is_complete => sum.told += 1,
                Where::Next(link) => {
                    sum.moved += 1;
                    sum.to_replacement += usize::from(link > 0);
                }
                Where::Old | Where::Crossing | Where::Offered => sum.stayed += 1,
            }
        }
        self.sum
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
        sum.add(&one.unwrap_or_else(|_| panic!("with SEED={seed}")));
    }
    println!("{sum:?}");
    if is_all {
        assert!(sum.moved > 600 && sum.heard > 50_000, "{sum:?}");
        assert!(sum.stayed > 20 && sum.told > 20 && sum.died > 20, "{sum:?}");
        let others = [
            sum.to_replacement,
            sum.refused,
            sum.not_now,
            sum.reconnected,
            sum.failed_batches,
        ];
        assert!(others.iter().all(|count| *count > 10), "{sum:?}");
    }
}
