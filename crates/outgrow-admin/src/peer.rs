//! Which user asks. A token is one way to tell that somebody may act; where none is set, actions
//! are for the user that runs outgrow and for root, as signals are.
//!
//! A Unix socket knows its peer. Of a TCP connection of this machine the kernel tells whose socket
//! the other end is, in `/proc/net/tcp`.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;

use outgrow_net::Stream;

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Peer {
    /// Over TCP.
    Tcp {
        /// The other end, and ours; none when the connection has ended already.
        ends: Option<(SocketAddr, SocketAddr)>,
    },
    /// Over a Unix socket.
    Unix {
        /// Its user.
        user: Option<u32>,
    },
    /// Over TCP, of a test.
    #[cfg(test)]
    Fake {
        /// Its user.
        user: Option<u32>,
    },
}

impl Peer {
    pub(crate) fn of(stream: &Stream) -> Self {
        match stream {
            Stream::Tcp(stream) => Self::Tcp {
                ends: stream.peer_addr().ok().zip(stream.local_addr().ok()),
            },
            Stream::Unix(stream) => Self::Unix {
                user: stream.peer_cred().ok().map(|peer| peer.uid()),
            },
        }
    }

    pub(crate) fn is_tcp(&self) -> bool {
        !matches!(self, Self::Unix { .. })
    }

    /// Its user; none when that cannot be told, as of another machine.
    pub(crate) async fn user(self) -> Option<u32> {
        match self {
            Self::Unix { user } => user,
            #[cfg(test)]
            Self::Fake { user } => user,
            // The file is long where there are many connections.
            Self::Tcp { ends } => {
                let (peer, own) = ends?;
                let found = tokio::task::spawn_blocking(move || find_user(peer, own));
                found.await.ok().flatten()
            }
        }
    }
}

/// The user of this process.
pub(crate) fn own_user() -> Option<u32> {
    let metadata = std::fs::metadata("/proc/self").ok()?;
    Some(metadata.uid())
}

fn find_user(peer: SocketAddr, own: SocketAddr) -> Option<u32> {
    ["/proc/self/net/tcp", "/proc/self/net/tcp6"]
        .iter()
        .find_map(|path| user_in(&std::fs::read_to_string(path).ok()?, peer, own))
}

/// The user of the socket from `peer` to `own` in the text of `/proc/net/tcp` or `tcp6`.
fn user_in(text: &str, peer: SocketAddr, own: SocketAddr) -> Option<u32> {
    let wanted = [(words(peer), words(own)), (mapped(peer), mapped(own))];
    text.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (local, remote) = (fields.next()?, fields.next()?);
        if !wanted
            .iter()
            .any(|(peer, own)| local == peer && remote == own)
        {
            return None;
        }
        let (user, inode) = (fields.nth(4)?, fields.nth(1)?);
        // Closed by its process already: the kernel may show root as the user of such a one.
        (inode != "0").then(|| user.parse().ok())?
    })
}

/// An address as the kernel writes it: words of 32 bits in the machine's order.
fn words(address: SocketAddr) -> String {
    let octets = match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let mut text = String::with_capacity(40);
    for word in octets.chunks_exact(4) {
        let word = u32::from_ne_bytes([word[0], word[1], word[2], word[3]]);
        text.push_str(&format!("{word:08X}"));
    }
    text.push_str(&format!(":{:04X}", address.port()));
    text
}

/// The same, for an IPv4 address that a socket of IPv6 uses.
fn mapped(address: SocketAddr) -> String {
    match address.ip() {
        IpAddr::V4(ip) => words(SocketAddr::new(ip.to_ipv6_mapped().into(), address.port())),
        IpAddr::V6(_) => words(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_is_that_of_the_other_end() {
        let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   \
                    uid  timeout inode\n";
        let line = |local: &str, remote: &str, user: &str, inode: &str| {
            format!(
                "   0: {local} {remote} 01 00000000:00000000 00:00000000 00000000 {user:>5}        \
                 0 {inode} 1 0000000000000000 20 4 30 10 -1\n"
            )
        };
        let peer: SocketAddr = "127.0.0.1:40000".parse().unwrap();
        let own: SocketAddr = "127.0.0.1:9900".parse().unwrap();
        let (theirs, ours) = (words(peer), words(own));
        if cfg!(target_endian = "little") {
            assert_eq!((&*theirs, &*ours), ("0100007F:9C40", "0100007F:26AC"));
        }
        let check = |text: String, expected| {
            assert_eq!(
                user_in(&format!("{head}{text}"), peer, own),
                expected,
                "{text}"
            );
        };
        let ours_first = line(&ours, &theirs, "0", "7");
        check(
            ours_first.clone() + &line(&theirs, &ours, "1000", "8"),
            Some(1000),
        );
        check(ours_first.clone(), None);
        check(line(&theirs, &ours, "0", "0"), None);
        check(line(&theirs, "0100007F:26AD", "1000", "8"), None);
        check(line(&mapped(peer), &mapped(own), "1000", "8"), Some(1000));
        check("nonsense\n".to_owned(), None);
    }

    #[tokio::test]
    async fn a_connection_of_this_process_is_of_its_user() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = tokio::net::TcpListener::bind(address).await else {
                continue;
            };
            let client = tokio::net::TcpStream::connect(listener.local_addr().unwrap());
            let (client, accepted) = tokio::join!(client, listener.accept());
            let peer = Peer::of(&Stream::Tcp(accepted.unwrap().0));
            assert_eq!(peer.user().await, own_user());
            assert!(own_user().is_some());
            drop(client);
            assert_eq!(peer.user().await, None, "it is closed");
        }
    }
}
