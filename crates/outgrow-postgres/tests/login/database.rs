//! A real server with users and databases for each kind of login.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use outgrow_postgres::login::{Channel, Credential, Policy, Secret};
use outgrow_testkit::authority::{Authority, Issued};
use outgrow_testkit::databases::{self, Server};

use crate::wire::Wire;

/// The database says how its users log in; `postgres` gets in by trust.
const ACCESS: &str = "\
    host all      postgres 127.0.0.1/32 trust\n\
    host trusting all      127.0.0.1/32 trust\n\
    host clear    all      127.0.0.1/32 password\n\
    host hashed   all      127.0.0.1/32 md5\n\
    host all      all      127.0.0.1/32 scram-sha-256";

/// How long a server may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The server.
pub(crate) struct Database(pub(crate) Server);

impl Database {
    /// With `ann`, whose verifier is SCRAM's, and `old`, whose is MD5's; both have `apple`.
    pub(crate) fn start() -> Self {
        let server = databases::postgres(ACCESS).expect("Postgres starts");
        let database = Self(server);
        let mut superuser = database.superuser();
        for statement in [
            "CREATE DATABASE trusting",
            "CREATE DATABASE clear",
            "CREATE DATABASE hashed",
            "CREATE ROLE ann LOGIN PASSWORD 'apple'",
            "SET password_encryption = md5",
            "CREATE ROLE old LOGIN PASSWORD 'apple'",
            "CREATE ROLE empty LOGIN",
        ] {
            superuser.query(statement);
        }
        database
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// A session as `postgres`. A server accepts connections before it takes sessions.
    pub(crate) fn superuser(&self) -> Wire {
        let until = Instant::now() + PATIENCE;
        loop {
            let mut wire = Wire::connect(self.address()).unwrap();
            let (nothing, policy) = (Credential::None, Policy::default());
            match wire.log_in("postgres", "postgres", nothing, Channel::Plain, &policy) {
                Ok(()) => return wire,
                Err(why) if why.starts_with("57P03") => {}
                Err(why) => panic!("{why}"),
            }
            assert!(Instant::now() < until, "the server does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What is stored of a user.
    pub(crate) fn stored(&self, user: &str) -> Option<Secret> {
        let select = "SELECT coalesce(rolpassword, '') FROM pg_authid WHERE rolname = ";
        let found = self.superuser().query(&format!("{select}'{user}'"));
        Secret::read(found[0].as_bytes()).unwrap()
    }

    /// Turns TLS on, with a certificate of this authority.
    pub(crate) fn encrypt(&self, authority: &Authority) -> Issued {
        let issued = authority.issue(&["localhost", "127.0.0.1"]).unwrap();
        let mut superuser = self.superuser();
        for (file, text) in [
            ("server.crt", &issued.certificate),
            ("server.key", &issued.key),
        ] {
            // A server's working folder is that of its data.
            let lines = format!("SELECT unnest(string_to_array('{text}', E'\\n'))");
            let program = format!("cat > {file} && chmod 600 {file}");
            superuser.query(&format!("COPY ({lines}) TO PROGRAM '{program}'"));
        }
        superuser.query("ALTER SYSTEM SET ssl = on");
        superuser.query("SELECT pg_reload_conf()");
        let until = Instant::now() + PATIENCE;
        while self.superuser().query("SHOW ssl") != ["on"] {
            assert!(Instant::now() < until, "TLS is not on");
            std::thread::sleep(Duration::from_millis(20));
        }
        issued
    }
}

/// A password as a credential.
pub(crate) fn password(text: &str) -> Credential {
    Credential::read(text.as_bytes()).unwrap()
}
