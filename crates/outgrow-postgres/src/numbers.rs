//! What is counted for each pool. One writer: the worker that owns it.

use outgrow_core::metrics::{Counter, Histogram};

use crate::retry::Reason;
use crate::sql::facts::Pin;

/// What is counted of logins, by all workers.
#[derive(Debug, Default)]
pub struct LoginNumbers {
    /// Logins that failed for want of proof.
    pub failed: Counter,
    /// Logins that had to wait since others had failed.
    pub slowed: Counter,
    /// Logins that were refused since too many had failed.
    pub refused: Counter,
    /// Connections that were closed before their login to make room for newcomers.
    pub dropped: Counter,
}

/// The numbers of a pool.
#[derive(Debug, Default)]
pub struct Numbers {
    /// Transactions.
    pub transactions: Counter,
    /// Queries: series of messages up to ReadyForQuery.
    pub queries: Counter,
    /// Bytes that clients sent.
    pub received_bytes: Counter,
    /// Bytes that were sent to clients.
    pub sent_bytes: Counter,
    /// Time in transactions, in microseconds.
    pub transaction_micros: Counter,
    /// Time in which queries ran, in microseconds.
    pub query_micros: Counter,
    /// Time in which clients waited for a connection, in microseconds.
    pub wait_micros: Counter,
    /// Time in which clients kept a connection although they were in no transaction, in
    /// microseconds, by the first reason.
    pub pinned_micros: [Counter; Pin::ALL.len()],
    /// Times that a connection was lent.
    pub assignments: Counter,
    /// Clients that logged in.
    pub logins: Counter,
    /// Statements that clients prepared.
    pub client_parses: Counter,
    /// Statements that were prepared on servers.
    pub server_parses: Counter,
    /// Bind messages for prepared statements.
    pub binds: Counter,
    /// Transactions that replicas executed.
    pub on_replicas: Counter,
    /// Reads that were asked again elsewhere, by [`Reason`].
    pub retries: [Counter; Reason::ALL.len()],
    /// Reads that replicas might have executed, but none was near enough.
    pub kept_from_replicas: Counter,
    /// Notifications that clients were sent of the connection that listens for them.
    pub notifications: Counter,
    /// Clients that were ended because too much waited for them.
    pub notification_overflows: Counter,
    /// Times that the connection that listens was lost.
    pub listening_lost: Counter,
    /// `LISTEN`s of clients that keep a connection of their own for them.
    pub listens_alone: Counter,
    /// Reads that went to the primary because nobody knows of which instance their client is.
    pub reads_unplaced: Counter,
    /// Connections to servers that were made.
    pub connects: Counter,
    /// Attempts that failed.
    pub connect_failures: Counter,
    /// Waits for a connection.
    pub waits: Histogram,
    /// Queries.
    pub query_times: Histogram,
    /// Transactions.
    pub transaction_times: Histogram,
}
