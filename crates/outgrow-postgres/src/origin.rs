//! Which instances of an application a client is: asked once at its login, answered by the binary,
//! which knows processes and endpoints.
//!
//! What is known of a client's instances decides which of its reads may go to replicas
//! ([`outgrow_core::serving`]). A client of which nobody knows reads from the primary, and what it
//! writes counts for all instances, since it may be any.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use outgrow_core::Ticks;
use outgrow_core::serving::{Demand, Position, Sample, Serving, Servings, Store, Written};

use crate::seen::Far;

/// Most instances that one client may be: those behind one address.
pub const MOST_INSTANCES: usize = 64;

/// Who knows which instance a client is.
pub trait Sources: fmt::Debug + Send + Sync {
    /// Has it placed ([`Origin::put`]), at once or soon, and again whenever that changes.
    fn place(&self, origin: &Arc<Origin>);

    /// Clients that belong nowhere, with the reason, at most so many.
    fn nowhere(&self, most: usize) -> Vec<(Arc<Origin>, &'static str)>;
}

/// Where a client belongs.
#[derive(Clone, Debug)]
pub enum Place {
    /// Nobody knows yet.
    Asked,
    /// It is one of these instances.
    Of(Arc<[Arc<Serving>]>),
    /// It is none that is known, and why.
    Nowhere(&'static str),
}

/// A client, as far as it matters for that.
#[derive(Debug)]
pub struct Origin {
    /// Its end.
    pub far: Far,
    /// Our end, over TCP.
    pub near: Option<SocketAddr>,
    /// What its application calls itself.
    pub application: Arc<str>,
    place: Mutex<Place>,
}

impl Origin {
    /// A client that is to be placed.
    pub fn new(far: Far, near: Option<SocketAddr>, application: Arc<str>) -> Arc<Self> {
        Arc::new(Self {
            far,
            near,
            application,
            place: Mutex::new(Place::Asked),
        })
    }

    /// Where it belongs.
    pub fn place(&self) -> Place {
        let place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        place.clone()
    }

    /// The routes of the HTTP requests that its instances are serving. Until it is known which they
    /// are it may be any: many applications connect for each request anew.
    pub(crate) fn sample(&self, servings: &Servings) -> Sample {
        let place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sample = Sample::default();
        match &*place {
            Place::Of(instances) => instances
                .iter()
                .for_each(|one| sample.extend(&one.sample())),
            Place::Asked => sample = servings.sample(),
            Place::Nowhere(_) => {}
        }
        sample
    }

    /// The same of those requests that were in flight already at `then`.
    pub(crate) fn sample_since(&self, servings: &Servings, then: Ticks) -> Sample {
        let mut sample = Sample::default();
        match self.place() {
            Place::Of(instances) => {
                let all = instances.iter().map(|one| one.sample_since(then));
                all.for_each(|one| sample.extend(&one));
            }
            Place::Asked => sample = servings.sample_since(then),
            Place::Nowhere(_) => {}
        }
        sample
    }

    /// Says where it belongs.
    pub fn put(&self, place: Place) {
        if let Place::Of(instances) = &place {
            count(instances, true);
        }
        let mut own = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *own, place);
        drop(own);
        if let Place::Of(instances) = &before {
            count(instances, false);
        }
    }
}

fn count(instances: &[Arc<Serving>], is_there: bool) {
    for instance in instances {
        instance.count_connection(is_there);
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        if let Place::Of(instances) = self.place() {
            count(&instances, false);
        }
    }
}

/// What the tier has of instances, once it is told.
#[derive(Debug, Default)]
pub(crate) struct Instances {
    known: OnceLock<(Arc<Servings>, Arc<dyn Sources>)>,
}

impl Instances {
    /// Says what is known; the first one counts.
    pub(crate) fn set(&self, servings: Arc<Servings>, sources: Arc<dyn Sources>) {
        let _ = self.known.set((servings, sources));
    }

    /// Clients that belong nowhere, with the reason, at most so many.
    pub(crate) fn nowhere(&self, most: usize) -> Vec<(Arc<Origin>, &'static str)> {
        let known = self.known.get();
        known.map_or_else(Vec::new, |(_, sources)| sources.nowhere(most))
    }

    /// What instances serve, once that is known.
    pub(crate) fn servings(&self) -> Option<&Servings> {
        self.known.get().map(|(servings, _)| &**servings)
    }

    /// Has a client placed.
    pub(crate) fn place(&self, origin: &Arc<Origin>) {
        match self.known.get() {
            Some((_, sources)) => sources.place(origin),
            None => origin.put(Place::Nowhere("no instances are known here")),
        }
    }

    /// Takes note that a client ended something that may have written.
    pub(crate) fn note_write(&self, origin: &Origin, written: Written) {
        let Written {
            store,
            began,
            ended,
            ..
        } = written;
        match origin.place() {
            Place::Of(instances) => {
                for instance in &*instances {
                    instance.note_write(store, began, ended);
                }
            }
            Place::Asked | Place::Nowhere(_) => {
                if let Some((servings, _)) = self.known.get() {
                    servings.unplaced().note_write(store, began, ended);
                }
            }
        }
    }

    /// What a read of the client demands of a replica because of its instances.
    pub(crate) fn demand(&self, origin: &Origin, store: Store, now: Ticks) -> Demand {
        let mut demand = Demand::default();
        let Place::Of(instances) = origin.place() else {
            demand.only_primary = true;
            return demand;
        };
        for instance in &*instances {
            instance.demand(store, now, &mut demand);
        }
        if let Some((servings, _)) = self.known.get() {
            servings.unplaced().demand(store, now, &mut demand);
        }
        demand
    }

    /// Takes note of where the primary was when it was asked for the client's sake.
    pub(crate) fn settle(&self, origin: &Origin, store: Store, asked: Ticks, position: Position) {
        if let Place::Of(instances) = origin.place() {
            for instance in &*instances {
                instance.settle_all(store, asked, position);
            }
        }
        if let Some((servings, _)) = self.known.get() {
            servings.unplaced().settle(store, asked, position);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DB: Store = Store(1);

    /// Answers at once with what it is told.
    #[derive(Debug)]
    struct Fixed(Mutex<Place>);

    impl Sources for Fixed {
        fn place(&self, origin: &Arc<Origin>) {
            origin.put(self.0.lock().expect("nobody panicked").clone());
        }

        fn nowhere(&self, _: usize) -> Vec<(Arc<Origin>, &'static str)> {
            Vec::new()
        }
    }

    fn origin() -> Arc<Origin> {
        let far = Far::Unix {
            process: 1,
            port: 0,
        };
        Origin::new(far, None, "app".into())
    }

    fn written(ended: u64) -> Written {
        Written {
            store: DB,
            ended: Ticks(ended),
            began: Ticks(ended),
            position: None,
        }
    }

    #[test]
    fn who_is_nobody_reads_from_the_primary_and_writes_for_all() {
        let servings = Arc::new(Servings::default());
        let sources = Arc::new(Fixed(Mutex::new(Place::Nowhere("a test"))));
        let instances = Instances::default();
        let lost = origin();
        instances.place(&lost);
        assert!(matches!(lost.place(), Place::Nowhere(_)), "nobody knows");
        instances.set(Arc::clone(&servings), sources.clone());
        instances.place(&lost);
        let all: Arc<[_]> = [servings.of(7)].into();
        *sources.0.lock().expect("nobody panicked") = Place::Of(all);
        let placed = origin();
        instances.place(&placed);
        assert_eq!(servings.of(7).connections(), 1);
        let demand = |origin: &Origin| instances.demand(origin, DB, Ticks(50));
        assert!(demand(&lost).only_primary);
        assert_eq!(demand(&placed), Demand::default());
        instances.note_write(&lost, written(20));
        assert_eq!(demand(&placed).wrote, Ticks(20), "it may be anybody's");
        instances.note_write(&placed, written(30));
        assert_eq!(demand(&placed).wrote, Ticks(30));
        let position = Position {
            timeline: 1,
            lsn: 9,
        };
        instances.settle(&placed, DB, Ticks(40), position);
        assert_eq!(demand(&placed).position, position);
        placed.put(Place::Nowhere("it is gone"));
        assert_eq!(servings.of(7).connections(), 0);
    }
}
