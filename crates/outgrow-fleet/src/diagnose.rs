//! Why an instance never becomes ready: on which ports do its processes really
//! listen? Most often the command does not read `PORT`.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Write;
use std::fs;
use std::io;

use crate::processes::Processes;

/// The state of a listening socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// Tells why the instance under this shim (`InstanceReport::shim`) may not
/// answer at `address` (`InstanceReport::address`), in one sentence for
/// people; `None` if its processes do listen there.
pub fn explain(name: &str, address: &str, shim: u32) -> io::Result<Option<String>> {
    let processes = Processes::scan()?;
    let pids: Vec<u32> = processes
        .descendants(shim)
        .iter()
        .map(|process| process.pid)
        .collect();
    if let Some(path) = address.strip_prefix("unix:") {
        let table = fs::read_to_string("/proc/net/unix")?;
        let listens = unix_inode(&table, path).is_some_and(|inode| owned(&pids).contains(&inode));
        let ports = listening_ports(&pids)?;
        return Ok((!listens).then(|| sentence_socket(name, path, pids.len(), &ports)));
    }
    let wanted = address
        .rsplit_once(':')
        .and_then(|(_, port)| port.parse().ok());
    let ports = listening_ports(&pids)?;
    Ok(match wanted {
        Some(port) if ports.contains(&port) => None,
        Some(port) => Some(sentence_port(name, port, pids.len(), &ports)),
        None => None,
    })
}

/// The TCP ports on which these processes listen.
pub fn listening_ports(pids: &[u32]) -> io::Result<BTreeSet<u16>> {
    let owned = owned(pids);
    let mut ports = BTreeSet::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        match fs::read_to_string(table) {
            Ok(text) => ports.extend(
                parse_listening(&text)
                    .filter(|(_, inode)| owned.contains(inode))
                    .map(|(port, _)| port),
            ),
            // A machine without IPv6 has no such table.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(ports)
}

/// Ports and inodes of listening sockets in a table like `/proc/net/tcp`.
fn parse_listening(table: &str) -> impl Iterator<Item = (u16, u64)> {
    table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let local = fields.nth(1)?;
        if fields.nth(1)? != LISTEN {
            return None;
        }
        let inode = fields.nth(5)?.parse().ok()?;
        let port = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
        Some((port, inode))
    })
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

fn sentence_port(name: &str, wanted: u16, processes: usize, ports: &BTreeSet<u16>) -> String {
    if processes == 0 {
        return format!("{name} does not run");
    }
    match list(ports) {
        None => format!(
            "{name} runs but does not listen on any TCP port: it should on PORT={wanted}; is it \
             still starting, or waiting for something?"
        ),
        Some(ports) => format!(
            "{name} listens on {ports}, not on PORT={wanted}: does the command read PORT? Use \
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
";

    #[test]
    fn listening_sockets_are_read() {
        let found: Vec<_> = parse_listening(TABLE).collect();
        assert_eq!(found, [(3000, 4711), (80, 4713)]);
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
        let port = sentence_port("web.1", 20_001, 1, &BTreeSet::from([3000, 3001]));
        assert!(
            port.starts_with("web.1 listens on 3000, 3001, not on PORT=20001"),
            "{port}"
        );
        let none = sentence_port("web.1", 20_001, 1, &BTreeSet::new());
        assert!(none.contains("does not listen on any"), "{none}");
        let socket = sentence_socket("web.1", "/run/a", 1, &BTreeSet::from([80]));
        assert!(socket.contains("not on SOCKET=/run/a"), "{socket}");
    }

    #[test]
    fn real_listeners_of_this_process_are_found() {
        let listener = TcpListener::bind("[::1]:0").or_else(|_| TcpListener::bind("127.0.0.1:0"));
        let port = listener.as_ref().unwrap().local_addr().unwrap().port();
        assert!(
            listening_ports(&[std::process::id()])
                .unwrap()
                .contains(&port)
        );
        let path = std::env::temp_dir().join(format!("outgrow-{}.sock", std::process::id()));
        let _listener = UnixListener::bind(&path).unwrap();
        let table = fs::read_to_string("/proc/net/unix").unwrap();
        let inode = unix_inode(&table, &path.to_string_lossy()).unwrap();
        assert!(owned(&[std::process::id()]).contains(&inode));
        fs::remove_file(&path).unwrap();
    }
}
