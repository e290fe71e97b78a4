//! What we prove to servers with who we are.

use std::fmt;
use std::sync::Arc;

use outgrow_upstream::scram::{Keys, Salt};

use super::md5;
use super::secret::{Password, Secret, SecretProblem};

/// What is at hand for logging in to a server as a user. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Credential {
    /// Nothing: servers that trust us take us all the same.
    #[default]
    None,
    /// A SCRAM verifier, whose user did not log in with SCRAM or a password here: what a server
    /// wants to see is known to the user alone.
    Locked,
    /// A password: good for every server.
    Password(Arc<Password>),
    /// An MD5 verifier: good for servers that ask by MD5 and have the same one, for the same user.
    Md5(md5::Hash),
    /// SCRAM keys that a client has proven: good for servers that have the same verifier.
    Scram(Arc<PassedKeys>),
}

/// SCRAM keys with what they were derived with.
#[derive(Clone, PartialEq, Eq)]
pub struct PassedKeys {
    /// The keys.
    pub keys: Keys,
    /// That of the verifier here. A server's verifier that has another one is of another
    /// `ALTER ROLE … PASSWORD`, even when the password is the same.
    pub salt: Salt,
}

impl fmt::Debug for PassedKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PassedKeys(***)")
    }
}

impl Credential {
    /// What a stored secret gives without its user's help.
    pub fn of(secret: Option<&Secret>) -> Self {
        match secret {
            None => Self::None,
            Some(Secret::Plain(password)) => Self::Password(Arc::clone(password)),
            Some(Secret::Md5(hash)) => Self::Md5(hash.clone()),
            Some(Secret::Scram(_)) => Self::Locked,
        }
    }

    /// What a password in a configuration gives, which may be an MD5 verifier as well.
    pub fn read(text: &[u8]) -> Result<Self, SecretProblem> {
        Secret::read(text).map(|secret| Self::of(secret.as_ref()))
    }

    /// Its kind, for logs and the console.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Locked => "a SCRAM verifier without its keys",
            Self::Password(_) => "a password",
            Self::Md5(_) => "an MD5 verifier",
            Self::Scram(_) => "SCRAM keys",
        }
    }
}
