//! The rows of `SHOW …`: what the tier must be able to tell, with PgBouncer's columns.
//!
//! Counts are of now, times are of the moment of the question. Deliberately not here: counters over
//! time (`stats.rs`).

use std::time::Duration;

use super::super::ini::{ConfigRow, LoadBalanceHosts, PoolMode};
use super::cell::{CellWriter, Row, column};
use crate::wire::write::Column;

/// Declares structs whose fields are the columns, in their order; `=` gives a column another name.
macro_rules! rows {
    ($( $(#[$meta:meta])+ $name:ident {
        $( $(#[$field_meta:meta])+ $field:ident $(= $column:literal)?: $kind:ty, )+
    } )+) => { $(
        $(#[$meta])+
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            $( $(#[$field_meta])+ pub $field: $kind, )+
        }

        impl Row for $name {
            fn columns() -> Vec<Column<'static>> {
                vec![$( column::<$kind>(rows!(@name $field $($column)?)) ),+]
            }

            fn cells(&self, out: &mut CellWriter<'_>) {
                $( out.push(&self.$field); )+
            }
        }
    )+ };
    (@name $field:ident) => { stringify!($field) };
    (@name $field:ident $column:literal) => { $column };
}

mod socket;

pub use socket::{
    BufferColumns, DetailedSocketRow, FileRow, Replication, Side, SocketRow, SocketState,
};

rows! {
    /// A database of `SHOW DATABASES`; the console's is among them.
    DatabaseRow {
        /// Its name for clients.
        name: String,
        /// The hosts as in the file; none is the Unix socket.
        host: Option<String>,
        /// The port.
        port: u16,
        /// Its name at the server.
        database: String,
        /// As whom all connect, where the file says so.
        force_user: Option<String>,
        /// Server connections of a pool.
        pool_size: i32,
        /// Server connections that a pool in use keeps.
        min_pool_size: i32,
        /// Server connections beyond `pool_size`.
        reserve_pool_size: i32,
        /// The age at which an unused server connection is closed, in seconds.
        server_lifetime: i32,
        /// The database's own pool mode, none when it is the general one.
        pool_mode: Option<PoolMode>,
        /// Which host is next, where there are several.
        load_balance_hosts: Option<LoadBalanceHosts>,
        /// Server connections at most, 0 without a limit.
        max_connections: i32,
        /// Server connections now.
        current_connections: usize,
        /// Clients at most, 0 without a limit.
        max_client_connections: i32,
        /// Clients now.
        current_client_connections: usize,
        /// Whether it is paused.
        paused: bool,
        /// Whether it takes no new clients.
        disabled: bool,
    }

    /// A pool of `SHOW POOLS`, one for each database and server user; the console's is among them.
    PoolRow {
        /// The database's name for clients.
        database: String,
        /// The user at the server.
        user: String,
        /// Clients that have a server connection or wait for nothing.
        cl_active: usize,
        /// Clients that wait for a server connection.
        cl_waiting: usize,
        /// Requests to cancel that were sent on and not yet answered.
        cl_active_cancel_req: usize,
        /// Requests to cancel that wait for a connection.
        cl_waiting_cancel_req: usize,
        /// Server connections that a client has.
        sv_active: usize,
        /// Server connections that send a request to cancel.
        sv_active_cancel: usize,
        /// Server connections that wait until a request to cancel has arrived.
        sv_being_canceled: usize,
        /// Server connections that can be used at once.
        sv_idle: usize,
        /// Server connections that need a check first.
        sv_used: usize,
        /// Server connections that are being checked or cleaned.
        sv_tested: usize,
        /// Server connections that log in.
        sv_login: usize,
        /// For how long the first in the line has waited, whole seconds.
        maxwait: i32,
        /// The rest of that, in microseconds.
        maxwait_us: i32,
        /// The pool mode that counts.
        pool_mode: PoolMode,
        /// Which host is next, where there are several.
        load_balance_hosts: Option<LoadBalanceHosts>,
    }

    /// A user of `SHOW USERS`.
    UserRow {
        /// The name.
        name: String,
        /// Server connections of a pool; empty when nothing is said of this user. A text, with blanks
        /// in front, as PgBouncer has it.
        pool_size: String,
        /// Server connections beyond `pool_size`, likewise.
        reserve_pool_size: String,
        /// The user's own pool mode, none when it is the database's.
        pool_mode: Option<PoolMode>,
        /// Server connections at most, 0 without a limit.
        max_user_connections: i32,
        /// Server connections now.
        current_connections: usize,
        /// Clients at most, 0 without a limit.
        max_user_client_connections: i32,
        /// Clients now.
        current_client_connections: usize,
    }

    /// A count of `SHOW LISTS`.
    ListRow {
        /// Of what.
        list: &'static str,
        /// How many.
        items: usize,
    }

    /// A kind of object of `SHOW MEM`.
    MemoryRow {
        /// What it is.
        name: &'static str,
        /// The size of one in bytes.
        size: usize,
        /// How many are in use.
        used: usize,
        /// How many are kept for use.
        free: usize,
        /// Bytes of all.
        memtotal: usize,
    }

    /// A peer of `SHOW PEERS`.
    PeerRow {
        /// Its id.
        peer_id: u16,
        /// Its host.
        host: String,
        /// Its port.
        port: u16,
        /// Requests at the same time.
        pool_size: i32,
    }

    /// What goes to a peer, of `SHOW PEER_POOLS`.
    PeerPoolRow {
        /// Its id.
        peer_id: u16,
        /// Requests to cancel that were sent on and not yet answered.
        cl_active_cancel_req: usize,
        /// Requests to cancel that wait for a connection.
        cl_waiting_cancel_req: usize,
        /// Connections that send a request to cancel.
        sv_active_cancel: usize,
        /// Connections that are being made.
        sv_login: usize,
    }

    /// A name of `SHOW DNS_HOSTS`.
    HostRow {
        /// The name.
        hostname: String,
        /// Seconds for which it is believed.
        ttl: u64,
        /// Its addresses, by commas.
        addrs: String,
    }

    /// A zone of `SHOW DNS_ZONES`.
    ZoneRow {
        /// Its name.
        zonename: String,
        /// Its serial.
        serial: u64,
        /// How many names of it are known.
        count: usize,
    }

    /// A line of `SHOW STATE`.
    StateRow {
        /// `active`, `paused` or `suspended`.
        key: &'static str,
        /// `yes` or `no`.
        value: &'static str,
    }

    /// The line of `SHOW VERSION`.
    VersionRow {
        /// What `--version` says first.
        version: String,
    }
}

impl Row for ConfigRow {
    fn columns() -> Vec<Column<'static>> {
        ["key", "value", "default", "changeable"]
            .map(column::<String>)
            .to_vec()
    }

    fn cells(&self, out: &mut CellWriter<'_>) {
        out.push(&self.key);
        out.push(&self.value);
        out.push(&self.default);
        out.push(&if self.changeable { "yes" } else { "no" });
    }
}

/// The counts of `SHOW LISTS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lists {
    /// Databases, the console's among them.
    pub databases: usize,
    /// Users that are known.
    pub users: usize,
    /// Peers.
    pub peers: usize,
    /// Pools, the console's among them.
    pub pools: usize,
    /// Pools of peers that were used.
    pub peer_pools: usize,
    /// Client objects kept for use.
    pub free_clients: usize,
    /// Clients.
    pub used_clients: usize,
    /// Clients that log in.
    pub login_clients: usize,
    /// Server objects kept for use.
    pub free_servers: usize,
    /// Server connections.
    pub used_servers: usize,
    /// Names that are looked up.
    pub dns_names: usize,
    /// Zones that are watched.
    pub dns_zones: usize,
    /// Lookups under way.
    pub dns_queries: usize,
    /// Lookups that wait.
    pub dns_pending: usize,
}

impl Lists {
    /// The rows.
    pub fn rows(&self) -> [ListRow; 14] {
        [
            ("databases", self.databases),
            ("users", self.users),
            ("peers", self.peers),
            ("pools", self.pools),
            ("peer_pools", self.peer_pools),
            ("free_clients", self.free_clients),
            ("used_clients", self.used_clients),
            ("login_clients", self.login_clients),
            ("free_servers", self.free_servers),
            ("used_servers", self.used_servers),
            ("dns_names", self.dns_names),
            ("dns_zones", self.dns_zones),
            ("dns_queries", self.dns_queries),
            ("dns_pending", self.dns_pending),
        ]
        .map(|(list, items)| ListRow { list, items })
    }
}

/// Whether everything runs, for `SHOW STATE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It does.
    Active,
    /// `PAUSE` of all.
    Paused,
    /// `SUSPEND`.
    Suspended,
}

impl Activity {
    /// The rows.
    pub fn rows(self) -> [StateRow; 3] {
        [
            ("active", Self::Active),
            ("paused", Self::Paused),
            ("suspended", Self::Suspended),
        ]
        .map(|(key, activity)| StateRow {
            key,
            value: if activity == self { "yes" } else { "no" },
        })
    }
}

/// A size of `SHOW USERS`: nine wide, or empty.
pub fn user_size(size: Option<u32>) -> String {
    size.map_or_else(String::new, |size| format!("{size:>9}"))
}

/// A time as the two columns that PgBouncer makes of it: whole seconds and the rest in microseconds.
pub fn seconds_and_micros(time: Duration) -> (i32, i32) {
    let seconds = i32::try_from(time.as_secs()).unwrap_or(i32::MAX);
    (seconds, time.subsec_micros() as i32)
}
