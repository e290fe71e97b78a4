//! Clients that are offered to the next process: several at a time, each until it is answered.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use outgrow_core::Ticks;
use tokio::sync::{mpsc, oneshot};

use super::{Outgoing, PATIENCE};
use crate::handover::record::{MOST_CLIENTS, Record};
use crate::handover::{Answer, Offer};
use crate::shared::Shared;

/// Bytes of states in a record of several clients.
const BATCH_BYTES: usize = 256 << 10;

/// Clients that were offered, by their number, with the time.
#[derive(Debug, Default)]
pub(super) struct Pending(Mutex<HashMap<u64, (oneshot::Sender<Answer>, Ticks)>>);

impl Pending {
    pub(super) fn lock(&self) -> MutexGuard<'_, HashMap<u64, (oneshot::Sender<Answer>, Ticks)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn answer(&self, client: u64, answer: Answer) {
        if let Some((sender, _)) = self.lock().remove(&client) {
            let _ = sender.send(answer);
        }
    }

    pub(super) fn is_late(&self, now: Ticks) -> bool {
        let pending = self.lock();
        pending.values().any(|(_, at)| now.since(*at) > PATIENCE)
    }
}

/// Passes on what is offered, several clients at a time.
pub(super) async fn pump(
    shared: Arc<Shared>,
    mut offers: mpsc::Receiver<Offer>,
    pending: Arc<Pending>,
    out: mpsc::Sender<Outgoing>,
) {
    let mut kept = None;
    loop {
        let first = match kept.take() {
            Some(offer) => offer,
            None => match offers.recv().await {
                Some(offer) => offer,
                None => return,
            },
        };
        let mut batch: Vec<Offer> = vec![first];
        let mut bytes = batch[0].state.len();
        while batch.len() < MOST_CLIENTS
            && let Ok(next) = offers.try_recv()
        {
            if bytes + next.state.len() > BATCH_BYTES {
                kept = Some(next);
                break;
            }
            bytes += next.state.len();
            batch.push(next);
        }
        let (mut clients, mut descriptors) = (Vec::new(), Vec::new());
        let now = shared.clock.now();
        for offer in batch {
            let number = shared.handover.next_number();
            pending.lock().insert(number, (offer.answer, now));
            clients.push((number, offer.state));
            descriptors.push(offer.descriptor);
        }
        let record = Record::Clients(clients);
        if out
            .send(Outgoing::Clients(record, descriptors))
            .await
            .is_err()
        {
            return;
        }
    }
}
