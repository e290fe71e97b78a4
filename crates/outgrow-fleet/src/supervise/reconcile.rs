//! Which instances to start and to stop so that what runs becomes what is
//! wanted. Asked again after every change: each answer is one step, and the
//! steps come to an end.
//!
//! A changed specification is replaced step by step: `surge` new instances are started beside the
//! old ones, and `unavailable` old ones may be stopped before the new ones are ready. A step waits
//! until the new instances of the last one are ready. So with the usual limits (one beside, none
//! missing) a replacement that never becomes ready costs nothing, and goes no further. Which
//! endpoint gets requests, and when to give up, is deliberately not here.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::protocol::InstanceId;

/// What is wanted of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredService {
    /// The service's name.
    pub name: String,
    /// A hash of everything an instance is started from: a change replaces.
    pub hash: u64,
    /// How many instances. 0 stops all.
    pub count: u32,
    /// How many more than `count` may run during a replacement.
    pub surge: u32,
    /// How many fewer than `count` may be ready during a replacement.
    pub unavailable: u32,
    /// While above 0: so many new instances run beside the old ones, and no old one is stopped,
    /// until somebody has judged them.
    pub canary: u32,
    /// Whether no two may run at a time, because their port is fixed: then the old one is stopped
    /// first, whatever the limits say.
    pub exclusive: bool,
}

/// An instance that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExistingInstance {
    /// Its identity.
    pub id: InstanceId,
    /// The service that it belongs to.
    pub service: String,
    /// Its number within the service, from 1.
    pub slot: u32,
    /// The hash that it was started with.
    pub hash: u64,
    /// Whether it takes requests (its checks pass).
    pub ready: bool,
    /// It has been told to drain or to stop: it only waits for its end.
    pub leaving: bool,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start an instance with the service's present specification.
    Start {
        /// The service.
        service: String,
        /// The free slot that it takes.
        slot: u32,
    },
    /// Give it no new requests, let it finish, then stop it.
    DrainAndStop {
        /// Which.
        id: InstanceId,
    },
}

/// The next steps, for all services. Services that are not desired any more
/// lose all their instances.
pub fn reconcile(desired: &[DesiredService], existing: &[ExistingInstance]) -> Vec<Action> {
    let mut by_service: BTreeMap<&str, Vec<&ExistingInstance>> = BTreeMap::new();
    for instance in existing {
        by_service
            .entry(&instance.service)
            .or_default()
            .push(instance);
    }
    let mut actions = Vec::new();
    let mut wanted: HashMap<&str, &DesiredService> = HashMap::new();
    for service in desired {
        wanted.insert(&service.name, service);
        by_service.entry(&service.name).or_default();
    }
    for (name, instances) in by_service {
        match wanted.get(name) {
            Some(service) => reconcile_service(service, instances, &mut actions),
            None => actions.extend(
                instances
                    .iter()
                    .filter(|instance| !instance.leaving)
                    .map(|instance| Action::DrainAndStop { id: instance.id }),
            ),
        }
    }
    actions
}

fn reconcile_service(
    service: &DesiredService,
    instances: Vec<&ExistingInstance>,
    actions: &mut Vec<Action>,
) {
    let count = service.count as usize;
    let staying: Vec<&ExistingInstance> = instances
        .iter()
        .copied()
        .filter(|instance| !instance.leaving)
        .collect();
    let new = staying
        .iter()
        .filter(|instance| instance.hash == service.hash)
        .count();
    if service.canary > 0 && new < staying.len() && !service.exclusive {
        let start = (service.canary as usize).saturating_sub(new);
        actions.extend(starts(service, &instances, start));
        return;
    }
    let mut stopping = surplus(service, &staying);
    let outdated: Vec<&ExistingInstance> = in_order_of_stop(
        staying
            .iter()
            .copied()
            .filter(|instance| instance.hash != service.hash && !stopping.contains(&instance.id)),
    );
    let unready_new = staying
        .iter()
        .filter(|instance| instance.hash == service.hash && !instance.ready)
        .count();
    let mut left = staying.len() - stopping.len();
    let mut start = 0;
    if service.exclusive {
        if !outdated.is_empty() && left == count && unready_new == 0 && instances.len() == count {
            stopping.extend(outdated.first().map(|instance| instance.id));
        }
        // A fixed port is free only when the old instance is really gone.
        start = count
            .saturating_sub(left)
            .min(count.saturating_sub(instances.len()));
    } else {
        // The next step of a replacement waits until the last one is ready.
        let spare = dispensable(service, &staying, &stopping).saturating_sub(unready_new);
        let early = outdated
            .iter()
            .filter(|instance| instance.ready)
            .take(spare);
        let before = stopping.len();
        stopping.extend(early.map(|instance| instance.id));
        let early = stopping.len() - before;
        left -= early;
        let beside = left.saturating_sub(count).max(unready_new);
        let room = (service.surge as usize).saturating_sub(beside);
        start += count.saturating_sub(left) + room.min(outdated.len() - early);
    }
    actions.extend(stopping.into_iter().map(|id| Action::DrainAndStop { id }));
    actions.extend(starts(service, &instances, start));
}

/// Starts of so many instances, in the free slots.
fn starts(
    service: &DesiredService,
    instances: &[&ExistingInstance],
    count: usize,
) -> impl Iterator<Item = Action> + use<> {
    let taken: BTreeSet<u32> = instances.iter().map(|instance| instance.slot).collect();
    let name = service.name.clone();
    let free = (1..).filter(move |slot| !taken.contains(slot)).take(count);
    free.map(move |slot| Action::Start {
        service: name.clone(),
        slot,
    })
}

/// How many ready instances, beyond those that are stopped already, can be missed for a while.
fn dispensable(
    service: &DesiredService,
    staying: &[&ExistingInstance],
    stopping: &[InstanceId],
) -> usize {
    let ready = staying
        .iter()
        .filter(|instance| instance.ready && !stopping.contains(&instance.id))
        .count();
    let least = service.count.saturating_sub(service.unavailable) as usize;
    match service.unavailable {
        0 => 0,
        _ => ready.saturating_sub(least),
    }
}

/// Which of the instances are too many and can be spared: never a ready one
/// while no more than the wanted number are ready. Old ones go before new ones.
fn surplus(service: &DesiredService, staying: &[&ExistingInstance]) -> Vec<InstanceId> {
    let count = service.count as usize;
    let is_new = |instance: &&ExistingInstance| instance.hash == service.hash;
    let ready = staying.iter().filter(|instance| instance.ready).count();
    let mut spare_ready = ready.saturating_sub(count);
    let mut spare_new = staying
        .iter()
        .copied()
        .filter(is_new)
        .count()
        .saturating_sub(count);
    let mut surplus = staying.len().saturating_sub(count);
    let (new, old): (Vec<_>, Vec<_>) = staying.iter().copied().partition(is_new);
    let (old, new) = (
        in_order_of_stop(old.into_iter()),
        in_order_of_stop(new.into_iter()),
    );
    let mut stopping = Vec::new();
    for wanted_ready in [false, true] {
        for instance in old
            .iter()
            .chain(&new)
            .filter(|one| one.ready == wanted_ready)
        {
            let new = is_new(instance);
            if surplus == 0 || (instance.ready && spare_ready == 0) || (new && spare_new == 0) {
                continue;
            }
            surplus -= 1;
            spare_ready -= usize::from(instance.ready);
            spare_new -= usize::from(new);
            stopping.push(instance.id);
        }
    }
    stopping
}

/// Unready ones first, for nobody misses them; then the highest slots.
fn in_order_of_stop<'a>(
    instances: impl Iterator<Item = &'a ExistingInstance>,
) -> Vec<&'a ExistingInstance> {
    let mut ordered: Vec<_> = instances.collect();
    ordered.sort_by_key(|one| (one.ready, std::cmp::Reverse(one.slot), one.id));
    ordered
}

#[cfg(test)]
#[path = "reconcile_tests.rs"]
mod tests;
