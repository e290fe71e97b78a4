//! What data processes say to the keeper, and what it does about it. Only the
//! active one commands; what a candidate commands waits until it is active.

use std::time::Duration;

use super::data::Role;
use super::facts::Limits;
use super::listeners::Wanted;
use super::run::Keeper;
use super::stop::Stage;
use crate::moment::Moment;
use crate::protocol::{DataMessage, KeeperMessage};

/// From `Drained` to the exit.
const EXIT_LIMIT: Duration = Duration::from_secs(5);
/// The most bytes of JSON that are kept for data processes.
const KEPT_LIMIT: usize = 8 * 1024 * 1024;
/// The most commands of a candidate that are held.
const HELD_LIMIT: usize = 4096;

impl Keeper {
    pub(super) fn heard(&mut self, generation: u64, message: DataMessage) {
        let Some(index) = self.index(generation) else {
            return;
        };
        let role = self.data[index].role;
        match message {
            DataMessage::Bind {
                key,
                name,
                address,
                sockets,
                private,
            } => self.bind(
                index,
                &Wanted {
                    key: &key,
                    name: &name,
                    address: &address,
                    sockets,
                    private,
                },
            ),
            DataMessage::Ready { keeper_state } => self.is_ready(index, keeper_state),
            DataMessage::Drained {} => {
                self.data[index].deadline = Some(Moment::now().after(EXIT_LIMIT));
            }
            DataMessage::Fatal { message } => self.is_fatal(index, &message),
            DataMessage::Reloaded {
                number,
                ok,
                in_part,
                message,
            } => {
                if role == Role::Active {
                    self.facts.in_part = in_part;
                    self.reloaded(number, ok, message);
                }
            }
            DataMessage::InFlight { instances } => {
                self.data[index].in_flight = instances;
                self.tell_in_flight();
            }
            command if role == Role::Active => self.command(command),
            // What it bound itself only.
            DataMessage::Release { key } if self.data[index].bound.contains(&key) => {
                self.data[index].bound.retain(|one| *one != key);
                self.listeners.release(&key);
            }
            command if role == Role::Candidate => {
                if self.data[index].held.len() < HELD_LIMIT {
                    self.data[index].held.push(command);
                } else {
                    self.log
                        .error("the new data process commands too much before it is ready");
                    self.data[index].kill();
                }
            }
            // Its last word about it, for the one that goes on.
            DataMessage::Keep { key, value } => {
                self.tell_active(&KeeperMessage::Kept { key, value });
            }
            _ => self.log.warn(&format!(
                "data process {generation} drains: its commands do not count any more"
            )),
        }
    }

    /// Does what the active data process wants.
    pub(super) fn command(&mut self, message: DataMessage) {
        match message {
            DataMessage::Release { key } => {
                self.listeners.release(&key);
            }
            DataMessage::StartInstance { spec } => {
                if matches!(self.stage, Stage::Serving | Stage::Draining { .. }) {
                    self.with_instances(|instances, context| {
                        instances.start(spec, context);
                    });
                }
            }
            DataMessage::StopInstance { id } => {
                self.with_instances(|instances, context| instances.stop(id, None, context));
            }
            DataMessage::RestartInstance {
                id,
                reason,
                never_ready,
            } => {
                self.with_instances(|instances, context| {
                    instances.restart(id, &reason, never_ready, context);
                });
            }
            DataMessage::UpdateInstance {
                id,
                stop_grace_ms,
                restart,
            } => self.instances.update(id, stop_grace_ms, restart),
            DataMessage::LimitInstance { id, limits } => {
                self.with_instances(|instances, context| instances.limit(id, limits, context));
            }
            DataMessage::Upgrade { binary } => self.upgrade(binary),
            DataMessage::Stop {} => self.stop(),
            DataMessage::Keep { key, value } => self.keep(key, value),
            DataMessage::SetLimits {
                stop_drain_ms,
                upgrade_drain_ms,
            } => {
                self.facts.limits = Limits {
                    stop_drain: Duration::from_millis(stop_drain_ms),
                    upgrade_drain: Duration::from_millis(upgrade_drain_ms),
                };
            }
            // Taken before it comes to commands.
            DataMessage::Bind { .. }
            | DataMessage::Ready { .. }
            | DataMessage::Drained {}
            | DataMessage::Fatal { .. }
            | DataMessage::InFlight { .. }
            | DataMessage::Reloaded { .. }
            | DataMessage::Unknown => {}
        }
    }

    fn bind(&mut self, index: usize, wanted: &Wanted<'_>) {
        let refused = match (self.data[index].role, self.stage) {
            (Role::Draining, _) => Some("this data process drains".to_owned()),
            (_, Stage::Serving) => None,
            _ => Some("everything is being stopped".to_owned()),
        };
        let is_new = !self.listeners.has(wanted.key);
        let bound = match refused {
            Some(reason) => Err(reason),
            None => self
                .listeners
                .bind(wanted)
                .map_err(|error| error.to_string()),
        };
        let key = wanted.key.to_owned();
        if is_new && bound.is_ok() && self.data[index].role == Role::Candidate {
            self.data[index].bound.push(key.clone());
        }
        let sent = match bound {
            Ok(bound) => {
                let message = KeeperMessage::Bound {
                    key,
                    address: bound.address.clone(),
                    sockets: bound.sockets.len() as u32,
                };
                self.data[index]
                    .channel
                    .send(&message, &bound.descriptors())
            }
            Err(reason) => {
                let message = KeeperMessage::BindFailed { key, reason };
                self.data[index].channel.send(&message, &[])
            }
        };
        if let Err(error) = sent {
            self.log
                .error(&format!("a data process cannot be told: {error}"));
            self.data[index].kill();
        }
    }

    fn keep(&mut self, key: String, value: serde_json::Value) {
        let facts = &mut self.facts;
        // What was kept before is not what is now.
        facts.kept.remove(&key);
        let known = facts.kept_sizes.remove(&key);
        if value.is_null() {
            return;
        }
        let size = |name: &str, value: &serde_json::Value| name.len() + value.to_string().len();
        // A successor does not know the sizes.
        for (name, value) in &facts.kept {
            let of_it = || size(name, value);
            facts.kept_sizes.entry(name.clone()).or_insert_with(of_it);
        }
        let others: usize = facts.kept_sizes.values().sum();
        let own = size(&key, &value);
        if others + own <= KEPT_LIMIT {
            facts.kept_sizes.insert(key.clone(), own);
            facts.kept.insert(key, value);
            return;
        }
        // Told once, and nothing is counted for it.
        if known != Some(0) {
            self.log.error(&format!(
                "`{key}` is not kept for the next data process: all values together exceed 8 MiB"
            ));
        }
        facts.kept_sizes.insert(key, 0);
    }
}
