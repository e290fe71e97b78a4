//! The product from outside: the real binary (`OUTGROW_BIN`, else the one beside the tests),
//! its whole tree of processes, real sockets. One module for each topic; each test starts an
//! outgrow of its own on free ports, so all may run at once.
//!
//! Not here: what a room can show alone (parsers, balancing, the keeper's own tests).

mod acme;
mod api_server;
mod apps;
mod attacks;
mod boxes;
mod checks;
mod compared;
mod deploy;
mod diagnosed;
mod discover;
mod floors;
mod grpc;
mod http;
#[cfg(feature = "http3")]
mod http3;
mod limits;
mod machines;
mod misuse;
mod moments;
mod ocsp;
mod outage;
mod postgres;
mod postgres_pgbouncer;
mod postgres_tls;
mod promotion;
mod replica_retries;
mod replicas;
mod rights;
mod scarce;
mod shop;
mod soak;
mod streams;
mod supervise;
mod survive;
mod websockets;
