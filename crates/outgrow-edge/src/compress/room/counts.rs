//! How much of a room is whose, and who waits for more of it: pure, under the room's lock.
//!
//! Who waits, waits for bodies of the same client that go on. Those that wait as well do not, and no more do those
//! that rest, which others have to let go on: where nothing else of a client is left, the first that waits is judged
//! as if it were its only one, so they never wait for each other.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// What a client may have of what is left: one in so many.
const CLIENT_SHARE: u64 = 4;
/// Of how many other clients it is looked at in vain whether they go on, when some of a room is given back: each has
/// its turn, and those who get nothing of it cost who gives back no more than this.
const OTHERS: usize = 4;
/// How many bodies of one client wait at most. Each of them has a connection to its endpoint, and the permit for it.
pub(super) const MOST_WAITING: usize = 8;

/// Of one room.
#[derive(Debug, Default)]
pub(super) struct Counts {
    held_bytes: u64,
    /// Of each client that holds something or waits.
    of_clients: HashMap<IpAddr, Own>,
    /// Clients of which a body waits: who was looked at longest ago is the first.
    turns: VecDeque<IpAddr>,
}

/// What is one client's.
#[derive(Debug, Default)]
struct Own {
    bytes: u64,
    /// Of that what bodies have which wait or rest.
    resting_bytes: u64,
    waiting: VecDeque<Wish>,
    /// Whether it stands among the turns.
    has_turn: bool,
}

/// A body that waits for more than it has.
#[derive(Debug)]
struct Wish {
    more: u64,
    so_far: u64,
    answer: Arc<Answer>,
}

/// Whether a wish is granted, as soon as that is known.
#[derive(Debug, Default)]
pub(super) struct Answer(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    granted: Option<bool>,
    waker: Option<Waker>,
}

impl Answer {
    fn refused() -> Self {
        Self(Mutex::new(Told {
            granted: Some(false),
            waker: None,
        }))
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<bool> {
        let mut told = self.told();
        match (told.granted, &mut told.waker) {
            (Some(granted), _) => return Poll::Ready(granted),
            (None, Some(waker)) => waker.clone_from(cx.waker()),
            (None, none) => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    fn is_granted(&self) -> bool {
        self.told().granted == Some(true)
    }

    fn tell(&self, granted: bool) -> Option<Waker> {
        let mut told = self.told();
        told.granted = Some(granted);
        told.waker.take()
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Judgement {
    Granted,
    /// Other bodies of the same client have its part.
    Waits,
    /// There is no room for it, whatever that client does.
    Refused,
}

impl Own {
    /// Whether there is room for `more` of it, where its bodies that go on have `active` bytes and those of the
    /// room that are not held by then are `left`.
    fn judge(&self, more: u64, active: u64, left: Option<u64>) -> Judgement {
        let own = self.bytes + more;
        match (active, left) {
            (0, Some(left)) if own <= left => Judgement::Granted,
            (0, _) => Judgement::Refused,
            (_, Some(left)) if own <= left / CLIENT_SHARE => Judgement::Granted,
            _ => Judgement::Waits,
        }
    }
}

impl Counts {
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    #[cfg(test)]
    pub(super) fn clients(&self) -> usize {
        self.of_clients.len()
    }

    /// Counts `more` for a body that has `so_far`, if there is room for it now in a room of `total` bytes.
    pub(super) fn add(
        &mut self,
        (more, so_far): (u64, u64),
        client: Option<IpAddr>,
        total: u64,
    ) -> bool {
        let all = self.held_bytes.saturating_add(more);
        let left = total.checked_sub(all);
        let has_room = match client {
            None => left.is_some(),
            Some(client) => {
                let own = self.of_clients.entry(client).or_default();
                let active = own.bytes - own.resting_bytes - so_far;
                let has_room = own.judge(more, active, left) == Judgement::Granted;
                own.bytes += if has_room { more } else { 0 };
                self.forget(client);
                has_room
            }
        };
        self.held_bytes = if has_room { all } else { self.held_bytes };
        has_room
    }

    /// The same for a body that waits where its client has to, for no longer than others of it which came before;
    /// where as many of it wait as may, there is none. One that has room and needs more may wait all the same.
    pub(super) fn ask(
        &mut self,
        (more, so_far): (u64, u64),
        client: IpAddr,
        total: u64,
    ) -> (Arc<Answer>, Vec<Waker>) {
        let own = self.of_clients.entry(client).or_default();
        if so_far == 0 && own.waiting.len() >= MOST_WAITING {
            return (Arc::new(Answer::refused()), Vec::new());
        }
        let answer: Arc<Answer> = Arc::default();
        own.resting_bytes += so_far;
        own.waiting.push_back(Wish {
            more,
            so_far,
            answer: Arc::clone(&answer),
        });
        (answer, self.look(client, total))
    }

    /// Whether a body of a client's waits.
    pub(super) fn waits(&self, client: IpAddr) -> bool {
        let own = self.of_clients.get(&client);
        own.is_some_and(|own| !own.waiting.is_empty())
    }

    /// Takes back a wish for `more` that nobody waits for any more; what was granted counts as given back.
    pub(super) fn withdraw(
        &mut self,
        answer: &Arc<Answer>,
        more: u64,
        client: IpAddr,
        total: u64,
    ) -> Vec<Waker> {
        if answer.is_granted() {
            return self.subtract(more, Some(client), total);
        }
        if let Some(own) = self.of_clients.get_mut(&client)
            && let Some(at) = own
                .waiting
                .iter()
                .position(|wish| Arc::ptr_eq(&wish.answer, answer))
            && let Some(wish) = own.waiting.remove(at)
        {
            own.resting_bytes -= wish.so_far;
        }
        self.look(client, total)
    }

    /// Takes note that a body which has so many bytes is not gone on with for now, so that nobody waits for it; who
    /// is to be woken.
    pub(super) fn rest(&mut self, bytes: u64, client: IpAddr, total: u64) -> Vec<Waker> {
        if let Some(own) = self.of_clients.get_mut(&client) {
            own.resting_bytes += bytes;
        }
        self.look(client, total)
    }

    /// Takes note that it is gone on with again.
    pub(super) fn go_on(&mut self, bytes: u64, client: IpAddr) {
        if let Some(own) = self.of_clients.get_mut(&client) {
            own.resting_bytes -= bytes;
        }
    }

    /// Takes off what is given back; who is to be woken.
    pub(super) fn subtract(&mut self, less: u64, client: Option<IpAddr>, total: u64) -> Vec<Waker> {
        self.held_bytes -= less;
        let mut woken = Vec::new();
        if let Some(client) = client {
            if let Some(own) = self.of_clients.get_mut(&client) {
                own.bytes -= less;
            }
            woken = self.look(client, total);
        }
        let mut in_vain = 0;
        for _ in 0..self.turns.len() {
            if in_vain == OTHERS {
                break;
            }
            let Some(other) = self.turns.pop_front() else {
                break;
            };
            if let Some(own) = self.of_clients.get_mut(&other) {
                own.has_turn = false;
            }
            let before = self.held_bytes;
            woken.extend(self.look(other, total));
            in_vain += usize::from(self.held_bytes == before);
        }
        woken
    }

    /// Answers those of a client's that wait, as far as that can be said.
    fn look(&mut self, client: IpAddr, total: u64) -> Vec<Waker> {
        let mut woken = Vec::new();
        let Some(own) = self.of_clients.get_mut(&client) else {
            return woken;
        };
        while let Some(wish) = own.waiting.front() {
            let all = self.held_bytes.saturating_add(wish.more);
            let active = own.bytes - own.resting_bytes;
            let granted = match own.judge(wish.more, active, total.checked_sub(all)) {
                Judgement::Waits => break,
                Judgement::Granted => true,
                Judgement::Refused => false,
            };
            if granted {
                own.bytes += wish.more;
                self.held_bytes = all;
            }
            own.resting_bytes -= wish.so_far;
            woken.extend(wish.answer.tell(granted));
            own.waiting.pop_front();
        }
        if !own.waiting.is_empty() && !own.has_turn {
            own.has_turn = true;
            self.turns.push_back(client);
        }
        self.forget(client);
        woken
    }

    /// Forgets a client that has nothing and waits for nothing.
    fn forget(&mut self, client: IpAddr) {
        if let Some(own) = self.of_clients.get(&client)
            && own.bytes == 0
            && own.waiting.is_empty()
            && !own.has_turn
        {
            self.of_clients.remove(&client);
        }
    }
}
