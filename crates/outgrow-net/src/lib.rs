//! Sockets, time and threads for the workers of all tiers: streams, listening sockets, the
//! transport seam, the timer wheel, the threads themselves.
//!
//! No protocol is known here but the one that comes before all others: a proxy's word on whose
//! connection it is ([`ProxyHeader`]).

pub mod datagrams;
#[cfg(feature = "keys")]
pub mod key_material;
pub mod link;
pub mod listen;
pub mod network;
pub mod packets;
pub mod passage;
pub mod pipe;
pub mod proxy_header;
#[cfg(feature = "http3")]
pub mod quic;
pub mod stream;
pub mod ticker;
pub mod transport;
pub mod wheel;
pub mod workers;

pub use datagrams::Datagrams;
pub use link::Link;
pub use listen::Socket;
pub use network::network_of;
pub use packets::Packet;
pub use passage::Passage;
pub use pipe::{Pipe, Pipes};
pub use proxy_header::{ProxyHeader, ProxyHeaderError};
pub use stream::Stream;
pub use transport::Transport;
pub use wheel::{Timer, Wheel};
pub use workers::{Mailboxes, Tier, Workers};
