//! One look-up of a name: the questions that it takes, and what is kept of earlier ones for those
//! that fail this time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use outgrow_core::settings::Address;
use tokio::task::JoinSet;

use super::answer::{self, Answer};
use super::client::Client;
use super::message::{Kind, Reply, Srv};
use crate::found::{Discovered, Found, LIMIT};
use crate::settings::Name;

/// Most targets of an SRV name that are looked up.
const TARGETS: usize = 256;
/// Targets that are looked up at a time.
const AT_A_TIME: usize = 16;

/// What a look-up gave.
pub(super) struct LookedUp {
    pub(super) discovered: Discovered,
    /// For how many seconds it is good.
    pub(super) ttl: Option<u32>,
}

/// The addresses that names had, for when a part of a look-up fails.
#[derive(Default)]
pub(super) struct LookUp {
    memory: BTreeMap<(String, Kind), Vec<IpAddr>>,
}

/// The addresses of one name.
#[derive(Default)]
struct Addresses {
    /// Whether any question was answered.
    is_answered: bool,
    found: Vec<IpAddr>,
    ttl: Option<u32>,
    problem: Option<String>,
    /// Who answered.
    server: Option<usize>,
    answers: Vec<(Kind, Vec<IpAddr>)>,
}

impl LookUp {
    /// Asks for everything that the name takes.
    pub(super) async fn ask(
        &mut self,
        client: &mut Client,
        name: &Name,
    ) -> Result<LookedUp, String> {
        match name {
            Name::Host(host, port) => self.host(client, host, *port).await,
            Name::Services(name) => self.services(client, name).await,
        }
    }

    async fn host(
        &mut self,
        client: &mut Client,
        host: &str,
        port: u16,
    ) -> Result<LookedUp, String> {
        let asked = ask_addresses(client.clone(), host.to_owned()).await;
        if let Some(server) = asked.server {
            client.prefer(server);
        }
        let (found, ttl) = self.settle(host, asked)?;
        let found = found.into_iter();
        let endpoints = found.map(|ip| Found::at(Address::tcp(ip.to_string(), port)));
        Ok(LookedUp {
            discovered: Discovered::new(endpoints, 0),
            ttl,
        })
    }

    async fn services(&mut self, client: &mut Client, name: &str) -> Result<LookedUp, String> {
        let (reply, server) = client.ask(name, Kind::Srv).await?;
        client.prefer(server);
        let Answer { mut found, mut ttl } = answer::services(&reply, name);
        let targets: BTreeSet<String> = found.iter().map(|srv| srv.target.clone()).collect();
        let mut unusable = found.len().saturating_sub(LIMIT);
        found.truncate(LIMIT);
        self.memory.retain(|(name, _), _| targets.contains(name));
        let mut known: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
        let mut missing = Vec::new();
        for target in targets.into_iter().take(TARGETS) {
            let added = answer::added(&reply, &target);
            if added.is_empty() {
                missing.push(target);
                continue;
            }
            let shortest = added.iter().map(|(_, ttl)| *ttl).min();
            ttl = shorter(ttl, shortest);
            known.insert(target, added.into_iter().map(|(ip, _)| ip).collect());
        }
        let mut problem = None;
        for (target, asked) in ask_all(client, missing).await {
            match self.settle(&target, asked) {
                Ok((addresses, its_ttl)) => {
                    ttl = shorter(ttl, its_ttl);
                    known.insert(target, addresses);
                }
                Err(why) => {
                    problem = Some(format!("{target}: {why}"));
                    ttl = Some(0);
                }
            }
        }
        let ranks = Ranks::new(&found);
        let mut endpoints = Vec::new();
        for srv in &found {
            match known.get(&srv.target) {
                Some(addresses) => {
                    endpoints.extend(addresses.iter().map(|ip| ranks.endpoint(srv, *ip)));
                }
                None => unusable += 1,
            }
        }
        match problem {
            Some(problem) if endpoints.is_empty() => Err(problem),
            _ => Ok(LookedUp {
                discovered: Discovered::new(endpoints, unusable),
                ttl,
            }),
        }
    }

    /// The addresses that a name has: a question that failed is answered from memory, and all is
    /// looked up again soon then.
    fn settle(
        &mut self,
        name: &str,
        asked: Addresses,
    ) -> Result<(Vec<IpAddr>, Option<u32>), String> {
        let Addresses {
            is_answered,
            mut found,
            mut ttl,
            problem,
            answers,
            ..
        } = asked;
        let answered: BTreeSet<Kind> = answers.iter().map(|(kind, _)| *kind).collect();
        for (kind, addresses) in answers {
            self.memory.insert((name.to_owned(), kind), addresses);
        }
        if let Some(problem) = problem {
            for kind in [Kind::A, Kind::Aaaa] {
                if !answered.contains(&kind) {
                    let known = self.memory.get(&(name.to_owned(), kind));
                    found.extend(known.into_iter().flatten());
                }
            }
            // Half an answer that there is nothing is none.
            if found.is_empty() || !is_answered {
                return Err(problem);
            }
            ttl = Some(0);
        }
        Ok((found, ttl))
    }
}

/// Asks for both kinds of addresses.
async fn ask_addresses(client: Client, name: String) -> Addresses {
    let mut asked = Addresses::default();
    let (four, six) = tokio::join!(client.ask(&name, Kind::A), client.ask(&name, Kind::Aaaa));
    let mut missing: Option<u32> = None;
    for (kind, result) in [(Kind::A, four), (Kind::Aaaa, six)] {
        match result {
            Ok((reply, server)) => {
                let Answer { found, ttl } = of_kind(&reply, &name, kind);
                if found.is_empty() {
                    missing = shorter(missing, ttl);
                } else {
                    asked.ttl = shorter(asked.ttl, ttl);
                }
                asked.is_answered = true;
                asked.server = asked.server.or(Some(server));
                asked.found.extend(&found);
                asked.answers.push((kind, found));
            }
            Err(problem) => asked.problem = Some(problem),
        }
    }
    // That a name has no addresses of one kind is no reason to ask for the others more often.
    if asked.found.is_empty() {
        asked.ttl = missing;
    }
    asked
}

fn of_kind(reply: &Reply, name: &str, kind: Kind) -> Answer<IpAddr> {
    let mut answer = answer::addresses(reply, name);
    answer.found.retain(|ip| ip.is_ipv4() == (kind == Kind::A));
    answer
}

async fn ask_all(client: &Client, names: Vec<String>) -> Vec<(String, Addresses)> {
    let mut answers = Vec::new();
    for some in names.chunks(AT_A_TIME) {
        let mut asking = JoinSet::new();
        for name in some {
            let (client, name) = (client.clone(), name.clone());
            asking.spawn(async move { (name.clone(), ask_addresses(client, name).await) });
        }
        while let Some(done) = asking.join_next().await {
            answers.extend(done);
        }
    }
    answers
}

fn shorter(one: Option<u32>, other: Option<u32>) -> Option<u32> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Priorities and weights of a set of SRV records in the numbers of endpoints.
struct Ranks {
    priorities: Vec<u16>,
    heaviest: u32,
}

impl Ranks {
    fn new(records: &[Srv]) -> Self {
        let priorities: BTreeSet<u16> = records.iter().map(|srv| srv.priority).collect();
        let heaviest = records.iter().map(|srv| srv.weight).max().unwrap_or(0);
        Self {
            priorities: priorities.into_iter().collect(),
            heaviest: heaviest.into(),
        }
    }

    fn endpoint(&self, srv: &Srv, ip: IpAddr) -> Found {
        let rank = self.priorities.binary_search(&srv.priority).unwrap_or(0);
        let weight = u32::from(srv.weight);
        let weight = match self.heaviest {
            0..=1_000 => weight,
            heaviest => weight * 1_000 / heaviest,
        };
        Found {
            address: Address::tcp(ip.to_string(), srv.port),
            weight,
            priority: rank as u32,
            zone: String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_are_ranks_and_weights_fit() {
        let srv = |priority, weight| Srv {
            priority,
            weight,
            port: 80,
            target: "a".to_owned(),
        };
        let records = [srv(10, 0), srv(10, 65_535), srv(500, 6_553)];
        let ranks = Ranks::new(&records);
        let ip = IpAddr::from([10, 0, 0, 1]);
        let given: Vec<(u32, u32)> = records
            .iter()
            .map(|srv| ranks.endpoint(srv, ip))
            .map(|found| (found.priority, found.weight))
            .collect();
        assert_eq!(given, [(0, 0), (0, 1_000), (1, 99)]);
    }
}
