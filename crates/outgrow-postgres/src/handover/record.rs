//! What two processes say to each other while clients are handed over, as bytes. Pure.
//!
//! A record is one packet or several; the first byte of each says whether more follow. Each side
//! begins with [`Record::Hello`]. Descriptors go with the last packet of [`Record::Clients`], one for
//! each client, in their order.

use super::coding::{CodingError, Reader, Writer};
use super::state;

/// The version of these records. Raised when the two sides could misunderstand each other.
pub(crate) const VERSION: u16 = 1;
/// The most bytes of a record.
pub(crate) const MOST_BYTES: usize = state::MOST_BYTES + (64 << 10);
/// Most clients in a record.
pub(crate) const MOST_CLIENTS: usize = 64;
/// Most reasons in a record.
const MOST_REASONS: usize = 64;

/// Of a packet: more follow, or it is the record's last one.
const MORE: u8 = 0;
const LAST: u8 = 1;

/// What is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// Who this is: the versions of these records, and of clients' states that it reads.
    Hello {
        version: u16,
        oldest_state: u16,
        newest_state: u16,
    },
    /// Clients, each with a number of this link and its state.
    Clients(Vec<(u64, Vec<u8>)>),
    /// These are the other side's from now on.
    Taken(Vec<u64>),
    /// This one is not.
    Refused {
        client: u64,
        /// What it is to be told; none: it is up to who has it.
        told: Option<(String, String)>,
        /// Why, for the log.
        why: String,
    },
    /// Somebody wants to cancel what is done for a client that is not known here.
    Cancel {
        number: u64,
        process: u32,
        secret: Vec<u8>,
    },
    /// That has been dealt with; whether the client was there.
    Cancelled { number: u64, found: bool },
    /// How many clients were handed over, and how many were told to reconnect, by reason.
    Told { given: u64, told: Vec<(u8, u64)> },
    /// A client that listens is to come. Said only to who reads states of version
    /// [`state::WITH_CHANNELS`], as are the others that name a ticket.
    Expect {
        /// What the client brings along.
        ticket: u64,
        /// The encoding in which it listens.
        encoding: String,
        /// The channel of its marker.
        channel: Vec<u8>,
        /// The marker's payload.
        word: Vec<u8>,
        /// Of its state, what it takes to listen for it: who it is, what it has proven, its channels.
        state: Vec<u8>,
    },
    /// Everything is listened on for it, or why not.
    Expected {
        ticket: u64,
        problem: Option<String>,
    },
    /// It does not come.
    Stays { ticket: u64 },
    /// One that was offered is not taken now, since not everything that is notified would be told to
    /// it; it may begin anew.
    NotNow {
        client: u64,
        /// Why, for the log.
        why: String,
    },
}

impl Record {
    /// As bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        match self {
            Self::Hello {
                version,
                oldest_state,
                newest_state,
            } => {
                out.u8(1);
                out.u16(*version);
                out.u16(*oldest_state);
                out.u16(*newest_state);
            }
            Self::Clients(clients) => {
                out.u8(2);
                for (number, state) in clients {
                    out.u64(*number);
                    out.bytes(state);
                }
            }
            Self::Taken(clients) => {
                out.u8(3);
                for number in clients {
                    out.u64(*number);
                }
            }
            Self::Refused { client, told, why } => {
                out.u8(4);
                out.u64(*client);
                out.bytes(why.as_bytes());
                if let Some((code, message)) = told {
                    out.bytes(code.as_bytes());
                    out.bytes(message.as_bytes());
                }
            }
            Self::Cancel {
                number,
                process,
                secret,
            } => {
                out.u8(5);
                out.u64(*number);
                out.u32(*process);
                out.bytes(secret);
            }
            Self::Cancelled { number, found } => {
                out.u8(6);
                out.u64(*number);
                out.u8(u8::from(*found));
            }
            Self::Told { given, told } => {
                out.u8(7);
                out.u64(*given);
                for (reason, count) in told {
                    out.u8(*reason);
                    out.u64(*count);
                }
            }
            Self::Expect {
                ticket,
                encoding,
                channel,
                word,
                state,
            } => {
                out.u8(8);
                out.u64(*ticket);
                out.bytes(encoding.as_bytes());
                out.bytes(channel);
                out.bytes(word);
                out.bytes(state);
            }
            Self::Expected { ticket, problem } => {
                out.u8(9);
                out.u64(*ticket);
                if let Some(problem) = problem {
                    out.bytes(problem.as_bytes());
                }
            }
            Self::Stays { ticket } => {
                out.u8(10);
                out.u64(*ticket);
            }
            Self::NotNow { client, why } => {
                out.u8(11);
                out.u64(*client);
                out.bytes(why.as_bytes());
            }
        }
        out.0
    }

    /// Reads one.
    ///
    /// # Errors
    /// It is none, or one that this version does not know.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, CodingError> {
        let mut reader = Reader(bytes);
        let read = match reader.u8()? {
            1 => Self::Hello {
                version: reader.u16()?,
                oldest_state: reader.u16()?,
                newest_state: reader.u16()?,
            },
            2 => {
                let read = |one: &mut Reader<'_>| Ok((one.u64()?, one.bytes()?.to_vec()));
                return reader
                    .list(MOST_CLIENTS, "clients", read)
                    .map(Self::Clients);
            }
            3 => {
                let taken = reader.list(MOST_CLIENTS, "clients", Reader::u64);
                return taken.map(Self::Taken);
            }
            4 => Self::Refused {
                client: reader.u64()?,
                why: reader.text()?.to_owned(),
                told: match reader.0.is_empty() {
                    true => None,
                    false => Some((reader.text()?.to_owned(), reader.text()?.to_owned())),
                },
            },
            5 => Self::Cancel {
                number: reader.u64()?,
                process: reader.u32()?,
                secret: reader.bytes()?.to_vec(),
            },
            6 => Self::Cancelled {
                number: reader.u64()?,
                found: match reader.u8()? {
                    0 => false,
                    1 => true,
                    _ => return Err(CodingError::NoSuchValue("an answer")),
                },
            },
            7 => {
                let given = reader.u64()?;
                let read = |one: &mut Reader<'_>| Ok((one.u8()?, one.u64()?));
                let told = match reader.0.is_empty() {
                    true => Vec::new(),
                    false => reader.list(MOST_REASONS, "reasons", read)?,
                };
                return Ok(Self::Told { given, told });
            }
            8 => Self::Expect {
                ticket: reader.u64()?,
                encoding: reader.text()?.to_owned(),
                channel: reader.bytes()?.to_vec(),
                word: reader.bytes()?.to_vec(),
                state: reader.bytes()?.to_vec(),
            },
            9 => Self::Expected {
                ticket: reader.u64()?,
                problem: match reader.0.is_empty() {
                    true => None,
                    false => Some(reader.text()?.to_owned()),
                },
            },
            10 => Self::Stays {
                ticket: reader.u64()?,
            },
            11 => Self::NotNow {
                client: reader.u64()?,
                why: reader.text()?.to_owned(),
            },
            unknown => return Err(CodingError::UnknownPart(unknown)),
        };
        reader.end()?;
        Ok(read)
    }
}

/// Cuts a record into packets of at most `most` bytes.
pub(crate) fn packets(record: &[u8], most: usize) -> impl Iterator<Item = Vec<u8>> {
    let pieces = record.chunks(most.saturating_sub(1).max(1));
    let last = pieces.len().saturating_sub(1);
    pieces.enumerate().map(move |(place, piece)| {
        let first = if place == last { LAST } else { MORE };
        let mut packet = Vec::with_capacity(piece.len() + 1);
        packet.push(first);
        packet.extend_from_slice(piece);
        packet
    })
}

/// Puts packets together.
#[derive(Debug, Default)]
pub(crate) struct Assembly(Vec<u8>);

impl Assembly {
    /// Takes the next packet; a record when it is whole.
    ///
    /// # Errors
    /// It is no packet, or the record is too long.
    pub(crate) fn take(&mut self, packet: &[u8]) -> Result<Option<Record>, CodingError> {
        let (first, piece) = packet.split_first().ok_or(CodingError::CutOff)?;
        if self.0.len() + piece.len() > MOST_BYTES {
            return Err(CodingError::TooMany("bytes"));
        }
        match *first {
            MORE => {
                self.0.extend_from_slice(piece);
                Ok(None)
            }
            LAST if self.0.is_empty() => Record::decode(piece).map(Some),
            LAST => {
                let mut whole = std::mem::take(&mut self.0);
                whole.extend_from_slice(piece);
                Record::decode(&whole).map(Some)
            }
            _ => Err(CodingError::NoSuchValue("a packet")),
        }
    }
}

#[cfg(test)]
mod tests {
    use outgrow_core::Random;

    use super::*;

    fn examples() -> Vec<Record> {
        let refused = |told| Record::Refused {
            client: 7,
            told,
            why: "it does not want it".to_owned(),
        };
        vec![
            Record::Hello {
                version: 1,
                oldest_state: 1,
                newest_state: 3,
            },
            Record::Clients(vec![(1, vec![1, 2]), (u64::MAX, vec![0; 100_000])]),
            Record::Taken(vec![1, 5, 9]),
            refused(None),
            refused(Some(("53300".to_owned(), "too many".to_owned()))),
            Record::Cancel {
                number: 1,
                process: 2,
                secret: vec![3; 32],
            },
            Record::Cancelled {
                number: 1,
                found: true,
            },
            Record::Told {
                given: 12,
                told: vec![],
            },
            Record::Told {
                given: 12,
                told: vec![(0, 1), (3, 9)],
            },
            Record::Expect {
                ticket: 3,
                encoding: "UTF8".to_owned(),
                channel: b"outgrow_handover_00".to_vec(),
                word: b"ff".to_vec(),
                state: vec![1, 2, 3],
            },
            Record::Expected {
                ticket: 3,
                problem: None,
            },
            Record::Expected {
                ticket: 3,
                problem: Some("no".to_owned()),
            },
            Record::Stays { ticket: u64::MAX },
            Record::NotNow {
                client: 8,
                why: "it is too late".to_owned(),
            },
        ]
    }

    #[test]
    fn what_is_said_is_understood_in_packets_of_any_size() {
        for record in examples() {
            let encoded = record.encode();
            assert_eq!(Record::decode(&encoded).as_ref(), Ok(&record));
            for most in [2, 7, 1_000, 1 << 20] {
                let mut assembly = Assembly::default();
                let mut heard = Vec::new();
                for packet in packets(&encoded, most) {
                    assert!(packet.len() <= most);
                    heard.extend(assembly.take(&packet).expect("a packet"));
                }
                assert_eq!(heard, std::slice::from_ref(&record), "{most}");
            }
        }
    }

    #[test]
    fn nonsense_is_refused_and_never_panics() {
        for record in examples() {
            let encoded = record.encode();
            let step = (encoded.len() / 300).max(1);
            for end in (0..encoded.len()).step_by(step) {
                let read = Record::decode(&encoded[..end]);
                assert_ne!(read.as_ref(), Ok(&record));
            }
        }
        let random = &mut Random::from_seed(7);
        for _ in 0..50_000 {
            let noise: Vec<u8> = (0..random.below(40))
                .map(|_| random.below(9) as u8)
                .collect();
            if let Ok(record) = Record::decode(&noise) {
                assert_eq!(record.encode(), noise);
            }
            let _ = Assembly::default().take(&noise);
        }
    }

    #[test]
    fn a_record_without_end_is_bounded() {
        let mut assembly = Assembly::default();
        let piece = vec![MORE; 32 << 10];
        let mut taken = 0;
        while assembly.take(&piece).is_ok() {
            taken += piece.len();
            assert!(taken <= 2 * MOST_BYTES, "it takes everything");
        }
        assert!(assembly.0.len() <= MOST_BYTES);
    }
}
