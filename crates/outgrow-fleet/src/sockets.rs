//! Whose sockets they are: which instance, or which process that serves a known port, has the other
//! end of a connection of this machine.
//!
//! The kernel says which socket (an inode) has which ends (`diag`; where it cannot be asked, its table
//! `/proc/net/tcp`), and in `/proc/PID/fd` who has which socket. Processes of other users cannot
//! be looked into: their sockets are nobody's. One look answers for all that is wanted, since each goes
//! through all processes.

mod diag;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use self::diag::Diag;
use crate::processes::{Process, Processes};

/// Most processes from one to an ancestor that is looked for.
const MOST_GENERATIONS: usize = 64;
/// Most descriptors that are looked at of one process.
const MOST_DESCRIPTORS: usize = 65_536;
/// The state of a socket that listens, in `/proc/net/tcp`.
const LISTENS: &str = "0A";

/// What is asked.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Instances: what they are called here, and the pid of the shim that all their processes
    /// descend from.
    pub instances: Vec<(u64, u32)>,
    /// Others that serve a port of this machine: what they are called here, and the port.
    pub ports: Vec<(u64, u16)>,
    /// Connections of which the owner of the first end is wanted.
    pub connections: Vec<(SocketAddr, SocketAddr)>,
    /// Processes whose instance is wanted.
    pub processes: Vec<u32>,
}

/// Who has something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// One of these, by what they are called; one alone, but where several cannot be told apart.
    Known(Vec<u64>),
    /// A process that is none of them.
    Another,
    /// Nobody who may be looked at: it is gone, or another user's.
    Unseen,
}

/// The answers, in the order of what was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owners {
    /// Of the connections.
    pub connections: Vec<Owner>,
    /// Of the processes.
    pub processes: Vec<Owner>,
}

/// A socket of the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Socket {
    local: SocketAddr,
    remote: SocketAddr,
    listens: bool,
    inode: u64,
}

/// Looks. Takes milliseconds where there are many processes: not for a thread that serves.
///
/// # Errors
/// `/proc` cannot be read.
pub fn owners(wanted: &Wanted) -> io::Result<Owners> {
    let sockets = match wanted.connections.is_empty() {
        true => Vec::new(),
        false => ask(wanted).unwrap_or_else(|_| table()),
    };
    let processes = Processes::scan()?;
    let look = Look::new(wanted, &sockets, &processes);
    let mut holders = Holders::new();
    // Those of instances first: most often nobody else has to be looked at.
    let (own, others): (Vec<&Process>, Vec<&Process>) = processes
        .all()
        .partition(|process| look.of_instance.contains_key(&process.pid));
    for process in own {
        note_descriptors(process.pid, &look.inodes, &mut holders);
    }
    if look.is_open(&holders) {
        for process in others {
            note_descriptors(process.pid, &look.inodes, &mut holders);
        }
    }
    Ok(look.judge(&holders))
}

/// The sockets of the connections that are wanted, and those that listen.
fn ask(wanted: &Wanted) -> io::Result<Vec<Socket>> {
    let mut diag = Diag::open()?;
    let mut sockets = diag.listening()?;
    for (peer, own) in &wanted.connections {
        let (local, remote) = (canonical(*peer), canonical(*own));
        sockets.extend(diag.find(local, remote)?.map(|inode| Socket {
            local,
            remote,
            listens: false,
            inode,
        }));
    }
    Ok(sockets)
}

/// All sockets.
fn table() -> Vec<Socket> {
    let mut sockets = Vec::new();
    for path in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        let text = fs::read_to_string(path).unwrap_or_default();
        sockets.extend(text.lines().filter_map(parse_socket));
    }
    sockets
}

/// Sockets by inode, with the processes that have them.
type Holders = HashMap<u64, Vec<u32>>;

fn note_descriptors(pid: u32, inodes: &HashSet<u64>, holders: &mut Holders) {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return;
    };
    for entry in entries.take(MOST_DESCRIPTORS).flatten() {
        let Ok(link) = fs::read_link(entry.path()) else {
            continue;
        };
        let inode = link.to_str().and_then(parse_link);
        if let Some(inode) = inode.filter(|inode| inodes.contains(inode)) {
            let pids = holders.entry(inode).or_default();
            if pids.last() != Some(&pid) {
                pids.push(pid);
            }
        }
    }
}

fn parse_link(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

fn parse_socket(line: &str) -> Option<Socket> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let local = parse_address(fields.next()?)?;
    let remote = parse_address(fields.next()?)?;
    let listens = fields.next()? == LISTENS;
    let inode: u64 = fields.nth(5)?.parse().ok()?;
    // Closed by its process already.
    (inode != 0).then_some(Socket {
        local,
        remote,
        listens,
        inode,
    })
}

/// An address as the kernel writes it: words of 32 bits in the machine's order.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut octets = Vec::with_capacity(16);
    for at in (0..address.len()).step_by(8) {
        let word = u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?;
        octets.extend_from_slice(&word.to_ne_bytes());
    }
    let ip: IpAddr = match octets.len() {
        4 => Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?).into(),
        16 => Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?).into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip.to_canonical(), port))
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// What is known before anybody's descriptors are looked at.
struct Look<'w> {
    wanted: &'w Wanted,
    processes: &'w Processes,
    /// The instance of each process that has one.
    of_instance: HashMap<u32, u64>,
    /// The socket of each connection.
    connections: Vec<Option<u64>>,
    /// The sockets that listen at the ports of the others.
    listening: Vec<(u64, u64)>,
    /// All of them.
    inodes: HashSet<u64>,
}

impl<'w> Look<'w> {
    fn new(wanted: &'w Wanted, sockets: &[Socket], processes: &'w Processes) -> Self {
        let mut of_instance = HashMap::new();
        for (name, shim) in &wanted.instances {
            let descendants = processes.descendants(*shim);
            of_instance.extend(descendants.iter().map(|process| (process.pid, *name)));
        }
        let by_ends: HashMap<_, _> = sockets
            .iter()
            .filter(|socket| !socket.listens)
            .map(|socket| ((socket.local, socket.remote), socket.inode))
            .collect();
        let find = |(peer, own): &(SocketAddr, SocketAddr)| {
            by_ends.get(&(canonical(*peer), canonical(*own))).copied()
        };
        let connections: Vec<_> = wanted.connections.iter().map(find).collect();
        let listening: Vec<(u64, u64)> = sockets
            .iter()
            .filter(|socket| socket.listens)
            .flat_map(|socket| {
                let is_it = move |(_, port): &&(u64, u16)| *port == socket.local.port();
                let named = wanted.ports.iter().filter(is_it);
                named.map(|(name, _)| (*name, socket.inode))
            })
            .collect();
        let inodes = connections.iter().flatten().copied();
        let inodes = inodes.chain(listening.iter().map(|(_, inode)| *inode));
        Self {
            inodes: inodes.collect(),
            wanted,
            processes,
            of_instance,
            connections,
            listening,
        }
    }

    /// Whether something is not answered by the processes of instances.
    fn is_open(&self, holders: &Holders) -> bool {
        let is_held = |inode: &u64| holders.contains_key(inode);
        let are_held = self.connections.iter().flatten().all(is_held);
        let are_known = |pid: &u32| {
            self.ancestors(*pid)
                .any(|one| self.of_instance.contains_key(&one))
        };
        !are_held || !self.wanted.processes.iter().all(are_known)
    }

    /// A process and those that it descends from.
    fn ancestors(&self, pid: u32) -> impl Iterator<Item = u32> {
        let parent = |pid: &u32| self.processes.get(*pid).map(|process| process.parent);
        let chain = std::iter::successors(Some(pid), parent);
        chain.take(MOST_GENERATIONS).take_while(|pid| *pid > 1)
    }

    fn judge(&self, holders: &Holders) -> Owners {
        // Who serves the ports of others.
        let mut servers: HashMap<u32, Vec<u64>> = HashMap::new();
        for (name, inode) in &self.listening {
            for pid in holders.get(inode).into_iter().flatten() {
                let names = servers.entry(*pid).or_default();
                if !names.contains(name) {
                    names.push(*name);
                }
            }
        }
        let owner = |pid: u32| {
            for one in self.ancestors(pid) {
                if let Some(name) = self.of_instance.get(&one) {
                    return Owner::Known(vec![*name]);
                }
                if let Some(names) = servers.get(&one) {
                    return Owner::Known(names.clone());
                }
            }
            Owner::Another
        };
        let of_socket = |inode: &Option<u64>| {
            let pids = inode.and_then(|inode| holders.get(&inode));
            let owners = pids.into_iter().flatten().map(|pid| owner(*pid));
            // Several processes have it after a fork: the one that is known counts.
            owners.reduce(join).unwrap_or(Owner::Unseen)
        };
        let of_process = |pid: &u32| match self.processes.get(*pid) {
            Some(_) => owner(*pid),
            None => Owner::Unseen,
        };
        Owners {
            connections: self.connections.iter().map(of_socket).collect(),
            processes: self.wanted.processes.iter().map(of_process).collect(),
        }
    }
}

fn join(one: Owner, other: Owner) -> Owner {
    match (one, other) {
        (Owner::Known(mut names), Owner::Known(others)) => {
            for name in others {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
            Owner::Known(names)
        }
        (known @ Owner::Known(_), _) | (_, known @ Owner::Known(_)) => known,
        (one, _) => one,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn lines_of_the_kernel_are_read() {
        let line = "   3: 0100007F:9C40 0100007F:26AC 01 00000000:00000000 00:00000000 00000000  \
                    1000        0 4711 1 0000000000000000 20 4 30 10 -1";
        let mapped = "   1: 0000000000000000FFFF00000100007F:0050 \
                      00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 \
                      00000000     0        0 12 1 0000000000000000 100 0 0 10 0";
        let closed = line.replace(" 4711 ", " 0 ");
        if cfg!(target_endian = "little") {
            let expected = Socket {
                local: address("127.0.0.1:40000"),
                remote: address("127.0.0.1:9900"),
                listens: false,
                inode: 4711,
            };
            assert_eq!(parse_socket(line), Some(expected));
            let socket = parse_socket(mapped).unwrap();
            assert_eq!(
                (socket.local, socket.listens),
                (address("127.0.0.1:80"), true)
            );
        }
        assert_eq!(parse_socket(&closed), None);
        for bad in [
            "",
            "  sl  local_address rem_address   st",
            "1: X:1 Y:2 01",
            "1: 01:1 02:2 01",
        ] {
            assert_eq!(parse_socket(bad), None, "{bad}");
        }
        assert_eq!(parse_link("socket:[99]"), Some(99));
        assert_eq!(parse_link("/dev/null"), None);
    }

    fn process(pid: u32, parent: u32, group: u32) -> Process {
        Process {
            pid,
            parent,
            group,
            state: 'S',
            own_ticks: 0,
            reaped_ticks: 0,
            threads: 1,
            start_ticks: 0,
            resident_pages: 0,
        }
    }

    #[test]
    fn connections_are_their_instances() {
        // Shims 10 and 20 with instances; a static server 30 with a worker 31; a shell 40.
        let processes = Processes::from_list(vec![
            process(10, 1, 10),
            process(11, 10, 11),
            process(12, 11, 11),
            process(20, 1, 20),
            process(21, 20, 21),
            process(30, 1, 30),
            process(31, 30, 30),
            process(40, 1, 40),
        ]);
        let own = address("127.0.0.1:6432");
        let peer = |port: u16| SocketAddr::new(own.ip(), port);
        let socket = |local, remote, listens, inode| Socket {
            local,
            remote,
            listens,
            inode,
        };
        let any = address("0.0.0.0:0");
        let sockets = [
            socket(peer(1001), own, false, 1),
            socket(peer(1002), own, false, 2),
            socket(peer(1003), own, false, 3),
            socket(peer(1004), own, false, 4),
            socket(peer(1005), own, false, 5),
            socket(address("0.0.0.0:3000"), any, true, 30),
        ];
        let wanted = Wanted {
            instances: vec![(100, 10), (200, 20)],
            ports: vec![(300, 3000)],
            connections: (1001..=1006).map(|port| (peer(port), own)).collect(),
            processes: vec![12, 40, 77],
        };
        let look = Look::new(&wanted, &sockets, &processes);
        let holders = Holders::from([
            (1, vec![12]),
            (2, vec![21]),
            (3, vec![31]),
            (4, vec![40]),
            (30, vec![30]),
        ]);
        assert!(look.is_open(&holders), "somebody's socket is not found");
        let known = |name| Owner::Known(vec![name]);
        let expected = Owners {
            connections: vec![
                known(100),
                known(200),
                known(300),
                Owner::Another,
                Owner::Unseen,
                Owner::Unseen,
            ],
            processes: vec![known(100), Owner::Another, Owner::Unseen],
        };
        assert_eq!(look.judge(&holders), expected);
    }

    #[test]
    fn a_connection_of_this_process_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap();
        let client = TcpStream::connect(own).unwrap();
        let peer = client.local_addr().unwrap();
        let pid = std::process::id();
        let parent = Processes::scan().unwrap().get(pid).unwrap().parent;
        let wanted = Wanted {
            connections: vec![(peer, own), (own, own)],
            ..Wanted::default()
        };
        let (asked, table) = (ask(&wanted).unwrap(), table());
        for sockets in [&asked, &table] {
            let is_it = |one: &&Socket| one.local == peer && one.remote == own;
            assert_eq!(sockets.iter().filter(is_it).count(), 1);
            let is_it = |one: &&Socket| one.listens && one.local == own;
            assert_eq!(sockets.iter().filter(is_it).count(), 1);
        }
        let ask = |instances, ports| {
            let wanted = Wanted {
                instances,
                ports,
                connections: vec![(peer, own), (own, own)],
                processes: vec![pid],
            };
            owners(&wanted).unwrap()
        };
        let by_shim = ask(vec![(7, parent)], Vec::new());
        let known = |name| Owner::Known(vec![name]);
        assert_eq!(by_shim.connections, [known(7), Owner::Unseen]);
        assert_eq!(by_shim.processes, [known(7)]);
        let by_port = ask(Vec::new(), vec![(8, own.port())]);
        assert_eq!(by_port.connections[0], known(8));
        assert_eq!(ask(Vec::new(), Vec::new()).connections[0], Owner::Another);
    }
}
