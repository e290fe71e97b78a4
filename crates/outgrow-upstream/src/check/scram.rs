//! The client's side of SCRAM-SHA-256 (RFC 5802, RFC 7677) without channel binding, for logins of
//! checks. Passwords are visible ASCII, which SASLprep leaves as it is.

use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::{digest, hmac, pbkdf2};
use outgrow_core::Random;

use super::failure::{Failure, printable};

/// The mechanism's name.
pub(super) const NAME: &str = "SCRAM-SHA-256";

/// What is said of a server that does not know the password's secret.
pub(super) const NOT_PROVEN: &str =
    "did not prove that it knows the password: not the right server";

/// Most iterations: a server that asks for more would use up our time. Postgres has 4096.
const MOST_ITERATIONS: u32 = 100_000;

const NOT_SCRAM: Failure = Failure::Not("of SCRAM-SHA-256");

/// The salted password of the last login: the same salt needs no second computation, which takes
/// milliseconds.
#[derive(Debug, Default)]
pub(super) struct Keys(Mutex<Option<Salted>>);

#[derive(Clone)]
struct Salted {
    salt: Vec<u8>,
    iterations: NonZeroU32,
    key: [u8; 32],
}

impl std::fmt::Debug for Salted {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Salted(***)")
    }
}

impl Keys {
    fn salted(&self, password: &str, salt: &[u8], iterations: NonZeroU32) -> [u8; 32] {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known
            .as_ref()
            .filter(|known| known.salt == salt && known.iterations == iterations)
        {
            return known.key;
        }
        let mut key = [0; 32];
        let way = pbkdf2::PBKDF2_HMAC_SHA256;
        pbkdf2::derive(way, iterations, salt, password.as_bytes(), &mut key);
        *known = Some(Salted {
            salt: salt.to_vec(),
            iterations,
            key,
        });
        key
    }
}

/// One login under way.
pub(super) struct Scram<'a> {
    password: &'a str,
    keys: &'a Keys,
    nonce: String,
    /// What the server is to answer at the end.
    signature: Option<Vec<u8>>,
    verified: bool,
}

impl<'a> Scram<'a> {
    pub(super) fn new(password: &'a str, keys: &'a Keys) -> Self {
        let mut random = Random::from_system();
        let nonce: Vec<u8> = (0..18).map(|_| random.below(256) as u8).collect();
        Self {
            password,
            keys,
            nonce: encode(&nonce),
            signature: None,
            verified: false,
        }
    }

    /// Whether the server proved that it knows the password.
    pub(super) fn is_verified(&self) -> bool {
        self.verified
    }

    /// The client's first message. The name is empty: Postgres takes that of the session.
    pub(super) fn first(&self) -> String {
        format!("n,,{}", self.first_bare())
    }

    fn first_bare(&self) -> String {
        format!("n=,r={}", self.nonce)
    }

    /// The client's last message, to the server's first.
    pub(super) fn reply(&mut self, server_first: &[u8]) -> Result<String, Failure> {
        let server_first = std::str::from_utf8(server_first).map_err(|_| NOT_SCRAM)?;
        let mut parts = server_first.split(',');
        let mut part = |name: &str| parts.next()?.strip_prefix(name);
        let nonce = part("r=").ok_or(NOT_SCRAM)?;
        let salt = part("s=").and_then(decode).ok_or(NOT_SCRAM)?;
        let iterations: NonZeroU32 = part("i=")
            .and_then(|number| number.parse().ok())
            .ok_or(NOT_SCRAM)?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(NOT_SCRAM);
        }
        if iterations.get() > MOST_ITERATIONS {
            let message = format!("asks for {iterations} iterations, more than {MOST_ITERATIONS}");
            return Err(Failure::Answer(message));
        }
        let salted = self.keys.salted(self.password, &salt, iterations);
        let last = format!("c=biws,r={nonce}");
        let signed = format!("{},{server_first},{last}", self.first_bare());
        let client_key = sign(&salted, b"Client Key");
        let stored_key = digest::digest(&digest::SHA256, &client_key);
        let signature = sign(stored_key.as_ref(), signed.as_bytes());
        let proof: Vec<u8> = client_key
            .iter()
            .zip(&signature)
            .map(|(key, signature)| key ^ signature)
            .collect();
        let server_key = sign(&salted, b"Server Key");
        self.signature = Some(sign(&server_key, signed.as_bytes()));
        Ok(format!("{last},p={}", encode(&proof)))
    }

    /// Looks at the server's last message.
    pub(super) fn verify(&mut self, server_last: &[u8]) -> Result<(), Failure> {
        let text = printable(server_last);
        let signature = text.strip_prefix("v=").and_then(decode);
        // Nobody can try signatures one after the other: each login has another.
        self.verified = signature.is_some() && signature == self.signature;
        if self.verified {
            Ok(())
        } else {
            Err(Failure::Answer(NOT_PROVEN.to_owned()))
        }
    }
}

fn sign(key: &[u8], text: &[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, text).as_ref().to_vec()
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base64 (RFC 4648 section 4).
fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |index: usize| u32::from(three.get(index).copied().unwrap_or(0));
        let number = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            if place <= three.len() {
                let digit = number >> (18 - 6 * place) & 63;
                text.push(char::from(DIGITS[digit as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let text = text.as_bytes();
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let padding = text.iter().rev().take_while(|&&byte| byte == b'=').count();
    let digits = &text[..text.len() - padding.min(2)];
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for four in digits.chunks(4) {
        let mut number = 0;
        for &digit in four {
            let value = DIGITS.iter().position(|&one| one == digit)?;
            number = number << 6 | value as u32;
        }
        number <<= 6 * (4 - four.len());
        bytes.extend_from_slice(&number.to_be_bytes()[1..four.len()]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7677 section 3, whose user has a name.
    #[test]
    fn the_example_of_the_rfc() {
        let keys = Keys::default();
        let salt = decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let iterations = NonZeroU32::new(4_096).unwrap();
        for _ in 0..2 {
            let salted = keys.salted("pencil", &salt, iterations);
            let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
            let signed = format!(
                "n=user,r=rOprNGfwEbeRWgbNEkqO,r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,\
                 r={nonce}"
            );
            let server = sign(&sign(&salted, b"Server Key"), signed.as_bytes());
            assert_eq!(
                encode(&server),
                "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
            );
        }
    }

    #[test]
    fn what_is_not_scram_is_refused() {
        let keys = Keys::default();
        let mut scram = Scram::new("pencil", &keys);
        let nonce = scram.nonce.clone();
        assert_eq!(scram.first(), format!("n,,n=,r={nonce}"));
        for odd in [
            String::new(),
            "r=other,s=AAAA,i=4096".to_owned(),
            format!("r={nonce},s=AAAA,i=4096"),
            format!("r={nonce}x,s=AAA,i=4096"),
            format!("r={nonce}x,s=AAAA,i=0"),
            format!("r={nonce}x,s=AAAA"),
        ] {
            assert!(
                matches!(scram.reply(odd.as_bytes()), Err(Failure::Not(_))),
                "{odd}"
            );
        }
        let greedy = format!("r={nonce}x,s=AAAA,i=4000000000");
        assert!(matches!(
            scram.reply(greedy.as_bytes()),
            Err(Failure::Answer(_))
        ));
        assert!(scram.verify(b"v=AAAA").is_err() && !scram.is_verified());
        scram
            .reply(format!("r={nonce}x,s=AAAA,i=10").as_bytes())
            .unwrap();
        assert!(scram.verify(b"e=other-error").is_err());
        assert!(scram.verify(b"v=AAAA").is_err() && !scram.is_verified());
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(decode(text).unwrap(), bytes.as_bytes());
        }
        for odd in ["Zg=", "Z===", "Zg==Zg==", "Zm9-", "===="] {
            assert_eq!(decode(odd), None, "{odd}");
        }
    }
}
