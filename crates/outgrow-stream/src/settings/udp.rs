//! `[udp.NAME]`: an address that takes datagrams and passes them on.

use std::time::Duration;

use outgrow_core::settings::{Address, Name, TableReader};

use super::{DAY, MILLI};

outgrow_core::settings! {
    /// An address that takes UDP datagrams and passes them on to a service, as they are: names,
    /// telemetry, games, QUIC that is ended elsewhere. Datagrams of one source (address and port) are a
    /// session, which stays at one endpoint and counts as a request of the service: its balancing,
    /// ejection and limits are in force; nothing waits, what finds no room is dropped and counted. Where
    /// every endpoint has as many as its `max_connections`, one gives way to a new one, as with
    /// `max_sessions`, of any worker. An endpoint whose machine says that nobody is there (ICMP)
    /// has failed. Endpoints and checks are those of the service; a check speaks TCP.
    #[check = check_udp]
    pub struct UdpSettings {
        /// Where to take datagrams: `host:port`. Answers come from the address that the client asked.
        pub address: Address = Address::tcp("0.0.0.0", 53), required = true;
        /// The service that they go to.
        pub service: Name = Name::new("names").expect("it is a name"), required = true;
        /// Sessions at a time, each worker having its part. When there are as many, the oldest one that was
        /// never answered gives way to a new one, since sources can be forged; when all were answered, one
        /// whose source said nothing after the answer, and that has been quiet for a second; when all
        /// went on, the new one's datagrams are dropped. Not promised against forged sources that send
        /// each datagram twice: those count as having gone on.
        pub max_sessions: u32 = 10_000, in 1..=1_000_000;
        /// Sessions at a time from one address (for IPv6: one network of /64) at one worker; 0: no
        /// limit.
        pub max_sessions_per_address: u32 = 0, in 0..=1_000_000;
        /// Datagrams with which an endpoint answers each datagram. A session that has had all of them
        /// ends at once; one that has had none until it is idle counts against the endpoint. 0: nobody
        /// knows.
        pub responses: u32 = 0, in 0..=1_000;
        /// Silence in both directions after which a session ends.
        pub idle: Duration = Duration::from_secs(30), in MILLI..=DAY;
    }
}

fn check_udp(udp: &UdpSettings, table: &mut TableReader<'_, '_>) {
    if matches!(udp.address, Address::Unix(_)) {
        let hint = "write address = \"0.0.0.0:53\"";
        table.problem("address", "datagrams of Unix sockets are not taken", hint);
    }
}
