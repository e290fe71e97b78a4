//! The beginning of a client that is served: what it is made of, where it comes from.

use std::sync::Arc;

use outgrow_net::Timer;

use super::arrive::{Carried, CarriedSession};
use super::change_lane::{Kept, KeptSession, Member};
use super::floor::Writes;
use super::session::Session;
use super::unnamed::Unnamed;
use super::watch::Watched;
use super::{Arrival, Client, Identity, login};
use crate::flow::Flow;
use crate::prepared::OfClient;
use crate::problem::{NO_DATABASE, Refusal};
use crate::sequences::{Stay, Uses};
use crate::socket::Socket;
use crate::sql::Lexing;
use crate::worker::Worker;

/// Where a client comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comes {
    /// It is to be greeted.
    New,
    /// Another process has greeted it.
    FromProcess,
    /// It was in another lane.
    FromLane,
}

/// What it brings along.
enum Brought {
    Nothing,
    Process(CarriedSession),
    Lane(KeptSession),
}

/// The client as it begins to be served; none where there is no memory for what it said, or its database
/// is not there (any more), which it is told.
#[inline(never)]
pub(super) fn begin(
    worker: Arc<Worker>,
    mut identity: Box<Identity>,
    mut socket: Socket,
    input: &[u8],
    arrival: Arrival,
) -> Option<(Client, Comes)> {
    let plan = worker.shared.plan.load();
    let database = plan.database(&identity.database);
    let server_user = database.and_then(|database| database.user.as_deref());
    let server_user = server_user.map_or_else(|| Arc::clone(&identity.user), Arc::from);
    let Some(pool) = worker.pool(&identity.database, &server_user) else {
        let message = format!("no such database: {}", identity.database);
        let refusal = Refusal::new(NO_DATABASE, message);
        identity.entry.refused(&refusal);
        let manner = plan.house.manner;
        tokio::spawn(async move {
            let _identity = identity;
            login::tell(&mut socket, &refusal, manner).await;
        });
        return None;
    };
    worker.learn_credential(&pool, Some(&identity));
    identity
        .entry
        .seen
        .lane
        .set(pool.lanes.number, worker.index);
    let mut up = Flow::default();
    if !up.preload(input, &worker.blocks) {
        return None;
    }
    let variables = identity.variables.clone();
    let member = || Member::new(&pool, worker.shared.clock);
    let (cancel, member, session) = match arrival {
        Arrival::LoggedIn => {
            let is_long = identity.minor >= 2;
            let cancel = worker.shared.cancels.add(plan.house.peer, is_long);
            (cancel, member(), Brought::Nothing)
        }
        Arrival::Process(carried) => {
            let Carried { cancel, session } = *carried;
            (cancel, member(), Brought::Process(session))
        }
        Arrival::Lane(kept) => {
            let Kept {
                member,
                cancel,
                session,
            } = *kept;
            (cancel, member, Brought::Lane(session))
        }
    };
    let mut client = Client {
        cancel,
        timer: Timer::new(&worker.wheel),
        watched: Watched::new(&worker, &pool),
        pool,
        socket,
        up,
        tail: Flow::default(),
        variables,
        names: OfClient::default(),
        session: Session::default(),
        listening: None,
        writes: Writes::default(),
        repeat: None,
        caching: None,
        reads: None,
        lexing: Lexing::default(),
        unnamed_statement: Unnamed::default(),
        unnamed: None,
        unnamed_uses: Uses::default(),
        skips: false,
        stay: Stay::before(identity.entry.seen.number),
        times: plan
            .users
            .get(&*identity.user)
            .map(|user| user.times)
            .unwrap_or_default(),
        portals: Vec::new(),
        departs: false,
        goes_to: None,
        member,
        identity,
        worker,
    };
    drop(plan);
    let comes = match session {
        Brought::Nothing => Comes::New,
        Brought::Process(session) => {
            client.take_up(session);
            Comes::FromProcess
        }
        Brought::Lane(session) => {
            client.go_on(session);
            Comes::FromLane
        }
    };
    Some((client, comes))
}
