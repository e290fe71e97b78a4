//! A client proves who it is: drives the login room's exchange.

use outgrow_core::random::system_bytes;
use tokio::sync::oneshot;

use super::encrypt::Secured;
use super::login::{End, Login};
use super::startup::Wanted;
use super::{Moved, Peer, accept};
use crate::ask::Ask;
use crate::events::{Level, Topic};
use crate::login::auth_query::Answer;
use crate::login::{
    self, CertificateDemand, Credential, Demand, Facts, Known, Method, RANDOM_BYTES, Replication,
    ServerExchange, ServerStep, Source, UnknownUser,
};
use crate::plan::{Manner, Plan};
use crate::problem::{PROTOCOL, Refusal};
use crate::settings::Auth;
use crate::wire::write;

impl From<login::Refusal> for Refusal {
    fn from(refusal: login::Refusal) -> Self {
        Self {
            code: refusal.sqlstate.into(),
            message: refusal.text.into(),
        }
    }
}

impl Login {
    /// Has the client prove that it is the user that it says, and gives what can be shown to
    /// servers on its behalf.
    pub(super) async fn prove(&mut self, plan: &Plan, wanted: &Wanted) -> Result<Credential, End> {
        let house = &plan.house;
        let any = house.auth == Some(Auth::Any) && house.hba.is_none();
        if any {
            let database = plan.database(&wanted.database);
            let lacks_user = database.is_some_and(|database| database.user.is_none());
            if lacks_user && house.any_needs_user {
                let message = "bouncer config error";
                return Err(Refusal::new(PROTOCOL, message).into());
            }
        }
        let secured = self.secured();
        let system_user = match self.peer {
            Peer::Unix { user: Some(user) } => login::system_user(&house.system_users, user),
            _ => None,
        };
        let facts = Facts {
            user: &wanted.user,
            database: &wanted.database,
            replication: replication(wanted),
            source: match self.peer {
                Peer::Tcp(address) => Source::Address(address),
                Peer::Unix { .. } => Source::Local { peer: system_user },
            },
            tls: secured.as_ref().map(Secured::facts),
        };
        if any {
            let demand = Demand {
                certificate: self.least_certificate(plan),
                ..Demand::from(Method::Trust)
            };
            login::check_identity(&demand, &facts).map_err(Refusal::from)?;
            return Ok(Credential::None);
        }
        let mut demand = match (&house.hba, house.auth) {
            (Some(hba), _) => match hba.rule(&facts, &house.interfaces) {
                Some(rule) => rule.demand().clone(),
                None => {
                    let words = Words {
                        manner: house.manner,
                        method: Method::Reject,
                        has_said_sasl: false,
                        was_asked: false,
                    };
                    let refusal = login::Refusal::no_rule(&facts);
                    let is_ours = house.manner == Manner::PgBouncer;
                    let told = Refusal::new(PROTOCOL, "no authentication method is found");
                    return Err(if is_ours {
                        told
                    } else {
                        words.refusal(refusal)
                    }
                    .into());
                }
            },
            (None, auth) => Demand::from(method(auth)),
        };
        demand.certificate = demand.certificate.max(self.least_certificate(plan));
        self.slow_down(plan, demand.method, &facts).await?;
        let known = self.known(plan, wanted);
        let mut random = [0; RANDOM_BYTES];
        system_bytes(&mut random);
        let mut settings = house.login_settings.clone();
        if house.manner == Manner::PgBouncer {
            // Who is asked about is told, who is in no list is asked for a password.
            settings.unknown_user = match known {
                Known::Ask | Known::Remembered(_) => UnknownUser::Told,
                _ => UnknownUser::Md5,
            };
        }
        let mut words = Words {
            manner: house.manner,
            method: demand.method,
            has_said_sasl: false,
            was_asked: false,
        };
        let (mut exchange, mut step) =
            ServerExchange::start(&facts, &demand, known, &settings, &random);
        loop {
            step = match step {
                ServerStep::Send(body) => {
                    words.has_said_sasl |= body.starts_with(&[0, 0, 0, 10]);
                    let mut out = Vec::new();
                    write::authentication(&mut out, &body);
                    self.send(&out).await?;
                    let answer = self.password().await?;
                    exchange.answer(&answer)
                }
                ServerStep::NeedSecret => {
                    words.was_asked = true;
                    let answer = self.ask(plan, wanted).await?;
                    self.worker
                        .shared
                        .remember(&wanted.database, &wanted.user, &answer);
                    exchange.supply(answer)
                }
                ServerStep::Derive(derivation) => {
                    let derived = tokio::task::spawn_blocking(|| derivation.run()).await;
                    exchange.derived(derived.map_err(|_| End::Gone)?)
                }
                ServerStep::Done(proven) => {
                    self.note_login(plan, demand.method, &facts, None);
                    if let Some(body) = proven.last {
                        let mut out = Vec::new();
                        write::authentication(&mut out, &body);
                        self.send(&out).await?;
                    }
                    return Ok(proven.proof.credential);
                }
                ServerStep::Refused(refusal) => {
                    self.note_login(plan, demand.method, &facts, Some(&refusal));
                    if refusal.is_stale {
                        self.worker.shared.forget(&wanted.database, &wanted.user);
                    }
                    return Err(words.refusal(*refusal).into());
                }
            };
        }
    }

    /// What the client's certificate must be at least. There is none without TCP.
    fn least_certificate(&self, plan: &Plan) -> CertificateDemand {
        match self.peer {
            Peer::Tcp(_) => plan.house.certificate,
            Peer::Unix { .. } => CertificateDemand::None,
        }
    }

    fn known(&self, plan: &Plan, wanted: &Wanted) -> Known {
        let database = plan.database(&wanted.database);
        let asker = database.and_then(|database| database.auth_user.as_ref());
        let can_ask = asker.or(plan.house.auth_user.as_ref()).is_some();
        if let Some(user) = plan.users.get(&wanted.user)
            && !user.is_only_limits
            && (user.secret.is_some() || !can_ask)
        {
            return Known::User(user.secret.clone());
        }
        // Those of the console are asked about where the configuration says where.
        let is_console = self.is_console(&wanted.database) && plan.house.auth_database.is_some();
        if !can_ask || !(database.is_some() || is_console) {
            return Known::Nobody;
        }
        let shared = &self.worker.shared;
        if plan.house.manner == Manner::PgBouncer {
            // As there: each login asks anew.
            return Known::Ask;
        }
        match shared.remembered(&wanted.database, &wanted.user) {
            Some(answer) => Known::Remembered(answer),
            None => Known::Ask,
        }
    }

    fn is_console(&self, database: &str) -> bool {
        let console = self.worker.shared.console();
        console.is_some_and(|console| console.database() == database)
    }

    /// Asks a server about the user.
    async fn ask(&self, plan: &Plan, wanted: &Wanted) -> Result<Answer, End> {
        let house = &plan.house;
        let own = plan.database(&wanted.database);
        let asker = own.and_then(|own| own.auth_user.as_ref());
        let Some(asker) = asker.or(house.auth_user.as_ref()) else {
            return Ok(Answer::Nobody);
        };
        let database = own.and_then(|own| own.auth_database.as_deref());
        let database = database.or(house.auth_database.as_deref());
        let database = database.unwrap_or(&wanted.database);
        let query = own.and_then(|own| own.auth_query.as_ref());
        self.check_auth_database(plan, database)?;
        let (sender, receiver) = oneshot::channel();
        let ask = Ask {
            database: database.into(),
            asker: asker.as_str().into(),
            query: query.unwrap_or(&house.auth_query).clone(),
            user: wanted.user.clone(),
            answer: sender,
        };
        let owner = self.worker.shared.owner(database, asker);
        accept::hand_on(&self.worker, owner, Moved::Ask(ask));
        match receiver.await {
            Ok(Ok(answer)) => Ok(answer),
            // The pool has no connection, as if the client waited for it.
            Ok(Err(Some(refusal))) if house.manner == Manner::PgBouncer => Err(refusal.into()),
            // What the server says of it is for the log: the client is nobody yet.
            _ => Err(config_error()),
        }
    }

    fn check_auth_database(&self, plan: &Plan, database: &str) -> Result<(), End> {
        let problem = if self.is_console(database) {
            "cannot use the reserved \"pgbouncer\" database as an auth_dbname".to_owned()
        } else {
            match plan.database(database) {
                Some(known) if known.is_disabled => {
                    let message = format!("authentication database \"{database}\" is disabled");
                    return Err(Refusal::new(PROTOCOL, message).into());
                }
                Some(_) => return Ok(()),
                None => format!("authentication database \"{database}\" is not configured."),
            }
        };
        self.entry.say(Level::Error, Topic::Other, || problem);
        Err(config_error())
    }
}

fn config_error() -> End {
    Refusal::new(PROTOCOL, "bouncer config error").into()
}

/// In whose words a client is told that its login failed.
struct Words {
    manner: Manner,
    method: Method,
    has_said_sasl: bool,
    /// Whether a server was asked about the user.
    was_asked: bool,
}

impl Words {
    fn refusal(&self, refusal: login::Refusal) -> Refusal {
        if self.manner == Manner::Postgres {
            return refusal.into();
        }
        let message = match (refusal.cause, self.method) {
            (login::Cause::NoSuchUser, _) if self.was_asked => "no such user",
            (login::Cause::NoSuchUser | login::Cause::Password, Method::Trust) => {
                "\"trust\" authentication failed"
            }
            (login::Cause::NoSuchUser, _) => "no such user",
            (login::Cause::Password, _) if self.has_said_sasl => "SASL authentication failed",
            (login::Cause::Password, _) => "password authentication failed",
            (login::Cause::Identity, Method::Peer) => "unix socket login rejected",
            (login::Cause::Identity, _) => "certificate authentication failed",
            (login::Cause::Rule, _) => "login rejected",
            _ => return refusal.into(),
        };
        Refusal::new(PROTOCOL, message)
    }
}

fn replication(wanted: &Wanted) -> Replication {
    match wanted.replication.as_deref() {
        None => Replication::None,
        Some("database") => Replication::Logical,
        Some(_) => Replication::Physical,
    }
}

fn method(auth: Option<Auth>) -> Method {
    match auth {
        Some(Auth::Trust) => Method::Trust,
        Some(Auth::Plain) => Method::Password,
        Some(Auth::Md5) => Method::Md5,
        Some(Auth::Cert) => Method::Certificate,
        Some(Auth::Any) => Method::Reject,
        Some(Auth::ScramSha256) | None => Method::ScramSha256,
    }
}
