//! Registration brought together with the services: what is usable here is what others are told.

use std::collections::BTreeMap;
use std::time::Duration;

use outgrow_core::settings::Address;
use outgrow_core::{Clock, Ticks};
use outgrow_discover::Registration;
use outgrow_discover::registration::{
    Entries, Entry, News, RegisterAddress, RegisterSettings, State,
};
use outgrow_upstream::{Registry, ServiceState};
use serde_json::{Value, json};

use super::{discover, log};
use crate::config::Config;

/// How long a withdrawal may take before nobody waits for it any more: then the entries' own time
/// ends them.
pub(super) const LIMIT: Duration = Duration::from_secs(5);
/// The largest weight, as in the configuration.
const WEIGHT_MAX: u32 = 1_000;

/// All registrations under way, by service.
#[derive(Debug)]
pub(super) struct Registrations {
    owner: String,
    running: BTreeMap<String, Registration>,
    /// Those that a reload removed or moved, while they withdraw, with the end of that.
    leaving: Vec<Leaving>,
    /// Whether nothing is to be registered any more.
    withdrawing: bool,
    /// Whether anything was there when that began.
    had_entries: bool,
}

/// A registration that withdraws.
#[derive(Debug)]
struct Leaving {
    service: String,
    registration: Registration,
    /// When nobody waits for it any more.
    end: Ticks,
}

impl Registrations {
    /// None yet; `owner` is how this box is called.
    pub(super) fn new(owner: String) -> Self {
        Self {
            owner,
            running: BTreeMap::new(),
            leaving: Vec::new(),
            withdrawing: false,
            had_entries: false,
        }
    }

    /// Brings them to what a configuration says. One that is gone, or is told elsewhere from now on,
    /// withdraws; of one that is told otherwise in the same place the new one takes the entries over,
    /// and what it does not take ends by its own time.
    pub(super) fn configure(&mut self, config: &Config, clock: Clock) {
        let end = clock.now() + LIMIT;
        let surroundings = discover::surroundings(clock);
        let wanted = |name: &str| config.service.get(name)?.register.as_ref();
        let (staying, others) = std::mem::take(&mut self.running)
            .into_iter()
            .partition(|(name, one)| wanted(name) == Some(one.settings()));
        self.running = staying;
        for (name, one) in others {
            if !wanted(&name).is_some_and(|new| new.is_same_place(one.settings())) {
                one.want(Entries::new());
                self.leaving.push(Leaving {
                    service: name,
                    registration: one,
                    end,
                });
            }
        }
        for (name, service) in &config.service {
            if let Some(settings) = &service.register
                && !self.running.contains_key(name.as_str())
                && let Some(one) = Registration::start(settings, &self.owner, surroundings)
            {
                // One that still withdraws there would take away what this one puts.
                self.leaving.retain(|leaving| {
                    let there = leaving.registration.settings();
                    leaving.service != name.as_str() || !settings.is_same_place(there)
                });
                self.running.insert(name.as_str().to_owned(), one);
            }
        }
    }

    /// Tells what is usable now. To be called a few times a second.
    pub(super) fn step(&mut self, registry: &Registry, config: &Config, now: Ticks) {
        for (name, one) in &mut self.running {
            let service = registry.service(name);
            let entries = match service {
                Some(service) if !self.withdrawing => {
                    let zone = &config.process.zone;
                    entries(one.settings(), zone, &service.state(now))
                }
                _ => Entries::new(),
            };
            let count = entries.len();
            let had = one.state(now).wanted;
            if one.want(entries) && count != had {
                let registry = one.state(now).registry;
                log::info(&format!("service {name}: {count} entries in {registry}"));
            }
            match one.news() {
                Some(News::Fails(problem)) => log::warn(&format!(
                    "service {name}: not registered in {}: {problem}; tried again",
                    one.state(now).registry
                )),
                Some(News::Answers) => log::info(&format!(
                    "service {name}: registered in {} again",
                    one.state(now).registry
                )),
                None => {}
            }
        }
        self.leaving
            .retain(|one| !one.registration.is_done() && now < one.end);
    }

    /// Has everything withdrawn.
    pub(super) fn withdraw(&mut self) {
        self.withdrawing = true;
        let has_entries = |one: &Registration| one.state(Ticks::ZERO).entries > 0;
        self.had_entries = self.running.values().any(has_entries);
    }

    /// Whether the registries have said that nothing is there any more.
    pub(super) fn is_withdrawn(&self) -> bool {
        let is_gone = |one: &Registration| one.is_done() && one.state(Ticks::ZERO).wanted == 0;
        let leaving = self.leaving.is_empty();
        self.withdrawing && leaving && self.running.values().all(is_gone)
    }

    /// Whether there is anything whose going others have to see.
    pub(super) fn had_entries(&self) -> bool {
        self.had_entries
    }

    /// Leaves everything to the next data process, which puts the same.
    pub(super) fn leave(&mut self) {
        self.running.clear();
        self.leaving.clear();
    }

    /// What can be told, by service.
    pub(super) fn states(&self, now: Ticks) -> BTreeMap<String, State> {
        let state = |(name, one): (&String, &Registration)| (name.clone(), one.state(now));
        self.running.iter().map(state).collect()
    }
}

/// A registration's state for people and programs.
pub(super) fn told(state: &State) -> Value {
    json!({
        "registry": state.registry,
        "wanted": state.wanted,
        "entries": state.entries,
        "age_ms": state.age.map(|age| age.as_millis() as u64),
        "problem": state.problem,
        "failures": state.failures,
    })
}

/// What others are to be told of a service: of those of its endpoints that are known to be well. One
/// that was not checked yet is not told, nor one that gets requests for want of better ones.
fn entries(settings: &RegisterSettings, zone: &str, service: &ServiceState) -> Entries {
    let is_well = |one: &&outgrow_upstream::EndpointState| {
        one.usable && one.health == "up" && one.ejected_for.is_none()
    };
    let well = service.endpoints.iter().filter(is_well);
    let zone = settings.zone.as_deref().unwrap_or(zone);
    let entry = |address: Address, weight: u32| Entry {
        address,
        weight: weight.min(WEIGHT_MAX),
        zone: zone.to_owned(),
    };
    match &settings.address {
        RegisterAddress::Box(address) => {
            let count = u32::try_from(well.count()).unwrap_or(u32::MAX);
            if count == 0 {
                return Entries::new();
            }
            let weight = settings.weight.saturating_mul(count);
            Entries::from([(service.name.clone(), entry(address.clone(), weight))])
        }
        RegisterAddress::Instances(host) => {
            let instance = |one: &outgrow_upstream::EndpointState| {
                let Address::Tcp { port, .. } = one.address.parse().ok()? else {
                    return None;
                };
                // While one replaces another of the same name there are both.
                let name = format!("{}:{port}", one.instance.as_deref()?);
                let address = Address::tcp(host.clone(), port);
                Some((name, entry(address, settings.weight)))
            };
            well.filter_map(instance).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use outgrow_upstream::EndpointOptions;
    use outgrow_upstream::Health;

    use super::*;
    use crate::assemble::compile;
    use crate::assemble::discover::Discoveries;
    use crate::config::{Surroundings, load};

    fn check(address: &str, ups: &[u16], others: &[u16], expected: &[&str]) {
        let text = format!(
            r#"
[process]
zone = "z"
[listener.l]
address = "127.0.0.1:80"
[service.app]
command = "serve"
register = {{ consul = {{ service = "app" }}, address = "{address}", weight = 3 }}
[route.r]
service = "app"
"#
        );
        let surroundings = Surroundings {
            environment: &|_| None,
            readable: &|_| Ok(()),
            machine: None,
        };
        let config = load(&text, &surroundings).expect("good").config;
        let registry = Registry::new(1);
        compile::services(&config, &registry, &Discoveries::default(), Ticks::ZERO);
        let service = registry.service("app").expect("a service");
        for (ports, initial) in [(ups, Health::Up), (others, Health::Down)] {
            for port in ports {
                let options = EndpointOptions {
                    instance: Some(format!("app.{}", port % 10)),
                    initial,
                    ..EndpointOptions::default()
                };
                service.set_endpoint(Address::tcp("127.0.0.1", *port), options, Ticks::ZERO);
            }
        }
        let register = config.service["app"].register.as_ref().expect("a table");
        let entries = entries(register, &config.process.zone, &service.state(Ticks::ZERO));
        let told = entries.iter();
        let told: Vec<String> = told
            .map(|(name, one)| format!("{name} {} {} {}", one.address, one.weight, one.zone))
            .collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn what_is_well_is_told() {
        check("10.0.0.1:80", &[], &[], &[]);
        check("10.0.0.1:80", &[4_001], &[], &["app 10.0.0.1:80 3 z"]);
        check(
            "10.0.0.1:80",
            &[4_001, 4_002],
            &[4_003],
            &["app 10.0.0.1:80 6 z"],
        );
        // All of them are used when too few are well; that is nothing to tell others.
        check("10.0.0.1:80", &[], &[4_001, 4_002], &[]);
        let both = [
            "app.1:4001 10.0.0.1:4001 3 z",
            "app.1:5001 10.0.0.1:5001 3 z",
        ];
        check("10.0.0.1", &[4_001, 5_001], &[4_002], &both);
    }
}
