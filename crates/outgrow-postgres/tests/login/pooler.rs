//! As little of a pooler as logins need: one thread for each client, which logs in to the server
//! with what the client has shown and hands queries on.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use outgrow_core::random::system_bytes;
use outgrow_postgres::login::auth_query::{Answer, Reader};
use outgrow_postgres::login::hba::{Hba, Maps};
use outgrow_postgres::login::scram::end_point_hash;
use outgrow_postgres::login::{
    AUTHENTICATION_OK, Channel, Cleartext, ClientCertificate, Facts, Policy, Proven, RANDOM_BYTES,
    Refusal, Replication, ServerExchange, ServerSettings, ServerStep, Source, Tls, UserList,
};
use outgrow_postgres::login::{Known, Proof};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::wire::Wire;

const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;

/// What a pooler does.
pub(crate) struct Setup {
    pub(crate) hba: Hba,
    pub(crate) users: UserList,
    /// Where queries go.
    pub(crate) server: SocketAddr,
    /// Whether users that are not in the list are asked for at the server.
    pub(crate) asks: bool,
    pub(crate) tls: Option<Arc<ServerConfig>>,
    /// The hash of the certificate in it.
    pub(crate) end_point: Option<Vec<u8>>,
    pub(crate) settings: ServerSettings,
}

impl Setup {
    pub(crate) fn new(server: SocketAddr, hba: &str, users: &str) -> Self {
        let mut secret = [0; 32];
        system_bytes(&mut secret);
        let mut none = |name: &str| Err(format!("there is no {name}"));
        Self {
            hba: Hba::parse(hba, "pg_hba.conf", &Maps::default(), &mut none).unwrap(),
            users: UserList::parse(users.as_bytes(), "users.txt").unwrap(),
            server,
            asks: false,
            tls: None,
            end_point: None,
            settings: ServerSettings::new(secret),
        }
    }
}

/// A pooler that runs until it is dropped.
pub(crate) struct Pooler {
    address: SocketAddr,
    /// What each login came to.
    log: Arc<Mutex<Vec<String>>>,
    stops: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pooler {
    pub(crate) fn start(setup: Setup) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let stops = Arc::new(AtomicBool::new(false));
        let (noted, stopped) = (Arc::clone(&log), Arc::clone(&stops));
        let setup = Arc::new(setup);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (setup, log) = (Arc::clone(&setup), Arc::clone(&noted));
                std::thread::spawn(move || {
                    // A client may go away at any time.
                    let _gone = serve(&setup, stream.unwrap(), &log);
                });
            }
        });
        Self {
            address,
            log,
            stops,
            thread: Some(thread),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the logins since the last time came to.
    pub(crate) fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }

    /// Has psql ask who it is; its answer, or what it complains of. `options` are further ones of
    /// a connection string.
    pub(crate) fn psql(&self, user: &str, password: &str, options: &str) -> Result<String, String> {
        let port = self.address.port();
        let output = Command::new("psql")
            .arg(format!(
                "host=127.0.0.1 port={port} user={user} dbname=postgres connect_timeout=20 {options}"
            ))
            .args(["--no-psqlrc", "-At", "--no-password", "-c", "SELECT current_user"])
            .env("PGPASSWORD", password)
            .env("HOME", "/nonexistent")
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(text(&output.stderr)),
        }
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        self.stops.store(true, Ordering::SeqCst);
        let _woken = TcpStream::connect(self.address);
        let _ended = self.thread.take().map(JoinHandle::join);
    }
}

fn serve(setup: &Setup, mut stream: TcpStream, log: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut is_encrypted = false;
    let mut start = read_start(&mut stream)?;
    while let [SSL_REQUEST | GSS_REQUEST] = start.0[..] {
        let takes = start.0[0] == SSL_REQUEST && setup.tls.is_some();
        io::Write::write_all(&mut stream, if takes { b"S" } else { b"N" })?;
        if takes {
            is_encrypted = true;
            break;
        }
        start = read_start(&mut stream)?;
    }
    let mut names = None;
    let mut wire = match (&setup.tls, is_encrypted) {
        (Some(config), true) => {
            let mut connection = ServerConnection::new(Arc::clone(config)).unwrap();
            connection.complete_io(&mut stream)?;
            names = connection
                .peer_certificates()
                .map(|chain| chain[0].to_vec());
            let mut encrypted = StreamOwned::new(connection, stream);
            start = read_start(&mut encrypted)?;
            Wire(Box::new(encrypted))
        }
        _ => Wire(Box::new(stream)),
    };
    let parameter = |name: &str| {
        let found = start.1.chunks_exact(2).find(|pair| pair[0] == name);
        found.map(|pair| pair[1].clone()).unwrap_or_default()
    };
    let (user, database) = (parameter("user"), parameter("database"));
    // Reading certificates is TLS's; the tests' clients have their names at a known place.
    let common_name = names.as_deref().and_then(common_name);
    let facts = Facts {
        user: &user,
        database: &database,
        replication: Replication::None,
        source: Source::Address([127, 0, 0, 1].into()),
        tls: is_encrypted.then(|| Tls {
            end_point: setup.end_point.as_deref(),
            certificate: names.as_ref().map(|_| ClientCertificate {
                common_name: common_name.as_deref(),
                alternative_names: &[],
            }),
        }),
    };
    match log_in(setup, &facts, &mut wire)? {
        Ok(proven) => {
            let Proof {
                method, credential, ..
            } = &proven.proof;
            let text = format!("{user}: {} {}", method.name(), credential.kind());
            log.lock().unwrap().push(text);
            hand_on(setup, &user, &database, proven, &mut wire)
        }
        Err(refusal) => {
            log.lock().unwrap().push(refusal.reason.clone());
            refuse(
                &mut wire,
                refusal.sqlstate,
                &refusal.text,
                refusal.detail.as_deref(),
            )
        }
    }
}

/// A message without a kind: its numbers if it is a request, its texts if it is a start.
fn read_start(stream: &mut impl Read) -> io::Result<(Vec<u32>, Vec<String>)> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut body = vec![0; u32::from_be_bytes(length) as usize - 4];
    stream.read_exact(&mut body)?;
    let code = u32::from_be_bytes(body[..4].try_into().unwrap());
    let texts = body[4..].split(|&byte| byte == 0);
    let texts = texts.map(|text| String::from_utf8_lossy(text).into_owned());
    Ok((vec![code], texts.collect()))
}

fn log_in(
    setup: &Setup,
    facts: &Facts<'_>,
    wire: &mut Wire,
) -> io::Result<Result<Proven, Refusal>> {
    let Some(rule) = setup.hba.rule(facts, &[]) else {
        return Ok(Err(Refusal::no_rule(facts)));
    };
    let known = match setup.users.get(facts.user) {
        Some(user) => Known::User(user.secret.clone()),
        None if setup.asks => Known::Ask,
        None => Known::Nobody,
    };
    let mut random = [0; RANDOM_BYTES];
    system_bytes(&mut random);
    let (mut exchange, mut step) =
        ServerExchange::start(facts, rule.demand(), known, &setup.settings, &random);
    loop {
        step = match step {
            ServerStep::Send(body) => {
                wire.send(b'R', &body)?;
                match wire.receive()? {
                    (b'p', body) => exchange.answer(&body),
                    (kind, _) => panic!("unexpected message {kind}"),
                }
            }
            ServerStep::NeedSecret => exchange.supply(ask(setup, facts.user)),
            ServerStep::Derive(derivation) => exchange.derived(derivation.run()),
            ServerStep::Done(proven) => return Ok(Ok(proven)),
            ServerStep::Refused(refusal) => return Ok(Err(*refusal)),
        };
    }
}

/// auth_query.
fn ask(setup: &Setup, user: &str) -> Answer {
    let mut server = Wire::connect(setup.server).unwrap();
    let (nothing, policy) = (outgrow_postgres::login::Credential::None, Policy::default());
    server
        .log_in("postgres", "postgres", nothing, Channel::Plain, &policy)
        .unwrap();
    let query = outgrow_postgres::login::auth_query::DEFAULT_QUERY;
    let query = query.replace("$1", &format!("'{user}'"));
    server
        .send(b'Q', &[query.as_bytes(), b"\0"].concat())
        .unwrap();
    let mut reader = Reader::new(user);
    loop {
        match server.receive().unwrap() {
            (b'T', body) => reader.description(&body).unwrap(),
            (b'D', body) => reader.row(&body).unwrap(),
            (b'Z', _) => return reader.end(),
            (b'C', _) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn refuse(wire: &mut Wire, sqlstate: &str, text: &str, detail: Option<&str>) -> io::Result<()> {
    let mut body = format!("SFATAL\0VFATAL\0C{sqlstate}\0M{text}\0");
    if let Some(detail) = detail {
        body += &format!("D{detail}\0");
    }
    body.push('\0');
    wire.send(b'E', body.as_bytes())
}

/// Logs in to the server with what was shown, then hands on until the client goes.
fn hand_on(
    setup: &Setup,
    user: &str,
    database: &str,
    proven: Proven,
    client: &mut Wire,
) -> io::Result<()> {
    if let Some(last) = &proven.last {
        client.send(b'R', last)?;
    }
    let mut server = Wire::connect(setup.server)?;
    let policy = Policy {
        cleartext: Cleartext::Anywhere,
        ..Policy::default()
    };
    let credential = proven.proof.credential;
    if let Err(why) = server.log_in(user, database, credential, Channel::Plain, &policy) {
        return refuse(client, "08006", &why, None);
    }
    client.send(b'R', &AUTHENTICATION_OK)?;
    for (name, value) in [("client_encoding", "UTF8"), ("server_version", "15.0")] {
        client.send(b'S', format!("{name}\0{value}\0").as_bytes())?;
    }
    client.send(b'Z', b"I")?;
    loop {
        let (kind, body) = client.receive()?;
        if kind == b'X' {
            return Ok(());
        }
        server.send(kind, &body)?;
        if !matches!(kind, b'Q' | b'S') {
            continue;
        }
        loop {
            let (kind, body) = server.receive()?;
            client.send(kind, &body)?;
            if kind == b'Z' {
                break;
            }
        }
    }
}

/// The first common name after the issuer's, in a certificate of the testkit.
fn common_name(certificate: &[u8]) -> Option<String> {
    const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
    let places: Vec<usize> = certificate
        .windows(3)
        .enumerate()
        .filter(|(_, window)| *window == COMMON_NAME)
        .map(|(at, _)| at + 3)
        .collect();
    let at = *places.get(1)?;
    let length = usize::from(*certificate.get(at + 1)?);
    let name = certificate.get(at + 2..at + 2 + length)?;
    String::from_utf8(name.to_vec()).ok()
}

/// TLS of a server, with the hash of its certificate.
pub(crate) fn server_tls(
    issued: &outgrow_testkit::authority::Issued,
    clients: Option<&str>,
) -> (Arc<ServerConfig>, Option<Vec<u8>>) {
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};
    let certificate = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
    let hash = end_point_hash(&certificate);
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = rustls::RootCertStore::empty();
            let root = CertificateDer::from_pem_slice(authority.as_bytes()).unwrap();
            roots.add(root).unwrap();
            let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
                Arc::new(roots),
                provider(),
            );
            let verifier = verifier.allow_unauthenticated().build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    let config = builder.with_single_cert(vec![certificate], key).unwrap();
    (Arc::new(config), hash)
}

pub(crate) fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
