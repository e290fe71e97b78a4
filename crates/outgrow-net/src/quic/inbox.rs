//! What others hand to an endpoint: a bounded queue. What finds no room is dropped, as on a line that
//! is too narrow, and sent again by its sender.

use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Waker};

use quinn_udp::RecvMeta;

use super::kernel;

/// Bytes that may wait for an endpoint.
const WAITING_BYTES: usize = 1024 * 1024;

/// Datagrams of one source, all but the last one of one length.
#[derive(Debug)]
pub(super) struct Handed {
    pub(super) meta: RecvMeta,
    pub(super) bytes: Box<[u8]>,
}

#[derive(Debug, Default)]
struct Waiting {
    all: VecDeque<Handed>,
    /// Bytes of the first that were taken.
    offset: usize,
    bytes: usize,
    waker: Option<Waker>,
}

#[derive(Debug)]
pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    /// Its listener is gone, and it has no connections.
    pub(super) is_idle: AtomicBool,
    /// Whether what the kernel has is taken. After an upgrade the next process takes it.
    is_reading: AtomicBool,
}

impl Default for Inbox {
    fn default() -> Self {
        Self {
            waiting: Mutex::default(),
            is_idle: AtomicBool::new(false),
            is_reading: AtomicBool::new(true),
        }
    }
}

impl Inbox {
    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether what the kernel has is taken.
    pub(super) fn is_reading(&self) -> bool {
        self.is_reading.load(Ordering::Acquire)
    }

    pub(super) fn set_reading(&self, is_reading: bool) {
        if self.is_reading.swap(is_reading, Ordering::AcqRel) == is_reading {
            return;
        }
        let waker = self.waiting().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Puts datagrams in; false when there is no room.
    pub(super) fn put(&self, meta: RecvMeta, bytes: &[u8]) -> bool {
        let waker = {
            let mut waiting = self.waiting();
            if waiting.bytes + bytes.len() > WAITING_BYTES {
                return false;
            }
            waiting.bytes += bytes.len();
            waiting.all.push_back(Handed {
                meta,
                bytes: bytes.into(),
            });
            waiting.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Takes what fits into `buffers`, each datagram by itself, or has `cx` woken when something comes; how
    /// many.
    pub(super) fn take(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> usize {
        let mut waiting = self.waiting();
        let mut count = 0;
        let Waiting {
            all, offset, bytes, ..
        } = &mut *waiting;
        while count < buffers.len().min(metas.len()) {
            let Some(handed) = all.front() else {
                break;
            };
            let (meta, group) = (&handed.meta, &*handed.bytes);
            let place = (&mut buffers[count], &mut metas[count]);
            count += usize::from(kernel::one(meta, group, offset, place.0, place.1));
            if *offset >= group.len() {
                *bytes -= group.len();
                all.pop_front();
                *offset = 0;
            }
        }
        if count == 0 {
            waiting.waker = Some(cx.waker().clone());
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_is_taken_and_bounded() {
        let inbox = Inbox::default();
        let meta = RecvMeta {
            len: 3,
            stride: 3,
            ..RecvMeta::default()
        };
        let mut nobody = Context::from_waker(Waker::noop());
        let mut memory = [[0; 2_000]; 2];
        let mut metas = [RecvMeta::default(); 2];
        let mut take = |inbox: &Inbox| {
            let mut buffers = memory.each_mut().map(|one| IoSliceMut::new(one));
            inbox.take(&mut nobody, &mut buffers, &mut metas)
        };
        assert_eq!(take(&inbox), 0);
        for text in [b"one", b"two", b"tri"] {
            assert!(inbox.put(meta, text));
        }
        assert_eq!(take(&inbox), 2);
        assert_eq!(take(&inbox), 1);
        // A group is taken datagram by datagram.
        let group = RecvMeta {
            len: 5,
            stride: 2,
            ..meta
        };
        assert!(inbox.put(group, b"aabbc"));
        assert_eq!([take(&inbox), take(&inbox), take(&inbox)], [2, 1, 0]);
        assert!(inbox.put(meta, b"tri"));
        assert_eq!(take(&inbox), 1);
        assert_eq!(&memory[0][..3], b"tri");
        assert_eq!(metas[0].len, 3);
        let full = (0..2_000)
            .take_while(|_| inbox.put(meta, &[0; 1_000]))
            .count();
        assert_eq!(full, WAITING_BYTES / 1_000);
    }
}
