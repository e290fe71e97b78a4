//! Why there is no certificate yet, for the schedule and for people.

use std::time::Duration;

use instant_acme::{Error, Problem};

/// Longest text of a problem, in characters: authorities may say anything.
const CHARACTERS: usize = 600;

/// Whose doing it is, which says how soon it is worth trying again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The authority could not be reached, or is out of order: nothing was counted there.
    Outage,
    /// The authority has said no, or could not be shown that the names lead here. It counts such
    /// failures, and takes a few an hour.
    Refused,
    /// The authority wants to be left alone.
    RateLimited,
    /// Ours: a command, the storage.
    Own,
}

/// A failure of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    /// Whose doing it is.
    pub blame: Blame,
    /// What is wrong, and what to do.
    pub text: String,
    /// What the authority says about when to come again.
    pub retry_after: Option<Duration>,
}

impl Failure {
    /// One of our own.
    pub fn own(text: impl Into<String>) -> Self {
        Self {
            blame: Blame::Own,
            text: short(&text.into()),
            retry_after: None,
        }
    }

    /// An outage.
    pub(crate) fn outage(text: impl Into<String>) -> Self {
        Self {
            blame: Blame::Outage,
            ..Self::own(text)
        }
    }

    /// A refusal.
    pub(crate) fn refused(text: impl Into<String>) -> Self {
        Self {
            blame: Blame::Refused,
            ..Self::own(text)
        }
    }

    /// What the library says.
    pub(crate) fn of(error: &Error, retry_after: Option<Duration>) -> Self {
        let failure = match error {
            Error::Api(problem) => of_problem(problem),
            Error::Timeout(_) => {
                Self::outage("the authority has not come to an end in time: it is tried again")
            }
            Error::Unsupported(what) => Self::refused(format!("the authority has no {what}")),
            Error::Json(_) => Self::outage(
                "the authority answered something else than ACME: is `directory` right?",
            ),
            other => Self::outage(other.to_string()),
        };
        Self {
            retry_after,
            ..failure
        }
    }
}

fn of_problem(problem: &Problem) -> Failure {
    let kind = kind(problem);
    let text = problem.to_string();
    let mut text = text.strip_prefix("API error: ").unwrap_or(&text).to_owned();
    if let Some(advice) = advice(kind) {
        text = format!("{text}: {advice}");
    }
    let blame = match kind {
        "rateLimited" => Blame::RateLimited,
        "serverInternal" | "badNonce" => Blame::Outage,
        _ if problem.status.is_some_and(|status| status >= 500) => Blame::Outage,
        _ => Blame::Refused,
    };
    Failure {
        blame,
        text: short(&text),
        retry_after: None,
    }
}

/// The last word of the problem's type.
pub(crate) fn kind(problem: &Problem) -> &str {
    let kind = problem.r#type.as_deref().unwrap_or_default();
    kind.rsplit(':').next().unwrap_or_default()
}

/// What to do about it (RFC 8555 section 6.7).
fn advice(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "connection" => {
            "the authority could not connect: http-01 needs port 80 and tls-alpn-01 port 443 of the \
             name, as the world sees it, to lead here (DNS, firewall, published ports), over IPv6 as \
             well if the name has an AAAA record"
        }
        "unauthorized" | "incorrectResponse" => {
            "somebody else answered: the name leads to another server (DNS, a proxy before this \
             one), or the TXT record was not seen in time (dns_wait)"
        }
        "dns" => "look at the name's records in the DNS, and at DNSSEC",
        "caa" => {
            "a CAA record of the name does not allow this authority: add it, or remove the record"
        }
        "tls" => "what answers TLS at port 443 of the name is not this outgrow",
        "rateLimited" => "the authority's limits are used up; nothing but waiting helps",
        "rejectedIdentifier" | "unsupportedIdentifier" => {
            "this authority gives no certificates for the name"
        }
        "externalAccountRequired" => {
            "write external_account = { id = \"…\", key = \"…\" } as the authority's web page gives it"
        }
        "userActionRequired" => "the authority's terms have changed: agree to them at its web page",
        "accountDoesNotExist" => {
            "the account is not known there: remove the account's file in the storage to get another"
        }
        "invalidProfile" | "invalidContact" | "unsupportedContact" => "see [acme]",
        _ => return None,
    })
}

/// What is told of it: no line ends, not too long.
fn short(text: &str) -> String {
    let text = text.trim().replace(['\n', '\r'], " ");
    match text.char_indices().nth(CHARACTERS) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_say_whose_they_are_and_what_to_do() {
        let check = |kind: &str, status: u16, blame: Blame, part: &str| {
            let problem = Problem {
                r#type: Some(format!("urn:ietf:params:acme:error:{kind}")),
                detail: Some("detail".to_owned()),
                status: Some(status),
                subproblems: Vec::new(),
            };
            let failure = Failure::of(&Error::Api(problem), Some(Duration::from_secs(9)));
            assert_eq!(failure.blame, blame, "{kind}");
            assert!(failure.text.contains(part), "{}", failure.text);
            assert_eq!(failure.retry_after, Some(Duration::from_secs(9)));
        };
        check("connection", 400, Blame::Refused, "port 80");
        check("caa", 403, Blame::Refused, "CAA record");
        check("rateLimited", 429, Blame::RateLimited, "waiting");
        check("serverInternal", 500, Blame::Outage, "detail");
        check("malformed", 503, Blame::Outage, "detail");
        check(
            "externalAccountRequired",
            403,
            Blame::Refused,
            "external_account",
        );
        let long = Failure::own("x\n".repeat(1_000));
        assert!(long.text.len() < 700 && !long.text.contains('\n'));
    }
}
