//! A ticket: what a user is known to have written, signed, as text.
//!
//! Version, counts, expiry, then of each store its name's hash with timeline and position, and of
//! each instance its identity and until when it counts; then a MAC. It holds nothing secret: a
//! position in a log, no data. Whoever shows another user's ticket makes reads wait, no more.

use aws_lc_rs::hmac;
use outgrow_core::base64;
use outgrow_core::serving::{MOST_STORES, Position, Store};

const VERSION: u8 = 1;
/// Bytes of a MAC: guessing one takes 2^96 tries.
const MAC_BYTES: usize = 12;
/// Bytes before the lists.
const HEAD_BYTES: usize = 7;
const WRITTEN_BYTES: usize = 16;
const AFTER_BYTES: usize = 12;
/// Most instances that are named.
const MOST_AFTER: usize = 4;
/// The most bytes of all.
const MOST_BYTES: usize =
    HEAD_BYTES + MOST_STORES * WRITTEN_BYTES + MOST_AFTER * AFTER_BYTES + MAC_BYTES;
/// The position of a floor that is not known; its timeline is then the second until which only the
/// primary is read from.
const UNKNOWN: u64 = u64::MAX;

/// How far a user has written to a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) store: Store,
    pub(super) position: Position,
}

impl Written {
    /// Where nobody knows how far: the second until which only the primary is read from.
    pub(super) fn unknown_until(&self) -> Option<u32> {
        (self.position.lsn == UNKNOWN).then_some(self.position.timeline)
    }
}

/// An instance that may go on to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct After {
    pub(super) identity: u64,
    /// In seconds of the date.
    pub(super) until: u32,
}

/// A ticket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ticket {
    /// In seconds of the date.
    pub(super) expires: u64,
    pub(super) written: Vec<Written>,
    pub(super) after: Vec<After>,
    /// Whether there is something in it that its user does not have yet.
    pub(super) is_new: bool,
}

impl Ticket {
    /// Takes over all of another one.
    pub(super) fn add(&mut self, other: &Self) {
        for one in &other.written {
            match one.unknown_until() {
                Some(until) => self.unknown(one.store, until),
                None => self.at(one.store, one.position),
            }
        }
        for one in &other.after {
            self.after(one.identity, one.until);
        }
    }

    /// The user has written to the store, up to here at most.
    pub(super) fn at(&mut self, store: Store, position: Position) {
        let is_known = |one: &&mut Written| one.store == store && one.unknown_until().is_none();
        match self.written.iter_mut().find(is_known) {
            Some(one) => one.position.raise(position),
            None => self.push(Written { store, position }),
        }
    }

    /// The user has written to the store, and nobody knows how far.
    pub(super) fn unknown(&mut self, store: Store, until: u32) {
        let is_known = |one: &&mut Written| one.store == store && one.unknown_until().is_some();
        match self.written.iter_mut().find(is_known) {
            Some(one) => one.position.timeline = one.position.timeline.max(until),
            None => {
                let position = Position {
                    timeline: until,
                    lsn: UNKNOWN,
                };
                self.push(Written { store, position });
            }
        }
    }

    fn push(&mut self, written: Written) {
        if self.written.len() >= MOST_STORES {
            self.written.remove(0);
        }
        self.written.push(written);
    }

    /// What that instance goes on to write counts for the user, for as long.
    pub(super) fn after(&mut self, identity: u64, until: u32) {
        if let Some(one) = self.after.iter_mut().find(|one| one.identity == identity) {
            one.until = one.until.max(until);
            return;
        }
        if self.after.len() >= MOST_AFTER {
            // The one that counts for the shortest time goes.
            let first = self
                .after
                .iter()
                .enumerate()
                .min_by_key(|(_, one)| one.until);
            if let Some(index) = first.map(|(index, _)| index) {
                self.after.remove(index);
            }
        }
        self.after.push(After { identity, until });
    }

    /// Writes it, signed.
    pub(super) fn write(&self, key: &hmac::Key, out: &mut Vec<u8>) {
        let mut bytes = Vec::with_capacity(MOST_BYTES);
        bytes.extend_from_slice(&[VERSION, self.written.len() as u8, self.after.len() as u8]);
        bytes.extend_from_slice(&(self.expires as u32).to_be_bytes());
        for Written { store, position } in &self.written {
            bytes.extend_from_slice(&store.0.to_be_bytes());
            bytes.extend_from_slice(&position.timeline.to_be_bytes());
            bytes.extend_from_slice(&position.lsn.to_be_bytes());
        }
        for After { identity, until } in &self.after {
            bytes.extend_from_slice(&identity.to_be_bytes());
            bytes.extend_from_slice(&until.to_be_bytes());
        }
        let mac = sign(key, &bytes);
        bytes.extend_from_slice(&mac);
        base64::put_url(&bytes, out);
    }

    /// Reads one that was signed with one of `keys`.
    pub(super) fn read(text: &[u8], keys: &[hmac::Key]) -> Option<Self> {
        if text.len() > MOST_BYTES.div_ceil(3) * 4 {
            return None;
        }
        let bytes = base64::take_url(text)?;
        let (body, mac) = bytes.split_at_checked(bytes.len().checked_sub(MAC_BYTES)?)?;
        let is_signed = |key: &hmac::Key| is_equal(&sign(key, body), mac);
        if !keys.iter().any(is_signed) {
            return None;
        }
        let (head, rest) = body.split_first_chunk::<HEAD_BYTES>()?;
        let [VERSION, written, after, expires @ ..] = *head else {
            return None;
        };
        let (written, after) = (usize::from(written), usize::from(after));
        if written > MOST_STORES || after > MOST_AFTER {
            return None;
        }
        let (of_written, of_after) = rest.split_at_checked(written * WRITTEN_BYTES)?;
        if of_after.len() != after * AFTER_BYTES {
            return None;
        }
        let written = of_written.chunks_exact(WRITTEN_BYTES).map(|bytes| Written {
            store: Store(number(&bytes[..4]) as u32),
            position: Position {
                timeline: number(&bytes[4..8]) as u32,
                lsn: number(&bytes[8..]),
            },
        });
        let after = of_after.chunks_exact(AFTER_BYTES).map(|bytes| After {
            identity: number(&bytes[..8]),
            until: number(&bytes[8..]) as u32,
        });
        Some(Self {
            expires: u64::from(u32::from_be_bytes(expires)),
            written: written.collect(),
            after: after.collect(),
            is_new: false,
        })
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |number, &byte| number << 8 | u64::from(byte))
}

pub(super) fn sign(key: &hmac::Key, body: &[u8]) -> [u8; MAC_BYTES] {
    let mut context = hmac::Context::with_key(key);
    context.update(b"outgrow floor\0");
    context.update(body);
    let mut mac = [0; MAC_BYTES];
    for (to, from) in mac.iter_mut().zip(context.sign().as_ref()) {
        *to = *from;
    }
    mac
}

/// In a time that does not depend on where they differ.
fn is_equal(one: &[u8], other: &[u8]) -> bool {
    let differ = one
        .iter()
        .zip(other)
        .fold(0, |all, (one, other)| all | (one ^ other));
    one.len() == other.len() && differ == 0
}
