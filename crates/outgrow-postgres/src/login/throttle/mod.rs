//! Who has failed to log in waits a little, the longer the more often: guessing passwords becomes
//! slow, and a service with an old password does not take all our time.
//!
//! By user and address together, and by address alone for those who try many users. Never by user
//! alone, by which anybody could keep everybody out. IPv6 addresses count by their network of 64
//! bits. Pure: the moment is an argument, and who waits is not here.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use outgrow_core::Ticks;

use super::facts::Source;

/// Longest name that is kept; longer ones that begin alike count as one.
const LONGEST_NAME: usize = 63;

/// How strict it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThrottleSettings {
    /// Failures in a row of one user from one address that cost nothing.
    pub free: u32,
    /// Failures from one address, whoever the user, that cost nothing.
    pub free_of_address: u32,
    /// The wait after the first failure that costs; each further one doubles it.
    pub first: Duration,
    /// The longest wait from one try to the next.
    pub most: Duration,
    /// Who would have to wait longer than this, since others wait as well, is refused. Zero: who
    /// would wait is refused.
    pub patience: Duration,
    /// Without a failure for this long all is forgotten.
    pub forget: Duration,
    /// Most users and addresses that are kept; the oldest quarter is forgotten when there are more.
    /// Zero: nobody waits.
    pub capacity: usize,
}

impl Default for ThrottleSettings {
    /// Ten tries are free; then the wait grows to a second.
    fn default() -> Self {
        Self {
            free: 10,
            free_of_address: 100,
            first: Duration::from_millis(100),
            most: Duration::from_secs(1),
            patience: Duration::from_secs(5),
            forget: Duration::from_secs(60),
            capacity: 10_000,
        }
    }
}

/// What is to be done with a client before it is asked for its password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It goes on at once.
    Go,
    /// It goes on after this time; its place is taken.
    Wait(Duration),
    /// Too many wait already.
    Refuse,
}

/// Who has failed.
#[derive(Debug)]
pub struct Throttle {
    settings: ThrottleSettings,
    entries: BTreeMap<Key, Entry>,
}

/// Where somebody comes from, and as whom; without a user it is the address alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key(Place, Option<String>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Local,
    V4(Ipv4Addr),
    /// The first 64 bits.
    V6(u64),
}

#[derive(Debug)]
struct Entry {
    failures: u32,
    last: Ticks,
    /// When the next try may be made.
    next: Ticks,
}

impl Throttle {
    /// One to which nobody has failed.
    pub fn new(settings: ThrottleSettings) -> Self {
        Self {
            settings,
            entries: BTreeMap::new(),
        }
    }

    /// Goes on with other settings.
    pub fn set(&mut self, settings: &ThrottleSettings) {
        if self.settings != *settings {
            self.settings = settings.clone();
        }
    }

    /// What to do with a client that is about to log in.
    pub fn judge(&mut self, source: Source<'_>, user: &str, now: Ticks) -> Judgement {
        let mut turn = now;
        for key in keys(source, user) {
            if let Some(entry) = self.entries.get(&key)
                && now.since(entry.last) < self.settings.forget
            {
                turn = turn.max(entry.next);
            }
        }
        let wait = turn.since(now);
        if wait.is_zero() {
            return Judgement::Go;
        }
        if wait > self.settings.patience {
            return Judgement::Refuse;
        }
        // The next one waits for this one: many connections at once are no way around. Each line
        // moves on by itself, so that a user's does not hold up the others of its address.
        for key in keys(source, user) {
            let pause = self.entries.get(&key).map(|entry| self.pause(&key, entry));
            if let (Some(entry), Some(pause)) = (self.entries.get_mut(&key), pause)
                && !pause.is_zero()
            {
                entry.next = entry.next.max(now) + pause;
            }
        }
        Judgement::Wait(wait)
    }

    /// A login failed.
    pub fn failed(&mut self, source: Source<'_>, user: &str, now: Ticks) {
        for key in keys(source, user) {
            self.make_room(now);
            if self.settings.capacity == 0 {
                return;
            }
            let fresh = Entry {
                failures: 0,
                last: now,
                next: now,
            };
            let mut entry = self.entries.remove(&key).unwrap_or(fresh);
            if now.since(entry.last) >= self.settings.forget {
                entry.failures = 0;
            }
            entry.failures = entry.failures.saturating_add(1);
            entry.last = now;
            entry.next = entry.next.max(now + self.pause(&key, &entry));
            self.entries.insert(key, entry);
        }
    }

    /// A login succeeded: this user's failures from there are forgiven, those of others are not.
    pub fn succeeded(&mut self, source: Source<'_>, user: &str) {
        let [of_user, _] = keys(source, user);
        self.entries.remove(&of_user);
    }

    /// How many users and addresses are kept.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nobody is kept.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn pause(&self, key: &Key, entry: &Entry) -> Duration {
        let free = match key.1 {
            Some(_) => self.settings.free,
            None => self.settings.free_of_address,
        };
        match entry.failures.checked_sub(free.saturating_add(1)) {
            None => Duration::ZERO,
            Some(over) => {
                let factor = 2_u32.saturating_pow(over.min(31));
                let pause = self.settings.first.saturating_mul(factor);
                pause.min(self.settings.most)
            }
        }
    }

    /// Forgets those that are due, and then the oldest quarter: seldom, so that a failure costs
    /// little in the mean.
    fn make_room(&mut self, now: Ticks) {
        if self.entries.len() < self.settings.capacity {
            return;
        }
        let forget = self.settings.forget;
        self.entries
            .retain(|_, entry| now.since(entry.last) < forget);
        let keep = self.settings.capacity - self.settings.capacity.div_ceil(4);
        if self.entries.len() <= keep {
            return;
        }
        let mut ages: Vec<Ticks> = self.entries.values().map(|entry| entry.last).collect();
        ages.sort_unstable();
        let oldest = ages[ages.len() - keep - 1];
        self.entries.retain(|_, entry| entry.last > oldest);
    }
}

/// That of the user there, and that of the address.
fn keys(source: Source<'_>, user: &str) -> [Key; 2] {
    let place = match source {
        Source::Local { .. } => Place::Local,
        Source::Address(address) => match address.to_canonical() {
            IpAddr::V4(address) => Place::V4(address),
            IpAddr::V6(address) => Place::V6(network(address)),
        },
    };
    let ends = user.char_indices().map(|(at, one)| at + one.len_utf8());
    let end = ends.take_while(|&end| end <= LONGEST_NAME).last();
    let user = user[..end.unwrap_or(0)].to_owned();
    [Key(place, Some(user)), Key(place, None)]
}

fn network(address: Ipv6Addr) -> u64 {
    (address.to_bits() >> 64) as u64
}

#[cfg(test)]
mod tests;
