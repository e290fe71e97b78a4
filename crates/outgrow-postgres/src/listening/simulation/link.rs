//! A link in the simulation, and the next process at its end.

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::crossing::Marker;
use super::super::{Ear, board};
use super::{MOST, Process, Where, World};

/// What is said on a link, each way in its order.
pub(super) enum Said {
    Expect(usize, u64, Marker, Vec<board::Name>),
    Expected(usize, u64, bool),
    Stays(u64),
    Offer(usize, u64, Vec<board::Name>),
    Taken(usize),
    Refused(usize),
    NotNow(usize),
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

/// A next process, and the link to it.
pub(super) struct Link {
    pub(super) process: Process,
    pub(super) is_open: bool,
    pub(super) to_next: VecDeque<Said>,
    to_old: VecDeque<Said>,
    expected: Vec<Expected>,
}

impl Link {
    pub(super) fn new() -> Self {
        Self {
            process: Process::new(),
            is_open: true,
            to_next: VecDeque::new(),
            to_old: VecDeque::new(),
            expected: Vec::new(),
        }
    }

    /// The process dies.
    pub(super) fn die(&mut self) {
        self.process.is_alive = false;
        self.expected.clear();
    }

    /// The channel of some marker that is expected.
    pub(super) fn marker_channel(&self) -> Option<board::Name> {
        self.expected.first()?.ear.marker_channel()
    }

    fn forget(&mut self, ticket: u64) {
        let place = self.expected.iter().position(|one| one.ticket == ticket);
        if let Some(place) = place {
            let one = self.expected.swap_remove(place);
            self.process.hub.forget(&one.ear);
        }
    }
}

impl World {
    /// What was said before is still heard, unless who should hear it is dead.
    pub(super) fn cut_link(&mut self, link: usize) {
        if !std::mem::replace(&mut self.links[link].is_open, false) {
            return;
        }
        while !self.links[link].to_old.is_empty() {
            self.deliver_to_old(link);
        }
        let cut = &mut self.links[link];
        cut.to_next.clear();
        for one in std::mem::take(&mut cut.expected) {
            cut.process.hub.forget(&one.ear);
        }
        let clients = self.clients.iter_mut();
        for client in clients.filter(|client| client.link == link) {
            client.ear.lose_crossing();
            if client.place == Where::Offered {
                client.stay(&self.old);
            }
        }
    }

    pub(super) fn deliver_to_next(&mut self, link: usize) {
        let fails = self.harm > 0;
        let link = &mut self.links[link];
        let Some(said) = link.to_next.pop_front() else {
            return;
        };
        match said {
            Said::Expect(client, ticket, marker, channels) => {
                let process = &mut link.process;
                let ear = Ear::of_arriving(process.shared.next_number(), marker);
                // A connection that was lost is made anew, where that works.
                if !fails || self.random.below(3) > 0 {
                    self.sum.reconnected += usize::from(process.reconnect());
                }
                if process.hub.lock().is_running {
                    for name in &channels {
                        process.hub.lock().want(name, &ear, MOST);
                    }
                }
                process.hub.expect_mark(&ear);
                link.expected.push(Expected {
                    client,
                    ticket,
                    ear,
                    channels,
                    is_said: false,
                    offered: None,
                });
            }
            Said::Stays(ticket) => link.forget(ticket),
            Said::Offer(client, ticket, channels) => {
                let mut all = link.expected.iter_mut();
                match all.find(|one| one.ticket == ticket) {
                    Some(expected) => expected.offered = Some(channels),
                    None => link.to_old.push_back(Said::NotNow(client)),
                }
            }
            _ => unreachable!("not said to it"),
        }
    }

    /// What a next process does for those that it expects.
    pub(super) fn step_next(&mut self, link: usize) {
        let (fails, random) = (self.harm > 0, &mut self.random);
        let number = link;
        let link = &mut self.links[link];
        if !link.process.is_alive || link.expected.is_empty() {
            return;
        }
        let place = random.below(link.expected.len());
        let one = &mut link.expected[place];
        let (client, ticket) = (one.client, one.ticket);
        if !one.is_said {
            if one.ear.is_prepared().is_none() {
                return;
            }
            one.is_said = true;
            let listens = one.ear.begin_arriving(one.channels.len());
            if !listens {
                link.forget(ticket);
            }
            let said = Said::Expected(client, ticket, listens);
            link.to_old.push_back(said);
            return;
        }
        let Some(channels) = one.offered.clone() else {
            return;
        };
        let is_late = fails && random.below(8) == 0;
        if !one.ear.is_marked() && !is_late {
            return;
        }
        // By what is configured there.
        if fails && random.below(10) == 0 {
            link.forget(ticket);
            link.to_old.push_back(Said::Refused(client));
            return;
        }
        let entry = link.process.entry();
        match one.ear.land(&entry.seen, &channels) {
            Some(marker) => {
                let ear = Arc::clone(&one.ear);
                link.process.hub.leave(&[marker], &ear);
                link.expected.swap_remove(place);
                self.clients[client].arriving = Some((number, ear, entry));
                link.to_old.push_back(Said::Taken(client));
            }
            None => {
                link.forget(ticket);
                link.to_old.push_back(Said::NotNow(client));
            }
        }
    }

    pub(super) fn deliver_to_old(&mut self, link: usize) {
        let Some(said) = self.links[link].to_old.pop_front() else {
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
                client.be_refused(&self.old, &self.log);
                self.sum.refused += 1;
            }
            Said::NotNow(client) => {
                self.clients[client].stay(&self.old);
                self.sum.not_now += 1;
            }
            _ => unreachable!("not said to it"),
        }
    }
}
