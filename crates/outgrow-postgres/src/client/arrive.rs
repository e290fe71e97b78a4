//! A client arrives that another process has logged in: whether it may stay, and what it is here.
//!
//! It is asked for nothing again, but what is configured now decides: a user that there is no more, a
//! rule that does not let it in, a limit that is reached, TLS that it must have and has not, and it is
//! told so. What it has and this process cannot go on with keeps it where it was.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use outgrow_core::WallTime;
use outgrow_core::serving::{Position, Written};
use outgrow_net::Stream;
use outgrow_net::stream::Detached;

use super::depart::credential;
use super::listen::Listening;
use super::login::{Login, take_shares};
use super::watch::Watchable;
use super::{Arrival, Bytes, Client, Identity, MovedClient, Open, Peer, accept};
use crate::cancel::Registered;
use crate::handover::CodingError;
use crate::handover::state::{ClientState, Floor, Prepared, Proof};
use crate::listening::landing::Landing;
use crate::login::{self, Credential, Demand, Facts, Method, Replication, Source};
use crate::plan::{DatabasePlan, Plan, PoolPlan};
use crate::problem::{AUTHORIZATION, CANNOT_CONNECT, NO_DATABASE, PROTOCOL, Refusal};
use crate::seen::{ClientEntry, Who};
use crate::settings::{Auth, PoolMode};
use crate::shared::Shared;
use crate::variables::Variables;

/// Why a client is not taken.
#[derive(Debug)]
pub(crate) struct NotTaken {
    /// What it is to be told; none: it is for the other process to say.
    pub(crate) told: Option<Refusal>,
    /// It listens, and may be taken once that is prepared anew.
    pub(crate) is_for_now: bool,
    /// For the log.
    pub(crate) why: String,
}

impl NotTaken {
    /// It stays where it is.
    pub(crate) fn untold(why: String) -> Self {
        Self {
            told: None,
            is_for_now: false,
            why,
        }
    }

    /// It listens and stays where it is, for now.
    pub(crate) fn for_now(why: &str) -> Self {
        Self {
            is_for_now: true,
            ..Self::untold(why.to_owned())
        }
    }
}

impl From<Refusal> for NotTaken {
    fn from(refusal: Refusal) -> Self {
        let why = refusal.message.clone().into_owned();
        Self {
            told: Some(refusal),
            is_for_now: false,
            why,
        }
    }
}

impl From<CodingError> for NotTaken {
    fn from(error: CodingError) -> Self {
        Self::untold(error.to_string())
    }
}

/// What a client brings along.
#[derive(Debug)]
pub(crate) struct Carried {
    pub(super) cancel: Registered,
    pub(super) session: CarriedSession,
}

/// Its session.
#[derive(Debug)]
pub(crate) struct CarriedSession {
    variables: Vec<(String, String)>,
    settings: Vec<(Vec<u8>, Vec<u8>)>,
    prepared: Vec<Prepared>,
    unnamed: Option<Prepared>,
    floor: Option<Floor>,
    /// What is prepared for it, if it listens.
    landing: Option<Landing>,
}

/// By what was proven servers may be logged in to.
pub(crate) fn credential_of(proof: Option<Proof>) -> Result<Credential, String> {
    credential(proof).ok_or_else(|| "what it has proven is nothing".to_owned())
}

/// Takes a client that another process offers, with its state, and with what is prepared for one that
/// listens; gives the worker that owns its pool.
pub(crate) fn take(
    shared: &Arc<Shared>,
    state: ClientState,
    descriptor: OwnedFd,
    landing: Option<Landing>,
) -> Result<(usize, MovedClient), NotTaken> {
    let lost = |error: std::io::Error| NotTaken::untold(format!("its connection is none: {error}"));
    let stream = Detached::passed_on(descriptor).map_err(lost)?;
    let stream = stream.attach().map_err(lost)?;
    let plan = shared.plan.load();
    let proxied = state.proxied.as_deref().map(str::parse);
    let proxied = proxied
        .transpose()
        .map_err(|_| NotTaken::untold("a proxy is said to be where nothing can be".to_owned()))?;
    let (far, near) = accept::ends(&stream, state.port);
    let peer = match (proxied, &stream) {
        (Some(address), _) => Peer::Tcp(std::net::SocketAddr::ip(&address)),
        (None, Stream::Tcp(_)) => match far {
            crate::seen::Far::Tcp(address) => Peer::Tcp(address.ip()),
            crate::seen::Far::Unix { .. } => Peer::Unix { user: None },
        },
        (None, Stream::Unix(_)) => Peer::Unix {
            user: accept::unix_user(&stream),
        },
    };
    let database = may_stay(shared, &plan, &state, peer)?;
    let pool = plan.pool(&state.database, &state.user);
    can_go_on(&state, &plan, pool.as_ref())?;
    if landing.is_none() && !state.channels.is_empty() {
        let why = "it listens on channels, and nobody expects it".to_owned();
        return Err(NotTaken::untold(why));
    }
    let limits = Login::client_limits(
        &plan,
        &state.database,
        database.max_clients,
        &state.user,
        peer,
    );
    let shares = take_shares(shared, limits)?;
    let credential = credential_of(state.proof).map_err(NotTaken::untold)?;
    // What is the same for all clients of a user is there once.
    let stored = plan.users.get(&state.user);
    let stored = Credential::of(stored.and_then(|user| user.secret.as_ref()));
    let credential = if stored == credential {
        stored
    } else {
        credential
    };
    let cancel = shared.cancels.adopt(state.process, &state.secret);
    let cancel = cancel.ok_or_else(|| {
        NotTaken::untold("another client here is cancelled by the same key".to_owned())
    })?;
    let user = database.user.as_deref().unwrap_or(&state.user);
    let owner = shared.lane_for(&state.database, user);
    let mut entry = ClientEntry::since(shared, far, near, WallTime(state.connected));
    if let Some(address) = proxied {
        entry.seen.set_proxied(address);
    }
    entry.seen.set_who(Who {
        database: state.database.as_str().into(),
        user: state.user.as_str().into(),
        replication: None,
    });
    entry.reason = Some("client unexpected eof".into());
    if let Some(landing) = &landing {
        let channels: Vec<_> = state.channels.into_iter().map(Into::into).collect();
        if !landing.land(&entry.seen, &channels) {
            let why = "it listens, and not everything would be told to it";
            return Err(NotTaken::for_now(why));
        }
    }
    let identity = Identity {
        database: state.database.into(),
        user: state.user.into(),
        minor: state.minor,
        variables: variables(&plan, &state.start),
        replication: None,
        is_replicating: false,
        credential,
        shares,
        entry,
        open: Open::new(shared, owner),
    };
    let session = CarriedSession {
        variables: state.variables,
        settings: state.settings,
        prepared: state.prepared,
        unnamed: state.unnamed,
        floor: state.floor,
        landing,
    };
    let moved = MovedClient {
        identity: Box::new(identity),
        bytes: Bytes::Plain(stream.into_std().map_err(lost)?),
        input: state.input,
        arrival: Arrival::Process(Box::new(Carried { cancel, session })),
    };
    Ok((owner, moved))
}

/// Whether what is configured now lets the client in.
fn may_stay<'p>(
    shared: &Shared,
    plan: &'p Plan,
    state: &ClientState,
    peer: Peer,
) -> Result<&'p Arc<DatabasePlan>, Refusal> {
    let house = &plan.house;
    if shared.refuses_logins() {
        return Err(Refusal::new(CANNOT_CONNECT, "pooler is shutting down"));
    }
    let Some(database) = plan.database(&state.database) else {
        let message = format!("no such database: {}", state.database);
        return Err(Refusal::new(NO_DATABASE, message));
    };
    if database.is_disabled {
        let message = format!("database \"{}\" is disabled", state.database);
        return Err(Refusal::new(CANNOT_CONNECT, message));
    }
    let over_tcp = matches!(peer, Peer::Tcp(_));
    if house.requires_tls && over_tcp {
        return Err(Refusal::new(PROTOCOL, "SSL required"));
    }
    let system_user = match peer {
        Peer::Unix { user: Some(user) } => login::system_user(&house.system_users, user),
        _ => None,
    };
    let facts = Facts {
        user: &state.user,
        database: &state.database,
        replication: Replication::None,
        source: match peer {
            Peer::Tcp(address) => Source::Address(address),
            Peer::Unix { .. } => Source::Local { peer: system_user },
        },
        tls: None,
    };
    let any = house.auth == Some(Auth::Any) && house.hba.is_none();
    let mut demand = match &house.hba {
        Some(hba) => match hba.rule(&facts, &house.interfaces) {
            Some(rule) => rule.demand().clone(),
            None => return Err(login::Refusal::no_rule(&facts).into()),
        },
        None if house.auth == Some(Auth::Cert) => Demand::from(Method::Certificate),
        None => Demand::from(Method::Trust),
    };
    if demand.method == Method::Reject {
        return Err(Refusal::new(AUTHORIZATION, "login rejected"));
    }
    if over_tcp {
        demand.certificate = demand.certificate.max(house.certificate);
    }
    login::check_identity(&demand, &facts)?;
    let asker = database.auth_user.as_ref().or(house.auth_user.as_ref());
    let is_known = plan
        .users
        .get(&state.user)
        .is_some_and(|user| !user.is_only_limits);
    if !any && !is_known && asker.is_none() {
        let message = format!("user \"{}\" may not log in any more", state.user);
        return Err(Refusal::new(AUTHORIZATION, message));
    }
    Ok(database)
}

/// Whether everything that the client has is followed here.
fn can_go_on(state: &ClientState, plan: &Plan, pool: Option<&PoolPlan>) -> Result<(), NotTaken> {
    let followed = &plan.house.followed;
    let mut all = state.variables.iter().chain(&state.start);
    if let Some((name, _)) = all.find(|(name, _)| followed.place(name).is_none()) {
        let why = format!("the setting {name} is not followed any more");
        return Err(NotTaken::untold(why));
    }
    let has_session =
        !state.settings.is_empty() || !state.prepared.is_empty() || state.unnamed.is_some();
    if has_session && pool.is_some_and(|pool| pool.mode == PoolMode::Session) {
        let why = "its pool lends connections for whole sessions now".to_owned();
        return Err(NotTaken::untold(why));
    }
    if !state.prepared.is_empty() && plan.house.max_prepared == 0 {
        let why = "prepared statements are not followed any more".to_owned();
        return Err(NotTaken::untold(why));
    }
    Ok(())
}

fn variables(plan: &Plan, pairs: &[(String, String)]) -> Variables {
    let mut variables = Variables::new(&plan.house.followed);
    for (name, value) in pairs {
        variables.set(name, value);
    }
    variables
}

impl Client {
    /// Goes on with a session that was begun elsewhere.
    pub(super) fn take_up(&mut self, session: CarriedSession) {
        let plan = self.pool.plan();
        for (name, value) in &session.variables {
            self.variables.set(name, value);
        }
        self.note_lexing();
        let name = self.variables.get("application_name").unwrap_or_default();
        self.identity.entry.seen.set_application(name);
        self.session.restore(session.settings);
        let plans = self.pool.plans();
        for one in &session.prepared {
            let find = || self.find(&one.query);
            let statements = &self.worker.statements;
            let prefix = &plan.house.prepared_prefix;
            let statement = statements.of(&one.query, &one.types, plans, prefix, find);
            self.names.insert(&one.name, statement);
        }
        self.identity.entry.seen.set_prepared(self.names.len());
        if let Some(unnamed) = session.unnamed {
            let found = self.find(&unnamed.query);
            if plan.house.diagnosis.is_some() {
                let record = self.record_of(Watchable::found(&unnamed.query, &found));
                self.watched.parse(record);
            }
            self.unnamed_uses = found.uses;
            self.unnamed = found.effect;
            self.unnamed_statement
                .restore(&unnamed.query, &unnamed.types);
        }
        if let Some(landing) = session.landing {
            self.listening = Some(Box::new(Listening::landed(landing, &self.pool)));
        }
        if let Some(floor) = session.floor {
            let now = self.worker.now();
            let position = match floor {
                Floor::Unknown => None,
                Floor::At { timeline, lsn } => Some(Position { timeline, lsn }),
            };
            self.writes.restore(Written {
                store: self.store(),
                ended: now,
                began: now,
                position,
            });
        }
    }

    /// Sees to it that every setting that is followed has a value, those too that were not where the
    /// client comes from.
    pub(super) async fn complete_variables(&mut self) -> Result<(), Option<Refusal>> {
        if self.variables.are_complete() {
            return Ok(());
        }
        let welcome = self.welcome().await?;
        self.variables.fill(&welcome.variables);
        self.note_lexing();
        Ok(())
    }

    /// Whatever its instance has written in the process before, over this connection or others:
    /// what is read here from now on is to hold it.
    pub(super) fn note_arrival(&mut self) {
        let now = self.worker.now();
        self.note_elsewhere(now);
    }
}
