//! The Postgres tier from outside: a real Postgres behind it, clients that send exact bytes.
//!
//! Each test has a Postgres and an outgrow of its own. What is to be as with Postgres itself is
//! compared with Postgres itself. Not here: most drivers (`cargo xtask conform postgres-clients`),
//! logins (`outgrow-postgres/tests/login`).

mod behind;
mod cancel;
mod changes;
mod clients;
mod copy;
mod crashes;
mod diagnosis;
mod extended;
mod handover;
mod inspect;
mod lanes;
mod limits;
mod listen;
mod listen_upgrade;
mod listen_upgrade_faults;
mod logins;
mod modes;
mod newcomers;
mod overtime;
mod prepared;
mod query_cache;
mod repeats;
mod seats;
mod sequences;
mod settings;
mod vanish;

use std::{net::SocketAddr, time::Duration};

use outgrow_testkit::{
    databases::{self, Server},
    outgrow::{Launch, Outgrow},
    postgres::{Message, Session},
};

use crate::checks::is_there;

/// How long a client that is to wait is watched before it counts as one that waits.
pub(crate) const MOMENT: Duration = Duration::from_millis(300);

/// An outgrow with a Postgres behind it.
pub(crate) struct Tier {
    pub(crate) outgrow: Outgrow,
    pub(crate) database: Server,
}

impl Tier {
    /// With these lines in `[postgres]`; none where there is no Postgres and that is allowed.
    pub(crate) fn start(settings: &str) -> Option<Self> {
        Self::start_with(settings, &[])
    }

    /// The same with settings of the server.
    pub(crate) fn start_with(settings: &str, of_server: &[&str]) -> Option<Self> {
        if !is_there(databases::has_postgres(), "postgresql") {
            return None;
        }
        let database = databases::postgres_with("host all all 127.0.0.1/32 trust", of_server);
        let database = database.expect("Postgres starts");
        let outgrow = Launch::config(&config(settings, database.address())).start();
        let outgrow = outgrow.expect("outgrow starts");
        Some(Self { outgrow, database })
    }

    /// One that asks clients for what `auth` says.
    pub(crate) fn start_asking(auth: &str, settings: &str) -> Option<Self> {
        if !is_there(databases::has_postgres(), "postgresql") {
            return None;
        }
        let database = databases::postgres("host all all 127.0.0.1/32 trust");
        let database = database.expect("Postgres starts");
        let config = config(settings, database.address());
        let config = config.replace("\"trust\"", &format!("\"{auth}\""));
        let outgrow = Launch::config(&config).start();
        let outgrow = outgrow.expect("outgrow starts");
        Some(Self { outgrow, database })
    }

    /// Where clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.outgrow.address("pooler").expect("an address")
    }

    /// A client, logged in.
    pub(crate) fn client(&self) -> Session {
        let client = Session::of(self.address(), "postgres");
        client.unwrap_or_else(|error| panic!("{error}; outgrow: {}", self.outgrow.stderr()))
    }

    /// A client that is logged in to the server itself.
    pub(crate) fn direct(&self) -> Session {
        Session::of(self.database.address(), "postgres").expect("Postgres lets us in")
    }
}

/// A configuration with these lines in `[postgres]`, whose service is at `server`.
pub(crate) fn config(settings: &str, server: SocketAddr) -> String {
    format!(
        "[postgres]\nlisten = [\"%pooler%\"]\nservice = \"db\"\nauth = \"trust\"\n{settings}\n\
         [postgres.user.postgres]\n[service.db]\nendpoints = [\"{server}\"]\n"
    )
}

/// What is sent, and the message up to which is read before what follows is sent.
pub(crate) type Step = (Vec<u8>, u8);

/// Everything that is answered to these steps; the connection's end is shown as well.
pub(crate) fn converse(session: &mut Session, steps: &[Step]) -> Vec<Message> {
    let mut all = Vec::new();
    for (bytes, until) in steps {
        session.send(bytes).expect("sent");
        loop {
            match session.receive() {
                Ok(message) => {
                    let is_last = message.tag == *until;
                    all.push(message);
                    if is_last {
                        break;
                    }
                }
                Err(error) => {
                    let body = error.to_string().into_bytes();
                    all.push(Message { tag: b'!', body });
                    return all;
                }
            }
        }
    }
    all
}

/// The one value of a query.
pub(crate) fn value(session: &mut Session, sql: &str) -> String {
    let value = session.value(sql);
    value.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// Executes what answers nothing of interest.
pub(crate) fn run(session: &mut Session, sql: &str) {
    if let Err(error) = session.query(sql) {
        panic!("{sql}: {error}");
    }
}

/// The SQLSTATE and text with which a query is refused.
pub(crate) fn refusal(session: &mut Session, sql: &str) -> String {
    match session.query(sql) {
        Ok(rows) => panic!("{sql}: {rows:?} instead of a refusal"),
        Err(error) => error.to_string(),
    }
}

/// The server process that works for a client at this moment.
pub(crate) fn backend(session: &mut Session) -> String {
    value(session, "SELECT pg_backend_pid()")
}
