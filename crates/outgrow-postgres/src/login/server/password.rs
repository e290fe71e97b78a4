//! Passwords as they are, and their MD5 hashes.

use std::sync::Arc;

use outgrow_upstream::scram::Keys;

use super::{Sent, ServerExchange, ServerStep, State, Stored, refused};
use crate::login::credential::Credential;
use crate::login::demand::Method;
use crate::login::derivation::Derivation;
use crate::login::md5;
use crate::login::refusal::{Cause, Refusal};
use crate::login::secret::{LONGEST_PASSWORD, Password, Secret};

const MISMATCH: &str = "the password does not match";

/// AuthenticationMD5Password.
const ASK_MD5: u32 = 5;

impl ServerExchange {
    pub(super) fn ask_md5(&mut self) -> ServerStep {
        self.state = State::Md5;
        let mut body = ASK_MD5.to_be_bytes().to_vec();
        body.extend_from_slice(&self.salt);
        ServerStep::Send(body)
    }

    /// The client's password.
    pub(super) fn cleartext(&mut self, body: &[u8]) -> ServerStep {
        let password = match text(body) {
            Ok(text) => Password::new(text),
            Err(refusal) => return refused(refusal),
        };
        match password {
            Ok(password) => self.check_password(Arc::new(password)),
            // Longer than any that can be stored.
            Err(_) => self.wrong(None, MISMATCH),
        }
    }

    pub(super) fn check_password(&mut self, password: Arc<Password>) -> ServerStep {
        let is_right = match &self.secret {
            Stored::Nobody | Stored::User(None) => false,
            Stored::User(Some(Secret::Plain(stored))) => {
                // The stored one has what was derived from it.
                let stored = Arc::clone(stored);
                if *stored == *password {
                    return self.proven(None, Method::Password, Credential::Password(stored));
                }
                false
            }
            Stored::User(Some(Secret::Md5(hash))) => {
                *hash == md5::Hash::of(password.expose(), &self.user)
            }
            Stored::User(Some(Secret::Scram(verifier))) => {
                let salt = verifier.salt().clone();
                if salt.iterations.get() > self.settings.most_iterations {
                    return self.wrong(None, "the verifier has too many iterations");
                }
                self.state = State::Checking(Arc::clone(&password));
                return ServerStep::Derive(Derivation::new(password, salt));
            }
        };
        match is_right {
            true => self.proven(None, Method::Password, Credential::Password(password)),
            false => self.wrong(Some(Sent::Password(password)), MISMATCH),
        }
    }

    /// The keys of the client's password are there.
    pub(super) fn check_derived(&mut self, password: Arc<Password>, keys: &Keys) -> ServerStep {
        let is_right = match &self.secret {
            Stored::User(Some(Secret::Scram(verifier))) => verifier.accepts(keys),
            _ => false,
        };
        match is_right {
            true => self.proven(None, Method::Password, Credential::Password(password)),
            false => self.wrong(Some(Sent::Password(password)), MISMATCH),
        }
    }

    /// The client's hash.
    pub(super) fn md5(&mut self, body: &[u8]) -> ServerStep {
        let text = match text(body) {
            Ok(text) => text,
            Err(refusal) => return refused(refusal),
        };
        match text.try_into() {
            Ok(text) => self.check_md5(text),
            // Not a hash at all, so no other secret makes it right.
            Err(_) => self.wrong(None, MISMATCH),
        }
    }

    pub(super) fn check_md5(&mut self, text: [u8; md5::TEXT_BYTES]) -> ServerStep {
        let (hash, credential) = match &self.secret {
            Stored::User(Some(secret @ Secret::Plain(password))) => (
                md5::Hash::of(password.expose(), &self.user),
                Credential::of(Some(secret)),
            ),
            Stored::User(Some(secret @ Secret::Md5(hash))) => {
                (hash.clone(), Credential::of(Some(secret)))
            }
            Stored::User(Some(Secret::Scram(_))) => {
                return self.wrong(None, "has a SCRAM verifier since a moment ago");
            }
            Stored::User(None) | Stored::Nobody => {
                return self.wrong(Some(Sent::Md5(text)), MISMATCH);
            }
        };
        match hash.accepts(&text, self.salt) {
            true => self.proven(None, Method::Md5, credential),
            false => self.wrong(Some(Sent::Md5(text)), MISMATCH),
        }
    }
}

/// The one text of a PasswordMessage.
fn text(body: &[u8]) -> Result<&[u8], Refusal> {
    // One more, so that too long a password is a wrong one.
    let is_whole = body.len() <= LONGEST_PASSWORD + 2;
    match body.split_last() {
        Some((0, [])) => Err(Refusal::new(
            Cause::Password,
            "28P01",
            "empty password returned by client".to_owned(),
            "empty password returned by client",
        )),
        Some((0, text)) if is_whole && !text.contains(&0) => Ok(text),
        _ => Err(Refusal::protocol("invalid password packet size")),
    }
}
