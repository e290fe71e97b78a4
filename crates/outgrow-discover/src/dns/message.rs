//! DNS messages (RFC 1035, 2782, 6891): a question out, an answer in. Pure and strict: whatever is
//! not to the letter is refused whole, since what a liar sends must not be half believed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The largest answer over UDP that is asked for: fits into every path without fragments.
pub(super) const UDP_BYTES: usize = 1_232;
/// Most records of one answer.
const RECORDS: usize = 4_096;
/// Longest name, in bytes of its wire form.
const NAME_BYTES: usize = 255;
/// The number of the internet's class.
const INTERNET: u16 = 1;
/// The number of the options' pseudo-record.
const OPTIONS: u16 = 41;
/// The number of a zone's start of authority.
const AUTHORITY: u16 = 6;
/// The number of an alias.
const ALIAS: u16 = 5;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Hosts and ports of a service.
    Srv,
}

impl Kind {
    fn number(self) -> u16 {
        match self {
            Self::A => 1,
            Self::Aaaa => 28,
            Self::Srv => 33,
        }
    }
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Data {
    /// An address.
    Address(IpAddr),
    /// The name has another name.
    Alias(String),
    /// A host and a port of a service.
    Srv(Srv),
}

/// A host and a port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Srv {
    /// Lower is used first.
    pub priority: u16,
    /// The share within the priority.
    pub weight: u16,
    /// The port.
    pub port: u16,
    /// The host in lower case without a dot at the end; empty: there is no such service.
    pub target: String,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Whose it is, in lower case without a dot at the end.
    pub name: String,
    /// For how many seconds it is good.
    pub ttl: u32,
    /// What it says.
    pub data: Data,
}

/// How the server answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    /// It answered, maybe with nothing.
    Success,
    /// There is no such name.
    NoName,
    /// It did not understand the question; some do not know its options.
    Format,
    /// It cannot or will not.
    Failure(u8),
}

/// An answer to our question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    /// How the server answered.
    pub code: Code,
    /// Whether something was left out for want of room.
    pub is_truncated: bool,
    /// The answer.
    pub answers: Vec<Record>,
    /// What the server added, to save a question.
    pub additions: Vec<Record>,
    /// For how many seconds it is good that there is nothing.
    pub negative_ttl: Option<u32>,
}

/// Why bytes are no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// It is not for our question: somebody else's, or a forgery. To be passed over.
    #[error("an answer to another question")]
    NotOurs,
    /// It is not a message to the letter.
    #[error("the answer is malformed: {0}")]
    Malformed(&'static str),
}

use Refusal::{Malformed, NotOurs};

/// A question for `name`, with the options of RFC 6891 or without. `None` when it is no name.
pub(super) fn question(id: u16, name: &str, kind: Kind, with_options: bool) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(64);
    out.extend(id.to_be_bytes());
    // A plain question; the server is to find the answer itself.
    out.extend([0x01, 0x00]);
    for count in [1, 0, 0, u16::from(with_options)] {
        out.extend(count.to_be_bytes());
    }
    for label in name.split('.') {
        if label.is_empty() || label.len() > 63 {
            return None;
        }
        out.push(label.len() as u8);
        out.extend(label.as_bytes());
    }
    out.push(0);
    if out.len() - 12 > NAME_BYTES {
        return None;
    }
    out.extend(kind.number().to_be_bytes());
    out.extend(INTERNET.to_be_bytes());
    if with_options {
        out.push(0);
        out.extend(OPTIONS.to_be_bytes());
        out.extend((UDP_BYTES as u16).to_be_bytes());
        out.extend([0; 6]);
    }
    Some(out)
}

/// Reads an answer to the question with this id, name (in lower case) and kind.
pub(super) fn reply(bytes: &[u8], id: u16, name: &str, kind: Kind) -> Result<Reply, Refusal> {
    let mut reader = Reader { bytes, at: 0 };
    let (their_id, flags) = (reader.u16()?, reader.u16()?);
    let is_answer = flags & 0x8000 != 0 && flags & 0x7800 == 0;
    if their_id != id || !is_answer {
        return Err(NotOurs);
    }
    let counts = [reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?];
    let [questions, answers, authorities, additions] = counts.map(usize::from);
    let code = match flags & 0x000f {
        0 => Code::Success,
        1 => Code::Format,
        3 => Code::NoName,
        code => Code::Failure(code as u8),
    };
    match questions {
        1 => {
            let is_ours = reader.name()? == name
                && reader.u16()? == kind.number()
                && reader.u16()? == INTERNET;
            if !is_ours {
                return Err(NotOurs);
            }
        }
        // Some leave it out when they could not read it.
        0 if code != Code::Success && code != Code::NoName => {}
        _ => return Err(NotOurs),
    }
    if answers + authorities + additions > RECORDS {
        return Err(Malformed("too many records"));
    }
    let mut reply = Reply {
        code,
        is_truncated: flags & 0x0200 != 0,
        answers: Vec::new(),
        additions: Vec::new(),
        negative_ttl: None,
    };
    if reply.is_truncated {
        // The rest may end anywhere; it is asked for again over TCP.
        return Ok(reply);
    }
    for _ in 0..answers {
        reply.answers.extend(reader.record()?.known);
    }
    for _ in 0..authorities {
        let record = reader.record()?;
        reply.negative_ttl = reply.negative_ttl.or(record.negative_ttl);
    }
    for _ in 0..additions {
        reply.additions.extend(reader.record()?.known);
    }
    if reader.at != bytes.len() {
        return Err(Malformed("bytes behind the end"));
    }
    Ok(reply)
}

struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
}

/// What a record of any kind gives.
#[derive(Default)]
struct Read {
    known: Option<Record>,
    negative_ttl: Option<u32>,
}

impl Reader<'_> {
    fn take(&mut self, count: usize) -> Result<&[u8], Refusal> {
        let end = self.at.checked_add(count).ok_or(Malformed("too long"))?;
        let taken = self.bytes.get(self.at..end).ok_or(Malformed("too short"))?;
        self.at = end;
        Ok(taken)
    }

    fn u16(&mut self) -> Result<u16, Refusal> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn u32(&mut self) -> Result<u32, Refusal> {
        Ok(u32::from(self.u16()?) << 16 | u32::from(self.u16()?))
    }

    /// A name in lower case without a dot at the end. What no host's name has in it is written so
    /// that it equals none.
    fn name(&mut self) -> Result<String, Refusal> {
        let mut name = String::new();
        let mut length = 1;
        let mut at = self.at;
        // A pointer leads to before everything that was read of the name: so it ends.
        let mut lowest = self.at;
        let mut after = None;
        loop {
            let byte = *self.bytes.get(at).ok_or(Malformed("a name is cut off"))?;
            match byte >> 6 {
                0 if byte == 0 => break,
                0 => {
                    let end = at + 1 + usize::from(byte);
                    let label = self.bytes.get(at + 1..end);
                    let label = label.ok_or(Malformed("a name is cut off"))?;
                    length += label.len() + 1;
                    if length > NAME_BYTES {
                        return Err(Malformed("a name is too long"));
                    }
                    if !name.is_empty() {
                        name.push('.');
                    }
                    push_label(&mut name, label);
                    at = end;
                }
                3 => {
                    let low = self
                        .bytes
                        .get(at + 1)
                        .ok_or(Malformed("a name is cut off"))?;
                    let target = usize::from(byte & 0x3f) << 8 | usize::from(*low);
                    if target >= lowest {
                        return Err(Malformed("a name points forward"));
                    }
                    after.get_or_insert(at + 2);
                    (at, lowest) = (target, target);
                }
                _ => return Err(Malformed("a label of an unknown kind")),
            }
        }
        self.at = after.unwrap_or(at + 1);
        Ok(name)
    }

    fn record(&mut self) -> Result<Read, Refusal> {
        let name = self.name()?;
        let (kind, class) = (self.u16()?, self.u16()?);
        let ttl = self.u32()?;
        // RFC 2181 section 8: a number with the highest bit set means 0.
        let ttl = if ttl > i32::MAX as u32 { 0 } else { ttl };
        let length = usize::from(self.u16()?);
        let end = self.at + length;
        if end > self.bytes.len() {
            return Err(Malformed("a record is cut off"));
        }
        let mut read = Read::default();
        if class == INTERNET {
            let data = self.data(kind, end, ttl, &mut read)?;
            read.known = data.map(|data| Record { name, ttl, data });
        } else {
            self.at = end;
        }
        if self.at != end {
            return Err(Malformed("a record has another length than it says"));
        }
        Ok(read)
    }

    fn data(
        &mut self,
        kind: u16,
        end: usize,
        ttl: u32,
        read: &mut Read,
    ) -> Result<Option<Data>, Refusal> {
        let length = end - self.at;
        let data = match (kind, length) {
            (1, 4) => {
                let bytes: [u8; 4] = self.take(4)?.try_into().map_err(|_| NotOurs)?;
                Data::Address(Ipv4Addr::from(bytes).into())
            }
            (28, 16) => {
                let bytes: [u8; 16] = self.take(16)?.try_into().map_err(|_| NotOurs)?;
                Data::Address(Ipv6Addr::from(bytes).into())
            }
            (1 | 28, _) => return Err(Malformed("an address of another length")),
            (ALIAS, _) => Data::Alias(self.name()?),
            (33, _) => Data::Srv(Srv {
                priority: self.u16()?,
                weight: self.u16()?,
                port: self.u16()?,
                target: self.name()?,
            }),
            (AUTHORITY, _) => {
                self.name()?;
                self.name()?;
                self.take(16)?;
                // RFC 2308 section 5.
                read.negative_ttl = Some(self.u32()?.min(ttl));
                return Ok(None);
            }
            _ => {
                self.at = end;
                return Ok(None);
            }
        };
        Ok(Some(data))
    }
}

fn push_label(name: &mut String, label: &[u8]) {
    for byte in label {
        match byte.to_ascii_lowercase() {
            byte @ (b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_') => name.push(char::from(byte)),
            byte => name.push_str(&format!("\\{byte:03}")),
        }
    }
}
