//! Deploys: replacements that were asked for, and those that were given up.
//!
//! What is remembered is little, and held by the keeper: an upgrade or a crash of the data process
//! must neither deploy again what was given up nor forget how often somebody asked.

use std::collections::BTreeMap;

use outgrow_fleet::protocol::{DataMessage, Hello};
use outgrow_fleet::supervise::rollout::{Fact, Standing, judge};
use serde::{Deserialize, Serialize};

use super::super::log;
use super::wanted::Wanted;
use super::{Instances, Known};

/// Under which name the keeper holds it.
const KEY: &str = "deploys";

/// What is remembered of the services' deploys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Deploys {
    services: BTreeMap<String, Deploy>,
}

/// Of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Deploy {
    /// How often a deploy was asked for.
    #[serde(default)]
    revision: u64,
    /// The specification that was given up, as its hash in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
}

impl Deploys {
    /// What the process before this one had the keeper hold.
    pub(in super::super) fn kept(hello: &Hello) -> Self {
        let kept = hello.kept.get(KEY).cloned();
        kept.and_then(|value| serde_json::from_value(value).ok())
            .unwrap_or_default()
    }

    /// For the keeper.
    pub(in super::super) fn message(&self) -> DataMessage {
        DataMessage::Keep {
            key: KEY.to_owned(),
            value: serde_json::to_value(self).unwrap_or_default(),
        }
    }

    /// The revision of a service.
    pub(super) fn revision(&self, service: &str) -> u64 {
        self.services.get(service).map_or(0, |one| one.revision)
    }

    fn is_refused(&self, service: &str, hash: u64) -> bool {
        let refused = self
            .services
            .get(service)
            .and_then(|one| one.refused.as_deref());
        refused == Some(text_of(hash).as_str())
    }
}

fn text_of(hash: u64) -> String {
    format!("{hash:016x}")
}

impl Instances {
    /// Begins a deploy of the service's present command: every instance is replaced.
    pub(in super::super) fn deploy(&mut self, service: &str) -> Result<String, String> {
        let Some(wanted) = self.wanted.get_mut(service) else {
            let known: Vec<&str> = self.wanted.keys().map(String::as_str).collect();
            return Err(match known[..] {
                [] => "no service has a command: there is nothing to deploy".to_owned(),
                _ => format!(
                    "there is no service {service:?} with a command; there are: {}",
                    known.join(", ")
                ),
            });
        };
        let deploy = self.deploys.services.entry(service.to_owned()).or_default();
        deploy.revision += 1;
        deploy.refused = None;
        self.deploys_changed = true;
        self.changed = true;
        wanted.aim_at(deploy.revision);
        let count = wanted.template.desired().count;
        log::info(&format!("{service}: deploying, {count} instances"));
        Ok(format!("deploying {service}: {count} instances"))
    }

    /// What the keeper is to hold, when that is news.
    pub(in super::super) fn take_deploys(&mut self) -> Option<DataMessage> {
        std::mem::take(&mut self.deploys_changed).then(|| self.deploys.message())
    }

    /// Judges all replacements that are under way; goes back where one is to be given up.
    pub(super) fn judge(&mut self) {
        let mut given_up = Vec::new();
        for (name, wanted) in &mut self.wanted {
            let hash = wanted.template.hash();
            let count = wanted.template.desired().count;
            let of_service = |known: &&Known| known.report.spec.service == *name;
            let facts: Vec<Fact> = self
                .known
                .values()
                .filter(of_service)
                .map(Known::fact)
                .collect();
            let mut standing = judge(hash, count, wanted.tries, &facts);
            if self.deploys.is_refused(name, hash) {
                // Given up by an earlier process, or by this one before a reload.
                let old = facts.iter().find(|one| one.hash != hash && !one.leaving);
                if let Some(old) = old {
                    standing = Standing::Failed {
                        failures: 0,
                        back_to: old.hash,
                    };
                }
            }
            if wanted.standing != Some(standing) {
                self.changed = true;
                say(name, wanted, standing);
                wanted.standing = Some(standing);
            }
            if let Standing::Failed { failures, back_to } = standing {
                given_up.push((name.clone(), failures, back_to));
            }
        }
        for (name, failures, back_to) in given_up {
            self.go_back(&name, back_to, failures > 0);
        }
    }

    /// Gives up what is being deployed, and says why.
    pub(super) fn give_up(&mut self, name: &str, why: &str) {
        let Some(wanted) = self.wanted.get(name) else {
            return;
        };
        let hash = wanted.template.hash();
        let is_old = |known: &&Known| {
            let spec = &known.report.spec;
            spec.service == name && spec.hash != hash && !known.is_leaving()
        };
        let Some(old) = self.known.values().find(is_old) else {
            return;
        };
        log::warn(&format!(
            "{name}: {why}: the deploy is given up, the old instances stay (outgrow deploy {name} \
             tries again)"
        ));
        self.go_back(name, old.report.spec.hash, true);
    }

    /// Wants the specification of the instances of this hash again; `refuse`: and never that which
    /// was wanted, until somebody asks for it.
    fn go_back(&mut self, name: &str, back_to: u64, refuse: bool) {
        let is_it =
            |known: &&Known| known.report.spec.service == name && known.report.spec.hash == back_to;
        let (Some(wanted), Some(old)) =
            (self.wanted.get_mut(name), self.known.values().find(is_it))
        else {
            return;
        };
        if refuse {
            let deploy = self.deploys.services.entry(name.to_owned()).or_default();
            deploy.refused = Some(text_of(wanted.template.hash()));
            self.deploys_changed = true;
        }
        wanted.template = wanted.template.as_before(&old.report.spec);
        wanted.rolled_back = true;
        self.changed = true;
    }

    /// How the replacements stand, by service, for the state.
    pub(in super::super) fn standings(&self) -> BTreeMap<String, DeployView> {
        let each = |(name, wanted): (&String, &Wanted)| {
            let (word, ready, old) = match wanted.standing? {
                _ if wanted.rolled_back => ("rolled_back", 0, 0),
                Standing::Done => ("done", wanted.template.desired().count, 0),
                Standing::Rolling { ready, old } if old > 0 && wanted.is_trying() => {
                    ("canary", ready, old)
                }
                Standing::Rolling { ready, old } => ("rolling", ready, old),
                Standing::Failed { .. } => ("rolled_back", 0, 0),
                Standing::Stuck { .. } => ("stuck", 0, 0),
            };
            let view = DeployView {
                word,
                ready,
                old,
                count: wanted.template.desired().count,
                revision: self.deploys.revision(name),
            };
            Some((name.clone(), view))
        };
        self.wanted.iter().filter_map(each).collect()
    }
}

/// How the replacement of one service's instances stands.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct DeployView {
    /// `canary`, `rolling`, `done`, `rolled_back` or `stuck`.
    pub(in super::super) word: &'static str,
    /// New instances that are ready.
    pub(in super::super) ready: u32,
    /// Old instances that are still there.
    pub(in super::super) old: u32,
    /// How many there are to be.
    pub(in super::super) count: u32,
    /// How often a deploy was asked for.
    pub(in super::super) revision: u64,
}

impl Known {
    fn fact(&self) -> Fact {
        Fact {
            hash: self.report.spec.hash,
            serves: self.ready,
            ready: self.settled,
            failures: self.failures(),
            leaving: self.is_leaving(),
        }
    }
}

/// Tells people of a standing that is new.
fn say(service: &str, wanted: &Wanted, standing: Standing) {
    match (wanted.standing, standing) {
        (_, Standing::Failed { failures: 0, .. }) => log::warn(&format!(
            "{service}: what the configuration says was given up before: the instances stay as \
             they are (outgrow deploy {service} tries again)"
        )),
        (_, Standing::Failed { failures, .. }) => log::warn(&format!(
            "{service}: the new instances failed {failures} times: the deploy is given up, the \
             old instances stay (outgrow deploy {service} tries again)"
        )),
        // Each further failure is told by the keeper.
        (Some(Standing::Stuck { .. }), Standing::Stuck { .. }) => {}
        (_, Standing::Stuck { failures }) => log::warn(&format!(
            "{service}: the instances failed {failures} times and none is ready: what they print says \
             why. They are tried again, less and less often (outgrow deploy {service} or a change of \
             the configuration tries at once)"
        )),
        (Some(Standing::Rolling { .. }), Standing::Done) => {
            let count = wanted.template.desired().count;
            log::info(&format!(
                "{service}: all {count} instances are new and ready"
            ));
        }
        (_, Standing::Rolling { ready, old }) if old > 0 && !wanted.rolled_back => log::info(
            &format!("{service}: replacing: {ready} new ready, {old} old left"),
        ),
        _ => {}
    }
}
