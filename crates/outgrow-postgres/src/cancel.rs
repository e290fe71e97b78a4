//! Cancelling: the key that a client was given leads to whatever server works for it at the moment,
//! and that server is not lent to anybody else until the request has been dealt with.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Waker};

use outgrow_core::random::system_bytes;
use outgrow_upstream::Endpoint;

use crate::encryption::Encryption;

/// What a client must name to cancel: a process number and a secret of 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) process: u32,
    pub(crate) secret: u32,
}

/// How often a request may be passed on between peers; in the two lowest bits of the secret, which
/// are all ones in the key that the client has.
const HOPS: u32 = 3;

/// Whose a cancel request is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// Of a client of ours, with this secret.
    Own(Vec<u8>),
    /// Of a client of this peer, which is to be sent this secret.
    Peer(u16, Vec<u8>),
    /// It was passed on too often.
    Lost,
}

/// Finds out whose a cancel request is, for the process that its peers know by the number `own`. The
/// layout is PgBouncer's, so that both can be peers of each other.
pub(crate) fn judge(own: u16, process: u32, secret: &[u8]) -> Judgement {
    let whole = <[u8; 4]>::try_from(secret).map(u32::from_be_bytes);
    let Some(whole) = whole.ok().filter(|_| own != 0) else {
        return Judgement::Own(secret.to_vec());
    };
    let [_, low, high, _] = process.to_be_bytes();
    let peer = u16::from_le_bytes([low, high]);
    if peer == own {
        return Judgement::Own((whole | HOPS).to_be_bytes().to_vec());
    }
    match whole & HOPS {
        0 => Judgement::Lost,
        hops => Judgement::Peer(peer, ((whole & !HOPS) | (hops - 1)).to_be_bytes().to_vec()),
    }
}

/// The server that works for a client.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) endpoint: Arc<Endpoint>,
    /// Which of the addresses of the endpoint's name it is at; none where that is no name.
    pub(crate) address: Option<SocketAddr>,
    pub(crate) process: u32,
    pub(crate) secret: Arc<[u8]>,
    /// How its session is encrypted, if it is.
    pub(crate) encryption: Option<Arc<Encryption>>,
}

impl Target {
    /// Whether a cancel request for this server is under way: each one holds it. To be asked when no
    /// client holds it any more.
    pub(crate) fn is_being_cancelled(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 1
    }
}

/// How much longer a secret is since version 3.2 of the protocol, in bytes: as with Postgres 18, 32
/// in all.
const MORE_BYTES: usize = 28;

/// A client as cancel requests see it.
#[derive(Debug)]
pub(crate) struct Cancellable {
    pub(crate) key: Key,
    /// What follows the key's secret, for clients that take a longer one.
    more: Option<Box<[u8; MORE_BYTES]>>,
    doing: Mutex<Doing>,
}

/// What a client does, as far as it can be cancelled.
#[derive(Debug, Default)]
enum Doing {
    /// Nothing of that kind.
    #[default]
    Nothing,
    /// It waits in line for a server; whom to wake when it is cancelled.
    Waits(Option<Waker>),
    /// It waited in line, until it was cancelled.
    Cancelled,
    /// A server works for it.
    Works(Arc<Target>),
}

impl Cancellable {
    /// Says which server works for the client.
    #[inline]
    pub(crate) fn set(&self, target: Option<Arc<Target>>) {
        *self.doing() = target.map_or(Doing::Nothing, Doing::Works);
    }

    fn doing(&self) -> MutexGuard<'_, Doing> {
        self.doing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that the client waits in line for a server.
    pub(crate) fn wait(&self) {
        *self.doing() = Doing::Waits(None);
    }

    /// Whether it was cancelled while it waits; else it is woken when it is.
    pub(crate) fn poll_cancelled(&self, cx: &mut Context<'_>) -> bool {
        match &mut *self.doing() {
            Doing::Waits(waker) => {
                if waker.as_ref().is_none_or(|one| !one.will_wake(cx.waker())) {
                    *waker = Some(cx.waker().clone());
                }
                false
            }
            doing => matches!(doing, Doing::Cancelled),
        }
    }

    /// Says that it does not wait any more; whether it was cancelled by then.
    pub(crate) fn end_waiting(&self) -> bool {
        matches!(std::mem::take(&mut *self.doing()), Doing::Cancelled)
    }

    /// The whole secret.
    pub(crate) fn secret(&self) -> Vec<u8> {
        let mut secret = self.key.secret.to_be_bytes().to_vec();
        secret.extend(self.more.iter().flat_map(|more| more.iter()));
        secret
    }

    /// Whether this is what follows the key's secret. How long it takes says nothing about where the
    /// two differ.
    fn has_more(&self, shown: &[u8]) -> bool {
        let more = self.more.as_ref().map_or(&[][..], |more| &more[..]);
        let differ = more.iter().zip(shown).fold(0, |sum, (a, b)| sum | (a ^ b));
        more.len() == shown.len() && differ == 0
    }

    /// It is to be cancelled: gives the server that is to be asked to, if one works for it.
    pub(crate) fn cancel(&self) -> Option<Arc<Target>> {
        let mut doing = self.doing();
        match &mut *doing {
            Doing::Works(target) => Some(Arc::clone(target)),
            Doing::Waits(waker) => {
                let waker = waker.take();
                *doing = Doing::Cancelled;
                drop(doing);
                if let Some(waker) = waker {
                    waker.wake();
                }
                None
            }
            Doing::Nothing | Doing::Cancelled => None,
        }
    }
}

/// A client that cancel requests find, until this is dropped.
#[derive(Debug)]
pub(crate) struct Registered {
    client: Arc<Cancellable>,
    cancels: Arc<Cancels>,
}

impl std::ops::Deref for Registered {
    type Target = Cancellable;

    fn deref(&self) -> &Cancellable {
        &self.client
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.cancels.remove(self.client.key);
    }
}

/// All clients by their keys.
#[derive(Debug, Default)]
pub(crate) struct Cancels(Mutex<HashMap<Key, Weak<Cancellable>>>);

impl Cancels {
    /// A new client, of the process that its peers know by the number `peer`; 0: it has none.
    /// `is_long`: it takes a longer secret than earlier versions of the protocol have.
    pub(crate) fn add(self: &Arc<Self>, peer: u16, is_long: bool) -> Registered {
        let more = is_long.then(|| {
            let mut more = Box::new([0; MORE_BYTES]);
            system_bytes(&mut *more);
            more
        });
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let mut bytes = [0; 8];
            system_bytes(&mut bytes);
            let [a, b, c, d, secret @ ..] = bytes;
            let [low, high] = peer.to_le_bytes();
            let (b, c) = if peer == 0 { (b, c) } else { (low, high) };
            let hops = if peer == 0 { 0 } else { HOPS };
            let key = Key {
                // Some clients take it for a signed number, some treat 0 as none.
                process: (u32::from_be_bytes([a, b, c, d]) & 0x7fff_ffff).max(1),
                secret: u32::from_be_bytes(secret) | hops,
            };
            if clients.contains_key(&key) {
                continue;
            }
            return self.register(&mut clients, key, more);
        }
    }

    /// A client that has its key from another process; none when that is no key, or somebody else's
    /// here.
    pub(crate) fn adopt(self: &Arc<Self>, process: u32, secret: &[u8]) -> Option<Registered> {
        let (secret, more) = secret.split_first_chunk::<4>()?;
        let more = match more.len() {
            0 => None,
            _ => Some(Box::new(more.try_into().ok()?)),
        };
        let secret = u32::from_be_bytes(*secret);
        let key = Key { process, secret };
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_free = !clients.contains_key(&key);
        is_free.then(|| self.register(&mut clients, key, more))
    }

    fn register(
        self: &Arc<Self>,
        clients: &mut HashMap<Key, Weak<Cancellable>>,
        key: Key,
        more: Option<Box<[u8; MORE_BYTES]>>,
    ) -> Registered {
        let client = Arc::new(Cancellable {
            key,
            more,
            doing: Mutex::default(),
        });
        clients.insert(key, Arc::downgrade(&client));
        Registered {
            client,
            cancels: Arc::clone(self),
        }
    }

    fn remove(&self, key: Key) {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        clients.remove(&key);
    }

    /// The client with that key.
    pub(crate) fn find(&self, process: u32, secret: &[u8]) -> Option<Arc<Cancellable>> {
        let (secret, more) = secret.split_first_chunk::<4>()?;
        let secret = u32::from_be_bytes(*secret);
        let clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let client = clients.get(&Key { process, secret })?.upgrade();
        client.filter(|client| client.has_more(more))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_find_their_process() {
        let cancels = Arc::new(Cancels::default());
        let client = cancels.add(0x0102, false);
        let Key { process, secret } = client.key;
        let sent = secret.to_be_bytes();
        assert_eq!(process & 0x80ff_ff00, 0x0002_0100);
        assert_eq!(judge(0x0102, process, &sent), Judgement::Own(sent.to_vec()));
        let mut sent = sent.to_vec();
        for _ in 0..3 {
            let Judgement::Peer(peer, passed_on) = judge(7, process, &sent) else {
                panic!("it is not ours");
            };
            assert_eq!(peer, 0x0102);
            sent = passed_on;
            let Judgement::Own(secret) = judge(peer, process, &sent) else {
                panic!("it is theirs");
            };
            assert!(cancels.find(process, &secret).is_some());
        }
        assert_eq!(judge(7, process, &sent), Judgement::Lost);
        // Without peers a key is what it is.
        let alone = cancels.add(0, false);
        let secret = alone.key.secret.to_be_bytes();
        let judged = judge(0, alone.key.process, &secret);
        assert_eq!(judged, Judgement::Own(secret.to_vec()));
        assert_eq!(
            judge(3, 1, b"longer secret"),
            Judgement::Own(b"longer secret".to_vec())
        );
    }

    #[test]
    fn a_key_is_taken_along_to_another_process() {
        let (before, after) = (Arc::new(Cancels::default()), Arc::new(Cancels::default()));
        for is_long in [false, true] {
            let client = before.add(0, is_long);
            let (process, secret) = (client.key.process, client.secret());
            let adopted = after.adopt(process, &secret).expect("it is free");
            assert_eq!(
                (adopted.key, adopted.secret()),
                (client.key, secret.clone())
            );
            assert!(after.find(process, &secret).is_some());
            assert!(after.adopt(process, &secret).is_none(), "it is taken");
            drop(adopted);
            assert!(after.find(process, &secret).is_none(), "it is gone");
        }
        for length in [0, 3, 5, 31, 33] {
            assert!(after.adopt(1, &vec![0; length]).is_none(), "{length}");
        }
    }

    #[test]
    fn who_waits_is_woken_once() {
        let cancels = Arc::new(Cancels::default());
        let client = cancels.add(0, false);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(client.cancel().is_none() && !client.end_waiting());
        client.wait();
        assert!(!client.poll_cancelled(&mut cx));
        assert!(client.cancel().is_none());
        assert!(client.poll_cancelled(&mut cx), "it was");
        assert!(client.end_waiting());
        // The request was for what it waited for then.
        client.wait();
        assert!(!client.poll_cancelled(&mut cx) && !client.end_waiting());
    }

    #[test]
    fn a_longer_secret_counts_as_a_whole() {
        let cancels = Arc::new(Cancels::default());
        let (long, short) = (cancels.add(0, true), cancels.add(0, false));
        assert_eq!((long.secret().len(), short.secret().len()), (32, 4));
        let found = |client: &Cancellable, secret: &[u8]| {
            cancels.find(client.key.process, secret).is_some()
        };
        assert!(found(&long, &long.secret()) && found(&short, &short.secret()));
        let mut other = long.secret();
        for at in 0..other.len() {
            other[at] ^= 1;
            assert!(!found(&long, &other), "{at}");
            other[at] ^= 1;
            assert!(!found(&long, &other[..at]), "{at}");
        }
        assert!(!found(&long, &[long.secret(), vec![0]].concat()));
        assert!(!found(&short, &[short.secret(), vec![0; 28]].concat()));
    }
}
