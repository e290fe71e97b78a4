//! The way of datagrams between two data processes of one keeper: one that serves and one that leaves
//! after an upgrade, on a socket pair (`SOCK_SEQPACKET`). Nothing waits: what the other one does not
//! take is dropped, and sent again by whoever has sent it.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quinn_udp::{EcnCodepoint, RecvMeta};

use super::dispatch::Dispatch;
use super::readers::Said;
use crate::passage::PACKET_BYTES;
use crate::ticker::Ticker;
use crate::{Passage, packets};

/// What a record is of. One that is not known is passed over.
const DATAGRAMS: u8 = 1;
/// A listener's key: its sender reads there. Without a key: it is going to say.
const READS: u8 = 2;
/// A listener's key: its sender reads there no more.
const READS_NO_MORE: u8 = 3;
/// What stands before the listener's key and the datagrams.
const HEAD_BYTES: usize = 44;
/// The most bytes of datagrams in a record.
const MOST_BYTES: usize = PACKET_BYTES - HEAD_BYTES - 255;
/// Bytes that may wait in the socket pair, as far as the system lets us.
const WAITING_BYTES: usize = 2 * 1024 * 1024;

/// How often another process is told what it had no room for.
const AGAIN: Duration = Duration::from_millis(250);

/// Another data process.
#[derive(Debug)]
pub struct Neighbour {
    generation: u32,
    socket: OwnedFd,
    told: Mutex<Told>,
}

/// What it has been told.
#[derive(Debug, Default)]
struct Told {
    /// That it will be told.
    soon: bool,
    /// Where this process reads.
    reads: BTreeSet<Arc<str>>,
}

impl Neighbour {
    /// Exchanges datagrams with the process of this number, which is at the other end of `socket`,
    /// until it is gone.
    ///
    /// # Errors
    /// The system gives no descriptor or no thread.
    pub fn meet(dispatch: &Arc<Dispatch>, generation: u64, socket: OwnedFd) -> io::Result<()> {
        let pair = socket2::SockRef::from(&socket);
        // The system's own bound is in force where it refuses.
        let _ = pair.set_send_buffer_size(WAITING_BYTES);
        let neighbour = Arc::new(Self {
            generation: generation as u32,
            socket: socket.try_clone()?,
            told: Mutex::default(),
        });
        let dispatch = Arc::clone(dispatch);
        // A thread of its own: what leaves is short-lived, and nobody's loop is to be in its way.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        dispatch.meet(Arc::clone(&neighbour));
        let named = std::thread::Builder::new().name("quic-neighbour".to_owned());
        let thread = {
            let (dispatch, neighbour) = (Arc::clone(&dispatch), Arc::clone(&neighbour));
            named.spawn(move || {
                runtime.block_on(listen(&dispatch, &neighbour, socket));
                dispatch.part(&neighbour);
            })
        };
        if let Err(error) = thread {
            dispatch.part(&neighbour);
            return Err(error);
        }
        Ok(())
    }

    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    /// Says at which listeners this process reads, as far as that is new to it. What it has no room for it
    /// is told later.
    pub(super) fn tell(&self, here: &BTreeSet<Arc<str>>) {
        let say = |kind: u8, key: &str| {
            let record = [&[kind], key.as_bytes()].concat();
            packets::send(self.socket.as_fd(), &record, &[]).is_ok()
        };
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.soon = told.soon || say(READS, "");
        if !told.soon {
            return;
        }
        for key in here {
            if !told.reads.contains(key) && say(READS, key) {
                told.reads.insert(Arc::clone(key));
            }
        }
        told.reads
            .retain(|key| here.contains(key) || !say(READS_NO_MORE, key));
    }

    /// Sends datagrams; false when there is no room.
    pub(super) fn send(&self, key: &str, meta: &RecvMeta, bytes: &[u8]) -> bool {
        let stride = meta.stride.max(1);
        let most = (MOST_BYTES / stride).max(1) * stride;
        let mut parts = bytes.chunks(most).map(|part| record(key, meta, part));
        parts.all(|record| {
            let sent = record.map(|record| packets::send(self.socket.as_fd(), &record, &[]));
            matches!(sent, Some(Ok(())))
        })
    }
}

async fn listen(dispatch: &Dispatch, neighbour: &Neighbour, socket: OwnedFd) {
    let Ok(passage) = Passage::new(socket) else {
        return;
    };
    let mut buffer = Vec::new();
    let mut last: Option<Arc<str>> = None;
    let mut again = Ticker::new(AGAIN);
    loop {
        let packet = tokio::select! {
            packet = passage.receive(&mut buffer) => packet,
            () = again.tick() => {
                dispatch.tell_again(neighbour);
                continue;
            }
        };
        let Ok(Some(packet)) = packet else { return };
        let record = &buffer[..packet.length];
        if let Some(said) = said(record) {
            dispatch.hear(neighbour.generation, said);
            continue;
        }
        let Some((key, meta, bytes)) = read(record) else {
            continue;
        };
        let key = match &last {
            Some(last) if **last == *key => Arc::clone(last),
            _ => Arc::clone(last.insert(key.into())),
        };
        dispatch.take(&key, meta, bytes);
    }
}

/// What a record says of what its sender reads.
fn said(record: &[u8]) -> Option<Said<'_>> {
    let (kind, key) = record.split_first()?;
    let key = std::str::from_utf8(key).ok()?;
    match *kind {
        READS if key.is_empty() => Some(Said::Soon),
        READS => Some(Said::Reads(key)),
        READS_NO_MORE => Some(Said::ReadsNoMore(key)),
        _ => None,
    }
}

fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// The record of datagrams; none when they are not to be said in one.
fn record(key: &str, meta: &RecvMeta, bytes: &[u8]) -> Option<Vec<u8>> {
    let key_length = u8::try_from(key.len()).ok()?;
    let stride = u16::try_from(meta.stride).ok()?;
    let mut record = Vec::with_capacity(HEAD_BYTES + key.len() + bytes.len());
    let ecn = meta.ecn.map_or(0, |ecn| ecn as u8);
    let is_v6 = u8::from(meta.addr.is_ipv6());
    let asked = match meta.dst_ip {
        None => 0,
        Some(IpAddr::V4(_)) => 1,
        Some(IpAddr::V6(_)) => 2,
    };
    record.extend([DATAGRAMS, ecn, is_v6 | asked << 1, key_length]);
    record.extend(meta.addr.port().to_be_bytes());
    record.extend(stride.to_be_bytes());
    record.extend(mapped(meta.addr.ip()));
    record.extend(meta.dst_ip.map_or([0; 16], mapped));
    let scope = match meta.addr {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(address) => address.scope_id(),
    };
    record.extend(scope.to_be_bytes());
    record.extend(key.as_bytes());
    record.extend(bytes);
    Some(record)
}

/// What a record says: the listener, the facts, the datagrams.
fn read(record: &[u8]) -> Option<(&str, RecvMeta, &[u8])> {
    let (head, rest) = record.split_first_chunk::<HEAD_BYTES>()?;
    if head[0] != DATAGRAMS || head[2] > 0b101 {
        return None;
    }
    let word = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    let ip = |at: usize| {
        let mut octets = [0; 16];
        octets.copy_from_slice(&head[at..at + 16]);
        Ipv6Addr::from(octets)
    };
    let v4 = |address: Ipv6Addr| address.to_ipv4_mapped().map(IpAddr::V4);
    let (key, bytes) = rest.split_at_checked(usize::from(head[3]))?;
    let stride = usize::from(word(6));
    let (port, source) = (word(4), ip(8));
    let addr = if head[2] & 1 == 1 {
        let scope = u32::from_be_bytes([head[40], head[41], head[42], head[43]]);
        SocketAddr::V6(SocketAddrV6::new(source, port, 0, scope))
    } else {
        SocketAddr::new(v4(source)?, port)
    };
    let dst_ip = match head[2] >> 1 {
        0 => None,
        1 => Some(v4(ip(24))?),
        _ => Some(IpAddr::V6(ip(24))),
    };
    if stride == 0 || bytes.is_empty() {
        return None;
    }
    // It has more facts on some systems, which nobody here asks for.
    let mut meta = RecvMeta::default();
    meta.addr = addr;
    meta.len = bytes.len();
    meta.stride = stride;
    meta.ecn = EcnCodepoint::from_bits(head[1]);
    meta.dst_ip = dst_ip;
    Some((std::str::from_utf8(key).ok()?, meta, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(source: &str, asked: Option<&str>, ecn: Option<EcnCodepoint>) -> RecvMeta {
        let mut meta = RecvMeta::default();
        meta.addr = source.parse().expect("an address");
        meta.dst_ip = asked.map(|asked| asked.parse().expect("an address"));
        meta.ecn = ecn;
        meta.len = 5;
        meta.stride = 2;
        meta
    }

    #[test]
    fn what_is_said_is_read() {
        for meta in [
            meta(
                "192.0.2.7:443",
                Some("198.51.100.1"),
                Some(EcnCodepoint::Ce),
            ),
            meta("192.0.2.7:443", None, None),
            meta(
                "[2001:db8::1]:1",
                Some("2001:db8::2"),
                Some(EcnCodepoint::Ect0),
            ),
            meta("[fe80::1%3]:65535", None, None),
        ] {
            let record = record("quic 0.0.0.0:443", &meta, b"aabbc").expect("a record");
            let (key, read, bytes) = read(&record).expect("read");
            assert_eq!((key, bytes), ("quic 0.0.0.0:443", &b"aabbc"[..]));
            assert_eq!((read.addr, read.dst_ip), (meta.addr, meta.dst_ip));
            assert_eq!((read.len, read.stride), (meta.len, meta.stride));
            assert_eq!(read.ecn, meta.ecn);
        }
    }

    #[test]
    fn what_is_not_whole_is_passed_over() {
        let meta = meta("192.0.2.7:443", None, None);
        let whole = record("key", &meta, b"aabbc").expect("a record");
        for length in 0..=HEAD_BYTES + 3 {
            assert!(read(&whole[..length]).is_none(), "{length}");
        }
        let mut newer = whole.clone();
        newer[0] = 3;
        assert!(read(&newer).is_none());
        let mut no_v4 = whole;
        no_v4[18] = 1;
        assert!(read(&no_v4).is_none());
    }
}
