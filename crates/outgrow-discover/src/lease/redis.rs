//! The lease in Redis or Valkey: a key with a time to live, whose value is the holder's identity.
//! Taking, renewing and giving back compare and act in one script each.
//!
//! One Redis is one place to fail, and it promises less than etcd: a replica that takes over may
//! not have heard of the key, a restart without persistence forgets it. Then two boxes can hold the
//! lease until the first one asks again (a third of its time) or, when it cannot, stops to believe (two
//! thirds).

use std::time::Duration;

use super::driver::Answer;
use super::resp::{Connection, Reply};
use super::settings::LeaderRedis;

/// The longest time from one look to the next of those who wait.
pub(super) const LOOK: Duration = Duration::from_millis(500);

/// Takes it if it is free, renews it if it is ours; gives who holds it.
const HOLD: &str = "local holder = redis.call('GET', KEYS[1]) \
    if not holder then redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) return ARGV[1] end \
    if holder == ARGV[1] then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end \
    return holder";
/// Gives it back if it is ours.
const GIVE_BACK: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then \
    return redis.call('DEL', KEYS[1]) end return 0";

/// The key.
pub(super) struct Lock {
    settings: LeaderRedis,
    key: String,
    identity: String,
    millis: String,
}

impl Lock {
    pub(super) fn new(settings: &LeaderRedis, key: &str, identity: &str, ttl: Duration) -> Self {
        Self {
            settings: settings.clone(),
            key: key.to_owned(),
            identity: identity.to_owned(),
            millis: ttl.as_millis().to_string(),
        }
    }

    pub(super) async fn hold(&self) -> Result<Answer, String> {
        let words = ["EVAL", HOLD, "1", &self.key, &self.identity, &self.millis];
        match self.ask(&words).await? {
            Reply::Text(holder) if holder == self.identity => Ok(Answer::Ours),
            Reply::Text(holder) => Ok(Answer::Others(holder.chars().take(256).collect())),
            _ => Err(self.problem("the answer is not Redis's")),
        }
    }

    pub(super) async fn give_back(&self) -> Result<(), String> {
        let words = ["EVAL", GIVE_BACK, "1", &self.key, &self.identity];
        self.ask(&words).await.map(drop)
    }

    /// One question on a connection of its own.
    async fn ask(&self, words: &[&str]) -> Result<Reply, String> {
        let asked = async {
            let mut connection = Connection::open(&self.settings).await?;
            connection.ask(words).await
        };
        asked
            .await
            .map_err(|problem| self.problem(&problem.to_string()))
    }

    fn problem(&self, text: &str) -> String {
        format!("redis {}: {text}", self.settings.server)
    }
}
