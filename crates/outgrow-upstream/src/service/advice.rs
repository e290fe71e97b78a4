//! What the times of the checks say about the check: looked at every few seconds, told once.

use std::time::Duration;

use outgrow_core::Ticks;

use super::Members;
use crate::check::{Finding, find};
use crate::event::Event;

/// From one look at the times to the next.
const PERIOD: Duration = Duration::from_secs(5);

/// What is advised now, and when that was looked at.
#[derive(Debug, Default)]
pub(crate) struct Advice {
    looked_at: Option<Ticks>,
    pub(crate) text: Option<String>,
    /// Kinds of findings that were told since the check is as it is: slow, together.
    told: [bool; 2],
}

impl Members {
    /// Looks at the times of the checks when it is time to; what is to be told, once for each
    /// check and kind of finding.
    pub(super) fn advise(&mut self, service: &str, now: Ticks) -> Option<Event> {
        let looked_at = self.advice.looked_at;
        if looked_at.is_some_and(|at| now.since(at) < PERIOD) {
            return None;
        }
        self.advice.looked_at = Some(now);
        let check = self.settings.check.as_ref()?;
        let asked = self.list.iter().filter(|member| member.is_candidate());
        let finding = find(asked.map(|member| &member.times));
        self.advice.text = finding.map(|finding| finding.text(check.kind()));
        let text = self.advice.text.clone()?;
        let kind = usize::from(matches!(finding, Some(Finding::Together { .. })));
        if std::mem::replace(&mut self.advice.told[kind], true) {
            return None;
        }
        Some(Event::Advice {
            service: service.to_owned(),
            text,
        })
    }

    /// Another check has other times.
    pub(super) fn forget_times(&mut self) {
        self.advice = Advice::default();
        for member in &mut self.list {
            member.times = crate::check::Times::default();
        }
    }
}
