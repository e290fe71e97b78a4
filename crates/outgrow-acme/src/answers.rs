//! What proves to an authority that a name leads here, and where the edge looks it up.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use outgrow_core::Snapshot;
use serde::{Deserialize, Serialize};

use crate::settings::Challenge;

/// Where an authority asks for the answer of `http-01` (RFC 8555 section 8.3), before the token.
pub const PATH: &[u8] = b"/.well-known/acme-challenge/";
/// Longest token that is answered.
const TOKEN: usize = 128;

/// One challenge and its answer. Kept where all processes that listen for the name see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// How it is asked.
    #[serde(with = "challenge")]
    pub challenge: Challenge,
    /// The name that is to be proven, without a `*.`.
    pub name: String,
    /// What the authority calls it.
    pub token: String,
    /// The answer: the key authorization; of `dns-01` the text of the TXT record.
    pub value: String,
}

mod challenge {
    //! By its word in the configuration.

    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::settings::Challenge;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
    pub(super) fn serialize<S: Serializer>(value: &Challenge, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(value.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Challenge, D::Error> {
        let text = String::deserialize(from)?;
        let all = [Challenge::Http01, Challenge::TlsAlpn01, Challenge::Dns01];
        let known = all.into_iter().find(|one| one.as_str() == text);
        known.ok_or_else(|| D::Error::custom("no such challenge"))
    }
}

impl Answer {
    /// Whether the token is one (RFC 8555 section 8.1: base64url): it is a path and a file's name.
    pub fn is_sound(&self) -> bool {
        is_token(self.token.as_bytes())
    }
}

fn is_token(token: &[u8]) -> bool {
    let is_letter = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !token.is_empty() && token.len() <= TOKEN && token.iter().all(is_letter)
}

type ByToken = HashMap<Box<[u8]>, Arc<[u8]>>;

/// The answers of `http-01`, read by workers at each request while there are any.
#[derive(Debug)]
pub struct HttpAnswers {
    by_token: Snapshot<ByToken>,
    any: AtomicBool,
}

impl Default for HttpAnswers {
    fn default() -> Self {
        Self {
            by_token: Snapshot::new(HashMap::new()),
            any: AtomicBool::new(false),
        }
    }
}

impl HttpAnswers {
    /// Answers these from now on, and no others.
    pub fn publish(&self, answers: &[Answer]) {
        let http = answers
            .iter()
            .filter(|answer| answer.challenge == Challenge::Http01 && answer.is_sound());
        let by_token: ByToken = http
            .map(|answer| {
                (
                    answer.token.as_bytes().into(),
                    answer.value.as_bytes().into(),
                )
            })
            .collect();
        self.any.store(!by_token.is_empty(), Ordering::Release);
        self.by_token.publish(Arc::new(by_token));
    }

    /// The answer for a path, if it is one of ours. One load while nothing is asked.
    #[inline]
    pub fn of(&self, path: &[u8]) -> Option<Arc<[u8]>> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let token = path.strip_prefix(PATH)?;
        self.by_token.load().get(token).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_ours_is_answered() {
        let answers = HttpAnswers::default();
        let path = |token: &str| [PATH, token.as_bytes()].concat();
        assert_eq!(answers.of(&path("abc")), None);
        let answer = |challenge, token: &str| Answer {
            challenge,
            name: "a.example".to_owned(),
            token: token.to_owned(),
            value: "abc.key".to_owned(),
        };
        answers.publish(&[
            answer(Challenge::Http01, "abc"),
            answer(Challenge::Dns01, "dns"),
            answer(Challenge::Http01, "../../etc/passwd"),
        ]);
        assert_eq!(answers.of(&path("abc")).as_deref(), Some(&b"abc.key"[..]));
        for other in ["dns", "ab", "abcd", "", "../../etc/passwd"] {
            assert_eq!(answers.of(&path(other)), None, "{other}");
        }
        answers.publish(&[]);
        assert_eq!(answers.of(&path("abc")), None);
    }
}
