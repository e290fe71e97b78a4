//! Checks of real servers: Postgres and Redis with their roles, gRPC's health service.
//!
//! Each test has services without traffic and looks at what the state says about their endpoints.

use std::{
    env,
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
};

use outgrow_testkit::{child::TestChild, databases, folder::Folder, outgrow::Outgrow, ports, wait};
use serde_json::Value;

use crate::apps::{From, install};
use crate::shop::{SOON, try_state};

/// Whether the test can run; a failure unless that is allowed.
pub(crate) fn is_there(there: bool, package: &str) -> bool {
    let allowed = env::var_os("OUTGROW_ALLOW_MISSING").is_some();
    assert!(there || allowed, "apt-get install {package}");
    if !there {
        eprintln!("skipped: {package} is not there");
    }
    there
}

/// One service for each check, at these endpoints.
fn start(endpoints: &[SocketAddr], checks: &[(&str, &str)]) -> Outgrow {
    let endpoints: Vec<String> = endpoints.iter().map(|one| format!("\"{one}\"")).collect();
    let endpoints = endpoints.join(", ");
    let mut config = "[listener.public]\naddress = \"%public%\"\n".to_owned();
    for (name, check) in checks {
        config += &format!(
            "[route.{name}]\npath = \"/{name}\"\nservice = \"{name}\"\n[service.{name}]\n\
             endpoints = [{endpoints}]\n[service.{name}.check]\ninterval = \"100ms\"\n\
             fast_interval = \"50ms\"\ntimeout = \"5s\"\nrise = 1\nfall = 1\n{check}\n"
        );
    }
    Outgrow::start(&config).expect("outgrow starts")
}

/// Waits until the endpoints of a service are healthy or not for these reasons.
fn wait_health(outgrow: &Outgrow, service: &str, expected: &[&str]) {
    let health = |outgrow: &Outgrow| {
        let state = try_state(outgrow)?;
        let services = state["services"].as_array()?.clone();
        let one = services.into_iter().find(|one| one["name"] == service)?;
        let told = |endpoint: &Value| match endpoint["health"].as_str() {
            Some("down") => endpoint["reason"].as_str().unwrap_or_default().to_owned(),
            health => health.unwrap_or_default().to_owned(),
        };
        Some(one["endpoints"].as_array()?.iter().map(told).collect())
    };
    let is_so = |told: &Vec<String>| {
        told.len() == expected.len() && told.iter().zip(expected).all(|(one, other)| one == other)
    };
    let seen = outgrow.wait(service, SOON, |outgrow| health(outgrow).filter(is_so));
    if let Err(error) = seen {
        panic!("{error}: {:#?} instead of {expected:#?}", health(outgrow));
    }
}

const PRIMARY: &str = "it is a primary, not a replica";
const REPLICA: &str = "it is a replica, not a primary";

#[test]
fn redis_servers_are_known_by_their_role() {
    if !is_there(databases::has_redis(), "redis-server") {
        return;
    }
    let secret = ["--requirepass", "s3cret", "--masterauth", "s3cret"];
    let mut primary = databases::redis(&secret).expect("Redis starts");
    let port = primary.address().port().to_string();
    let follow = ["--replicaof", "127.0.0.1", &port];
    let replica = databases::redis(&[&secret[..], &follow].concat()).expect("Redis starts");
    let outgrow = start(
        &[primary.address(), replica.address()],
        &[
            ("any", "kind = \"redis\"\npassword = \"s3cret\""),
            ("secret", "kind = \"redis\""),
            (
                "wrong",
                "kind = \"redis\"\nuser = \"default\"\npassword = \"no\"",
            ),
            (
                "primary",
                "kind = \"redis\"\nrole = \"primary\"\npassword = \"s3cret\"",
            ),
            (
                "replica",
                "kind = \"redis\"\nrole = \"replica\"\npassword = \"s3cret\"",
            ),
            (
                "plain",
                "kind = \"tcp\"\nsend = \"AUTH s3cret\\r\\nPING\\r\\n\"\nexpect = \"+PONG\"",
            ),
        ],
    );
    wait_health(&outgrow, "any", &["up", "up"]);
    wait_health(&outgrow, "plain", &["up", "up"]);
    let secret = "answered \"NOAUTH Authentication required.\": set `password` of the check";
    wait_health(&outgrow, "secret", &[secret, secret]);
    let wrong = "answered \"WRONGPASS invalid username-password pair or user is disabled.\"";
    wait_health(&outgrow, "wrong", &[wrong, wrong]);
    wait_health(&outgrow, "primary", &["up", REPLICA]);
    wait_health(&outgrow, "replica", &[PRIMARY, "up"]);
    primary.kill();
    wait_health(&outgrow, "any", &["connection refused", "up"]);
    let lost = "it is a replica without a link to its primary";
    wait_health(&outgrow, "replica", &["connection refused", lost]);
}

#[test]
fn postgres_servers_are_known_by_their_role() {
    if !is_there(databases::has_postgres(), "postgresql") {
        return;
    }
    let primary = databases::postgres(
        "host replication replicator 127.0.0.1/32 trust\n\
         host all trusted 127.0.0.1/32 trust\n\
         host all old 127.0.0.1/32 md5\n\
         host all all 127.0.0.1/32 scram-sha-256",
    );
    let mut primary = primary.expect("Postgres starts");
    for statement in [
        "CREATE ROLE replicator REPLICATION LOGIN",
        "CREATE ROLE trusted LOGIN",
        "CREATE ROLE outgrow_check LOGIN PASSWORD 's3cret'",
        "SET password_encryption = md5; CREATE ROLE old LOGIN PASSWORD 's3cret'",
    ] {
        primary.query(statement).expect("it is done");
    }
    let replica = primary.postgres_replica().expect("a replica starts");
    let login = "user = \"outgrow_check\"\ndatabase = \"postgres\"\npassword = ";
    let role = |role: &str, rest: &str| format!("kind = \"postgres\"\nrole = \"{role}\"\n{rest}");
    let scram = format!("{login}\"s3cret\"");
    let outgrow = start(
        &[primary.address(), replica.address()],
        &[
            ("any", "kind = \"postgres\""),
            ("primary", &role("primary", &scram)),
            ("replica", &role("replica", &scram)),
            (
                "trust",
                &role("primary", "user = \"trusted\"\ndatabase = \"postgres\""),
            ),
            ("wrong", &role("primary", &format!("{login}\"other\""))),
            (
                "old",
                &role("primary", "user = \"old\"\npassword = \"s3cret\""),
            ),
        ],
    );
    wait_health(&outgrow, "any", &["up", "up"]);
    wait_health(&outgrow, "primary", &["up", REPLICA]);
    wait_health(&outgrow, "replica", &[PRIMARY, "up"]);
    wait_health(&outgrow, "trust", &["up", REPLICA]);
    let wrong = "answered \"password authentication failed for user \\\"outgrow_check\\\"\"";
    wait_health(&outgrow, "wrong", &[wrong, wrong]);
    let old = "asks for a login that a check does not speak: give its user scram-sha-256 or \
               trust in pg_hba.conf";
    wait_health(&outgrow, "old", &[old, old]);
    primary.kill();
    replica
        .query("SELECT pg_promote()")
        .expect("it is promoted");
    wait_health(&outgrow, "primary", &["connection refused", "up"]);
    wait_health(&outgrow, "replica", &["connection refused", PRIMARY]);
}

/// gRPC's own server with its own health service; `sick` does not serve, `shop` does after a line.
const GRPC: &str = "\
import sys
from concurrent import futures
import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

server = grpc.server(futures.ThreadPoolExecutor(4))
servicer = health.HealthServicer()
if sys.argv[2] == 'health':
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
servicer.set('sick', health_pb2.HealthCheckResponse.NOT_SERVING)
servicer.set('shop', health_pb2.HealthCheckResponse.SERVING)
assert server.add_insecure_port(sys.argv[1])
server.start()
sys.stdin.readline()
servicer.enter_graceful_shutdown()
server.wait_for_termination()
";

#[test]
fn grpc_servers_tell_their_health() {
    let packages = ["grpcio==1.76.0", "grpcio-health-checking==1.76.0"];
    let Some(library) = install("grpc-health", From::PyPi, &packages) else {
        return;
    };
    let folder = Folder::new("grpc").expect("a folder");
    let program = folder.write("server.py", GRPC).expect("written");
    let start_server = |address: SocketAddr, with: &str| {
        let child = TestChild::start(
            Command::new("python3")
                .arg(&program)
                .args([&address.to_string(), with])
                .env("PYTHONPATH", &library)
                .stdin(Stdio::piped()),
        )
        .expect("python3 runs");
        let accepts = || TcpStream::connect(address).ok();
        wait::until("the server accepts", SOON, accepts).expect("it does");
        child
    };
    let addresses = ports::free(2).expect("free ports");
    let mut healthy = start_server(addresses[0], "health");
    let _without = start_server(addresses[1], "nothing");
    let outgrow = start(
        &addresses,
        &[
            ("server", "kind = \"grpc\""),
            ("shop", "kind = \"grpc\"\ngrpc_service = \"shop\""),
            ("sick", "kind = \"grpc\"\ngrpc_service = \"sick\""),
            (
                "other",
                "kind = \"grpc\"\ngrpc_service = \"other\"\nhost = \"shop.example\"",
            ),
        ],
    );
    let without = "does not speak grpc.health.v1.Health: add the health service to the server, or \
                   set kind = \"tcp\"";
    wait_health(&outgrow, "server", &["up", without]);
    wait_health(&outgrow, "shop", &["up", without]);
    wait_health(&outgrow, "sick", &["NOT_SERVING", without]);
    let unknown = "does not know the service \"other\" (grpc_service): ";
    wait_health(&outgrow, "other", &[unknown, without]);
    // It says itself that it is about to stop.
    drop(healthy.stdin.take());
    wait_health(&outgrow, "shop", &["NOT_SERVING", without]);
}
