//! The client's side of one login (RFC 5802 section 5).

use std::fmt;
use std::num::NonZeroU32;

use aws_lc_rs::constant_time;
use outgrow_core::base64;

use super::keys::{KEY_BYTES, Keys, Salt, sign};
use super::{END_POINT, NAME, NAME_PLUS, NONCE_BYTES};

/// Longest message of a server that is read.
const LONGEST: usize = 4 * 1024;

/// Longest salt, in bytes. Postgres makes 16.
const LONGEST_SALT: usize = 1024;

/// Why a login cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A message that is not what the RFC says it is.
    #[error("the answer is not of SCRAM-SHA-256")]
    NotScram,
    /// More work than we do for anybody.
    #[error("asks for {asked} iterations, more than {most}")]
    TooManyIterations {
        /// What the server wants.
        asked: u32,
        /// What it may want.
        most: u32,
    },
    /// Who does not show that it knows the password's secret is not the server.
    #[error("did not prove that it knows the password: not the right server")]
    NotProven,
}

/// What is said about the channel in which the login takes place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Binding {
    /// We do not bind: there is no TLS, or it is not wanted.
    #[default]
    Unsupported,
    /// We would bind, but the server did not offer it: it notices when somebody took its offer
    /// away.
    NotOffered,
    /// Bound to the server's certificate, of which this is the hash by RFC 5929 section 4.1.
    EndPoint(Vec<u8>),
}

impl Binding {
    /// The start of the first message, which the last one repeats.
    fn header(&self) -> String {
        match self {
            Self::Unsupported => "n,,".to_owned(),
            Self::NotOffered => "y,,".to_owned(),
            Self::EndPoint(_) => format!("p={END_POINT},,"),
        }
    }
}

/// What the server wants the password to be mixed with.
pub type Challenge = Salt;

/// One login under way.
pub struct Client {
    nonce: String,
    binding: Binding,
    /// The server's first message and its nonce, once it has come.
    answer: Option<(String, String)>,
    /// What the server is to answer at the end.
    expected: Option<[u8; KEY_BYTES]>,
    is_verified: bool,
}

impl Client {
    /// A login with these random bytes, never used before.
    pub fn new(nonce: &[u8; NONCE_BYTES], binding: Binding) -> Self {
        Self {
            nonce: base64::encode(nonce),
            binding,
            answer: None,
            expected: None,
            is_verified: false,
        }
    }

    /// The mechanism that the server is to be told.
    pub fn mechanism(&self) -> &'static str {
        match self.binding {
            Binding::EndPoint(_) => NAME_PLUS,
            Binding::Unsupported | Binding::NotOffered => NAME,
        }
    }

    /// The client's first message.
    pub fn first(&self) -> String {
        format!("{}{}", self.binding.header(), self.first_bare())
    }

    fn first_bare(&self) -> String {
        format!("n=,r={}", self.nonce)
    }

    /// Reads the server's first message: with what keys are to be derived, in at most this many
    /// iterations.
    pub fn challenge(
        &mut self,
        server_first: &[u8],
        most_iterations: u32,
    ) -> Result<Challenge, Problem> {
        if server_first.len() > LONGEST || self.answer.is_some() {
            return Err(Problem::NotScram);
        }
        let text = std::str::from_utf8(server_first).map_err(|_| Problem::NotScram)?;
        let mut parts = text.split(',');
        let mut part = |name: &str| parts.next()?.strip_prefix(name);
        let nonce = part("r=").ok_or(Problem::NotScram)?;
        let bytes = part("s=")
            .and_then(base64::decode)
            .filter(|bytes| (1..=LONGEST_SALT).contains(&bytes.len()))
            .ok_or(Problem::NotScram)?;
        let iterations: NonZeroU32 = part("i=")
            .and_then(|number| number.parse().ok())
            .ok_or(Problem::NotScram)?;
        let is_ours = nonce.starts_with(&self.nonce) && nonce.len() > self.nonce.len();
        if !is_ours || !nonce.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Problem::NotScram);
        }
        if iterations.get() > most_iterations {
            return Err(Problem::TooManyIterations {
                asked: iterations.get(),
                most: most_iterations,
            });
        }
        self.answer = Some((text.to_owned(), nonce.to_owned()));
        Ok(Salt { bytes, iterations })
    }

    /// The client's last message, with the keys that belong to the challenge.
    pub fn respond(&mut self, keys: &Keys) -> Result<String, Problem> {
        let (server_first, nonce) = self.answer.as_ref().ok_or(Problem::NotScram)?;
        let mut channel = self.binding.header().into_bytes();
        if let Binding::EndPoint(hash) = &self.binding {
            channel.extend_from_slice(hash);
        }
        let last = format!("c={},r={nonce}", base64::encode(&channel));
        let signed = format!("{},{server_first},{last}", self.first_bare());
        let signature = sign(&keys.stored(), &[signed.as_bytes()]);
        let mut proof = *keys.client();
        for (byte, mask) in proof.iter_mut().zip(signature) {
            *byte ^= mask;
        }
        self.expected = Some(sign(keys.server(), &[signed.as_bytes()]));
        Ok(format!("{last},p={}", base64::encode(&proof)))
    }

    /// Looks at the server's last message.
    pub fn verify(&mut self, server_last: &[u8]) -> Result<(), Problem> {
        // What it expects is taken away: nobody has a second try.
        let expected = self.expected.take().ok_or(Problem::NotProven)?;
        let text = std::str::from_utf8(server_last).unwrap_or_default();
        let signature = text.strip_prefix("v=").and_then(base64::decode);
        let signature = signature.ok_or(Problem::NotProven)?;
        constant_time::verify_slices_are_equal(&signature, &expected)
            .map_err(|_| Problem::NotProven)?;
        self.is_verified = true;
        Ok(())
    }

    /// Whether the server proved that it knows the password's secret.
    pub fn is_verified(&self) -> bool {
        self.is_verified
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Client")
            .field("binding", &self.binding)
            .field("is_verified", &self.is_verified)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u32 = 100_000;

    fn keys() -> Keys {
        Keys::new([1; KEY_BYTES], [2; KEY_BYTES])
    }

    #[test]
    fn what_is_not_scram_is_refused() {
        let nonce = base64::encode(&[7; NONCE_BYTES]);
        let long = format!("r={nonce}x,s=AAAA,i=1,{}", "x".repeat(LONGEST));
        let salt = format!("r={nonce}x,s={},i=1", base64::encode(&[0; 1025]));
        for odd in [
            String::new(),
            "r=other,s=AAAA,i=4096".to_owned(),
            format!("r={nonce},s=AAAA,i=4096"),
            format!("r={nonce}x,s=AAA,i=4096"),
            format!("r={nonce}x,s=,i=4096"),
            format!("r={nonce}x,s=AAAA,i=0"),
            format!("r={nonce}x,s=AAAA"),
            format!("r={nonce}x\u{7f},s=AAAA,i=1"),
            format!("m=x,r={nonce}x,s=AAAA,i=1"),
            long,
            salt,
        ] {
            let mut client = Client::new(&[7; NONCE_BYTES], Binding::Unsupported);
            let result = client.challenge(odd.as_bytes(), MOST);
            assert_eq!(result, Err(Problem::NotScram), "{odd}");
        }
        let mut client = Client::new(&[7; NONCE_BYTES], Binding::Unsupported);
        let greedy = format!("r={nonce}x,s=AAAA,i=100001");
        let problem = client.challenge(greedy.as_bytes(), MOST).unwrap_err();
        assert_eq!(
            problem.to_string(),
            "asks for 100001 iterations, more than 100000"
        );
        assert_eq!(client.respond(&keys()), Err(Problem::NotScram));
        assert_eq!(client.verify(b"v=AAAA"), Err(Problem::NotProven));
        let good = format!("r={nonce}x,s=AAAA,i=10");
        client.challenge(good.as_bytes(), MOST).unwrap();
        // A second challenge would be answered with a proof as well.
        assert!(client.challenge(good.as_bytes(), MOST).is_err());
    }

    #[test]
    fn only_the_right_signature_counts_and_only_once() {
        let begin = || {
            let mut client = Client::new(&[7; NONCE_BYTES], Binding::Unsupported);
            let first = client.first();
            let nonce = first.strip_prefix("n,,n=,r=").unwrap().to_owned();
            let server_first = format!("r={nonce}x,s=AAAA,i=10");
            client.challenge(server_first.as_bytes(), MOST).unwrap();
            let last = client.respond(&keys()).unwrap();
            assert!(last.starts_with(&format!("c=biws,r={nonce}x,p=")));
            let signed = format!("n=,r={nonce},{server_first},c=biws,r={nonce}x");
            let signature = sign(keys().server(), &[signed.as_bytes()]);
            (client, format!("v={}", base64::encode(&signature)))
        };
        let (mut client, good) = begin();
        client.verify(good.as_bytes()).unwrap();
        assert!(client.is_verified());
        for odd in ["e=other-error", "v=AAAA", "", "v=", &good[1..], &good[..45]] {
            let (mut client, good) = begin();
            assert_eq!(client.verify(odd.as_bytes()), Err(Problem::NotProven));
            assert_eq!(client.verify(good.as_bytes()), Err(Problem::NotProven));
            assert!(!client.is_verified());
        }
    }

    #[test]
    fn the_channel_is_told_twice() {
        let check = |binding: Binding, name: &str, first: &str, last: &str| {
            let mut client = Client::new(&[7; NONCE_BYTES], binding);
            assert_eq!(client.mechanism(), name);
            let nonce = client.nonce.clone();
            assert_eq!(client.first(), format!("{first}n=,r={nonce}"));
            let server_first = format!("r={nonce}x,s=AAAA,i=10");
            client.challenge(server_first.as_bytes(), MOST).unwrap();
            let text = client.respond(&keys()).unwrap();
            assert!(text.starts_with(&format!("c={last},r=")), "{text}");
        };
        check(Binding::Unsupported, NAME, "n,,", "biws");
        check(Binding::NotOffered, NAME, "y,,", "eSws");
        let bound = base64::encode(b"p=tls-server-end-point,,hash");
        let binding = Binding::EndPoint(b"hash".to_vec());
        check(binding, NAME_PLUS, "p=tls-server-end-point,,", &bound);
    }
}
