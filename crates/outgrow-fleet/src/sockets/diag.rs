//! The kernel's sockets, one by one (`sock_diag(7)`): which socket has these two ends.
//!
//! The table of all (`/proc/net/tcp`) takes as long as there are sockets on the machine, and much longer
//! while its network is busy: seconds, with thousands of connections. Deliberately not here: who has a
//! socket.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
};

use super::Socket;

/// How long the kernel may take for an answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Larger than what the kernel says at a time.
const LARGEST: usize = 64 * 1024;
/// Most listening sockets that are looked at.
const MOST_LISTENING: usize = 16 * 1024;

// `linux/netlink.h`, `linux/sock_diag.h`, `linux/inet_diag.h`.
const HEADER_BYTES: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const REQUEST: u16 = 1;
const DUMP: u16 = 0x300;
const TCP: u8 = 6;
const INET: u8 = 2;
const INET6: u8 = 10;
const LISTEN: u8 = 10;
const ID_BYTES: usize = 48;
/// In a socket's description: before its ends, and up to the inode.
const BEFORE_ID: usize = 4;
const BEFORE_INODE: usize = BEFORE_ID + ID_BYTES + 16;
const DESCRIPTION_BYTES: usize = BEFORE_INODE + 4;
const ENOENT: i32 = -2;

/// A way to ask.
#[derive(Debug)]
pub(super) struct Diag {
    socket: OwnedFd,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Diag {
    /// # Errors
    /// The kernel cannot be asked.
    pub(super) fn open() -> io::Result<Self> {
        let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
        let socket = socket_with(family, kind, SocketFlags::CLOEXEC, Some(SOCK_DIAG))?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        Ok(Self {
            socket,
            buffer: vec![0; LARGEST],
            sequence: 0,
        })
    }

    /// All sockets that listen.
    ///
    /// # Errors
    /// The kernel does not say.
    pub(super) fn listening(&mut self) -> io::Result<Vec<Socket>> {
        let mut found = Vec::new();
        for family in [INET, INET6] {
            let request = request(family, 1 << LISTEN, [0; ID_BYTES]);
            self.ask(&request, DUMP, |socket| {
                if found.len() < MOST_LISTENING {
                    found.push(socket);
                }
            })?;
        }
        Ok(found)
    }

    /// The inode of the socket with these ends, if there is one.
    ///
    /// # Errors
    /// The kernel does not say.
    pub(super) fn find(&mut self, own: SocketAddr, peer: SocketAddr) -> io::Result<Option<u64>> {
        let Some((family, id)) = id_of(own, peer) else {
            return Ok(None);
        };
        let mut found = None;
        // Where nobody has these ends it says who listens there.
        self.ask(&request(family, u32::MAX, id), 0, |socket| {
            let is_it = !socket.listens && (socket.local, socket.remote) == (own, peer);
            found = found.or(Some(socket.inode).filter(|inode| is_it && *inode != 0));
        })?;
        Ok(found)
    }

    fn ask(&mut self, body: &[u8], flags: u16, mut each: impl FnMut(Socket)) -> io::Result<()> {
        self.sequence += 1;
        let mut message = Vec::with_capacity(HEADER_BYTES + body.len());
        message.extend_from_slice(&((HEADER_BYTES + body.len()) as u32).to_ne_bytes());
        message.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        message.extend_from_slice(&(REQUEST | flags).to_ne_bytes());
        message.extend_from_slice(&self.sequence.to_ne_bytes());
        message.extend_from_slice(&[0; 4]);
        message.extend_from_slice(body);
        let kernel = SocketAddrNetlink::new(0, 0);
        sendto(&self.socket, &message, SendFlags::empty(), &kernel)?;
        loop {
            let (_, length) = recv(&self.socket, &mut self.buffer[..], RecvFlags::empty())?;
            let answer = self
                .buffer
                .get(..length)
                .ok_or(io::ErrorKind::InvalidData)?;
            if read(answer, self.sequence, flags == DUMP, &mut each)? {
                return Ok(());
            }
        }
    }
}

/// Reads what the kernel says at a time; whether that is all.
fn read(
    mut answer: &[u8],
    sequence: u32,
    is_dump: bool,
    each: &mut impl FnMut(Socket),
) -> io::Result<bool> {
    while let Some((header, rest)) = answer.split_at_checked(HEADER_BYTES) {
        let length = number(header, 0).unwrap_or(0) as usize;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let body = length.checked_sub(HEADER_BYTES);
        let body = body.and_then(|length| rest.get(..length));
        let body = body.ok_or(io::ErrorKind::InvalidData)?;
        answer = rest.get(body.len().next_multiple_of(4)..).unwrap_or(&[]);
        // Of a question that was given up.
        if number(header, 8) != Some(sequence) {
            continue;
        }
        match kind {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {
                let error = number(body, 0).map_or(0, u32::cast_signed);
                // Nobody has these ends. A dump says so only where it cannot be asked for at all.
                return match error == ENOENT && !is_dump {
                    true => Ok(true),
                    false => Err(io::Error::from_raw_os_error(-error)),
                };
            }
            SOCK_DIAG_BY_FAMILY => {
                if let Some(socket) = described(body) {
                    each(socket);
                }
                if !is_dump {
                    return Ok(true);
                }
            }
            _ => {}
        }
    }
    Ok(false)
}

/// `struct inet_diag_req_v2`.
fn request(family: u8, states: u32, id: [u8; ID_BYTES]) -> Vec<u8> {
    let mut request = vec![family, TCP, 0, 0];
    request.extend_from_slice(&states.to_ne_bytes());
    request.extend_from_slice(&id);
    request
}

/// `struct inet_diag_sockid`, for any cookie.
fn id_of(own: SocketAddr, peer: SocketAddr) -> Option<(u8, [u8; ID_BYTES])> {
    let mut id = [0; ID_BYTES];
    id[..2].copy_from_slice(&own.port().to_be_bytes());
    id[2..4].copy_from_slice(&peer.port().to_be_bytes());
    id[ID_BYTES - 8..].fill(0xff);
    let family = match (own.ip(), peer.ip()) {
        (IpAddr::V4(own), IpAddr::V4(peer)) => {
            id[4..8].copy_from_slice(&own.octets());
            id[20..24].copy_from_slice(&peer.octets());
            INET
        }
        (IpAddr::V6(own), IpAddr::V6(peer)) => {
            id[4..20].copy_from_slice(&own.octets());
            id[20..36].copy_from_slice(&peer.octets());
            INET6
        }
        _ => return None,
    };
    Some((family, id))
}

/// `struct inet_diag_msg`.
fn described(body: &[u8]) -> Option<Socket> {
    let body = body.get(..DESCRIPTION_BYTES)?;
    let (family, state, id) = (body[0], body[1], &body[BEFORE_ID..BEFORE_ID + ID_BYTES]);
    let port = |at: usize| u16::from_be_bytes([id[at], id[at + 1]]);
    let address = |at: usize| -> Option<IpAddr> {
        match family {
            INET => Some(Ipv4Addr::from(<[u8; 4]>::try_from(&id[at..at + 4]).ok()?).into()),
            INET6 => {
                let address = Ipv6Addr::from(<[u8; 16]>::try_from(&id[at..at + 16]).ok()?);
                Some(IpAddr::V6(address).to_canonical())
            }
            _ => None,
        }
    };
    Some(Socket {
        local: SocketAddr::new(address(4)?, port(0)),
        remote: SocketAddr::new(address(20)?, port(2)),
        listens: state == LISTEN,
        inode: number(body, BEFORE_INODE)?.into(),
    })
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    use super::super::parse_link;
    use super::*;

    fn inode(socket: &impl AsRawFd) -> u64 {
        let link = std::fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd()));
        let link = link.expect("it is open");
        parse_link(link.to_str().expect("a name")).expect("a socket")
    }

    fn check(bind: &str, connect: impl Fn(SocketAddr) -> SocketAddr) {
        let listener = TcpListener::bind(bind).expect("it listens");
        let there = listener.local_addr().expect("an address");
        let client = TcpStream::connect(connect(there)).expect("connected");
        let (server, _) = listener.accept().expect("accepted");
        let canonical = |address: io::Result<SocketAddr>| {
            let address = address.expect("an address");
            SocketAddr::new(address.ip().to_canonical(), address.port())
        };
        let own = canonical(client.local_addr());
        let peer = canonical(client.peer_addr());
        let mut diag = Diag::open().expect("the kernel can be asked");
        let mut find = |own, peer| diag.find(own, peer).expect("an answer");
        assert_eq!(find(own, peer), Some(inode(&client)));
        assert_eq!(find(peer, own), Some(inode(&server)));
        // Nobody has these ends, although somebody listens at one of them.
        let nobody = SocketAddr::new(own.ip(), 1);
        assert_eq!(find(peer, nobody), None);
        assert_eq!(find(nobody, nobody), None);
        let listening = diag.listening().expect("a list");
        let mut ours = listening.iter().filter(|one| one.inode == inode(&listener));
        let it = ours.next().expect("it is among them");
        assert_eq!((it.local.port(), it.listens), (there.port(), true));
        assert!(listening.iter().all(|one| one.listens));
    }

    #[test]
    fn sockets_are_found_by_their_ends() {
        check("127.0.0.1:0", |there| there);
        let local = |there: SocketAddr| SocketAddr::from(([127, 0, 0, 1], there.port()));
        if TcpListener::bind("[::1]:0").is_ok() {
            check("[::1]:0", |there| there);
            // Over the old protocol to a socket of the new one.
            check("[::]:0", local);
        }
    }

    #[test]
    fn what_the_kernel_never_says_is_an_error() {
        let mut each = |_: Socket| {};
        let mut message = 20_u32.to_ne_bytes().to_vec();
        message.extend_from_slice(&NLMSG_ERROR.to_ne_bytes());
        message.extend_from_slice(&[0; 2]);
        message.extend_from_slice(&7_u32.to_ne_bytes());
        message.extend_from_slice(&[0; 4]);
        message.extend_from_slice(&ENOENT.to_ne_bytes());
        let mut read = |message: &[u8], sequence, is_dump| {
            read(message, sequence, is_dump, &mut each).map_err(|error| error.kind())
        };
        assert_eq!(read(&message, 7, false), Ok(true));
        assert_eq!(read(&message, 7, true), Err(io::ErrorKind::NotFound));
        assert_eq!(read(&message, 8, false), Ok(false), "of another question");
        message[0] = 200;
        assert_eq!(read(&message, 7, false), Err(io::ErrorKind::InvalidData));
        message[0] = 3;
        assert_eq!(read(&message, 7, false), Err(io::ErrorKind::InvalidData));
        assert_eq!(described(&[0; DESCRIPTION_BYTES]), None);
        assert_eq!(described(&[INET; DESCRIPTION_BYTES - 1]), None);
    }
}
