//! A client proves who it is: drives the login room's exchange.

use outgrow_core::random::system_bytes;
use tokio::sync::oneshot;

use super::encrypt::Secured;
use super::login::{End, Login};
use super::startup::Wanted;
use super::{Moved, Peer, accept};
use crate::ask::Ask;
use crate::login::auth_query::Answer;
use crate::login::{
    self, CertificateDemand, Credential, Demand, Facts, Known, Method, RANDOM_BYTES, Replication,
    ServerExchange, ServerStep, Source,
};
use crate::plan::Plan;
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
                None => return Err(Refusal::from(login::Refusal::no_rule(&facts)).into()),
            },
            (None, auth) => Demand::from(method(auth)),
        };
        demand.certificate = demand.certificate.max(self.least_certificate(plan));
        let known = self.known(plan, wanted);
        let mut random = [0; RANDOM_BYTES];
        system_bytes(&mut random);
        let settings = &house.login_settings;
        let (mut exchange, mut step) =
            ServerExchange::start(&facts, &demand, known, settings, &random);
        loop {
            step = match step {
                ServerStep::Send(body) => {
                    let mut out = Vec::new();
                    write::authentication(&mut out, &body);
                    self.send(&out).await?;
                    let answer = self.password().await?;
                    exchange.answer(&answer)
                }
                ServerStep::NeedSecret => {
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
                    if let Some(body) = proven.last {
                        let mut out = Vec::new();
                        write::authentication(&mut out, &body);
                        self.send(&out).await?;
                    }
                    return Ok(proven.proof.credential);
                }
                ServerStep::Refused(refusal) => {
                    if refusal.is_stale {
                        self.worker.shared.forget(&wanted.database, &wanted.user);
                    }
                    return Err(Refusal::from(*refusal).into());
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
        if let Some(user) = plan.users.get(&wanted.user)
            && (user.secret.is_some() || plan.house.auth_user.is_none())
        {
            return Known::User(user.secret.clone());
        }
        if plan.house.auth_user.is_none() || plan.database(&wanted.database).is_none() {
            return Known::Nobody;
        }
        let shared = &self.worker.shared;
        match shared.remembered(&wanted.database, &wanted.user) {
            Some(answer) => Known::Remembered(answer),
            None => Known::Ask,
        }
    }

    /// Asks a server about the user.
    async fn ask(&self, plan: &Plan, wanted: &Wanted) -> Result<Answer, End> {
        let Some(asker) = &plan.house.auth_user else {
            return Ok(Answer::Nobody);
        };
        let database = plan
            .house
            .auth_database
            .as_deref()
            .unwrap_or(&wanted.database);
        let (sender, receiver) = oneshot::channel();
        let ask = Ask {
            database: database.into(),
            asker: asker.as_str().into(),
            query: plan.house.auth_query.clone(),
            user: wanted.user.clone(),
            answer: sender,
        };
        let owner = self.worker.shared.owner(database, asker);
        accept::hand_on(&self.worker, owner, Moved::Ask(ask));
        match receiver.await {
            Ok(Ok(answer)) => Ok(answer),
            // What the server says of it is for the log: the client is nobody yet.
            _ => Err(Refusal::new(PROTOCOL, "bouncer config error").into()),
        }
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
