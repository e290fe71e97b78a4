//! What a reply says about a name: aliases followed, times to live brought together. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::message::{Code, Data, Record, Reply, Srv};

/// Most aliases from a name to its addresses.
const ALIASES: usize = 8;

/// What is known of a name and for how many seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer<T> {
    /// What there is; nothing when there is no such name or nothing of the kind.
    pub found: Vec<T>,
    /// For how many seconds it is good; `None` when the reply does not say.
    pub ttl: Option<u32>,
}

/// The addresses of `name` in a reply that is neither truncated nor a failure.
pub(super) fn addresses(reply: &Reply, name: &str) -> Answer<IpAddr> {
    follow(reply, name, |data| match data {
        Data::Address(ip) => Some(*ip),
        _ => None,
    })
}

/// The services of `name`.
pub(super) fn services(reply: &Reply, name: &str) -> Answer<Srv> {
    let mut answer = follow(reply, name, |data| match data {
        Data::Srv(srv) => Some(srv.clone()),
        _ => None,
    });
    // RFC 2782: a target of "." means that there is decidedly no such service.
    answer.found.retain(|srv| !srv.target.is_empty());
    answer
}

/// The addresses of `name` among what the server added, with the shortest time to live.
pub(super) fn added(reply: &Reply, name: &str) -> Vec<(IpAddr, u32)> {
    let of_name = |record: &&Record| record.name == name;
    let address = |record: &Record| match record.data {
        Data::Address(ip) => Some((ip, record.ttl)),
        _ => None,
    };
    let additions = reply.additions.iter();
    additions.filter(of_name).filter_map(address).collect()
}

fn follow<T>(reply: &Reply, name: &str, of: impl Fn(&Data) -> Option<T>) -> Answer<T> {
    let negative = Answer {
        found: Vec::new(),
        ttl: reply.negative_ttl,
    };
    if reply.code != Code::Success {
        return negative;
    }
    let mut name = name;
    let mut ttl = u32::MAX;
    let mut passed = BTreeSet::from([name]);
    for _ in 0..=ALIASES {
        let mut found = Vec::new();
        let mut alias = None;
        for record in reply.answers.iter().filter(|record| record.name == name) {
            if let Some(one) = of(&record.data) {
                ttl = ttl.min(record.ttl);
                found.push(one);
            } else if let Data::Alias(next) = &record.data {
                alias = alias.or(Some((next.as_str(), record.ttl)));
            }
        }
        if !found.is_empty() {
            let ttl = Some(ttl);
            return Answer { found, ttl };
        }
        match alias {
            Some((next, its_ttl)) if passed.insert(next) => {
                name = next;
                ttl = ttl.min(its_ttl);
            }
            _ => break,
        }
    }
    negative
}
