//! The edge's part of `[service.NAME]`: which requests of a user go to the same endpoint.
//!
//! How an endpoint is picked is the upstream room's part (`balance`), which knows no protocol.

use std::time::Duration;

use outgrow_balance::algorithm::Bound;
use outgrow_core::settings::{OneOrMany, Secret, TableReader};

use super::RequestKey;
use super::token::is_token_character;

const DAY: Duration = Duration::from_secs(86_400);

outgrow_core::settings! {
    /// Which requests are kept together.
    pub struct AffinitySettings {
        /// What the hashing ways of `balance` go by: `"address"`, `"path"`, `"header:NAME"`,
        /// `"cookie:NAME"` or `"query:NAME"`. A request without it is picked for at random.
        /// `"ip_hash"` always goes by the address.
        pub hash_by: RequestKey = RequestKey::Address;
        /// Sticky sessions by a cookie of ours: a user stays at the endpoint that the first
        /// request came to, whatever `balance` says. `sticky = {}` switches them on. For sessions
        /// that the application knows by an id of its own, `hash_by` needs no cookie.
        pub sticky: Option<StickySettings> = None;
    }
}

outgrow_core::settings! {
    /// Sticky sessions. The cookie holds a signed tag of the endpoint, which no other party can
    /// read or make; no table of users is kept.
    #[check = check_sticky]
    pub struct StickySettings {
        /// The name of the cookie.
        pub cookie: String = String::new(), shown = "outgrow_ and the service's name";
        /// The secret that the cookie is signed with, or a list of them: the first one signs, all
        /// of them (4 at most) are accepted, so that it can be changed. Several edges need the
        /// same. Left out: one of this machine's, which lives as long as outgrow runs.
        pub secret: OneOrMany<Secret> = OneOrMany::default(), shown = "one that is made up";
        /// How long browsers keep the cookie; `"0s"`: until they are closed.
        pub lifetime: Duration = Duration::ZERO, in Duration::ZERO..=DAY * 400;
        /// What becomes of a user whose endpoint is down or gone.
        pub gone: Gone = Gone::Move;
        /// The most that an endpoint may have in flight, in percent of its due by weight, before
        /// the requests of its users go to other endpoints for good, so that heavy users do not
        /// overload it. 0: they stay, and wait in line when it is full.
        pub overload: u32 = 0, in 0..=Bound::MOST_PERCENT;
        /// While an endpoint drains: the time over which its users leave it, evenly, each at once
        /// and for good. `"0s"`: all at their next request.
        pub drain: Duration = Duration::from_secs(60), in Duration::ZERO..=DAY;
    }
}

outgrow_core::choice! {
    /// What becomes of a user whose endpoint is gone.
    pub enum Gone {
        /// Another endpoint is picked, and the cookie says so from then on.
        Move = "move",
        /// 503, until the endpoint is back: for sessions that must not be split.
        Refuse = "refuse",
    }
}

fn check_sticky(sticky: &StickySettings, table: &mut TableReader<'_, '_>) {
    let is_wrong = |character: char| !is_token_character(character);
    if sticky.cookie.len() > 128 || sticky.cookie.contains(is_wrong) {
        let message = format!("{:?} is not the name of a cookie", sticky.cookie);
        table.problem(
            "cookie",
            message,
            "use letters, digits, - and _, 128 at most",
        );
    }
    check_secrets("secret", &sticky.secret, 16, table);
}

/// Secrets of a key are long enough, and no more than are tried.
pub(super) fn check_secrets(
    key: &str,
    secrets: &OneOrMany<Secret>,
    least_bytes: usize,
    table: &mut TableReader<'_, '_>,
) {
    let is_short = |secret: &Secret| secret.expose().len() < least_bytes;
    if secrets.iter().any(is_short) {
        let message = format!("a secret has at least {least_bytes} bytes");
        table.problem(key, message, "make one with: openssl rand -hex 32");
    }
    if secrets.len() > crate::sticky::SECRETS {
        table.problem(key, "more than 4 secrets", "keep the newest ones");
    }
}
