//! What a Lease that was seen means: pure, the time is an argument.
//!
//! The API server does not end a Lease: those who want it do, when its holder has not renewed it for
//! as long as it says. How late it is by the holder's clock (`renewTime`) means nothing here, since
//! clocks differ by anything. What counts is for how long by our own clock we have seen the same
//! writing of it: the holder sent its last renewal before we first saw it, and believes in it for two
//! thirds of the time that we wait. Whoever sees it for the first time waits for the whole of it,
//! however old it looks.

use std::time::Duration;

use super::super::time::BootTime;

/// A Lease as far as it matters.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Record<'r> {
    /// Which writing of it; never compared but for being the same.
    pub(in super::super) version: &'r str,
    /// Empty: nobody.
    pub(in super::super) holder: &'r str,
    /// By the holder's clock. Looked at because the versions of a cluster that is restored from an
    /// older state begin to repeat.
    pub(in super::super) renewed: &'r str,
    /// How long it is the holder's without being renewed.
    pub(in super::super) lasts: Duration,
}

/// Another one's Lease, and until when it is left to it.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Sight {
    seen: Option<Seen>,
}

#[derive(Clone, Debug)]
struct Seen {
    version: String,
    holder: String,
    renewed: String,
    lasts: Duration,
    until: BootTime,
}

impl Seen {
    fn is_of(&self, record: &Record<'_>) -> bool {
        self.version == record.version
            && self.holder == record.holder
            && self.renewed == record.renewed
            && self.lasts == record.lasts
    }
}

impl Sight {
    /// Takes note of what was read, `now` being after that; `None`: there is no such Lease. Gives
    /// whose it still is and until when that is so at least, or nothing when it may be taken: if it
    /// is still as it was read by the time that this is written.
    pub(in super::super) fn look(
        &mut self,
        record: Option<Record<'_>>,
        identity: &str,
        now: BootTime,
    ) -> Option<(&str, BootTime)> {
        match record {
            // Who gives a Lease back leaves it there: this one was deleted, by somebody who knows
            // nothing of its holder.
            None => {}
            Some(record) if record.holder.is_empty() || record.holder == identity => {
                self.seen = None;
            }
            Some(record) if self.seen.as_ref().is_some_and(|seen| seen.is_of(&record)) => {}
            Some(record) => {
                self.seen = Some(Seen {
                    version: record.version.to_owned(),
                    holder: record.holder.to_owned(),
                    renewed: record.renewed.to_owned(),
                    lasts: record.lasts,
                    until: now + record.lasts,
                });
            }
        }
        let seen = self.seen.as_ref().filter(|seen| now < seen.until)?;
        Some((&seen.holder, seen.until))
    }
}
