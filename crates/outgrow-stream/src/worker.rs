//! A worker: what all connections of one thread share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use outgrow_core::context::RequestId;
use outgrow_core::{Random, Ticks, WallTime};
use outgrow_message::Blocks;
use outgrow_net::datagrams::Scratch;
use outgrow_net::{Mailboxes, Pipes, Socket, Tier, Wheel};

use crate::plan::ListenerSlot;
use crate::shared::Shared;
use crate::tcp::{self, Moved};
use crate::udp;

/// Pipes of a worker at most, for connections that move much. At most 16 MiB in the kernel.
const PIPES: usize = 64;

/// One worker.
#[derive(Debug)]
pub(crate) struct Worker {
    /// Its number, from 0.
    pub(crate) index: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) wheel: Arc<Wheel>,
    pub(crate) blocks: Arc<Blocks>,
    pub(crate) pipes: Arc<Pipes>,
    scratch: Mutex<Scratch>,
    random: Mutex<Random>,
    /// Wall time less ticks, in nanoseconds; renewed at each turn of the wheel.
    wall_offset: AtomicU64,
}

impl Worker {
    pub(crate) fn new(index: usize, shared: Arc<Shared>) -> Arc<Self> {
        let now = shared.clock.now();
        let worker = Arc::new(Self {
            index,
            wheel: Wheel::new(now),
            blocks: Blocks::new(Arc::clone(&shared.ledger)),
            pipes: Pipes::new(PIPES),
            scratch: Mutex::default(),
            random: Mutex::new(Random::from_system()),
            wall_offset: AtomicU64::new(0),
            shared,
        });
        worker.renew(now);
        worker
    }

    #[inline]
    pub(crate) fn now(&self) -> Ticks {
        self.shared.clock.now()
    }

    fn renew(&self, now: Ticks) {
        let offset = WallTime::now().0.wrapping_sub(now.0);
        self.wall_offset.store(offset, Ordering::Relaxed);
    }

    /// Wall time of a moment.
    pub(crate) fn wall(&self, at: Ticks) -> WallTime {
        WallTime(at.0.wrapping_add(self.wall_offset.load(Ordering::Relaxed)))
    }

    /// Where datagrams are received. Only within one poll.
    pub(crate) fn scratch(&self) -> MutexGuard<'_, Scratch> {
        self.scratch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new connection's name.
    pub(crate) fn new_id(&self) -> RequestId {
        let random = self.random.lock();
        RequestId::new(&mut random.unwrap_or_else(PoisonError::into_inner))
    }
}

impl Tier for Worker {
    type Slot = ListenerSlot;
    type Moved = Moved;

    fn wheel(&self) -> &Wheel {
        &self.wheel
    }

    async fn accept(self: Arc<Self>, socket: Socket, slot: ListenerSlot, others: Mailboxes<Moved>) {
        match (slot, socket) {
            (ListenerSlot::Udp(slot), Socket::Datagrams(socket)) => {
                udp::listen(self, *socket, slot).await;
            }
            (ListenerSlot::Tcp(slot), socket) => tcp::accept(self, socket, slot, others).await,
            // The keeper gives what was asked for.
            (ListenerSlot::Udp(_), _) => {}
        }
    }

    fn receive(self: &Arc<Self>, moved: Moved) {
        tcp::receive(self, moved);
    }

    fn turn(self: &Arc<Self>, now: Ticks, _turns: u32, _lag: Duration) {
        self.renew(now);
    }

    fn end(self: &Arc<Self>) {}
}
