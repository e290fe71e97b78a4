//! A client in the simulation, and what the process that leaves does for it.

use std::sync::Arc;

use outgrow_core::Random;

use super::super::crossing::{MARKER_BYTES, Marker, Standing};
use super::super::ear::Change;
use super::super::{Ear, board};
use super::link::Said;
use super::server::Log;
use super::{MOST, Process, World};
use crate::problem::Refusal;
use crate::seen::ClientEntry;

/// Where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Where {
    Old,
    /// It waits for everything before the marker.
    Crossing,
    /// The next process was asked to take it.
    Offered,
    /// In the process that this link leads to.
    Next(usize),
    /// It was told to reconnect.
    Told,
}

pub(super) struct Client {
    pub(super) ear: Arc<Ear>,
    /// Held for as long as the client lives.
    entry: ClientEntry,
    pub(super) place: Where,
    pub(super) ticket: u64,
    /// The link over which it is prepared, or was.
    pub(super) link: usize,
    tries: usize,
    /// It is in a transaction.
    is_busy: bool,
    /// In a next process, of which the old one does not know yet.
    pub(super) arriving: Option<(usize, Arc<Ear>, ClientEntry)>,
    /// From where on in the log, and up to where, it listens on a channel.
    listens: Vec<(board::Name, usize, Option<usize>)>,
    pub(super) heard: Vec<String>,
}

impl Client {
    pub(super) fn new(old: &Process) -> Self {
        let entry = old.entry();
        Self {
            ear: Ear::new(&entry.seen),
            entry,
            place: Where::Old,
            ticket: 0,
            link: 0,
            tries: 0,
            is_busy: false,
            arriving: None,
            listens: Vec::new(),
            heard: Vec::new(),
        }
    }

    /// It begins to listen, when its process has heard everything.
    pub(super) fn listen(
        &mut self,
        name: &str,
        process: &mut Process,
        log: &mut Log,
        random: &mut Random,
    ) {
        let name: board::Name = name.as_bytes().into();
        if self.ear.hearing(&name).is_some() {
            return;
        }
        process.hub.lock().want(&name, &self.ear, MOST);
        process.settle(log, random);
        self.ear.drop_promised();
        self.ear.settle(&[Change::Listen(Arc::clone(&name))]);
        self.listens.push((name, log.all.len(), None));
    }

    /// It ends to listen on something, likewise.
    fn unlisten(&mut self, process: &mut Process, log: &mut Log, random: &mut Random) {
        process.settle(log, random);
        self.hear(10_000);
        let mut active = self.listens.iter_mut().filter(|one| one.2.is_none());
        let Some((name, _, until)) = active.next() else {
            return;
        };
        *until = Some(log.all.len());
        let gone = self.ear.settle(&[Change::Unlisten(Arc::clone(name))]);
        process.hub.leave(&gone, &self.ear);
    }

    /// What it should have been told of the log up to some place.
    pub(super) fn should_hear(&self, log: &Log, until: usize) -> Vec<String> {
        let all = log.all.iter().enumerate().take(until);
        let own = all.filter(|(place, (channel, _))| {
            self.listens.iter().any(|(name, from, until)| {
                name == channel && (*from..until.unwrap_or(usize::MAX)).contains(place)
            })
        });
        own.map(|(_, (_, payload))| payload.clone()).collect()
    }

    /// It is told what waits for it.
    fn hear(&mut self, limit: usize) {
        let mut out = Vec::new();
        let foreign = || Refusal::new("22P05", "foreign");
        self.ear.take(&mut out, limit, true, foreign);
        let mut rest = &out[..];
        while let [b'A', a, b, c, d, body @ ..] = rest {
            let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize - 4;
            let mut texts = body[4..length].split(|byte| *byte == 0);
            let payload = texts.nth(1).expect("a payload");
            self.heard
                .push(String::from_utf8_lossy(payload).into_owned());
            rest = &body[length..];
        }
    }

    /// It stays where it is, for now.
    pub(super) fn stay(&mut self, old: &Process) {
        if let Some(marker) = self.ear.end_leaving() {
            old.hub.leave(&[marker], &self.ear);
        }
        self.place = Where::Old;
    }

    /// The next process does not take it: it is told what its own has heard, and ended.
    pub(super) fn be_refused(&mut self, old: &Process, log: &Log) {
        self.stay(old);
        self.hear(usize::MAX);
        if self.ear.over().is_none() && old.is_alive {
            let all = self.should_hear(log, old.heard());
            assert_eq!(self.heard, all, "it has lost nothing");
        }
        self.place = Where::Told;
    }

    /// It is the next process's, where everything was prepared.
    pub(super) fn arrive(&mut self, old: &Process) {
        old.hub.forget(&self.ear);
        let (link, ear, entry) = self.arriving.take().expect("it has arrived");
        (self.ear, self.entry) = (ear, entry);
        self.place = Where::Next(link);
    }
}

impl World {
    pub(super) fn step_client(&mut self, number: usize) {
        let is_there = match self.clients[number].place {
            Where::Told => return,
            Where::Next(link) => self.links[link].process.is_alive,
            _ => self.old.is_alive,
        };
        let client = &mut self.clients[number];
        if !is_there || client.ear.over().is_some() {
            return;
        }
        // It reads as fast as it likes.
        if !client.is_busy || client.place != Where::Old {
            client.hear(1 + self.random.below(200));
        }
        match client.place {
            Where::Old => self.step_old(number),
            Where::Crossing => self.cross(number),
            Where::Offered | Where::Next(_) | Where::Told => {}
        }
    }

    fn step_old(&mut self, number: usize) {
        let current = self.current();
        let has_link = self.has_link(current);
        let (log, random) = (&mut self.log, &mut self.random);
        let client = &mut self.clients[number];
        if client.is_busy {
            client.is_busy = random.below(4) > 0;
            return;
        }
        // What it does besides changes nothing of what is prepared, or does.
        let runs = self.old.hub.lock().is_running;
        match random.below(60) {
            0 => client.is_busy = true,
            1 if runs && self.harm == 0 => client.listen("d", &mut self.old, log, random),
            2 if runs && self.harm == 0 => client.unlisten(&mut self.old, log, random),
            _ => {}
        }
        match client.ear.standing() {
            Standing::Lost => {
                client.stay(&self.old);
                self.say_stays(number);
            }
            Standing::Refused => {
                client.stay(&self.old);
                client.place = Where::Told;
            }
            Standing::Stays if has_link && client.tries < 30 => {
                client.tries += 1;
                let mut bytes = [0; MARKER_BYTES];
                bytes.fill_with(|| random.below(256) as u8);
                let marker = Marker::new(&bytes);
                let Some(channels) = client.ear.begin_leaving(marker.clone()) else {
                    return;
                };
                self.tickets += 1;
                client.ticket = self.tickets;
                client.link = current;
                self.old.hub.expect_mark(&client.ear);
                let expect = Said::Expect(number, client.ticket, marker, channels);
                self.links[current].to_next.push_back(expect);
            }
            Standing::Ready => match client.ear.ask_for_mark() {
                Some(marker) => {
                    self.old.hub.mark(marker);
                    client.place = Where::Crossing;
                }
                None => {
                    client.stay(&self.old);
                    self.say_stays(number);
                }
            },
            _ => {}
        }
    }

    /// Who expects it hears that it does not come.
    fn say_stays(&mut self, number: usize) {
        let client = &self.clients[number];
        let link = &mut self.links[client.link];
        if link.is_open {
            link.to_next.push_back(Said::Stays(client.ticket));
        }
    }

    fn cross(&mut self, number: usize) {
        let link = self.clients[number].link;
        let is_current = link == self.current() && self.has_link(link);
        let client = &mut self.clients[number];
        let is_late = self.random.below(60) == 0;
        match client.ear.standing() {
            Standing::Crossed if is_current => {
                client.place = Where::Offered;
                let channels = client.ear.listened().expect("it listens");
                let offer = Said::Offer(number, client.ticket, channels);
                self.links[link].to_next.push_back(offer);
            }
            Standing::Crosses if !is_late => {}
            _ => {
                client.stay(&self.old);
                self.say_stays(number);
            }
        }
    }
}
