//! The edge's part of `[service.NAME]`: which requests of a user go to the same endpoint.
//!
//! How an endpoint is picked is the upstream room's part (`balance`), which knows no protocol.

use super::RequestKey;

outgrow_core::settings! {
    /// Which requests are kept together.
    pub struct AffinitySettings {
        /// What the hashing ways of `balance` go by: `"address"`, `"path"`, `"header:NAME"`,
        /// `"cookie:NAME"` or `"query:NAME"`. A request without it is picked for at random.
        /// `"ip_hash"` always goes by the address.
        pub hash_by: RequestKey = RequestKey::Address;
    }
}
