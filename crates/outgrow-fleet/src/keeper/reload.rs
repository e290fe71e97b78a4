//! A reload by SIGHUP, which the active data process does, and what whoever has
//! started the keeper is told of that and of how it is.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::data::Role;
use super::run::Keeper;
use super::stop::Stage;
use crate::moment::Moment;
use crate::protocol::KeeperMessage;

/// A data process of an older version does not say that it has reloaded.
const LIMIT: Duration = Duration::from_secs(30);

/// A reload under way.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Reloading {
    number: u64,
    /// Nobody waits for longer.
    pub(super) until: Moment,
}

impl Keeper {
    /// SIGHUP.
    pub(super) fn reload(&mut self) {
        self.facts.reloads += 1;
        let number = self.facts.reloads;
        self.notifier.reloading();
        self.facts.reload = Some(Reloading {
            number,
            until: Moment::now().after(LIMIT),
        });
        // A candidate may have read the old configuration already.
        let mut told = false;
        for index in 0..self.data.len() {
            if self.data[index].role != Role::Draining {
                self.tell(index, &KeeperMessage::Reload { number }, &[]);
                told = true;
            }
        }
        if !told {
            self.log.warn(
                "SIGHUP: there is no data process for now; the next one reads the configuration",
            );
        }
    }

    /// The active data process has done it, or refused to.
    pub(super) fn reloaded(&mut self, number: u64, ok: bool, message: String) {
        self.facts.refused = (!ok).then_some(message);
        if self.facts.reload.is_some_and(|one| one.number <= number) {
            self.reload_is_over();
        }
    }

    fn reload_is_over(&mut self) {
        if self.facts.reload.take().is_some() && self.stage == Stage::Serving {
            self.notifier.ready();
            self.tell_unused();
        }
    }

    /// A data process serves; it has read the configuration.
    pub(super) fn serves(&mut self, index: usize) {
        if self.data[index].role == Role::Active {
            self.facts.refused = None;
        }
        let reload = self.facts.reload.take();
        if reload.is_some() || self.data[index].role == Role::Active {
            self.notifier.ready();
        }
        self.tell_unused();
    }

    /// Nobody accepts from those, and who connects to them waits.
    fn tell_unused(&self) {
        for socket in self.listeners.unused() {
            self.log.warn(&format!(
                "{socket} was passed to outgrow and no listener has that address or name: who \
                 connects to it waits for nothing"
            ));
        }
    }

    /// An orderly stop begins.
    pub(super) fn tell_stopping(&mut self) {
        self.facts.reload = None;
        let drain = self.facts.limits.stop_drain + self.options.drain_margin;
        self.notifier.stopping(drain + self.instances.longest_end());
    }

    /// Says how it is, and what has not been said yet.
    pub(super) fn notify(&mut self) {
        let now = Moment::now();
        if self.facts.reload.is_some_and(|one| one.until <= now) {
            self.reload_is_over();
        }
        if self.notifier.is_on() {
            let status = self.status();
            self.notifier.status(&status);
            self.notifier.advance(now);
        }
    }

    fn status(&self) -> String {
        let (running, all) = self.instances.running();
        let instances = format!("{running} of {all} instances run");
        match self.stage {
            Stage::Serving => {}
            Stage::Draining { .. } => {
                return format!("Stopping: what is in flight is finished; {instances}");
            }
            Stage::Stopping { .. } => return format!("Stopping; {instances}"),
        }
        let active = |role| {
            let mut data = self.data.iter();
            data.find(|data| data.role == role && data.ready)
        };
        let Some(data) = active(Role::Active) else {
            return format!("Starting; {instances}");
        };
        let doing = match (&self.facts.refused, &self.facts.reload) {
            _ if self.candidate_program.is_some() => "Upgrading",
            (_, Some(_)) => "Reloading",
            (Some(_), None) if self.facts.in_part => "Serving",
            (Some(_), None) => "Serving what was in force before a reload that was refused",
            (None, None) => "Serving",
        };
        let draining = self.data.iter().filter(|data| data.role == Role::Draining);
        let draining = match draining.count() {
            0 => String::new(),
            count => format!(", {count} before it drain"),
        };
        let why = self
            .facts
            .refused
            .as_deref()
            .and_then(|text| text.lines().next());
        let why = why.map(|line| format!(": {line}")).unwrap_or_default();
        format!(
            "{doing}; data process {}{draining}; {instances}{why}",
            data.generation
        )
    }
}
