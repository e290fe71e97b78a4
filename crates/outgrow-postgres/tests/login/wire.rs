//! As much of the protocol as logins and simple queries need, blocking.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use outgrow_core::random::system_bytes;
use outgrow_postgres::login::{Channel, ClientExchange, ClientStep, Credential, Policy};

const PATIENCE: Duration = Duration::from_secs(20);

const PROTOCOL: u32 = 3 << 16;

/// What a connection goes over.
pub(crate) trait Stream: Read + Write + Send {}

impl<S: Read + Write + Send> Stream for S {}

/// One end of a connection.
pub(crate) struct Wire(pub(crate) Box<dyn Stream>);

pub(crate) type Message = (u8, Vec<u8>);

impl Wire {
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self(Box::new(stream)))
    }

    /// The first message, which has no kind.
    pub(crate) fn start(&mut self, user: &str, database: &str) -> io::Result<()> {
        let mut body = PROTOCOL.to_be_bytes().to_vec();
        for text in ["user", user, "database", database, ""] {
            body.extend_from_slice(text.as_bytes());
            body.push(0);
        }
        let length = (body.len() as u32 + 4).to_be_bytes();
        self.0.write_all(&[&length[..], &body].concat())?;
        self.0.flush()
    }

    pub(crate) fn send(&mut self, kind: u8, body: &[u8]) -> io::Result<()> {
        let length = (body.len() as u32 + 4).to_be_bytes();
        self.0.write_all(&[&[kind][..], &length, body].concat())?;
        self.0.flush()
    }

    pub(crate) fn receive(&mut self) -> io::Result<Message> {
        let mut head = [0; 5];
        self.0.read_exact(&mut head)?;
        let [kind, a, b, c, d] = head;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let mut body = vec![0; length - 4];
        self.0.read_exact(&mut body)?;
        Ok((kind, body))
    }

    /// The next authentication message, or what the server says instead.
    pub(crate) fn authentication(&mut self) -> io::Result<Result<Vec<u8>, Vec<u8>>> {
        loop {
            match self.receive()? {
                (b'R', body) => return Ok(Ok(body)),
                (b'E', body) => return Ok(Err(body)),
                _ => {}
            }
        }
    }

    /// Logs in; why not, in the server's words or in ours.
    pub(crate) fn log_in(
        &mut self,
        user: &str,
        database: &str,
        credential: Credential,
        channel: Channel,
        policy: &Policy,
    ) -> Result<(), String> {
        let lost = |error: io::Error| format!("lost: {error}");
        self.start(user, database).map_err(lost)?;
        let mut nonce = [0; 18];
        system_bytes(&mut nonce);
        let mut exchange = ClientExchange::new(user, credential, channel, policy, nonce);
        let mut step = ClientStep::Wait;
        loop {
            step = match step {
                ClientStep::Wait => match self.authentication().map_err(lost)? {
                    Ok(body) => exchange.answer(&body),
                    Err(body) => return Err(said(&body)),
                },
                ClientStep::Send(body) => {
                    self.send(b'p', &body).map_err(lost)?;
                    ClientStep::Wait
                }
                ClientStep::Derive(derivation) => exchange.derived(derivation.run()),
                ClientStep::Refused(refusal) => return Err(refusal.reason),
                ClientStep::Done => break,
            };
        }
        // What follows up to ReadyForQuery may still be a refusal.
        loop {
            match self.receive().map_err(lost)? {
                (b'Z', _) => return Ok(()),
                (b'E', body) => return Err(said(&body)),
                _ => {}
            }
        }
    }

    /// The first column of all rows.
    pub(crate) fn query(&mut self, statement: &str) -> Vec<String> {
        self.send(b'Q', &[statement.as_bytes(), b"\0"].concat())
            .unwrap();
        let mut values = Vec::new();
        loop {
            match self.receive().unwrap() {
                (b'D', body) => {
                    let length = u32::from_be_bytes(body[2..6].try_into().unwrap()) as usize;
                    values.push(String::from_utf8(body[6..6 + length].to_vec()).unwrap());
                }
                (b'E', body) => panic!("{statement}: {}", said(&body)),
                (b'Z', _) => return values,
                _ => {}
            }
        }
    }
}

/// A field of an error.
pub(crate) fn field(body: &[u8], letter: u8) -> String {
    let mut fields = body.split(|&byte| byte == 0);
    let found = fields.find_map(|field| field.strip_prefix(&[letter]));
    String::from_utf8_lossy(found.unwrap_or_default()).into_owned()
}

/// An error: its SQLSTATE, text and detail.
pub(crate) fn said(body: &[u8]) -> String {
    let (code, text, detail) = (field(body, b'C'), field(body, b'M'), field(body, b'D'));
    let detail = if detail.is_empty() {
        detail
    } else {
        format!(" ({detail})")
    };
    format!("{code} {text}{detail}")
}
