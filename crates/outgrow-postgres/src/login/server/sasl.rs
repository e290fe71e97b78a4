//! SCRAM within AuthenticationSASL, SASLInitialResponse and what follows.

use std::sync::Arc;

use outgrow_upstream::scram::{Keys, Salt};

use super::{ServerExchange, ServerStep, State, Stored, refused};
use crate::login::credential::{Credential, PassedKeys};
use crate::login::demand::Method;
use crate::login::derivation::Derivation;
use crate::login::refusal::{Cause, Refusal, shown};
use crate::login::scram::{Outcome, Problem, Server, Verifier, mock_salt};
use crate::login::secret::Secret;

/// AuthenticationSASL, AuthenticationSASLContinue, AuthenticationSASLFinal.
const OFFER: u32 = 10;
const CONTINUE: u32 = 11;
const FINAL: u32 = 12;

/// What the client's next message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Its choice of a mechanism, and mostly its first message.
    Choice,
    /// A message of the mechanism.
    Response,
}

impl ServerExchange {
    pub(super) fn begin_scram(&mut self) -> ServerStep {
        match &self.secret {
            Stored::User(Some(Secret::Scram(verifier))) => {
                let verifier = Verifier::clone(verifier);
                self.offer(verifier, false)
            }
            Stored::User(Some(Secret::Plain(password))) => {
                let password = Arc::clone(password);
                let salt = self.own_salt();
                match password.memory.known(&salt) {
                    Some(keys) => self.offer(Verifier::of(&keys, salt), false),
                    None => {
                        self.state = State::Deriving;
                        ServerStep::Derive(Derivation::new(password, salt))
                    }
                }
            }
            // No verifier can be made of an MD5 one.
            Stored::User(Some(Secret::Md5(_)) | None) | Stored::Nobody => {
                let verifier = Verifier::mock(self.own_salt());
                self.offer(verifier, true)
            }
        }
    }

    fn own_salt(&self) -> Salt {
        let settings = &self.settings;
        mock_salt(&settings.mock_secret, &self.user, settings.iterations)
    }

    pub(super) fn verifier_of(&self, keys: &Keys) -> Verifier {
        Verifier::of(keys, self.own_salt())
    }

    pub(super) fn offer(&mut self, verifier: Verifier, is_doomed: bool) -> ServerStep {
        let server = Server::new(verifier, is_doomed, self.end_point.clone(), &self.nonce);
        let mut body = OFFER.to_be_bytes().to_vec();
        for name in server.offer() {
            body.extend_from_slice(name.as_bytes());
            body.push(0);
        }
        body.push(0);
        self.state = State::Scram(Box::new(server), Turn::Choice);
        ServerStep::Send(body)
    }

    pub(super) fn sasl(&mut self, mut server: Box<Server>, turn: Turn, body: &[u8]) -> ServerStep {
        let message = match turn {
            Turn::Response => body,
            Turn::Choice => {
                let Some((name, message)) = initial_response(body) else {
                    return refused(Refusal::protocol("invalid message format"));
                };
                if let Err(problem) = server.choose(name) {
                    return self.problem(problem);
                }
                let Some(message) = message else {
                    // RFC 4422 section 3: who says nothing at first is asked with nothing.
                    self.state = State::Scram(server, Turn::Response);
                    return ServerStep::Send(CONTINUE.to_be_bytes().to_vec());
                };
                message
            }
        };
        match server.answer(message) {
            Err(problem) => self.problem(problem),
            Ok(Outcome::Continue(text)) => {
                self.state = State::Scram(server, Turn::Response);
                ServerStep::Send(with_code(CONTINUE, &text))
            }
            Ok(Outcome::Proven { last, keys }) => {
                let credential = self.passed(keys);
                let last = Some(with_code(FINAL, &last));
                self.proven(last, Method::ScramSha256, credential)
            }
            // The client has computed with the salt of what is stored here: no other secret can
            // make it right.
            Ok(Outcome::Wrong) => {
                let reason = match &self.secret {
                    Stored::User(Some(Secret::Md5(_))) => "has an MD5 verifier, not one of SCRAM",
                    _ => "the password does not match",
                };
                self.wrong(None, reason)
            }
        }
    }

    /// What the client's keys are good for elsewhere: those of a verifier of our own for nothing,
    /// but there the password is known.
    fn passed(&self, keys: Keys) -> Credential {
        match &self.secret {
            Stored::User(Some(Secret::Scram(verifier))) => {
                let salt = verifier.salt().clone();
                Credential::Scram(Arc::new(PassedKeys { keys, salt }))
            }
            Stored::User(secret) => Credential::of(secret.as_ref()),
            Stored::Nobody => Credential::None,
        }
    }

    fn problem(&mut self, problem: Problem) -> ServerStep {
        let detail = problem.detail.as_deref().unwrap_or_default();
        let reason = format!("user \"{}\": {}: {detail}", shown(&self.user), problem.text);
        let mut refusal = Refusal::new(Cause::Protocol, problem.sqlstate, problem.text, reason);
        refusal.detail = problem.detail;
        refused(refusal)
    }
}

fn with_code(code: u32, text: &[u8]) -> Vec<u8> {
    let mut body = code.to_be_bytes().to_vec();
    body.extend_from_slice(text);
    body
}

/// The name of a mechanism and its first message, if it has one.
fn initial_response(body: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let end = body.iter().position(|&byte| byte == 0)?;
    let (name, rest) = body.split_at(end);
    let (&length, message) = rest.get(1..)?.split_first_chunk()?;
    let length = i32::from_be_bytes(length);
    if length == -1 {
        return message.is_empty().then_some((name, None));
    }
    let is_whole = usize::try_from(length) == Ok(message.len());
    is_whole.then_some((name, Some(message)))
}
