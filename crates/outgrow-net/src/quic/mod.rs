//! QUIC below its streams: sockets that several workers of several processes share, and connection ids
//! by which each datagram finds the one that has its connection (RFC 9000 section 5.1, after the idea
//! of draft-ietf-quic-load-balancers).
//!
//! The kernel spreads datagrams over the sockets of a group by addresses and ports. That is right for
//! who comes anew; a client whose address changes (migration, a NAT that forgets), and every client
//! when the number of sockets does, comes to another worker's socket. So the id that we give a
//! connection says, for who has the key, which data process and which of its workers has it, and each
//! worker hands on what is another's: to a worker of its process by a bounded queue ([`Dispatch`]), to
//! a process that leaves after an upgrade over a socket pair ([`Neighbour`]).
//!
//! Not here: what is in the streams (`outgrow-http`), who may connect, certificates.

mod dispatch;
mod ids;
mod inbox;
mod kernel;
mod keys;
mod neighbour;
mod readers;
mod route;
mod socket;

pub use dispatch::{Dispatch, DispatchCounts};
pub use ids::{Ids, Origin};
pub use keys::Keys;
pub use neighbour::Neighbour;
pub use socket::{QuicSocket, feed};

pub use quinn;
