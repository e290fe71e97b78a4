//! The end: data processes drain first, then the instances are stopped, then
//! the keeper exits. Each step has a limit, and a second signal skips to the
//! end.

use std::time::Duration;

use super::data::Role;
use super::run::Keeper;
use crate::moment::Moment;
use crate::protocol::{DrainReason, KeeperMessage};

/// How long shims may take to kill what they run when everything is to end at
/// once; then they are killed themselves.
const AT_ONCE_LIMIT: Duration = Duration::from_secs(3);

/// How far the end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// No end is in sight.
    Serving,
    /// Data processes finish what they have in flight; instances still run.
    Draining { code: u8 },
    /// Instances are being stopped.
    Stopping {
        code: u8,
        kill_shims_at: Option<Moment>,
    },
}

impl Stage {
    pub(super) fn deadline(self) -> Option<Moment> {
        match self {
            Self::Stopping { kill_shims_at, .. } => kill_shims_at,
            Self::Serving | Self::Draining { .. } => None,
        }
    }
}

/// The same signal this soon after is the same wish, not a second one.
const ECHO: Duration = Duration::from_millis(100);

impl Keeper {
    /// SIGTERM or SIGINT: the first stops gracefully, the second at once.
    pub(super) fn stop_signal(&mut self, signal: i32) {
        let now = Moment::now();
        let same = self
            .stopped_by
            .is_some_and(|(earlier, at)| earlier == signal && now.since(at) < ECHO);
        self.stopped_by = Some((signal, now));
        if self.stage == Stage::Serving {
            self.log.info("stopping; a second signal stops at once");
            self.stop();
        } else if same {
            // Sent to the process and to its group at once, as timeout(1) does.
        } else {
            self.log.warn("a second signal: stopping at once");
            self.stop_at_once(128_u8.saturating_add(u8::try_from(signal).unwrap_or(0)));
        }
    }

    /// Stops gracefully.
    pub(super) fn stop(&mut self) {
        if self.stage != Stage::Serving {
            return;
        }
        self.stage = Stage::Draining { code: 0 };
        self.become_program = None;
        self.tell_stopping();
        // What the data processes hold of the sockets goes on until they close
        // it; ours would only collect connections that nobody takes.
        self.listeners.close_sockets();
        let limit = self.facts.limits.stop_drain + self.options.drain_margin;
        let deadline = Moment::now().after(limit);
        for index in 0..self.data.len() {
            let data = &mut self.data[index];
            data.deadline = Some(data.deadline.map_or(deadline, |own| own.min(deadline)));
            if data.role == Role::Candidate {
                data.kill();
            }
            self.tell(
                index,
                &KeeperMessage::Drain {
                    reason: DrainReason::Stop,
                },
                &[],
            );
        }
    }

    /// The first data process could not start.
    pub(super) fn give_up(&mut self) {
        self.listeners.close_all();
        for data in &self.data {
            data.kill();
        }
        self.notifier.stopping(AT_ONCE_LIMIT * 2);
        self.stage = Stage::Draining { code: 1 };
    }

    fn stop_at_once(&mut self, code: u8) {
        self.listeners.close_all();
        for data in &self.data {
            data.kill();
        }
        self.with_instances(|instances, context| {
            instances.stop_all(Some(Duration::ZERO), context);
        });
        self.notifier.stopping(AT_ONCE_LIMIT * 2);
        let kill_shims_at = Some(Moment::now().after(AT_ONCE_LIMIT));
        self.stage = Stage::Stopping {
            code,
            kill_shims_at,
        };
    }

    /// Goes on with the end when a step is done; gives the exit code at last.
    pub(super) fn advance_stop(&mut self) -> Option<u8> {
        match self.stage {
            Stage::Serving => None,
            Stage::Draining { code } => {
                if !self.data.is_empty() {
                    return None;
                }
                self.listeners.close_all();
                let count = self.instances.len();
                if count > 0 {
                    self.notifier.more_time(self.instances.longest_end());
                    self.log.info(&format!("stopping {count} instances"));
                }
                self.with_instances(|instances, context| instances.stop_all(None, context));
                self.stage = Stage::Stopping {
                    code,
                    kill_shims_at: None,
                };
                self.instances.is_empty().then_some(code)
            }
            Stage::Stopping {
                code,
                kill_shims_at,
            } => {
                if self.instances.is_empty() && self.data.is_empty() {
                    return Some(code);
                }
                if kill_shims_at.is_some_and(|at| at <= Moment::now()) {
                    self.instances.kill_shims();
                    self.stage = Stage::Stopping {
                        code,
                        kill_shims_at: None,
                    };
                }
                None
            }
        }
    }
}
