//! A client that listens and is about to come from another process: the shared connection of its pool
//! listens for it before it is there.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::board::Name;
use super::crossing::Marker;
use super::{Ear, Hearing, RETRY, can_share, try_ask};
use crate::login::Credential;
use crate::pool::Pool;
use crate::problem::{CONNECTION, Refusal};
use crate::seen::ClientSeen;
use crate::settings::PoolMode;
use crate::worker::Worker;

/// How long it may take until everything is listened on: a connection may have to be made for it.
pub(crate) const LIMIT: Duration = Duration::from_secs(8);

/// A client that is expected; what is to be done for it is the pool's owner's.
#[derive(Debug)]
pub(crate) struct Expected {
    /// The database, as clients call it.
    pub(crate) database: Arc<str>,
    pub(crate) user: Arc<str>,
    /// What it has proven, which servers may be logged in to with.
    pub(crate) credential: Credential,
    /// What it listens on.
    pub(crate) channels: Vec<Name>,
    /// The encoding in which it does.
    pub(crate) encoding: Box<str>,
    /// What marks from where on it is told here.
    pub(crate) marker: Marker,
    /// That everything is heard, or why not.
    pub(crate) answer: oneshot::Sender<Result<Landing, String>>,
}

/// A client that is expected and for which everything is listened on, until this is dropped.
#[derive(Debug)]
pub(crate) struct Landing {
    pool: Arc<Pool>,
    ear: Arc<Ear>,
    encoding: Box<str>,
    is_taken: bool,
}

impl Drop for Landing {
    fn drop(&mut self) {
        if !self.is_taken {
            self.pool.hub.forget(&self.ear);
        }
    }
}

impl Landing {
    /// Its ear.
    pub(crate) fn ear(&self) -> &Arc<Ear> {
        &self.ear
    }

    /// The encoding in which it listens.
    pub(crate) fn encoding(&self) -> &str {
        &self.encoding
    }

    /// The client is there, and listens on these channels: whether it is told everything from the
    /// marker on.
    pub(crate) fn land(&self, seen: &Arc<ClientSeen>, channels: &[Name]) -> bool {
        let marker = self.ear.land(seen, channels);
        if let Some(marker) = &marker {
            self.pool.hub.leave(std::slice::from_ref(marker), &self.ear);
        }
        marker.is_some()
    }

    /// The ear as the client's own, which is in `pool`. When that is another pool by now it hears
    /// nothing, and the client is ended for it.
    pub(crate) fn into_ear(mut self, pool: &Pool) -> Arc<Ear> {
        self.is_taken = Arc::ptr_eq(&self.pool.hub, &pool.hub);
        if !self.is_taken {
            let message = "the pool changed: notifications may have been missed";
            self.ear.end(&Refusal::new(CONNECTION, message));
        }
        Arc::clone(&self.ear)
    }
}

/// Listens for a client that is expected, on the worker that owns its pool.
pub(crate) async fn run(worker: Arc<Worker>, expected: Expected) {
    let landing = tokio::time::timeout(LIMIT, listen(&worker, &expected)).await;
    let landing = landing.unwrap_or_else(|_| Err("it takes too long to listen".to_owned()));
    let _ = expected.answer.send(landing);
}

async fn listen(worker: &Arc<Worker>, expected: &Expected) -> Result<Landing, String> {
    let Expected {
        database,
        user,
        credential,
        channels,
        encoding,
        marker,
        ..
    } = expected;
    let plan = worker.shared.plan.load();
    let configured = plan.database(database);
    let server_user = configured.and_then(|database| database.user.as_deref());
    let server_user = server_user.map_or_else(|| Arc::clone(user), Arc::from);
    drop(plan);
    let pool = worker
        .pool(database, &server_user)
        .ok_or("there is no such database")?;
    if pool.plan().mode == PoolMode::Session {
        return Err("its pool lends connections for whole sessions now".to_owned());
    }
    worker.learn_shown(&pool, Some((user, credential)));
    loop {
        // Each time with an ear that knows nothing of before.
        let landing = Landing {
            pool: Arc::clone(&pool),
            ear: Ear::of_arriving(worker.shared.next_number(), marker.clone()),
            encoding: encoding.clone(),
            is_taken: false,
        };
        let why = match attempt(worker, &landing, channels).await {
            Ok(()) => return Ok(landing),
            Err(why) => why,
        };
        // A server that has no room may have some soon: who leaves has connections as well.
        if !can_share(&pool.plan()) || !pool.hub.is_down() {
            return Err(why.to_owned());
        }
        drop(landing);
        tokio::time::sleep(RETRY).await;
    }
}

/// Has everything listened on that a landing needs, over the connection that there is or a new one.
async fn attempt(
    worker: &Arc<Worker>,
    landing: &Landing,
    channels: &[Name],
) -> Result<(), &'static str> {
    let Landing {
        pool,
        ear,
        encoding,
        ..
    } = landing;
    for name in channels {
        if try_ask(worker, pool, ear, name, encoding) == Hearing::Refused {
            return Err("the connection that listens is not to be had for it");
        }
    }
    pool.hub.expect_mark(ear);
    ear.wait(|ear| ear.is_prepared().is_some()).await;
    match ear.begin_arriving(channels.len()) {
        true => Ok(()),
        false => Err("the server does not listen on its channels"),
    }
}
