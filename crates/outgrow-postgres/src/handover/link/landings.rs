//! Clients that listen and are to come: for each the shared connection of its pool listens before it
//! is there, and it is taken once its marker was heard.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use outgrow_core::Ticks;
use tokio::sync::oneshot;

use super::taking::Taker;
use crate::client::{Moved, NotTaken, arrive};
use crate::handover::crossings::AT_ONCE;
use crate::handover::record::Record;
use crate::handover::state::ClientState;
use crate::listening::Ear;
use crate::listening::crossing::Marker;
use crate::listening::landing::{self, Expected, Landing};

/// Most clients of a link that are expected; the other side prepares fewer at a time.
const MOST: usize = 2 * AT_ONCE;
/// How long a client is expected. Who leaves gives it up before.
const LIMIT: Duration = Duration::from_secs(90);
/// How long a client that was offered waits for its marker, which the other side has heard.
const MARK_LIMIT: Duration = Duration::from_secs(5);
/// The longest name of a channel, and of an encoding.
const LONGEST_NAME: usize = 63;

/// Those of a link, by ticket, with the time; without a landing while it is being prepared.
#[derive(Debug, Default)]
pub(super) struct Landings(Mutex<HashMap<u64, (Ticks, Option<Landing>)>>);

impl Landings {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, (Ticks, Option<Landing>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A ticket is of nobody any more.
    pub(super) fn remove(&self, ticket: u64) {
        let gone = self.lock().remove(&ticket);
        drop(gone);
    }

    /// The link has ended.
    pub(super) fn clear(&self) {
        let gone = std::mem::take(&mut *self.lock());
        drop(gone);
    }

    /// Forgets those that were expected for too long.
    pub(super) fn age(&self, now: Ticks) {
        let mut all = self.lock();
        let late = all.iter().filter(|(_, (at, _))| now.since(*at) > LIMIT);
        let late: Vec<u64> = late.map(|(ticket, _)| *ticket).collect();
        let gone: Vec<_> = late.iter().map(|ticket| all.remove(ticket)).collect();
        drop(all);
        drop(gone);
    }

    /// Whether there is room for one more, which is expected from now on.
    fn begin(&self, ticket: u64, now: Ticks) -> bool {
        let mut all = self.lock();
        let has_room = all.len() < MOST && !all.contains_key(&ticket);
        if has_room {
            all.insert(ticket, (now, None));
        }
        has_room
    }

    /// What is prepared for it; false when it is not expected any more.
    fn set(&self, ticket: u64, landing: Landing) -> bool {
        match self.lock().get_mut(&ticket) {
            Some((_, place)) => {
                *place = Some(landing);
                true
            }
            None => false,
        }
    }

    fn take(&self, ticket: u64) -> Option<Landing> {
        self.lock().remove(&ticket)?.1
    }
}

/// A client that is announced.
pub(super) struct Announced {
    pub(super) ticket: u64,
    pub(super) encoding: String,
    pub(super) channel: Vec<u8>,
    pub(super) word: Vec<u8>,
    pub(super) state: Vec<u8>,
}

/// Has everything listened on for a client that is announced, and says whether it is.
pub(super) fn expect(taker: &Taker, landings: &Arc<Landings>, announced: Announced) {
    let (taker, landings) = (taker.clone(), Arc::clone(landings));
    let ticket = announced.ticket;
    if !landings.begin(ticket, taker.shared.clock.now()) {
        let problem = Some("too many clients that listen are to come at once".to_owned());
        tokio::spawn(async move { taker.say(Record::Expected { ticket, problem }).await });
        return;
    }
    tokio::spawn(async move {
        let problem = match prepare(&taker, announced).await {
            Ok(landing) => {
                if !landings.set(ticket, landing) {
                    return;
                }
                None
            }
            Err(problem) => {
                landings.remove(ticket);
                Some(problem)
            }
        };
        taker.say(Record::Expected { ticket, problem }).await;
    });
}

async fn prepare(taker: &Taker, announced: Announced) -> Result<Landing, String> {
    let Announced {
        encoding,
        channel,
        word,
        state,
        ..
    } = announced;
    let is_name = |name: &[u8]| {
        !name.is_empty() && name.len() <= LONGEST_NAME && name.is_ascii() && !name.contains(&0)
    };
    let state = ClientState::decode(&state).map_err(|error| error.to_string())?;
    let mut names = state.channels.iter().map(Vec::as_slice);
    let marker = Marker::read(&channel, &word).ok_or("its marker is none")?;
    let are_names = names.all(is_name) && is_name(encoding.as_bytes());
    if !are_names || state.channels.contains(&channel) {
        return Err("its channels have names that none has".to_owned());
    }
    let shared = &taker.shared;
    let credential = arrive::credential_of(state.proof)?;
    let plan = shared.plan.load();
    let database = plan.database(&state.database);
    let server_user = database.and_then(|database| database.user.as_deref());
    let server_user = server_user.unwrap_or(&state.user);
    let owner = shared.lane_for(&state.database, server_user);
    drop(plan);
    let (answer, answered) = oneshot::channel();
    let expected = Expected {
        database: state.database.into(),
        user: state.user.into(),
        credential,
        channels: state.channels.into_iter().map(Into::into).collect(),
        encoding: encoding.into(),
        marker,
        answer,
    };
    taker.send(owner, Moved::Expected(Box::new(expected))).await;
    let answered = tokio::time::timeout(landing::LIMIT + MARK_LIMIT, answered).await;
    let gone = || "it is not known whether its channels are listened on".to_owned();
    answered.map_err(|_| gone())?.map_err(|_| gone())?
}

/// Takes a client that was expected once its marker was heard, as others are taken.
pub(super) fn land(
    taker: &Taker,
    landings: &Landings,
    (client, ticket): (u64, u64),
    state: ClientState,
    descriptor: OwnedFd,
) {
    let (taker, landing) = (taker.clone(), landings.take(ticket));
    tokio::spawn(async move {
        let Some(landing) = landing else {
            let why = "it listens, and nobody expects it";
            return taker.refuse(client, NotTaken::for_now(why)).await;
        };
        let marked = landing.ear().wait(Ear::is_marked);
        if tokio::time::timeout(MARK_LIMIT, marked).await.is_err() {
            // The other process has heard it, and our connection stands: this is another database.
            let why = "it listens, and what was notified to mark that was not heard";
            return taker.refuse(client, NotTaken::untold(why.to_owned())).await;
        }
        match arrive::take(&taker.shared, state, descriptor, Some(landing)) {
            // When it cannot be said any more the client is the other side's still.
            Ok(arrived) => drop(taker.confirm(vec![client], vec![arrived]).await),
            Err(why) => taker.refuse(client, why).await,
        }
    });
}
