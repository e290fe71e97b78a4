//! Whose values the sequences of a server connection have, for `lastval` and `currval` in transaction
//! mode: a client is never given another one's. Pure; `client/sequences.rs` does what follows from it.
//!
//! The server keeps what sequences gave for each session of its own. Nobody tells whether something
//! called `nextval` (a column's default does, unseen), so what is followed is for how long a client had
//! a connection without another one in between, and without having had another one itself: a
//! [`Stay`]. Whatever the connection's sequences had before it is discarded before it is asked for.
//!
//! Deliberately not here: what functions ask is not seen in a text (`sql/catalogue` tells that there
//! are such functions).

use std::sync::atomic::{AtomicU8, Ordering};

use crate::sql::facts::Facts;

/// What a text has to do with sequences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Uses {
    /// It asks for what they gave last.
    pub(crate) asks: bool,
    /// It may get values.
    pub(crate) gives: bool,
    /// It has several statements: one may ask for what another one got.
    pub(crate) is_several: bool,
}

impl Uses {
    /// Of a text.
    pub(crate) fn of(facts: &Facts) -> Self {
        Self {
            asks: facts.reads_session_sequence,
            gives: facts.gives_sequence_values,
            is_several: facts.statements > 1,
        }
    }

    /// Of a function call by number: `currval` and `lastval` have the same ones in all versions.
    pub(crate) fn of_function(number: u32) -> Self {
        Self {
            asks: matches!(number, 1575 | 2559),
            ..Self::default()
        }
    }

    /// Whether it has anything to do with them.
    #[inline]
    pub(crate) fn is_some(self) -> bool {
        self.asks || self.gives
    }
}

/// What clients of a pool do with sequences, as far as it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Custom {
    /// They do not ask for what sequences gave.
    Never,
    /// They ask within the transaction or the text that got it. Connections are cleaned between
    /// clients.
    Inside,
    /// They ask afterwards too. Besides, who may have got a value keeps its connection for a moment.
    Afterwards,
}

/// A [`Custom`] that many see and that only grows.
#[derive(Debug, Default)]
pub(crate) struct Seen(AtomicU8);

impl Seen {
    /// What was seen.
    #[inline]
    pub(crate) fn custom(&self) -> Custom {
        match self.0.load(Ordering::Relaxed) {
            0 => Custom::Never,
            1 => Custom::Inside,
            _ => Custom::Afterwards,
        }
    }

    /// Takes note.
    pub(crate) fn note(&self, custom: Custom) {
        self.0.fetch_max(custom as u8, Ordering::Relaxed);
    }
}

/// A client's time at one server connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stay {
    client: u64,
    number: u64,
}

impl Stay {
    /// Of a client that has had no connection yet.
    pub(crate) fn before(client: u64) -> Self {
        Self { client, number: 0 }
    }

    /// The one after it.
    #[must_use]
    pub(crate) fn next(self) -> Self {
        let number = self.number + 1;
        Self { number, ..self }
    }

    fn is_first(self) -> bool {
        self.number == 1
    }
}

/// When a text is about to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Nothing is under way, no transaction is open.
    AtRest,
    /// What was sent before has not been answered; it ends with ReadyForQuery.
    Between,
    /// In a transaction, or in a series of messages.
    Amid,
}

/// What is to be done before a text that asks is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Before {
    Nothing,
    /// Wait for what is under way: whether a transaction is open then decides.
    Wait,
    /// Have the server discard what its sequences gave.
    Discard,
}

/// What is known of the values of a server connection's sequences.
#[derive(Debug, Default)]
pub(crate) struct Values {
    stay: Stay,
    /// Whether some may be of others.
    is_foreign: bool,
    /// Whether the client may have got one since it has the connection.
    has_given: bool,
}

impl Values {
    /// Whether the client has had it all the time.
    #[inline]
    pub(crate) fn is_of(&self, stay: Stay) -> bool {
        self.stay == stay
    }

    /// A client has it from now on.
    pub(crate) fn begin(&mut self, stay: Stay) {
        self.is_foreign = self.stay != Stay::default();
        self.has_given = false;
        self.stay = stay;
    }

    /// Whether some may be of others.
    #[inline]
    pub(crate) fn are_foreign(&self) -> bool {
        self.is_foreign
    }

    /// There are none any more.
    pub(crate) fn discard(&mut self) {
        self.is_foreign = false;
    }

    /// The client may have got one.
    pub(crate) fn give(&mut self) {
        self.has_given = true;
    }

    /// What is to be done before they are asked for. In a transaction they are taken for the client's:
    /// what it got in it would be lost. That can err once for a pool, for a client that asks without
    /// having got anything; from then on connections are clean from the start. The same goes for a
    /// client that has never had another connection, once it may have got a value.
    pub(crate) fn before_asking(&self, moment: Moment) -> Before {
        let is_own = self.stay.is_first() && self.has_given;
        match moment {
            _ if !self.is_foreign => Before::Nothing,
            Moment::AtRest if is_own => Before::Nothing,
            Moment::AtRest => Before::Discard,
            Moment::Between => Before::Wait,
            Moment::Amid => Before::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stay_ends_when_either_has_another() {
        let mut values = [Values::default(), Values::default()];
        let (mut one, mut other) = (Stay::before(1), Stay::before(2));
        let begin = |values: &mut Values, stay: &mut Stay| {
            if !values.is_of(*stay) {
                *stay = stay.next();
                values.begin(*stay);
            }
            values.are_foreign()
        };
        assert!(!begin(&mut values[0], &mut one), "nobody had it");
        assert!(!begin(&mut values[0], &mut one), "only itself");
        assert!(!begin(&mut values[1], &mut other));
        assert!(begin(&mut values[0], &mut other), "the first had it");
        values[0].discard();
        assert!(!begin(&mut values[0], &mut other), "nothing was left");
        assert!(begin(&mut values[0], &mut one), "the other had it since");
        values[0].discard();
        // With another connection in between, what is left there is not the last.
        assert!(begin(&mut values[1], &mut one));
        assert!(begin(&mut values[0], &mut one));
    }

    #[test]
    fn what_others_got_is_not_asked_for() {
        use Before::{Discard, Nothing, Wait};
        let check = |stays: u64, gives: bool, moment: Moment, expected: Before| {
            let mut values = Values::default();
            values.begin(Stay::before(7).next());
            let mut stay = Stay::before(1);
            for _ in 0..stays {
                stay = stay.next();
            }
            values.begin(stay);
            if gives {
                values.give();
            }
            assert_eq!(values.before_asking(moment), expected, "{values:?}");
            values.discard();
            assert_eq!(values.before_asking(moment), Nothing, "{values:?}");
        };
        check(1, false, Moment::AtRest, Discard);
        check(1, true, Moment::AtRest, Nothing);
        check(2, true, Moment::AtRest, Discard);
        check(2, true, Moment::Between, Wait);
        check(2, true, Moment::Amid, Nothing);
    }

    #[test]
    fn custom_only_grows() {
        let seen = Seen::default();
        for (noted, expected) in [
            (Custom::Never, Custom::Never),
            (Custom::Afterwards, Custom::Afterwards),
            (Custom::Inside, Custom::Afterwards),
        ] {
            seen.note(noted);
            assert_eq!(seen.custom(), expected);
        }
    }
}
