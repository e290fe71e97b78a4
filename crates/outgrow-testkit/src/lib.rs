//! Parts for tests against real sockets and real processes. All of it is
//! blocking and on threads of its own, so a test needs no runtime and disturbs
//! none; everything listens on port 0 of loopback and is stopped on drop.
//!
//! - [`authority::Authority`]: certificates that nobody else trusts
//! - [`backend::Recorder`]: a backend that records every byte and answers by a script
//! - [`boxes::Boxes`]: network namespaces as machines on a switch
//! - [`child::TestChild`]: a program that ends with its test
//! - [`raw`]: a client that sends exactly the given bytes, in the given pieces
//! - [`consul::FakeConsul`]: a fake of Consul's health endpoint and its agent
//! - [`dns::DnsServer`]: names that change, and answers that lie
//! - [`etcd::Etcd`]: a real etcd
//! - [`faults::Proxy`]: a TCP proxy that delays, stalls, cuts, resets, refuses
//! - [`kubernetes::FakeKubernetes`]: a fake of Kubernetes' EndpointSlices and Leases
//! - [`pebble::Pebble`]: a real certificate authority that speaks ACME, with its DNS
//! - [`ocsp::OcspAuthority`]: an authority with a real OCSP responder
//! - [`outgrow::Outgrow`]: the real binary, with its whole tree of processes
//! - [`apps`]: applications written in other languages
//! - [`databases`]: Postgres and Redis, with replicas
//! - [`postgres`]: a client of Postgres that sends exactly the given messages
//! - [`http`]: one request, one response
//! - [`tls`]: a client of TLS, step by step
//! - [`wait`]: waiting for something to become true, with an end
//!
//! Not here: the counting load client, which belongs to the example shop
//! (`outgrow_shop::shoppers`).

pub mod apps;
pub mod authority;
pub mod backend;
pub mod boxes;
pub mod child;
pub mod consul;
pub mod databases;
pub mod dns;
pub mod etcd;
pub mod faults;
pub mod folder;
pub mod http;
pub mod kubernetes;
pub mod ocsp;
pub mod outgrow;
pub mod pebble;
pub mod ports;
pub mod postgres;
pub mod processes;
pub mod raw;
pub mod tls;
pub mod wait;
