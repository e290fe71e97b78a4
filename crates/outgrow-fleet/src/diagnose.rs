//! Why an instance never becomes ready: where do its processes really listen?
//! Most often the command does not read `PORT`, or it listens on `localhost`,
//! which is `::1` alone for some.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Write;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::processes::Processes;

/// The state of a listening socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// Why an instance does not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// One sentence for people, with what to do.
    pub sentence: String,
    /// It listens, but not where it should: waiting will not help.
    pub elsewhere: bool,
}

/// Tells why the instance under this shim (`InstanceReport::shim`) may not
/// answer at `address` (`InstanceReport::address`); `None` if its processes do
/// listen there. Reads `/proc`, which may take a while on a busy machine.
pub fn explain(name: &str, address: &str, shim: u32) -> io::Result<Option<Diagnosis>> {
    let processes = Processes::scan()?;
    let pids: Vec<u32> = processes
        .descendants(shim)
        .iter()
        .map(|process| process.pid)
        .collect();
    let listening = listening(&pids)?;
    let sentence = if let Some(path) = address.strip_prefix("unix:") {
        let table = fs::read_to_string("/proc/net/unix")?;
        let listens = unix_inode(&table, path).is_some_and(|inode| owned(&pids).contains(&inode));
        (!listens).then(|| sentence_socket(name, path, pids.len(), &ports(&listening)))
    } else {
        let wanted: Option<SocketAddr> = address.parse().ok();
        wanted
            .filter(|wanted| !listening.iter().any(|one| reaches(*one, *wanted)))
            .map(|wanted| sentence_port(name, wanted, pids.len(), &listening))
    };
    Ok(sentence.map(|sentence| Diagnosis {
        sentence,
        elsewhere: !listening.is_empty(),
    }))
}

/// Whether who connects to `wanted` gets to a socket that listens at `listening`.
fn reaches(listening: SocketAddr, wanted: SocketAddr) -> bool {
    // A socket at `::` takes IPv4 as well, unless it says otherwise, which the
    // tables do not tell.
    let any = listening.ip().is_unspecified();
    listening.port() == wanted.port()
        && (any || listening.ip().to_canonical() == wanted.ip().to_canonical())
}

fn ports(listening: &BTreeSet<SocketAddr>) -> BTreeSet<u16> {
    listening.iter().map(SocketAddr::port).collect()
}

/// The TCP addresses at which these processes listen.
pub fn listening(pids: &[u32]) -> io::Result<BTreeSet<SocketAddr>> {
    let owned = owned(pids);
    let mut addresses = BTreeSet::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        match fs::read_to_string(table) {
            Ok(text) => addresses.extend(
                parse_listening(&text)
                    .filter(|(_, inode)| owned.contains(inode))
                    .map(|(address, _)| address),
            ),
            // A machine without IPv6 has no such table.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(addresses)
}

/// Addresses and inodes of listening sockets in a table like `/proc/net/tcp`.
fn parse_listening(table: &str) -> impl Iterator<Item = (SocketAddr, u64)> {
    table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let local = fields.nth(1)?;
        if fields.nth(1)? != LISTEN {
            return None;
        }
        let inode = fields.nth(5)?.parse().ok()?;
        let (ip, port) = local.rsplit_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        Some((SocketAddr::new(parse_ip(ip)?, port), inode))
    })
}

/// `0100007F` is 127.0.0.1: words of 32 bits in the byte order of the machine.
fn parse_ip(text: &str) -> Option<IpAddr> {
    let word = |place: usize| {
        let digits = text.get(place * 8..place * 8 + 8)?;
        let word = u32::from_str_radix(digits, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    match text.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let mut bytes = [0; 16];
            bytes.copy_from_slice(words.as_flattened());
            Some(Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}

/// The inode of the listening socket at `path` in a table like `/proc/net/unix`.
fn unix_inode(table: &str, path: &str) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let flags = u32::from_str_radix(fields.nth(3)?, 16).ok()?;
        let inode = fields.nth(2)?.parse().ok()?;
        // __SO_ACCEPTCON: it listens.
        (flags & 0x1_0000 != 0 && fields.next()? == path).then_some(inode)
    })
}

/// The inodes of the sockets that these processes have open.
fn owned(pids: &[u32]) -> HashSet<u64> {
    let mut inodes = HashSet::new();
    for pid in pids {
        // It may have ended meanwhile, or belong to somebody else.
        let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            continue;
        };
        for entry in entries.flatten() {
            let Ok(target) = fs::read_link(entry.path()) else {
                continue;
            };
            let target = target.to_string_lossy();
            let inode = target
                .strip_prefix("socket:[")
                .and_then(|rest| rest.strip_suffix(']'));
            inodes.extend(inode.and_then(|inode| inode.parse::<u64>().ok()));
        }
    }
    inodes
}

fn sentence_port(
    name: &str,
    wanted: SocketAddr,
    processes: usize,
    listening: &BTreeSet<SocketAddr>,
) -> String {
    if processes == 0 {
        return format!("{name} does not run");
    }
    let port = wanted.port();
    let other = listening.iter().find(|one| one.port() == port);
    if let Some(other) = other {
        return format!(
            "{name} listens on {other} only, not on {wanted}: it should bind HOST={}, not a name \
             such as localhost",
            wanted.ip()
        );
    }
    match list(&ports(listening)) {
        None => format!(
            "{name} runs but does not listen on any TCP port: it should on PORT={port}; is it \
             still starting, or waiting for something?"
        ),
        Some(ports) => format!(
            "{name} listens on {ports}, not on PORT={port}: does the command read PORT? Use \
             {{port}} in the command, or set port with instances = 1"
        ),
    }
}

fn sentence_socket(name: &str, path: &str, processes: usize, ports: &BTreeSet<u16>) -> String {
    if processes == 0 {
        return format!("{name} does not run");
    }
    match list(ports) {
        None => format!(
            "{name} runs but does not listen on SOCKET={path}: does the command read SOCKET? Use \
             {{socket}} in the command"
        ),
        Some(ports) => format!(
            "{name} listens on TCP port {ports}, not on SOCKET={path}: use {{socket}} in the \
             command, or listen = \"port\""
        ),
    }
}

fn list(ports: &BTreeSet<u16>) -> Option<String> {
    let mut text = String::new();
    for port in ports {
        let gap = if text.is_empty() { "" } else { ", " };
        // Writing to a String does not fail.
        let _ = write!(text, "{gap}{port}");
    }
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    use super::*;

    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:0BB8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0
   1: 0100007F:1F90 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0
   2: broken
   3: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4713 1 0
   4: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4714 1 0
";

    #[test]
    fn listening_sockets_are_read() {
        let found: Vec<_> = parse_listening(TABLE).collect();
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let expected = [
            (address("127.0.0.1:3000"), 4711),
            (address("[::]:80"), 4713),
            (address("[::1]:80"), 4714),
        ];
        assert_eq!(found, expected);
        assert_eq!(parse_listening("").count(), 0);
    }

    #[test]
    fn listening_unix_sockets_are_read() {
        let table = "\
Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 4714 /run/app.sock
0000000000000000: 00000003 00000000 00000000 0001 03 4715 /run/other.sock
0000000000000000: 00000003 00000000 00000000 0001 03 4716
";
        assert_eq!(unix_inode(table, "/run/app.sock"), Some(4714));
        assert_eq!(unix_inode(table, "/run/other.sock"), None);
        assert_eq!(unix_inode(table, "/run/none.sock"), None);
    }

    #[test]
    fn the_sentences_say_what_to_do() {
        let wanted: SocketAddr = "127.0.0.1:20001".parse().unwrap();
        let check = |listening: &[&str], expected: &str| {
            let listening = listening.iter().map(|one| one.parse().unwrap()).collect();
            let sentence = sentence_port("web.1", wanted, 1, &listening);
            assert!(sentence.contains(expected), "{sentence}");
        };
        check(
            &["127.0.0.1:3000", "[::]:3001"],
            "web.1 listens on 3000, 3001, not on PORT=20001",
        );
        check(&[], "does not listen on any");
        check(
            &["[::1]:20001"],
            "web.1 listens on [::1]:20001 only, not on 127.0.0.1:20001: it should bind \
             HOST=127.0.0.1",
        );
        let socket = sentence_socket("web.1", "/run/a", 1, &BTreeSet::from([80]));
        assert!(socket.contains("not on SOCKET=/run/a"), "{socket}");
    }

    #[test]
    fn who_listens_can_be_reached_or_not() {
        let check = |listening: &str, expected: bool| {
            let listening = listening.parse().unwrap();
            let wanted = "127.0.0.1:3000".parse().unwrap();
            assert_eq!(reaches(listening, wanted), expected, "{listening}");
        };
        check("127.0.0.1:3000", true);
        check("0.0.0.0:3000", true);
        check("[::]:3000", true);
        check("[::ffff:127.0.0.1]:3000", true);
        check("[::1]:3000", false);
        check("127.0.0.2:3000", false);
        check("127.0.0.1:3001", false);
    }

    #[test]
    fn real_listeners_of_this_process_are_found() {
        let listener = TcpListener::bind("[::1]:0").or_else(|_| TcpListener::bind("127.0.0.1:0"));
        let address = listener.as_ref().unwrap().local_addr().unwrap();
        assert!(listening(&[std::process::id()]).unwrap().contains(&address));
        let path = std::env::temp_dir().join(format!("outgrow-{}.sock", std::process::id()));
        let _listener = UnixListener::bind(&path).unwrap();
        let table = fs::read_to_string("/proc/net/unix").unwrap();
        let inode = unix_inode(&table, &path.to_string_lossy()).unwrap();
        assert!(owned(&[std::process::id()]).contains(&inode));
        fs::remove_file(&path).unwrap();
    }
}
