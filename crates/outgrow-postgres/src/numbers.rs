//! What is counted for each pool, in each of its lanes. One writer: the worker that owns it.

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

impl Numbers {
    /// Those of several lanes together, as they are now.
    pub(crate) fn sum<'n>(all: impl Iterator<Item = &'n Self>) -> Self {
        let sum = Self::default();
        all.for_each(|one| sum.add(one));
        sum
    }

    fn add(&self, other: &Self) {
        // So that the compiler asks for a new one.
        let Self {
            transactions,
            queries,
            received_bytes,
            sent_bytes,
            transaction_micros,
            query_micros,
            wait_micros,
            pinned_micros,
            assignments,
            logins,
            client_parses,
            server_parses,
            binds,
            on_replicas,
            retries,
            kept_from_replicas,
            notifications,
            notification_overflows,
            listening_lost,
            listens_alone,
            reads_unplaced,
            connects,
            connect_failures,
            waits,
            query_times,
            transaction_times,
        } = other;
        self.transactions.add(transactions.get());
        self.queries.add(queries.get());
        self.received_bytes.add(received_bytes.get());
        self.sent_bytes.add(sent_bytes.get());
        self.transaction_micros.add(transaction_micros.get());
        self.query_micros.add(query_micros.get());
        self.wait_micros.add(wait_micros.get());
        for (own, other) in self.pinned_micros.iter().zip(pinned_micros) {
            own.add(other.get());
        }
        self.assignments.add(assignments.get());
        self.logins.add(logins.get());
        self.client_parses.add(client_parses.get());
        self.server_parses.add(server_parses.get());
        self.binds.add(binds.get());
        self.on_replicas.add(on_replicas.get());
        for (own, other) in self.retries.iter().zip(retries) {
            own.add(other.get());
        }
        self.kept_from_replicas.add(kept_from_replicas.get());
        self.notifications.add(notifications.get());
        self.notification_overflows
            .add(notification_overflows.get());
        self.listening_lost.add(listening_lost.get());
        self.listens_alone.add(listens_alone.get());
        self.reads_unplaced.add(reads_unplaced.get());
        self.connects.add(connects.get());
        self.connect_failures.add(connect_failures.get());
        self.waits.add(waits);
        self.query_times.add(query_times);
        self.transaction_times.add(transaction_times);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_out_of_a_sum() {
        let lanes = [Numbers::default(), Numbers::default()];
        for one in &lanes {
            one.queries.add(3);
            one.pinned_micros[1].add(5);
            one.waits.record(7);
        }
        let sum = Numbers::sum(lanes.iter());
        assert_eq!((sum.queries.get(), sum.pinned_micros[1].get()), (6, 10));
        let mut total = outgrow_core::metrics::HistogramTotal::default();
        sum.waits.add_to(&mut total);
        assert_eq!((total.count(), total.sum_micros()), (2, 14));
    }
}
