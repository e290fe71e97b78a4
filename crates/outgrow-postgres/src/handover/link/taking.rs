//! Clients that are taken, or refused: who has left them is told so.

use std::sync::Arc;

use outgrow_net::Mailboxes;
use tokio::sync::{mpsc, oneshot};

use super::Outgoing;
use crate::client::{Moved, MovedClient, NotTaken};
use crate::handover::record::Record;
use crate::problem::Refusal;
use crate::shared::Shared;

/// Takes clients that come over a link.
#[derive(Clone)]
pub(super) struct Taker {
    pub(super) shared: Arc<Shared>,
    pub(super) mailboxes: Mailboxes<Moved>,
    pub(super) out: mpsc::Sender<Outgoing>,
}

impl Taker {
    pub(super) async fn say(&self, record: Record) {
        let _ = self.out.send(Outgoing::Say(record)).await;
    }

    /// Hands something to a worker.
    pub(super) async fn send(&self, worker: usize, moved: Moved) {
        if let Some(mailbox) = self.mailboxes.get(worker) {
            let _ = mailbox.send(moved).await;
        }
    }

    /// Says that clients are taken, and only then has them served; false when that cannot be said:
    /// then they are the other side's still, and these are copies that nobody used.
    pub(super) async fn confirm(
        &self,
        numbers: Vec<u64>,
        taken: Vec<(usize, MovedClient)>,
    ) -> bool {
        let (confirm, confirmed) = oneshot::channel();
        let taken_over = Outgoing::Confirm(Record::Taken(numbers), confirm);
        if self.out.send(taken_over).await.is_err() || confirmed.await.is_err() {
            return false;
        }
        let counts = &self.shared.handover.counts;
        counts.taken.add_shared(taken.len() as u64);
        for (worker, client) in taken {
            self.send(worker, Moved::Client(client)).await;
        }
        true
    }

    pub(super) async fn refuse(&self, client: u64, why: NotTaken) {
        self.shared.handover.counts.refused.add_shared(1);
        if why.is_for_now {
            let why = why.why;
            return self.say(Record::NotNow { client, why }).await;
        }
        let told = why.told.map(|refusal| {
            let Refusal { code, message } = refusal;
            (code.into_owned(), message.into_owned())
        });
        let record = Record::Refused {
            client,
            told,
            why: why.why,
        };
        self.say(record).await;
    }
}
