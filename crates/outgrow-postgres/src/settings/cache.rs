//! `[postgres.cache]`: which answers are kept in memory, for how long, in how much of it.

use std::time::Duration;

use outgrow_core::settings::ByteSize;

use super::{DAY, MILLI};

outgrow_core::settings! {
    /// Answers to statements that only read, kept in memory and given to clients without a server. Left
    /// out: none are.
    ///
    /// An answer is given only to clients of the same database, user and settings (`application_name` among
    /// them), outside of transactions, and never once anybody has written to a table that it was read from
    /// through this Outgrow. What writes more than its text says (triggers, cascades, functions, `CALL`, `DO`,
    /// definitions) makes all answers of the database worthless. Writes past this Outgrow, and those of another
    /// one, are not seen: what they change may be told as it was for as long as `ttl`.
    ///
    /// Added by a reload, it begins with the next upgrade or restart.
    ///
    /// `/* outgrow: cache=30s */` in a statement says for how long its answer may be kept, also where it
    /// depends on the moment (`now()`); `cache=0s`: not at all.
    pub struct CacheSettings {
        /// Which statements.
        pub statements: CachedStatements = CachedStatements::Marked;
        /// For how long an answer is kept whose statement does not say it.
        pub ttl: Duration = Duration::from_secs(10), in MILLI..=DAY;
        /// Bytes of all answers. What is not asked for makes room.
        pub size: ByteSize = ByteSize::mib(64);
        /// Bytes of the largest answer that is kept.
        pub max_result: ByteSize = ByteSize::kib(256);
    }
}

outgrow_core::choice! {
    /// Which statements' answers are kept.
    pub enum CachedStatements {
        /// Those that say so.
        Marked = "marked",
        /// All that are proven to only read, by the statement's text and the database's catalogue, and whose
        /// answer does not depend on the moment.
        Proven = "proven",
    }
}
