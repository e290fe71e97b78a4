//! We act as the server: a client proves to us who it is.
//!
//! [`ServerExchange::start`] says what to do first; [`ServerExchange::answer`] takes the bodies of
//! the client's messages of kind `p`, [`ServerExchange::supply`] what was asked about the user,
//! [`ServerExchange::derived`] the result of a computation. What arrives out of turn is refused.
//!
//! Not here: AuthenticationOk, which the pool sends when it has all that the client is told with
//! it, and the time that a client may take.

mod password;
mod sasl;
#[cfg(test)]
pub(super) mod tests;

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use outgrow_upstream::scram::NONCE_BYTES;

use super::RANDOM_BYTES;
use super::auth_query::Answer;
use super::credential::Credential;
use super::demand::{CertificateDemand, Demand, Method};
use super::derivation::{Derivation, Derived};
use super::facts::Facts;
use super::identity;
use super::md5;
use super::refusal::Refusal;
use super::scram::Server;
use super::secret::{Password, Secret};

/// What holds for all exchanges.
#[derive(Clone)]
pub struct ServerSettings {
    /// Iterations of verifiers that we make of plain passwords, and that unknown users are shown.
    /// 4096, as in Postgres. Servers' verifiers should have as many, or the two can be told apart.
    pub iterations: NonZeroU32,
    /// Most iterations of a stored verifier that we compute ourselves, for the method `password`.
    /// One million, which takes half a second.
    pub most_iterations: u32,
    /// What salts for unknown users and plain passwords are made from: random bytes, the same for
    /// all workers and, best, for the process that follows.
    pub mock_secret: [u8; 32],
    /// What unknown users are told.
    pub unknown_user: UnknownUser,
}

impl ServerSettings {
    /// The defaults, with this secret.
    pub fn new(mock_secret: [u8; 32]) -> Self {
        Self {
            iterations: NonZeroU32::new(4_096).unwrap_or(NonZeroU32::MIN),
            most_iterations: 1_000_000,
            mock_secret,
            unknown_user: UnknownUser::default(),
        }
    }
}

impl fmt::Debug for ServerSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ServerSettings")
            .field("iterations", &self.iterations)
            .field("most_iterations", &self.most_iterations)
            .field("unknown_user", &self.unknown_user)
            .finish_non_exhaustive()
    }
}

/// What happens to a user whom nobody knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownUser {
    /// It is asked for a password, which is wrong whatever it is; with the method `md5` by SCRAM,
    /// as Postgres does.
    #[default]
    Scram,
    /// The same, with the method `md5` by MD5: for those whose list has MD5 verifiers.
    Md5,
    /// It is told at once that there is no such user, as PgBouncer does after auth_query.
    Told,
}

/// What is known of the user at the start.
#[derive(Clone, Debug)]
pub enum Known {
    /// It is in a list, with this secret; `None`: no login with a password.
    User(Option<Secret>),
    /// A server said so, some moments ago: it is asked again before a wrong password is refused.
    Remembered(Answer),
    /// A server is to be asked.
    Ask,
    /// There is no such user.
    Nobody,
}

/// What is to be done next.
#[derive(Debug)]
#[must_use = "the client waits for it"]
pub enum ServerStep {
    /// Send this body of an authentication message (`R`), and wait for a message of kind `p`.
    Send(Vec<u8>),
    /// Ask a server about the user, never a cache, and [`supply`](ServerExchange::supply) the
    /// answer.
    NeedSecret,
    /// Do this work and give its [result](ServerExchange::derived).
    Derive(Derivation),
    /// The client is who it says.
    Done(Proven),
    /// It is not, or cannot be known to be.
    Refused(Box<Refusal>),
}

/// A login that succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// The body of a last authentication message before AuthenticationOk, if there is one.
    pub last: Option<Vec<u8>>,
    /// What is known now.
    pub proof: Proof,
}

/// What a login has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// What can be shown to servers on behalf of the user.
    pub credential: Credential,
    /// How it was shown to us: `md5` becomes `scram-sha-256` where that is what is stored.
    pub method: Method,
    /// The name in the certificate or of the system's user that was accepted, if one was.
    pub identity: Option<String>,
}

/// What an exchange waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A message of the client.
    Message,
    /// An answer about its user.
    Secret,
    /// The result of a computation.
    Derived,
    /// Nothing: it is over.
    Nothing,
}

/// One login of a client.
#[derive(Debug)]
pub struct ServerExchange {
    user: String,
    method: Method,
    settings: ServerSettings,
    /// The name in a certificate or of a system's user, or why there is none.
    identity: Result<Option<String>, Refusal>,
    end_point: Option<Vec<u8>>,
    nonce: [u8; NONCE_BYTES],
    salt: [u8; md5::SALT_BYTES],
    /// Whether a server was asked in this exchange, or need not be.
    is_fresh: bool,
    secret: Stored,
    state: State,
}

/// What is known of the user.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stored {
    Nobody,
    User(Option<Secret>),
}

#[derive(Debug)]
enum State {
    /// Nothing was said yet, and the user is not known.
    Unknown,
    /// The client is to send its password.
    Cleartext,
    /// The client is to send the hash of it.
    Md5,
    /// The client is to go on with SCRAM.
    Scram(Box<Server>, sasl::Turn),
    /// Keys are derived, of a stored password or of the one that the client sent.
    Deriving,
    Checking(Arc<Password>),
    /// What the client sent is held against what a server says now.
    Again(Sent),
    Over,
}

/// What the client answered.
#[derive(Clone, Debug)]
enum Sent {
    Password(Arc<Password>),
    Md5([u8; md5::TEXT_BYTES]),
}

impl ServerExchange {
    /// Begins. `random` are bytes that were never used before.
    pub fn start(
        facts: &Facts<'_>,
        demand: &Demand,
        known: Known,
        settings: &ServerSettings,
        random: &[u8; RANDOM_BYTES],
    ) -> (Self, ServerStep) {
        let mut nonce = [0; NONCE_BYTES];
        let mut salt = [0; md5::SALT_BYTES];
        let (first, rest) = random.split_at(NONCE_BYTES);
        nonce.copy_from_slice(first);
        salt.copy_from_slice(rest);
        let mut exchange = Self {
            user: facts.user.to_owned(),
            method: demand.method,
            settings: settings.clone(),
            identity: identity::check(demand, facts),
            end_point: facts.tls.and_then(|tls| tls.end_point).map(<[u8]>::to_vec),
            nonce,
            salt,
            is_fresh: true,
            secret: Stored::Nobody,
            state: State::Over,
        };
        if demand.method == Method::Reject {
            return (exchange, refused(Refusal::rejected(facts)));
        }
        // What no password can make good is told before anybody is asked about the user.
        let needs_identity = matches!(demand.method, Method::Certificate | Method::Peer);
        let lacks_certificate = demand.certificate != CertificateDemand::None
            && facts.tls.is_none_or(|tls| tls.certificate.is_none());
        if let Err(refusal) = &exchange.identity
            && (needs_identity || lacks_certificate)
        {
            let refusal = refusal.clone();
            return (exchange, refused(refusal));
        }
        exchange.secret = match known {
            Known::User(secret) => Stored::User(secret),
            Known::Nobody => Stored::Nobody,
            Known::Remembered(answer) => {
                exchange.is_fresh = false;
                answer.into()
            }
            Known::Ask => {
                exchange.state = State::Unknown;
                return (exchange, ServerStep::NeedSecret);
            }
        };
        let step = exchange.ask();
        (exchange, step)
    }

    /// What it waits for.
    pub fn wants(&self) -> Wanted {
        match self.state {
            State::Unknown | State::Again(_) => Wanted::Secret,
            State::Cleartext | State::Md5 | State::Scram(..) => Wanted::Message,
            State::Deriving | State::Checking(_) => Wanted::Derived,
            State::Over => Wanted::Nothing,
        }
    }

    /// The answer of a server about the user. When the server cannot be asked, the exchange is
    /// dropped and the client told so.
    pub fn supply(&mut self, answer: Answer) -> ServerStep {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Unknown => {
                self.secret = answer.into();
                self.is_fresh = true;
                self.ask()
            }
            State::Again(sent) => {
                self.secret = answer.into();
                self.is_fresh = true;
                match sent {
                    Sent::Password(password) => self.check_password(password),
                    Sent::Md5(text) => self.check_md5(text),
                }
            }
            _ => refused(out_of_turn()),
        }
    }

    /// The body of a message of kind `p`.
    pub fn answer(&mut self, body: &[u8]) -> ServerStep {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Cleartext => self.cleartext(body),
            State::Md5 => self.md5(body),
            State::Scram(server, turn) => self.sasl(server, turn, body),
            _ => refused(out_of_turn()),
        }
    }

    /// The result of [`ServerStep::Derive`].
    pub fn derived(&mut self, derived: Derived) -> ServerStep {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Deriving => self.offer(self.verifier_of(&derived.keys), false),
            State::Checking(password) => self.check_derived(password, &derived.keys),
            _ => refused(out_of_turn()),
        }
    }

    /// The first thing that the client is asked, once its user is known.
    fn ask(&mut self) -> ServerStep {
        if self.secret == Stored::Nobody && self.settings.unknown_user == UnknownUser::Told {
            return refused(Refusal::no_such_user(&self.user));
        }
        match self.method {
            Method::Reject => refused(out_of_turn()),
            Method::Trust if self.secret == Stored::Nobody => refused(Refusal::no_role(&self.user)),
            Method::Trust | Method::Certificate | Method::Peer => self.without_password(),
            Method::Password => {
                self.state = State::Cleartext;
                ServerStep::Send(3_u32.to_be_bytes().to_vec())
            }
            Method::Md5 => match &self.secret {
                Stored::User(Some(Secret::Md5(_) | Secret::Plain(_))) => self.ask_md5(),
                Stored::User(Some(Secret::Scram(_))) => self.begin_scram(),
                Stored::User(None) | Stored::Nobody => match self.settings.unknown_user {
                    UnknownUser::Md5 | UnknownUser::Told => self.ask_md5(),
                    UnknownUser::Scram => self.begin_scram(),
                },
            },
            Method::ScramSha256 => self.begin_scram(),
        }
    }

    /// Trust, certificates and peers: all is known. That the user is unknown is told as a failure.
    fn without_password(&mut self) -> ServerStep {
        let credential = match &self.secret {
            Stored::User(secret) => Credential::of(secret.as_ref()),
            Stored::Nobody => {
                let way = match self.method {
                    Method::Peer => "Peer",
                    _ => "certificate",
                };
                return refused(Refusal::identity(way, &self.user, "no such user"));
            }
        };
        self.proven(None, self.method, credential)
    }

    /// The end, if the certificate is in order as well.
    fn proven(
        &mut self,
        last: Option<Vec<u8>>,
        method: Method,
        credential: Credential,
    ) -> ServerStep {
        self.state = State::Over;
        match self.identity.clone() {
            Err(refusal) => refused(refusal),
            Ok(identity) => ServerStep::Done(Proven {
                last,
                proof: Proof {
                    credential,
                    method,
                    identity,
                },
            }),
        }
    }

    /// A wrong password, unless what is stored here may be an old one: then a server is asked.
    fn wrong(&mut self, sent: Option<Sent>, reason: &str) -> ServerStep {
        // That there is nobody is believed: anybody could have a server asked otherwise.
        let may_be_old = !self.is_fresh && self.secret != Stored::Nobody;
        if let (true, Some(sent)) = (may_be_old, sent) {
            self.state = State::Again(sent);
            return ServerStep::NeedSecret;
        }
        self.state = State::Over;
        let reason = match &self.secret {
            Stored::Nobody => "no such user",
            Stored::User(None) => "has no password assigned",
            Stored::User(Some(_)) => reason,
        };
        let mut refusal = Refusal::password(&self.user, reason);
        refusal.is_stale = may_be_old;
        refused(refusal)
    }
}

impl From<Answer> for Stored {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Nobody => Self::Nobody,
            Answer::User(secret) => Self::User(secret),
        }
    }
}

fn refused(refusal: Refusal) -> ServerStep {
    ServerStep::Refused(Box::new(refusal))
}

fn out_of_turn() -> Refusal {
    Refusal::protocol("unexpected message in a login")
}
