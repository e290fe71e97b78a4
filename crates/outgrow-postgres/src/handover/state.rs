//! What a client is, apart from its connection, so that another process can go on with it: a form
//! of its own, in bytes, read strictly. Pure.
//!
//! It is a list of parts, each with a number and a length, in the order of the numbers. A part that
//! the reader does not know is an error: whoever wrote it keeps the client. So a later version may
//! add parts, and write them only where they say something.
//!
//! Not here: what is found out anew (where a client is, how its texts are read, which instance it
//! is), and what a client cannot take along ([`crate::client`] says which clients move).

use super::coding::{CodingError, Reader, Writer};

/// The version of this form. Raised when a part means something else than before.
pub(crate) const VERSION: u16 = 1;
/// The newest version that is read: that of clients that listen. Others are written in [`VERSION`],
/// which older processes read as well.
pub(crate) const WITH_CHANNELS: u16 = 2;
/// The most bytes of one client. One with more is told to reconnect.
pub(crate) const MOST_BYTES: usize = 1 << 20;
/// Most settings of either kind; [`crate::client::Settings`] keeps fewer.
const MOST_SETTINGS: usize = 1_024;
/// Most prepared statements.
const MOST_STATEMENTS: usize = 64 * 1_024;
/// Most channels.
const MOST_CHANNELS: usize = 64 * 1_024;

/// A setting: name and value, or name and the statement that sets it.
pub(crate) type Pair<T> = (T, T);

/// What the client has written, for what it reads next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Floor {
    /// It has, and nobody has asked yet how far the primary was.
    Unknown,
    /// The primary was so far after it.
    At {
        /// Its timeline.
        timeline: u32,
        /// Bytes of its log.
        lsn: u64,
    },
}

/// What was proven at the login, which servers may be logged in to with.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Proof {
    Password(Vec<u8>),
    Md5(Vec<u8>),
    Scram {
        client: [u8; 32],
        server: [u8; 32],
        salt: Vec<u8>,
        iterations: u32,
    },
    Locked,
}

impl std::fmt::Debug for Proof {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Proof(***)")
    }
}

/// A prepared statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Prepared {
    /// The client's name for it; empty for the unnamed one.
    pub(crate) name: Vec<u8>,
    pub(crate) query: Vec<u8>,
    /// Number and types of parameters, as in the Parse message.
    pub(crate) types: Vec<u8>,
}

/// What a client is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClientState {
    pub(crate) database: String,
    pub(crate) user: String,
    /// The minor version of the protocol.
    pub(crate) minor: u16,
    /// By what it cancels: its process number, and the whole secret.
    pub(crate) process: u32,
    pub(crate) secret: Vec<u8>,
    /// The settings of its start, of those that servers report.
    pub(crate) start: Vec<Pair<String>>,
    /// The same, as they are.
    pub(crate) variables: Vec<Pair<String>>,
    /// Settings that were set by statements, in their order.
    pub(crate) settings: Vec<Pair<Vec<u8>>>,
    pub(crate) prepared: Vec<Prepared>,
    pub(crate) unnamed: Option<Prepared>,
    pub(crate) proof: Option<Proof>,
    pub(crate) floor: Option<Floor>,
    /// What it has sent and nobody has judged.
    pub(crate) input: Vec<u8>,
    /// Where a proxy says that it is.
    pub(crate) proxied: Option<String>,
    /// When it connected, in nanoseconds since 1970.
    pub(crate) connected: u64,
    /// The port in the name of its Unix socket.
    pub(crate) port: u16,
    /// What it listens on, sorted.
    pub(crate) channels: Vec<Vec<u8>>,
    /// By what it is expected, if it listens.
    pub(crate) ticket: Option<u64>,
}

/// The parts' numbers.
mod part {
    pub(super) const WHO: u8 = 1;
    pub(super) const CANCEL: u8 = 2;
    pub(super) const START: u8 = 3;
    pub(super) const VARIABLES: u8 = 4;
    pub(super) const SETTINGS: u8 = 5;
    pub(super) const PREPARED: u8 = 6;
    pub(super) const UNNAMED: u8 = 7;
    pub(super) const PROOF: u8 = 8;
    pub(super) const FLOOR: u8 = 9;
    pub(super) const INPUT: u8 = 10;
    pub(super) const PROXIED: u8 = 11;
    pub(super) const CHANNELS: u8 = 12;
    pub(super) const TICKET: u8 = 13;
}

impl ClientState {
    /// Its form; none when it is more than [`MOST_BYTES`].
    pub(crate) fn encode(&self) -> Option<Vec<u8>> {
        let mut out = Writer::default();
        out.part(part::WHO, |out| {
            out.bytes(self.database.as_bytes());
            out.bytes(self.user.as_bytes());
            out.u16(self.minor);
            out.u64(self.connected);
            out.u16(self.port);
        });
        out.part(part::CANCEL, |out| {
            out.u32(self.process);
            out.bytes(&self.secret);
        });
        write_texts(&mut out, part::START, &self.start);
        write_texts(&mut out, part::VARIABLES, &self.variables);
        if !self.settings.is_empty() {
            out.part(part::SETTINGS, |out| {
                for (name, statement) in &self.settings {
                    out.bytes(name);
                    out.bytes(statement);
                }
            });
        }
        if !self.prepared.is_empty() {
            out.part(part::PREPARED, |out| {
                self.prepared.iter().for_each(|one| one.write(out));
            });
        }
        if let Some(unnamed) = &self.unnamed {
            out.part(part::UNNAMED, |out| unnamed.write(out));
        }
        if let Some(proof) = &self.proof {
            out.part(part::PROOF, |out| proof.write(out));
        }
        if let Some(floor) = self.floor {
            out.part(part::FLOOR, |out| floor.write(out));
        }
        if !self.input.is_empty() {
            out.part(part::INPUT, |out| out.bytes(&self.input));
        }
        if let Some(proxied) = &self.proxied {
            out.part(part::PROXIED, |out| out.bytes(proxied.as_bytes()));
        }
        if !self.channels.is_empty() {
            out.part(part::CHANNELS, |out| {
                self.channels.iter().for_each(|name| out.bytes(name));
            });
        }
        if let Some(ticket) = self.ticket {
            out.part(part::TICKET, |out| out.u64(ticket));
        }
        (out.0.len() <= MOST_BYTES).then_some(out.0)
    }

    /// Reads a form.
    ///
    /// # Errors
    /// It is none, or has something that this version does not know.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, CodingError> {
        let mut state = Self::default();
        let mut reader = Reader(bytes);
        let mut last = 0;
        while let Some((number, body)) = reader.part()? {
            if number <= last || (last == 0 && number != part::WHO) {
                return Err(CodingError::OutOfOrder(number));
            }
            if last < part::CANCEL && number > part::CANCEL {
                return Err(CodingError::OutOfOrder(part::CANCEL));
            }
            last = number;
            state.read_part(number, body)?;
        }
        if last < part::CANCEL {
            return Err(CodingError::OutOfOrder(part::CANCEL));
        }
        Ok(state)
    }

    fn read_part(&mut self, number: u8, mut body: Reader<'_>) -> Result<(), CodingError> {
        match number {
            part::WHO => {
                self.database = body.text()?.into();
                self.user = body.text()?.into();
                self.minor = body.u16()?;
                self.connected = body.u64()?;
                self.port = body.u16()?;
            }
            part::CANCEL => {
                self.process = body.u32()?;
                self.secret = body.bytes()?.to_vec();
                if !matches!(self.secret.len(), 4 | 32) {
                    return Err(CodingError::NoSuchValue("the secret"));
                }
            }
            part::START => {
                self.start = read_texts(body)?;
                return Ok(());
            }
            part::VARIABLES => {
                self.variables = read_texts(body)?;
                return Ok(());
            }
            part::SETTINGS => {
                self.settings = body.list(MOST_SETTINGS, "settings", |body| {
                    Ok((body.bytes()?.to_vec(), body.bytes()?.to_vec()))
                })?;
                return Ok(());
            }
            part::PREPARED => {
                self.prepared = body.list(MOST_STATEMENTS, "statements", Prepared::read)?;
                return Ok(());
            }
            part::UNNAMED => self.unnamed = Some(Prepared::read(&mut body)?),
            part::PROOF => self.proof = Some(Proof::read(&mut body)?),
            part::FLOOR => self.floor = Some(Floor::read(&mut body)?),
            part::INPUT => {
                self.input = body.bytes()?.to_vec();
                if self.input.is_empty() {
                    return Err(CodingError::CutOff);
                }
            }
            part::PROXIED => self.proxied = Some(body.text()?.to_owned()),
            part::CHANNELS => {
                let read = |body: &mut Reader<'_>| Ok(body.bytes()?.to_vec());
                self.channels = body.list(MOST_CHANNELS, "channels", read)?;
                return Ok(());
            }
            part::TICKET => self.ticket = Some(body.u64()?),
            unknown => return Err(CodingError::UnknownPart(unknown)),
        }
        body.end()
    }
}

fn write_texts(out: &mut Writer, number: u8, pairs: &[Pair<String>]) {
    if pairs.is_empty() {
        return;
    }
    out.part(number, |out| {
        for (name, value) in pairs {
            out.bytes(name.as_bytes());
            out.bytes(value.as_bytes());
        }
    });
}

fn read_texts(body: Reader<'_>) -> Result<Vec<Pair<String>>, CodingError> {
    body.list(MOST_SETTINGS, "settings", |body| {
        Ok((body.text()?.to_owned(), body.text()?.to_owned()))
    })
}

impl Prepared {
    fn write(&self, out: &mut Writer) {
        out.bytes(&self.name);
        out.bytes(&self.query);
        out.bytes(&self.types);
    }

    fn read(body: &mut Reader<'_>) -> Result<Self, CodingError> {
        let one = Self {
            name: body.bytes()?.to_vec(),
            query: body.bytes()?.to_vec(),
            types: body.bytes()?.to_vec(),
        };
        // They go into messages whose texts end with NUL.
        if one.name.contains(&0) || one.query.contains(&0) {
            return Err(CodingError::NoSuchValue("a statement"));
        }
        let count = one.types.split_first_chunk().map(|(count, rest)| {
            let count = usize::from(u16::from_be_bytes(*count));
            count * 4 == rest.len()
        });
        match count {
            Some(true) => Ok(one),
            _ => Err(CodingError::NoSuchValue("a statement's types")),
        }
    }
}

impl Proof {
    fn write(&self, out: &mut Writer) {
        match self {
            Self::Locked => out.u8(0),
            Self::Password(password) => {
                out.u8(1);
                out.bytes(password);
            }
            Self::Md5(text) => {
                out.u8(2);
                out.bytes(text);
            }
            Self::Scram {
                client,
                server,
                salt,
                iterations,
            } => {
                out.u8(3);
                out.bytes(client);
                out.bytes(server);
                out.bytes(salt);
                out.u32(*iterations);
            }
        }
    }

    fn read(body: &mut Reader<'_>) -> Result<Self, CodingError> {
        const WRONG: CodingError = CodingError::NoSuchValue("the proof");
        Ok(match body.u8()? {
            0 => Self::Locked,
            1 => Self::Password(body.bytes()?.to_vec()),
            2 => Self::Md5(body.bytes()?.to_vec()),
            3 => Self::Scram {
                client: body.bytes()?.try_into().map_err(|_| WRONG)?,
                server: body.bytes()?.try_into().map_err(|_| WRONG)?,
                salt: body.bytes()?.to_vec(),
                iterations: body.u32()?,
            },
            _ => return Err(WRONG),
        })
    }
}

impl Floor {
    fn write(self, out: &mut Writer) {
        match self {
            Self::Unknown => out.u8(0),
            Self::At { timeline, lsn } => {
                out.u8(1);
                out.u32(timeline);
                out.u64(lsn);
            }
        }
    }

    fn read(body: &mut Reader<'_>) -> Result<Self, CodingError> {
        Ok(match body.u8()? {
            0 => Self::Unknown,
            1 => Self::At {
                timeline: body.u32()?,
                lsn: body.u64()?,
            },
            _ => return Err(CodingError::NoSuchValue("the floor")),
        })
    }
}

#[cfg(test)]
mod tests;
