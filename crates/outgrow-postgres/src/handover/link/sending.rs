//! What is sent on a link: one task writes, so that the packets of a record stay together.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use outgrow_net::Passage;
use outgrow_net::passage::PACKET_BYTES;
use tokio::sync::{mpsc, oneshot};

use crate::handover::record::{Record, packets};

/// What is to be sent.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// A record.
    Say(Record),
    /// A record; whoever waits is told once it was said.
    Confirm(Record, oneshot::Sender<()>),
    /// Clients, with their descriptors.
    Clients(Record, Vec<OwnedFd>),
}

/// Sends what there is to be sent. Ends the passage when that cannot be done.
pub(super) async fn write(passage: Arc<Passage>, mut outgoing: mpsc::Receiver<Outgoing>) {
    while let Some(next) = outgoing.recv().await {
        let (record, descriptors, confirm) = match next {
            Outgoing::Say(record) => (record, Vec::new(), None),
            Outgoing::Confirm(record, confirm) => (record, Vec::new(), Some(confirm)),
            Outgoing::Clients(record, descriptors) => (record, descriptors, None),
        };
        if send(&passage, &record, &descriptors).await.is_err() {
            passage.shut();
            return;
        }
        if let Some(confirm) = confirm {
            let _ = confirm.send(());
        }
    }
}

pub(super) async fn send(
    passage: &Passage,
    record: &Record,
    descriptors: &[OwnedFd],
) -> io::Result<()> {
    let encoded = record.encode();
    let mut packets = packets(&encoded, PACKET_BYTES).peekable();
    while let Some(packet) = packets.next() {
        let borrowed: Vec<BorrowedFd<'_>> = match packets.peek() {
            Some(_) => Vec::new(),
            None => descriptors.iter().map(AsFd::as_fd).collect(),
        };
        passage.send(&packet, &borrowed).await?;
    }
    Ok(())
}
