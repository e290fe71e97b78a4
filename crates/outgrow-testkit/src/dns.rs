//! A DNS server that says what a test wants, and lies how it wants: over UDP and
//! TCP on one port of loopback.
//!
//! Not here: zones, recursion, anything that a real server needs.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// How often the threads look whether they are to end.
const LOOK: Duration = Duration::from_millis(20);

/// One record's data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// A or AAAA.
    Address(IpAddr),
    /// Another name.
    Alias(String),
    /// Priority, weight, port and target.
    Srv(u16, u16, u16, String),
}

/// What is wrong with the answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// There are none.
    Silent,
    /// Over UDP they are cut off.
    Truncated,
    /// They have another id.
    WrongId,
    /// A lie with another id, and then the truth.
    ForgedId,
    /// A lie from another port, and then the truth.
    ForgedSource,
    /// A lie about another name, and then the truth.
    ForgedName,
    /// SERVFAIL.
    Failure,
    /// Bytes that are no message, behind the right id and question.
    Garbage,
}

#[derive(Debug, Default)]
struct Zone {
    names: BTreeMap<String, Vec<Data>>,
    ttl: u32,
    fault: Fault,
    questions: u64,
    over_tcp: u64,
}

/// The server; it ends when it is dropped.
#[derive(Debug)]
pub struct DnsServer {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    ended: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

/// The address in every lie.
pub const LIE: [u8; 4] = [203, 0, 113, 66];

impl DnsServer {
    /// Starts one that knows no name.
    ///
    /// # Errors
    /// When there is no port.
    pub fn start() -> io::Result<Self> {
        let (udp, tcp) = sockets()?;
        let address = udp.local_addr()?;
        udp.set_read_timeout(Some(LOOK))?;
        tcp.set_nonblocking(true)?;
        let zone = Arc::new(Mutex::new(Zone {
            ttl: 1,
            ..Zone::default()
        }));
        let ended = Arc::new(AtomicBool::new(false));
        let (for_udp, until) = (Arc::clone(&zone), Arc::clone(&ended));
        let (for_tcp, until_tcp) = (Arc::clone(&zone), Arc::clone(&ended));
        let threads = vec![
            thread::spawn(move || serve_udp(&udp, &for_udp, &until)),
            thread::spawn(move || serve_tcp(&tcp, &for_tcp, &until_tcp)),
        ];
        Ok(Self {
            address,
            zone,
            ended,
            threads,
        })
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on the name has these records; none: there is no such name.
    pub fn set(&self, name: &str, records: &[Data]) {
        let mut zone = self.zone();
        if records.is_empty() {
            zone.names.remove(name);
        } else {
            zone.names.insert(name.to_owned(), records.to_vec());
        }
    }

    /// From now on the name has these addresses.
    pub fn set_addresses(&self, name: &str, addresses: &[IpAddr]) {
        let records: Vec<Data> = addresses.iter().copied().map(Data::Address).collect();
        self.set(name, &records);
    }

    /// How long all is good, in seconds.
    pub fn set_ttl(&self, seconds: u32) {
        self.zone().ttl = seconds;
    }

    /// What is wrong from now on.
    pub fn set_fault(&self, fault: Fault) {
        self.zone().fault = fault;
    }

    /// Questions so far, over both.
    pub fn questions(&self) -> u64 {
        self.zone().questions
    }

    /// Questions over TCP so far.
    pub fn over_tcp(&self) -> u64 {
        self.zone().over_tcp
    }

    fn zone(&self) -> std::sync::MutexGuard<'_, Zone> {
        self.zone.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ended = thread.join();
        }
    }
}

/// Both of one port.
fn sockets() -> io::Result<(UdpSocket, TcpListener)> {
    let mut tries = 0;
    loop {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        match UdpSocket::bind(tcp.local_addr()?) {
            Ok(udp) => return Ok((udp, tcp)),
            Err(error) if tries == 20 => return Err(error),
            Err(_) => tries += 1,
        }
    }
}

fn serve_udp(socket: &UdpSocket, zone: &Mutex<Zone>, ended: &AtomicBool) {
    let mut question = [0; 1_500];
    while !ended.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut question) else {
            continue;
        };
        let mut zone = zone.lock().unwrap_or_else(PoisonError::into_inner);
        zone.questions += 1;
        let question = &question[..length];
        for (answer, from_elsewhere) in answers(&zone, question, true) {
            let _sent = if from_elsewhere {
                UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
                    .and_then(|other| other.send_to(&answer, from))
            } else {
                socket.send_to(&answer, from)
            };
        }
    }
}

fn serve_tcp(listener: &TcpListener, zone: &Mutex<Zone>, ended: &AtomicBool) {
    while !ended.load(Ordering::Relaxed) {
        let Ok((mut stream, _)) = listener.accept() else {
            thread::sleep(LOOK);
            continue;
        };
        let _done = (|| -> io::Result<()> {
            stream.set_nonblocking(false)?;
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            let mut length = [0; 2];
            stream.read_exact(&mut length)?;
            let mut question = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut question)?;
            let mut zone = zone.lock().unwrap_or_else(PoisonError::into_inner);
            zone.questions += 1;
            zone.over_tcp += 1;
            for (answer, _) in answers(&zone, &question, false) {
                let length = answer.len() as u16;
                stream.write_all(&[&length.to_be_bytes()[..], &answer].concat())?;
            }
            Ok(())
        })();
    }
}

/// What is sent, each with whether it comes from another port.
fn answers(zone: &Zone, question: &[u8], is_udp: bool) -> Vec<(Vec<u8>, bool)> {
    let Some((name, end)) = name_of(question) else {
        return Vec::new();
    };
    let truth = answer(zone, question, &name, end);
    let lie = || lie(question, end);
    match zone.fault {
        Fault::Silent => Vec::new(),
        Fault::Truncated if is_udp => {
            let mut cut = truth;
            cut[2] |= 0x02;
            cut.truncate(end + 4 + 3);
            vec![(cut, false)]
        }
        Fault::WrongId => {
            let mut wrong = truth;
            wrong[1] ^= 1;
            vec![(wrong, false)]
        }
        Fault::ForgedId if is_udp => {
            let mut wrong = lie();
            wrong[1] ^= 1;
            vec![(wrong, false), (truth, false)]
        }
        Fault::ForgedSource if is_udp => vec![(lie(), true), (truth, false)],
        Fault::ForgedName if is_udp => {
            let mut wrong = lie();
            wrong[13] = b'z';
            vec![(wrong, false), (truth, false)]
        }
        Fault::Failure => {
            let mut failure = truth[..end + 4].to_vec();
            failure[3] = 0x82;
            failure[6..8].fill(0);
            vec![(failure, false)]
        }
        Fault::Garbage => {
            let mut garbage = truth[..end + 4].to_vec();
            garbage.extend([0xff; 40]);
            vec![(garbage, false)]
        }
        _ => vec![(truth, false)],
    }
}

/// The name that is asked for and where it ends.
fn name_of(question: &[u8]) -> Option<(String, usize)> {
    let mut at = 12;
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*question.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(question.get(at..at + length)?).into_owned());
        at += length;
    }
    question.get(at..at + 4)?;
    Some((labels.join("."), at))
}

fn head(question: &[u8], end: usize, answers: u16, code: u8) -> Vec<u8> {
    let mut out = question[..2].to_vec();
    out.extend([0x81, 0x80 | code, 0, 1]);
    out.extend(answers.to_be_bytes());
    out.extend([0; 4]);
    out.extend(&question[12..end + 4]);
    out
}

fn lie(question: &[u8], end: usize) -> Vec<u8> {
    let mut out = head(question, end, 1, 0);
    put(&mut out, "", 1, 60, &LIE);
    out
}

fn answer(zone: &Zone, question: &[u8], name: &str, end: usize) -> Vec<u8> {
    let kind = u16::from_be_bytes([question[end], question[end + 1]]);
    let mut records = Vec::new();
    let mut owner = name.to_owned();
    let mut is_known = false;
    while let Some(data) = zone.names.get(&owner) {
        is_known = true;
        let mut next = None;
        for one in data {
            let (its_kind, bytes) = encode(one);
            if its_kind == kind || its_kind == 5 {
                records.push((owner.clone(), its_kind, bytes));
            }
            if let Data::Alias(alias) = one {
                next = Some(alias.clone());
            }
        }
        match next {
            Some(next) if records.len() < 20 => owner = next,
            _ => break,
        }
    }
    let code = if is_known { 0 } else { 3 };
    let mut out = head(question, end, records.len() as u16, code);
    for (owner, kind, bytes) in records {
        let owner = if owner == name { "" } else { owner.as_str() };
        put(&mut out, owner, kind, zone.ttl, &bytes);
    }
    out
}

/// A record of the name that is asked for when `owner` is empty.
fn put(out: &mut Vec<u8>, owner: &str, kind: u16, ttl: u32, data: &[u8]) {
    if owner.is_empty() {
        out.extend([0xc0, 12]);
    } else {
        put_name(out, owner);
    }
    out.extend(kind.to_be_bytes());
    out.extend([0, 1]);
    out.extend(ttl.to_be_bytes());
    out.extend((data.len() as u16).to_be_bytes());
    out.extend(data);
}

fn put_name(out: &mut Vec<u8>, name: &str) {
    for label in name.split('.').filter(|label| !label.is_empty()) {
        out.push(label.len() as u8);
        out.extend(label.as_bytes());
    }
    out.push(0);
}

fn encode(data: &Data) -> (u16, Vec<u8>) {
    match data {
        Data::Address(IpAddr::V4(ip)) => (1, ip.octets().to_vec()),
        Data::Address(IpAddr::V6(ip)) => (28, ip.octets().to_vec()),
        Data::Alias(name) => {
            let mut bytes = Vec::new();
            put_name(&mut bytes, name);
            (5, bytes)
        }
        Data::Srv(priority, weight, port, target) => {
            let mut bytes = Vec::new();
            for number in [priority, weight, port] {
                bytes.extend(number.to_be_bytes());
            }
            put_name(&mut bytes, target);
            (33, bytes)
        }
    }
}
