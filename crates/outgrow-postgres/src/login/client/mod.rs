//! We act as the client: we prove to a server who we are, and see that it does not ask for less
//! than it should, nor for more than is safe.
//!
//! [`ClientExchange::answer`] takes the bodies of the server's authentication messages (`R`) and
//! gives those of our answers (`p`). Everything else that comes during a login (errors, notices,
//! the version) is the pool's.

mod policy;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use outgrow_upstream::scram::{
    Binding, Client, Keys, NAME, NAME_PLUS, NONCE_BYTES, Problem as ScramProblem, Salt,
};

pub use policy::{Channel, ChannelBinding, Cleartext, Least, Policy};

use super::credential::Credential;
use super::derivation::{Derivation, Derived};
use super::md5;
use super::refusal::{Cause, Refusal, shown};
use super::secret::Password;

/// Most mechanisms that a server may offer.
const MOST_MECHANISMS: usize = 32;

/// What is to be done next.
#[derive(Debug)]
#[must_use = "the server waits for it"]
pub enum ClientStep {
    /// Send this body of a message of kind `p`, and wait for the next one of the server.
    Send(Vec<u8>),
    /// Wait for the next message.
    Wait,
    /// Do this work and give its [result](ClientExchange::derived).
    Derive(Derivation),
    /// The server lets us in.
    Done,
    /// We do not go on: close the connection.
    Refused(Box<Refusal>),
}

/// One login at a server.
#[derive(Debug)]
pub struct ClientExchange {
    user: String,
    credential: Credential,
    channel: Channel,
    policy: Policy,
    nonce: [u8; NONCE_BYTES],
    state: State,
}

#[derive(Debug)]
enum State {
    /// Nothing was asked yet.
    Begun,
    /// A password or its hash was sent.
    Answered(Least),
    /// Our first message was sent.
    First(Box<Client>),
    /// Keys are derived.
    Deriving(Box<Client>),
    /// Our proof was sent.
    Last(Box<Client>),
    /// The server has proven itself.
    Verified,
    Over,
}

impl ClientExchange {
    /// Begins. `nonce` are random bytes that were never used before.
    pub fn new(
        user: &str,
        credential: Credential,
        channel: Channel,
        policy: &Policy,
        nonce: [u8; NONCE_BYTES],
    ) -> Self {
        Self {
            user: user.to_owned(),
            credential,
            channel,
            policy: policy.clone(),
            nonce,
            state: State::Begun,
        }
    }

    /// The body of an authentication message of the server.
    pub fn answer(&mut self, body: &[u8]) -> ClientStep {
        let state = std::mem::replace(&mut self.state, State::Over);
        let Some((&code, rest)) = body.split_first_chunk() else {
            return self.refuse("sent an authentication message that is none");
        };
        match (u32::from_be_bytes(code), rest, state) {
            (0, [], state) => self.ok(&state),
            (3, [], State::Begun) => self.cleartext(),
            (5, salt, State::Begun) => match salt.try_into() {
                Ok(salt) => self.md5(salt),
                Err(_) => self.refuse("asked by MD5 with a salt that is none"),
            },
            (10, names, State::Begun) => self.sasl(names),
            (11, text, State::First(client)) => self.challenged(client, text),
            (12, text, State::Last(client)) => self.verify(*client, text),
            (0 | 3 | 5 | 10 | 11 | 12, ..) => {
                self.refuse("sent an authentication message out of turn")
            }
            (other, ..) => self.unknown(other),
        }
    }

    /// The result of [`ClientStep::Derive`].
    pub fn derived(&mut self, derived: Derived) -> ClientStep {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Deriving(client) => self.respond(client, &derived.keys),
            _ => self.refuse("nothing was to be derived"),
        }
    }

    /// Whether it is over, well or not.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    fn ok(&self, state: &State) -> ClientStep {
        let shown = match state {
            State::Begun => Least::Nothing,
            State::Answered(way) => *way,
            State::Verified => Least::Scram,
            _ => return self.refuse("let us in before it proved that it knows the password"),
        };
        if self.policy.channel_binding == ChannelBinding::Require && shown != Least::Scram {
            return self.refuse("did not bind the login to its certificate, which is required");
        }
        if shown < self.policy.least {
            return self.refuse(&self.too_little(shown));
        }
        ClientStep::Done
    }

    fn too_little(&self, shown: Least) -> String {
        format!(
            "asks for {}, less than the {} that is required",
            shown.words(),
            self.policy.least.words()
        )
    }

    fn cleartext(&mut self) -> ClientStep {
        if Least::Cleartext < self.policy.least {
            return self.refuse(&self.too_little(Least::Cleartext));
        }
        let is_safe = match self.channel {
            Channel::Local | Channel::Tls { .. } => true,
            Channel::Plain => false,
        };
        if !is_safe && self.policy.cleartext == Cleartext::Encrypted {
            return self
                .refuse("asks for the password in clear text over a connection without TLS");
        }
        let Credential::Password(password) = &self.credential else {
            return self.wrong_kind("the password in clear text");
        };
        let body = with_end(password.expose());
        self.state = State::Answered(Least::Cleartext);
        ClientStep::Send(body)
    }

    fn md5(&mut self, salt: [u8; md5::SALT_BYTES]) -> ClientStep {
        if Least::Md5 < self.policy.least {
            return self.refuse(&self.too_little(Least::Md5));
        }
        let answer = match &self.credential {
            Credential::Password(password) => {
                md5::Hash::of(password.expose(), &self.user).answer(salt)
            }
            Credential::Md5(hash) => hash.answer(salt),
            Credential::None | Credential::Locked | Credential::Scram(_) => {
                return self.wrong_kind("an MD5 hash");
            }
        };
        self.state = State::Answered(Least::Md5);
        ClientStep::Send(with_end(&answer))
    }

    fn sasl(&mut self, names: &[u8]) -> ClientStep {
        // Names end with a NUL, the list with an empty one.
        let Some(names) = names.strip_suffix(b"\0\0") else {
            return self.refuse("sent a list of mechanisms that is none");
        };
        let mut names = names.split(|&byte| byte == 0).take(MOST_MECHANISMS);
        let (mut has_plain, mut has_plus) = (false, false);
        names.by_ref().for_each(|name| {
            has_plain |= name == NAME.as_bytes();
            has_plus |= name == NAME_PLUS.as_bytes();
        });
        let binding = match self.binding(has_plus) {
            Ok(binding) => binding,
            Err(text) => return self.refuse(text),
        };
        if !has_plain && !matches!(binding, Binding::EndPoint(_)) {
            return self.refuse("offers no mechanism that is spoken here: only SCRAM-SHA-256 is");
        }
        if !matches!(
            self.credential,
            Credential::Password(_) | Credential::Scram(_)
        ) {
            return self.wrong_kind("SCRAM-SHA-256");
        }
        let client = Client::new(&self.nonce, binding);
        let first = client.first();
        let mut body = with_end(client.mechanism().as_bytes());
        body.extend_from_slice(&(first.len() as u32).to_be_bytes());
        body.extend_from_slice(first.as_bytes());
        self.state = State::First(Box::new(client));
        ClientStep::Send(body)
    }

    fn binding(&self, has_plus: bool) -> Result<Binding, &'static str> {
        let wanted = self.policy.channel_binding;
        match (&self.channel, has_plus, wanted) {
            (_, _, ChannelBinding::Disable) => Ok(Binding::Unsupported),
            (
                Channel::Tls {
                    end_point: Some(hash),
                },
                true,
                _,
            ) => Ok(Binding::EndPoint(hash.clone())),
            // Somebody in between took TLS away and forgot this.
            (Channel::Plain | Channel::Local, true, _) => {
                Err("offers channel binding over a connection without TLS")
            }
            (_, _, ChannelBinding::Require) => {
                Err("does not bind the login to its certificate, which is required")
            }
            (Channel::Tls { end_point: Some(_) }, false, ChannelBinding::Prefer) => {
                Ok(Binding::NotOffered)
            }
            _ => Ok(Binding::Unsupported),
        }
    }

    fn challenged(&mut self, mut client: Box<Client>, text: &[u8]) -> ClientStep {
        let salt = match client.challenge(text, self.policy.most_iterations) {
            Ok(salt) => salt,
            Err(problem) => return self.scram(&problem),
        };
        match &self.credential {
            Credential::Scram(passed) => {
                if passed.salt != salt {
                    return self.other_verifier();
                }
                let keys = passed.keys.clone();
                self.respond(client, &keys)
            }
            Credential::Password(password) => {
                let password = Arc::clone(password);
                self.derive(client, password, salt)
            }
            _ => self.wrong_kind("SCRAM-SHA-256"),
        }
    }

    fn derive(&mut self, client: Box<Client>, password: Arc<Password>, salt: Salt) -> ClientStep {
        if let Some(keys) = password.memory.known(&salt) {
            return self.respond(client, &keys);
        }
        self.state = State::Deriving(client);
        ClientStep::Derive(Derivation::new(password, salt))
    }

    fn respond(&mut self, mut client: Box<Client>, keys: &Keys) -> ClientStep {
        match client.respond(keys) {
            Ok(text) => {
                self.state = State::Last(client);
                ClientStep::Send(text.into_bytes())
            }
            Err(problem) => self.scram(&problem),
        }
    }

    fn verify(&mut self, mut client: Client, text: &[u8]) -> ClientStep {
        match client.verify(text) {
            Ok(()) => {
                self.state = State::Verified;
                ClientStep::Wait
            }
            Err(problem) => self.scram(&problem),
        }
    }

    fn unknown(&self, code: u32) -> ClientStep {
        let name = match code {
            2 => "Kerberos V5",
            4 => "crypt",
            6 => "SCM credentials",
            7 | 8 => "GSSAPI",
            9 => "SSPI",
            _ => {
                return self.refuse(&format!(
                    "asks for a login of kind {code}, which is unknown here"
                ));
            }
        };
        self.refuse(&format!(
            "asks for a login by {name}, which is not spoken here: scram-sha-256, md5, password and \
             trust are"
        ))
    }

    fn scram(&self, problem: &ScramProblem) -> ClientStep {
        match problem {
            ScramProblem::NotScram => self.refuse("sent a message that is not of SCRAM-SHA-256"),
            other => self.refuse(&other.to_string()),
        }
    }

    fn other_verifier(&self) -> ClientStep {
        self.refuse(
            "has another SCRAM verifier for the user than the one the client logged in with here \
             (another salt or count of iterations): store the same one at both, or the password",
        )
    }

    /// The server wants to see what we do not have. The words are those that PgBouncer tells
    /// clients.
    fn wrong_kind(&self, wanted: &str) -> ClientStep {
        let has = self.credential.kind();
        let refusal = Refusal {
            text: "server login failed: wrong password type".to_owned(),
            ..self.refusal(&format!("asks for {wanted}, and we have {has}"))
        };
        ClientStep::Refused(Box::new(refusal))
    }

    fn refuse(&self, why: &str) -> ClientStep {
        ClientStep::Refused(Box::new(self.refusal(why)))
    }

    fn refusal(&self, why: &str) -> Refusal {
        let text = format!("server login failed: the server {why}");
        let reason = format!("user \"{}\": the server {why}", shown(&self.user));
        Refusal::new(Cause::Ours, "28000", text, reason)
    }
}

fn with_end(text: &[u8]) -> Vec<u8> {
    let mut body = text.to_vec();
    body.push(0);
    body
}
