//! Connections: the rows of `SHOW CLIENTS`, `SERVERS`, `SOCKETS`, `ACTIVE_SOCKETS` and `FDS`.
//!
//! Deliberately not here: what becomes of a connection whose descriptor is handed on.

use outgrow_core::WallTime;

use super::super::cell::{Cell, CellWriter, Row, column};
use crate::wire::write::Column;

rows! {
    /// A connection of `SHOW CLIENTS` and `SHOW SERVERS`.
    SocketRow {
        /// Which side it is.
        side = "type": Side,
        /// The user, `(nouser)` while it is not known.
        user: String,
        /// The database, `(nodb)` while it is not known.
        database: String,
        /// Whether it streams the log of changes.
        replication: Replication,
        /// What it does.
        state: SocketState,
        /// The other end's address, `unix` for a Unix socket.
        addr: String,
        /// The other end's port; for a Unix socket that of the listener.
        port: u16,
        /// Our end's address, `unix` for a Unix socket.
        local_addr: String,
        /// Our end's port.
        local_port: u16,
        /// When it was made.
        connect_time: WallTime,
        /// When the last message came from it.
        request_time: WallTime,
        /// For how long its query has run or waited, whole seconds.
        wait: i32,
        /// The rest of that, in microseconds.
        wait_us: i32,
        /// Whether it is to be closed as soon as it is free.
        close_needed: bool,
        /// What it is called in `link`.
        ptr: String,
        /// The connection of the other side that it is tied to; empty without one.
        link: String,
        /// The process at the other end, 0 when it is not known.
        remote_pid: i32,
        /// The TLS version and cipher, empty without TLS.
        tls: String,
        /// What the application calls itself.
        application_name: String,
        /// Prepared statements that are known of it.
        prepared_statements: usize,
        /// Its number; clients and servers are counted together. PgBouncer says four bytes.
        id: u64,
    }

    /// What is in a connection's buffers, in bytes.
    BufferColumns {
        /// Where the next bytes are received to.
        recv_pos: usize,
        /// Where the next message begins.
        pkt_pos: usize,
        /// What is missing of the message.
        pkt_remain: usize,
        /// Where the next bytes are sent from.
        send_pos: usize,
        /// What is left to be sent of the message.
        send_remain: usize,
        /// What was received and not yet looked at.
        pkt_avail: usize,
        /// What was looked at and not yet sent.
        send_avail: usize,
    }

    /// An open file of `SHOW FDS`, for the process that takes over.
    FileRow {
        /// Its descriptor in this process.
        fd: i32,
        /// `pooler` for a listener, `client` or `server`.
        task: &'static str,
        /// The user.
        user: Option<String>,
        /// The database.
        database: Option<String>,
        /// The other end's address, `unix` for a Unix socket.
        addr: String,
        /// The other end's port.
        port: u16,
        /// The key to cancel with, as one number.
        cancel: u64,
        /// The descriptor of the other side that it is tied to, 0 without one.
        link: i32,
        /// The client's parameter.
        client_encoding: Option<String>,
        /// The client's standard_conforming_strings.
        std_strings: Option<String>,
        /// The client's parameter.
        datestyle: Option<String>,
        /// The client's parameter.
        timezone: Option<String>,
        /// The stored secret of a user whom only auth_query knows.
        password: Option<String>,
        /// The client's key of SCRAM, for logging in to servers.
        scram_client_key: Option<Vec<u8>>,
        /// The server's key of SCRAM.
        scram_server_key: Option<Vec<u8>>,
    }
}

/// A connection of `SHOW SOCKETS` and `SHOW ACTIVE_SOCKETS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetailedSocketRow {
    /// What the other commands show too, but that the state begins with `cl_` or `sv_`.
    pub socket: SocketRow,
    /// Its buffers.
    pub buffers: BufferColumns,
}

impl Row for DetailedSocketRow {
    fn columns() -> Vec<Column<'static>> {
        let mut columns = SocketRow::columns();
        columns.extend(BufferColumns::columns());
        columns
    }

    fn cells(&self, out: &mut CellWriter<'_>) {
        self.socket.cells(out);
        self.buffers.cells(out);
    }
}

/// Enumerations whose cells are words.
macro_rules! word_cell {
    ($( $(#[$meta:meta])+ $name:ident { $( $(#[$variant_meta:meta])+ $variant:ident = $word:literal, )+ } )+) => { $(
        $(#[$meta])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $( $(#[$variant_meta])+ $variant, )+
        }

        impl $name {
            /// The word that is shown.
            pub const fn word(self) -> &'static str {
                match self {
                    $( Self::$variant => $word, )+
                }
            }
        }

        impl Cell for $name {
            const TYPE: u32 = <&'static str as Cell>::TYPE;

            fn append(&self, out: &mut Vec<u8>) -> bool {
                self.word().append(out)
            }
        }
    )+ };
}

word_cell! {
    /// The side of a connection.
    Side {
        /// A client's.
        Client = "C",
        /// A server's.
        Server = "S",
    }

    /// Whether a connection streams the log of changes.
    Replication {
        /// It does not.
        None = "none",
        /// Decoded, of one database.
        Logical = "logical",
        /// As it is.
        Physical = "physical",
    }

    /// What a connection does, in the words of `SHOW CLIENTS` and `SHOW SERVERS`, then of the others.
    SocketState {
        /// A client or server that is tied to the other side.
        Active = "active",
        /// A client without a server, a server without a client.
        Idle = "idle",
        /// A client that waits for a server.
        Waiting = "waiting",
        /// A request to cancel that was sent on.
        ActiveCancelRequest = "active_cancel_req",
        /// A request to cancel that waits for a connection.
        WaitingCancelRequest = "waiting_cancel_req",
        /// A server that needs a check first.
        Used = "used",
        /// A server that is being checked or cleaned.
        Tested = "tested",
        /// A server that logs in.
        New = "new",
        /// A server that sends a request to cancel.
        ActiveCancel = "active_cancel",
        /// A server that waits until a request to cancel has arrived.
        BeingCanceled = "being_canceled",
        /// A client, for `SHOW SOCKETS`.
        ClientActive = "cl_active",
        /// A client that waits, for `SHOW SOCKETS`.
        ClientWaiting = "cl_waiting",
        /// A client that logs in, for `SHOW SOCKETS`.
        ClientLogin = "cl_login",
        /// A server with a client, for `SHOW SOCKETS`.
        ServerActive = "sv_active",
        /// A server that can be used at once, for `SHOW SOCKETS`.
        ServerIdle = "sv_idle",
        /// A server that needs a check first, for `SHOW SOCKETS`.
        ServerUsed = "sv_used",
        /// A server that is being checked, for `SHOW SOCKETS`.
        ServerTested = "sv_tested",
        /// A server that logs in, for `SHOW SOCKETS`.
        ServerLogin = "sv_login",
    }
}
