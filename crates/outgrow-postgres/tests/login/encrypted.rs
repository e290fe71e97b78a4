//! Channel binding, both ways, and certificates.

use std::net::TcpStream;
use std::sync::Arc;

use outgrow_postgres::login::scram::end_point_hash;
use outgrow_postgres::login::{Channel, ChannelBinding, Cleartext, Policy};
use outgrow_testkit::authority::Authority;
use outgrow_testkit::databases;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};

use crate::database::{Database, password};
use crate::is_there;
use crate::pooler::{Pooler, Setup, provider, server_tls};
use crate::wire::Wire;

/// A connection with TLS, and the hash of the server's certificate.
fn connect(server: &Database, authority: &Authority) -> (Wire, Channel) {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(authority.certificate().as_bytes()).unwrap();
    roots.add(root).unwrap();
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let request = [8_u32.to_be_bytes(), 80_877_103_u32.to_be_bytes()].concat();
    std::io::Write::write_all(&mut stream, &request).unwrap();
    let mut answer = [0];
    std::io::Read::read_exact(&mut stream, &mut answer).unwrap();
    assert_eq!(&answer, b"S");
    let name = ServerName::try_from("localhost").unwrap();
    let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
    connection.complete_io(&mut stream).unwrap();
    let certificate = &connection.peer_certificates().unwrap()[0];
    let end_point = end_point_hash(certificate);
    assert!(end_point.is_some());
    let wire = Wire(Box::new(StreamOwned::new(connection, stream)));
    (wire, Channel::Tls { end_point })
}

#[test]
fn we_bind_logins_to_the_servers_certificate() {
    if !is_there(databases::has_postgres(), "postgresql") {
        return;
    }
    let (server, authority) = (Database::start(), Authority::new().unwrap());
    server.encrypt(&authority);
    let log_in = |change: &dyn Fn(Channel) -> Channel, channel_binding| {
        let (mut wire, channel) = connect(&server, &authority);
        let policy = Policy {
            channel_binding,
            ..Policy::default()
        };
        let apple = password("apple");
        wire.log_in("ann", "postgres", apple, change(channel), &policy)
            .map(|()| wire.query("SELECT current_user").concat())
    };
    let as_it_is = |channel| channel;
    for binding in [
        ChannelBinding::Prefer,
        ChannelBinding::Require,
        ChannelBinding::Disable,
    ] {
        assert_eq!(
            log_in(&as_it_is, binding).as_deref(),
            Ok("ann"),
            "{binding:?}"
        );
    }
    // Somebody in between has another certificate.
    let other = |_| Channel::Tls {
        end_point: Some(vec![7; 32]),
    };
    let failed = "28000 SCRAM channel binding check failed";
    assert_eq!(log_in(&other, ChannelBinding::Prefer).unwrap_err(), failed);
    // Over TLS a password may be sent as it is; a login that does not bind is none when it must.
    let clear = |channel_binding| {
        let (mut wire, channel) = connect(&server, &authority);
        let policy = Policy {
            cleartext: Cleartext::Encrypted,
            channel_binding,
            ..Policy::default()
        };
        wire.log_in("ann", "clear", password("apple"), channel, &policy)
    };
    assert_eq!(clear(ChannelBinding::Prefer), Ok(()));
    let unbound = clear(ChannelBinding::Require).unwrap_err();
    assert!(unbound.contains("did not bind the login"), "{unbound}");
}

#[test]
fn psql_binds_logins_to_our_certificate() {
    if !is_there(databases::has_postgres(), "postgresql") {
        return;
    }
    let (server, authority) = (Database::start(), Authority::new().unwrap());
    let issued = authority.issue(&["localhost", "127.0.0.1"]).unwrap();
    let stored = String::from_utf8(server.stored("ann").unwrap().text()).unwrap();
    let start = |hash: &dyn Fn(Vec<u8>) -> Option<Vec<u8>>| {
        let users = format!("\"ann\" \"{stored}\"\n");
        let rules = "hostssl all all all scram-sha-256\n";
        let mut setup = Setup::new(server.address(), rules, &users);
        let (tls, end_point) = server_tls(&issued, None);
        setup.tls = Some(tls);
        setup.end_point = hash(end_point.unwrap());
        Pooler::start(setup)
    };
    let pooler = start(&Some);
    let root = authority.ca_file().unwrap();
    let options = |binding: &str| {
        let root = root.display();
        format!("host=localhost sslmode=verify-full sslrootcert={root} channel_binding={binding}")
    };
    for binding in ["require", "prefer", "disable"] {
        let said = pooler.psql("ann", "apple", &options(binding));
        assert_eq!(said.as_deref(), Ok("ann"), "{binding}");
        let said = pooler.psql("ann", "pear", &options(binding)).unwrap_err();
        assert!(said.contains("password authentication failed"), "{said}");
    }
    assert_eq!(pooler.take_log()[0], "ann: scram-sha-256 SCRAM keys");
    let plain = pooler.psql("ann", "apple", "sslmode=disable").unwrap_err();
    assert!(
        plain.ends_with("database \"postgres\", no encryption"),
        "{plain}"
    );
    // One that has another certificate than the one that the client sees.
    let other = start(&|hash| Some(hash.into_iter().rev().collect()));
    let said = other.psql("ann", "apple", &options("require")).unwrap_err();
    assert!(
        said.ends_with("SCRAM channel binding check failed"),
        "{said}"
    );
    // One that offers none.
    let none = start(&|_| None);
    let said = none.psql("ann", "apple", &options("prefer"));
    assert_eq!(said.as_deref(), Ok("ann"));
    let said = none.psql("ann", "apple", &options("require")).unwrap_err();
    assert!(said.contains("channel binding is required"), "{said}");
}

#[test]
fn psql_logs_in_with_a_certificate() {
    if !is_there(databases::has_postgres(), "postgresql") {
        return;
    }
    let (server, authority) = (Database::start(), Authority::new().unwrap());
    let issued = authority.issue(&["localhost", "127.0.0.1"]).unwrap();
    let rules = "hostssl trusting all all cert\n\
                 hostssl all all all scram-sha-256 clientcert=verify-full\n";
    let users = "\"ann\" \"apple\"\n\"old\" \"apple\"\n";
    let mut setup = Setup::new(server.address(), rules, users);
    let (tls, end_point) = server_tls(&issued, Some(authority.certificate()));
    (setup.tls, setup.end_point) = (Some(tls), end_point);
    let pooler = Pooler::start(setup);
    let own = authority.issue(&["ann"]).unwrap();
    let (certificate, key) = authority.files("ann", &own).unwrap();
    // libpq wants the key to be nobody else's.
    let only_ours = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&key, only_ours).unwrap();
    let shown = format!(
        "sslmode=require sslcert={} sslkey={}",
        certificate.display(),
        key.display()
    );
    let check = |user: &str, options: &str, password: &str, expected: Result<&str, &str>| {
        let said = pooler.psql(user, password, options);
        match expected {
            Ok(text) => assert_eq!(said.as_deref(), Ok(text)),
            Err(text) => assert!(said.as_ref().unwrap_err().ends_with(text), "{said:?}"),
        }
    };
    let trusting = format!("{shown} dbname=trusting");
    check("ann", &trusting, "", Ok("ann"));
    let failed = "certificate authentication failed for user \"old\"";
    check("old", &trusting, "", Err(failed));
    let without = "sslmode=require dbname=trusting";
    let failed = "certificate authentication failed for user \"ann\"";
    check("ann", without, "", Err(failed));
    check("ann", &shown, "apple", Ok("ann"));
    let failed = "password authentication failed for user \"ann\"";
    check("ann", &shown, "pear", Err(failed));
    let failed = "password authentication failed for user \"old\"";
    check("old", &shown, "apple", Err(failed));
    let missing = "connection requires a valid client certificate";
    check("ann", "sslmode=require", "apple", Err(missing));
}
