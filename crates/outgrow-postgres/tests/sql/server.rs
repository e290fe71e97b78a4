//! Servers for these tests.

use outgrow_testkit::databases::{self, Server};

/// Everybody on this machine, as whom they like, and replicas.
const ACCESS: &str = "host all all 127.0.0.1/32 trust\nhost replication all 127.0.0.1/32 trust";

/// A Postgres that trusts everybody; `None` on a machine without, where that is allowed.
pub(crate) fn start() -> Option<Server> {
    if !databases::has_postgres() {
        assert!(
            std::env::var_os("OUTGROW_ALLOW_MISSING").is_some(),
            "this test needs Postgres: apt-get install postgresql"
        );
        return None;
    }
    Some(databases::postgres(ACCESS).expect("it starts"))
}
