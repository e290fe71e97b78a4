//! The server's side of one exchange.

use std::fmt;

use aws_lc_rs::constant_time;
use outgrow_core::base64;
use outgrow_upstream::scram::{KEY_BYTES, Keys, NAME, NAME_PLUS, NONCE_BYTES, sign};

use super::message::{First, Flag, Last};
use super::verifier::Verifier;

/// Longest message of a client, as in Postgres.
const LONGEST: usize = 1024;

/// Longest name of a binding that is told on.
const LONGEST_NAME: usize = 64;

/// Why an exchange ends before its end, in Postgres' words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Problem {
    /// The SQLSTATE.
    pub sqlstate: &'static str,
    /// The text.
    pub text: String,
    /// More of it.
    pub detail: Option<String>,
}

impl Problem {
    fn new(sqlstate: &'static str, text: &str, detail: Option<&str>) -> Self {
        Self {
            sqlstate,
            text: text.to_owned(),
            detail: detail.map(str::to_owned),
        }
    }

    pub(super) fn malformed(detail: String) -> Self {
        Self {
            detail: Some(detail),
            ..Self::protocol("malformed SCRAM message")
        }
    }

    pub(super) fn protocol(text: &str) -> Self {
        Self::new("08P01", text, None)
    }

    pub(super) fn unsupported(text: &str) -> Self {
        Self::new("0A000", text, None)
    }

    pub(super) fn unknown_binding(name: &[u8]) -> Self {
        let is_shown = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
        let name: Vec<u8> = name.iter().copied().filter(is_shown).collect();
        let name = String::from_utf8_lossy(&name[..name.len().min(LONGEST_NAME)]).into_owned();
        Self::protocol(&format!(
            "unsupported SCRAM channel-binding type \"{name}\""
        ))
    }
}

/// How it goes on.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With this message to the client, and its answer.
    Continue(Vec<u8>),
    /// The client has the password; this message proves to it that we have the verifier.
    Proven {
        /// Our last message.
        last: Vec<u8>,
        /// The keys, with which we can log in elsewhere where the verifier is the same.
        keys: Keys,
    },
    /// The client does not have the password.
    Wrong,
}

enum State {
    /// The client is to choose a mechanism.
    Begun,
    /// The client is to send its first message.
    Chosen,
    /// The client is to prove itself.
    Asked {
        header: Vec<u8>,
        nonce: Vec<u8>,
        /// What is signed so far.
        signed: Vec<u8>,
    },
    Over,
}

/// One exchange.
pub struct Server {
    verifier: Verifier,
    is_doomed: bool,
    /// The hash of our certificate, where the connection is bound to it by TLS.
    end_point: Option<Vec<u8>>,
    is_bound: bool,
    pub(super) nonce: String,
    state: State,
}

impl Server {
    /// An exchange over a verifier. One that `is_doomed` ends with [`Outcome::Wrong`] whatever the
    /// client proves. `end_point` is the hash of our certificate ([`super::end_point_hash`]), with
    /// TLS; `nonce` are random bytes, never used before.
    pub fn new(
        verifier: Verifier,
        is_doomed: bool,
        end_point: Option<Vec<u8>>,
        nonce: &[u8; NONCE_BYTES],
    ) -> Self {
        Self {
            verifier,
            is_doomed,
            end_point,
            is_bound: false,
            nonce: base64::encode(nonce),
            state: State::Begun,
        }
    }

    /// The mechanisms on offer, the best one first.
    pub fn offer(&self) -> &'static [&'static str] {
        if self.end_point.is_some() {
            &[NAME_PLUS, NAME]
        } else {
            &[NAME]
        }
    }

    /// The client's choice among them.
    pub fn choose(&mut self, name: &[u8]) -> Result<(), Problem> {
        let chosen = self.offer().iter().find(|one| one.as_bytes() == name);
        let (State::Begun, Some(&chosen)) = (&self.state, chosen) else {
            self.state = State::Over;
            let text = "client selected an invalid SASL authentication mechanism";
            return Err(Problem::protocol(text));
        };
        self.is_bound = chosen == NAME_PLUS;
        self.state = State::Chosen;
        Ok(())
    }

    /// A message of the client.
    pub fn answer(&mut self, message: &[u8]) -> Result<Outcome, Problem> {
        let state = std::mem::replace(&mut self.state, State::Over);
        if message.is_empty() {
            let detail = "The message is empty.".to_owned();
            return Err(Problem::malformed(detail));
        }
        if message.len() > LONGEST || message.contains(&0) {
            let detail = "Message length does not match input length.".to_owned();
            return Err(Problem::malformed(detail));
        }
        match state {
            State::Chosen => self.first(message),
            State::Asked {
                header,
                nonce,
                signed,
            } => self.last(message, &header, &nonce, signed),
            State::Begun | State::Over => Err(Problem::protocol("invalid SCRAM exchange state")),
        }
    }

    fn first(&mut self, message: &[u8]) -> Result<Outcome, Problem> {
        let first = First::read(message, |flag| self.check_flag(flag))?;
        let salt = self.verifier.salt();
        let mut nonce = first.nonce;
        nonce.extend_from_slice(self.nonce.as_bytes());
        let mut text = b"r=".to_vec();
        text.extend_from_slice(&nonce);
        let encoded = base64::encode(&salt.bytes);
        text.extend_from_slice(format!(",s={encoded},i={}", salt.iterations).as_bytes());
        let mut signed = first.bare;
        signed.push(b',');
        signed.extend_from_slice(&text);
        signed.push(b',');
        self.state = State::Asked {
            header: first.header,
            nonce,
            signed,
        };
        Ok(Outcome::Continue(text))
    }

    /// RFC 5802 section 6: who could bind and was told that we cannot has somebody in between.
    fn check_flag(&self, flag: Flag) -> Result<(), Problem> {
        match (flag, self.is_bound) {
            (Flag::EndPoint, true) | (Flag::Unsupported, false) => Ok(()),
            (Flag::NotOffered, false) if self.end_point.is_none() => Ok(()),
            (Flag::NotOffered, false) => Err(Problem::new(
                "28000",
                "SCRAM channel binding negotiation error",
                Some(
                    "The client supports SCRAM channel binding but thinks the server does not.  \
                     However, this server does support channel binding.",
                ),
            )),
            (Flag::Unsupported | Flag::NotOffered, true) => Err(Problem::malformed(
                "The client selected SCRAM-SHA-256-PLUS, but the SCRAM message does not include \
                 channel binding data."
                    .to_owned(),
            )),
            (Flag::EndPoint, false) => Err(Problem::malformed(
                "The client selected SCRAM-SHA-256 without channel binding, but the SCRAM message \
                 includes channel binding data."
                    .to_owned(),
            )),
        }
    }

    fn last(
        &self,
        message: &[u8],
        header: &[u8],
        nonce: &[u8],
        mut signed: Vec<u8>,
    ) -> Result<Outcome, Problem> {
        let last = Last::read(message)?;
        let mut channel = header.to_vec();
        if let (true, Some(hash)) = (self.is_bound, &self.end_point) {
            channel.extend_from_slice(hash);
        }
        if last.channel != base64::encode(&channel).as_bytes() {
            return Err(match self.is_bound {
                true => Problem::new("28000", "SCRAM channel binding check failed", None),
                false => Problem::protocol(
                    "unexpected SCRAM channel-binding attribute in client-final-message",
                ),
            });
        }
        if last.nonce != nonce {
            let detail = Some("Nonce does not match.");
            return Err(Problem::new("08P01", "invalid SCRAM response", detail));
        }
        signed.extend_from_slice(last.without_proof);
        let mask = sign(self.verifier.stored_key(), &[&signed]);
        let mut client_key = last.proof;
        for (byte, mask) in client_key.iter_mut().zip(mask) {
            *byte ^= mask;
        }
        let server_key = *self.verifier.server_key();
        let signature = sign(&server_key, &[&signed]);
        let keys = Keys::new(client_key, server_key);
        // All of it is computed for the doomed ones as well, so that it takes the same time.
        if !self.is_proven(&keys) | self.is_doomed {
            return Ok(Outcome::Wrong);
        }
        Ok(Outcome::Proven {
            last: format!("v={}", base64::encode(&signature)).into_bytes(),
            keys,
        })
    }

    fn is_proven(&self, keys: &Keys) -> bool {
        let stored: [u8; KEY_BYTES] = keys.stored();
        constant_time::verify_slices_are_equal(&stored, self.verifier.stored_key()).is_ok()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Server(***)")
    }
}
