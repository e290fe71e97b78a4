//! The routes of the requests that instances have in flight, as statistics know them: by numbers, so
//! that which of them are in flight is read without a lock and kept in a few bytes.
//!
//! Deliberately not here: what a route's name is made of (the edge), and what follows from samples
//! (the database tier).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use super::lock;

/// Most routes that have a name at a time; those beyond are one without.
pub const MOST_NAMED: usize = 4096;
/// Most routes of a sample; of those beyond it is only known that there are some.
pub const MOST_SAMPLED: usize = 16;
/// Stands for routes that are not told apart.
const OTHERS: u32 = u32::MAX;

/// A route: a method and the shape of a path (`GET /orders/{id}`).
#[derive(Debug, PartialEq, Eq)]
pub struct Route {
    /// Never used twice in a process; [`u32::MAX`] for those that have no name.
    number: u32,
    name: Arc<str>,
}

impl Route {
    /// What it is called.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its number in samples.
    pub fn number(&self) -> u32 {
        self.number
    }
}

/// All routes, for as long as somebody has them.
#[derive(Debug)]
pub(super) struct Routes {
    all: Mutex<Named>,
    nameless: Arc<Route>,
}

#[derive(Debug, Default)]
struct Named {
    by_name: HashMap<Arc<str>, Weak<Route>>,
    last: u32,
}

impl Default for Routes {
    fn default() -> Self {
        let (number, name) = (OTHERS, "".into());
        Self {
            all: Mutex::default(),
            nameless: Arc::new(Route { number, name }),
        }
    }
}

impl Routes {
    pub(super) fn of(&self, name: &str) -> Arc<Route> {
        let mut all = lock(&self.all);
        if let Some(route) = all.by_name.get(name).and_then(Weak::upgrade) {
            return route;
        }
        if all.by_name.len() >= MOST_NAMED {
            all.by_name.retain(|_, route| route.strong_count() > 0);
        }
        if all.by_name.len() >= MOST_NAMED || all.last + 1 == OTHERS {
            return Arc::clone(&self.nameless);
        }
        all.last += 1;
        let (number, name) = (all.last, Arc::from(name));
        let route = Arc::new(Route { number, name });
        let entry = (Arc::clone(&route.name), Arc::downgrade(&route));
        all.by_name.insert(entry.0, entry.1);
        route
    }

    pub(super) fn nameless(&self) -> &Arc<Route> {
        &self.nameless
    }

    pub(super) fn names(&self, numbers: &[u32]) -> Vec<Option<Arc<str>>> {
        let mut names = vec![None; numbers.len()];
        for route in lock(&self.all).by_name.values().filter_map(Weak::upgrade) {
            for (name, _) in (names.iter_mut().zip(numbers)).filter(|(_, of)| **of == route.number)
            {
                *name = Some(Arc::clone(&route.name));
            }
        }
        names
    }
}

/// Which routes were in flight at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    routes: [u32; MOST_SAMPLED],
    count: u8,
    has_others: bool,
}

impl Sample {
    /// Those with these numbers; [`u32::MAX`] stands for others.
    pub fn of(numbers: impl IntoIterator<Item = u32>) -> Self {
        let mut sample = Self::default();
        for number in numbers {
            sample.add(number);
        }
        sample
    }

    /// Adds one.
    pub fn add(&mut self, number: u32) {
        let count = usize::from(self.count);
        if number == OTHERS || (count == MOST_SAMPLED && !self.has(number)) {
            self.has_others = true;
        } else if number != 0 && !self.has(number) {
            self.routes[count] = number;
            self.count += 1;
        }
    }

    /// Adds all of another one.
    pub fn extend(&mut self, other: &Self) {
        for &number in other.routes() {
            self.add(number);
        }
        self.has_others |= other.has_others;
    }

    /// The numbers of those that are told apart.
    pub fn routes(&self) -> &[u32] {
        &self.routes[..usize::from(self.count)]
    }

    /// Whether one is among them.
    pub fn has(&self, number: u32) -> bool {
        self.routes().contains(&number)
    }

    /// Whether there were others that are not told apart.
    pub fn has_others(&self) -> bool {
        self.has_others
    }

    /// Whether nothing was in flight.
    pub fn is_empty(&self) -> bool {
        self.count == 0 && !self.has_others
    }
}

/// Words of a sample that others write and read without a lock.
const WORDS: usize = MOST_SAMPLED / 2;

/// A place for a sample. Who reads while it is written sees something of both: it is for
/// statistics.
#[derive(Debug, Default)]
pub struct SampleCell([AtomicU64; WORDS]);

impl SampleCell {
    /// Writes it.
    pub fn set(&self, sample: &Sample) {
        let mut routes = sample.routes;
        if sample.has_others {
            let place = usize::from(sample.count).min(MOST_SAMPLED - 1);
            routes[place] = OTHERS;
        }
        for (word, two) in self.0.iter().zip(routes.chunks_exact(2)) {
            word.store(
                u64::from(two[0]) << 32 | u64::from(two[1]),
                Ordering::Relaxed,
            );
        }
    }

    /// Reads it.
    pub fn get(&self) -> Sample {
        let mut sample = Sample::default();
        for word in &self.0 {
            let two = word.load(Ordering::Relaxed);
            if two == 0 {
                break;
            }
            sample.add((two >> 32) as u32);
            sample.add(two as u32);
        }
        sample
    }
}

/// The distinct routes in flight at an instance, with how many requests of each.
#[derive(Debug, Default)]
pub(super) struct Distinct {
    all: Vec<(u32, u32)>,
}

impl Distinct {
    /// One more request; whether the set has changed.
    pub(super) fn begin(&mut self, number: u32) -> bool {
        if let Some((_, count)) = self.all.iter_mut().find(|(of, _)| *of == number) {
            *count += 1;
            return false;
        }
        self.all.push((number, 1));
        true
    }

    /// One less; whether the set has changed.
    pub(super) fn end(&mut self, number: u32) -> bool {
        let Some(place) = self.all.iter().position(|(of, _)| *of == number) else {
            return false;
        };
        self.all[place].1 -= 1;
        if self.all[place].1 > 0 {
            return false;
        }
        self.all.swap_remove(place);
        true
    }

    pub(super) fn sample(&self) -> Sample {
        Sample::of(self.all.iter().take(MOST_SAMPLED + 1).map(|(of, _)| *of))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_bounded_and_come_back_as_they_were() {
        let cell = SampleCell::default();
        assert!(cell.get().is_empty());
        for count in 0..=MOST_SAMPLED as u32 {
            let sample = Sample::of(1..=count);
            cell.set(&sample);
            assert_eq!(cell.get(), sample);
            assert!(!sample.has_others());
        }
        let crowded = Sample::of(1..100);
        assert_eq!(crowded.routes().len(), MOST_SAMPLED);
        assert!(crowded.has_others());
        cell.set(&crowded);
        assert!(cell.get().has_others());
        let nameless = Sample::of([OTHERS, 3, 3]);
        assert_eq!((nameless.routes(), nameless.has_others()), (&[3][..], true));
        cell.set(&nameless);
        assert_eq!(cell.get(), nameless);
    }

    #[test]
    fn routes_are_named_for_as_long_as_somebody_has_them() {
        let routes = Routes::default();
        let one = routes.of("GET /a");
        assert_eq!(routes.of("GET /a"), one);
        let all: Vec<_> = (1..MOST_NAMED)
            .map(|of| routes.of(&of.to_string()))
            .collect();
        assert_eq!(routes.of("one more").number(), OTHERS);
        let gone = all.last().expect("some").number();
        drop(all);
        let another = routes.of("one more");
        let names = routes.names(&[one.number(), gone, another.number()]);
        let expected = [Some("GET /a".into()), None, Some("one more".into())];
        assert_eq!(names, expected);
        assert!(another.number() > gone, "no number is used twice");
    }

    #[test]
    fn what_is_in_flight_is_counted() {
        let mut distinct = Distinct::default();
        assert!(distinct.begin(1) && distinct.begin(2) && !distinct.begin(1));
        assert_eq!(distinct.sample(), Sample::of([1, 2]));
        assert!(!distinct.end(1) && distinct.end(1) && !distinct.end(1));
        assert_eq!(distinct.sample(), Sample::of([2]));
    }
}
