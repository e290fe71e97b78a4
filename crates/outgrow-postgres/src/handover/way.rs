//! What becomes of a client that is at rest while its process leaves: pure, time is an argument.

use std::time::Duration;

use outgrow_core::Ticks;

/// For how long clients are not listened to while the next process is not there, or does not say
/// who it is: what they say meanwhile waits in the kernel and goes with them. It is there after
/// some milliseconds; one that replaces it because it died, after some hundreds.
pub(crate) const HOLD: Duration = Duration::from_secs(3);
/// For how long they are served on after that, before they are told to reconnect.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Way {
    /// It is told to reconnect.
    Tell,
    /// It asks the next process to take it.
    Offer,
    /// It waits, and nobody listens to it.
    Hold,
    /// It goes on here.
    Serve,
}

impl Way {
    pub(crate) fn of(number: u8) -> Self {
        match number {
            1 => Self::Offer,
            2 => Self::Hold,
            3 => Self::Serve,
            _ => Self::Tell,
        }
    }
}

/// The next process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Successor {
    /// It is not there, or has not said who it is, since then.
    None(Ticks),
    /// It takes clients.
    Takes,
    /// It does not.
    Cannot,
}

/// A process that leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leaving {
    /// None while this process does not leave, or leaves without anybody to take over.
    successor: Option<Successor>,
}

impl Leaving {
    /// There is a next process, of which nobody knows yet what it can.
    pub(crate) fn meet(&mut self, now: Ticks) {
        self.successor = Some(Successor::None(now));
    }

    /// It has said whether it takes clients.
    pub(crate) fn hear(&mut self, takes: bool) {
        self.successor = Some(match takes {
            true => Successor::Takes,
            false => Successor::Cannot,
        });
    }

    /// It is gone. One that cannot take clients is not waited for.
    pub(crate) fn lose(&mut self, now: Ticks) {
        if self.successor == Some(Successor::Takes) {
            self.successor = Some(Successor::None(now));
        } else {
            self.successor = Some(Successor::Cannot);
        }
    }

    /// Whether there is, or was, a next process.
    pub(crate) fn has_successor(&self) -> bool {
        self.successor.is_some()
    }

    /// What a client at rest does.
    pub(crate) fn way(&self, now: Ticks) -> Way {
        match self.successor {
            None | Some(Successor::Cannot) => Way::Tell,
            Some(Successor::Takes) => Way::Offer,
            Some(Successor::None(since)) => match now.since(since) {
                waited if waited < HOLD => Way::Hold,
                waited if waited < HOLD + PATIENCE => Way::Serve,
                _ => Way::Tell,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Ticks {
        Ticks(seconds * 1_000_000_000)
    }

    #[test]
    fn who_has_nobody_to_go_to_is_told() {
        let mut leaving = Leaving::default();
        assert_eq!(leaving.way(at(0)), Way::Tell);
        leaving.meet(at(10));
        assert_eq!(leaving.way(at(10)), Way::Hold);
        leaving.hear(false);
        assert_eq!(leaving.way(at(10)), Way::Tell);
        // Another one may be able to.
        leaving.meet(at(20));
        leaving.hear(true);
        assert_eq!(leaving.way(at(99)), Way::Offer);
    }

    #[test]
    fn a_successor_that_dies_is_waited_for_but_not_for_ever() {
        let mut leaving = Leaving::default();
        leaving.meet(at(0));
        leaving.hear(true);
        leaving.lose(at(100));
        for (second, expected) in [
            (100, Way::Hold),
            (102, Way::Hold),
            (103, Way::Serve),
            (132, Way::Serve),
            (133, Way::Tell),
        ] {
            assert_eq!(leaving.way(at(second)), expected, "{second}");
        }
        leaving.meet(at(110));
        assert_eq!(leaving.way(at(111)), Way::Hold);
        leaving.hear(true);
        assert_eq!(leaving.way(at(111)), Way::Offer);
    }

    #[test]
    fn one_that_goes_without_a_word_cannot_take_clients() {
        let mut leaving = Leaving::default();
        leaving.meet(at(0));
        leaving.lose(at(0));
        assert_eq!(leaving.way(at(0)), Way::Tell);
    }

    #[test]
    fn ways_are_numbers() {
        for way in [Way::Tell, Way::Offer, Way::Hold, Way::Serve] {
            assert_eq!(Way::of(way as u8), way);
        }
    }
}
