//! A client that sends simple queries and keeps all that comes back, as little as these tests need.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use outgrow_testkit::wait;

/// Longest that a server may take for one text.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a server says when it refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Its SQLSTATE.
    pub(crate) code: String,
    pub(crate) message: String,
    /// Characters up to the place that it complains of, that one included.
    pub(crate) position: Option<usize>,
}

/// Everything that came back for one text.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    /// Of each statement that was completed, its rows.
    pub(crate) results: Vec<Vec<Vec<Option<Vec<u8>>>>>,
    pub(crate) refusal: Option<Refusal>,
    /// Messages with their details.
    pub(crate) notices: Vec<String>,
    /// `I` outside of a transaction, `T` in one, `E` in a failed one.
    pub(crate) status: u8,
}

impl Reply {
    /// The SQLSTATE it was refused with, or nothing.
    pub(crate) fn code(&self) -> &str {
        self.refusal.as_ref().map_or("", |refusal| &refusal.code)
    }

    /// The first column of all rows, as text.
    pub(crate) fn column(&self) -> Vec<String> {
        let rows = self.results.iter().flatten();
        rows.filter_map(|row| row.first()?.as_deref())
            .map(|value| String::from_utf8_lossy(value).into_owned())
            .collect()
    }
}

/// A session of the superuser.
#[derive(Debug)]
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
    settings: BTreeMap<String, String>,
}

impl Client {
    /// Connects to a server that trusts everybody, once it has started.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let connected = wait::until("the server takes clients", PATIENCE, || {
            Self::try_connect(address).ok()
        });
        connected.expect("it trusts everybody")
    }

    fn try_connect(address: SocketAddr) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let settings = b"user\0postgres\0database\0postgres\0\0";
        let mut startup = Vec::new();
        startup.extend_from_slice(&(settings.len() as u32 + 8).to_be_bytes());
        startup.extend_from_slice(&196_608_u32.to_be_bytes());
        startup.extend_from_slice(settings);
        stream.write_all(&startup)?;
        let mut client = Self {
            stream: BufReader::new(stream),
            settings: BTreeMap::new(),
        };
        let reply = client.reply()?;
        match reply.refusal {
            Some(refusal) => Err(io::Error::other(format!("{refusal:?}"))),
            None => Ok(client),
        }
    }

    /// Sends a text and gives what comes back.
    pub(crate) fn ask(&mut self, text: &str) -> Reply {
        let reply = self.try_ask(text);
        reply.unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// The same, when the server may go.
    pub(crate) fn try_ask(&mut self, text: &str) -> io::Result<Reply> {
        self.send(b'Q', &[text.as_bytes(), b"\0"].concat())?;
        self.reply()
    }

    /// A setting that the server reports.
    pub(crate) fn setting(&self, name: &str) -> &str {
        self.settings.get(name).map_or("", String::as_str)
    }

    /// The same, when it must not be refused.
    pub(crate) fn execute(&mut self, text: &str) -> Reply {
        let reply = self.ask(text);
        assert_eq!(reply.refusal, None, "{text}");
        reply
    }

    fn send(&mut self, kind: u8, body: &[u8]) -> io::Result<()> {
        let mut message = vec![kind];
        message.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
        message.extend_from_slice(body);
        self.stream.get_mut().write_all(&message)
    }

    fn reply(&mut self) -> io::Result<Reply> {
        let mut reply = Reply::default();
        let mut rows = Vec::new();
        loop {
            let mut head = [0; 5];
            self.stream.read_exact(&mut head)?;
            let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
            let mut body = vec![0; length.saturating_sub(4)];
            self.stream.read_exact(&mut body)?;
            match head[0] {
                b'D' => rows.push(row(&body)),
                b'C' | b'I' => reply.results.push(std::mem::take(&mut rows)),
                b'E' => reply.refusal = Some(refusal(&body)),
                b'N' => {
                    let fields = fields(&body);
                    let texts = [b'M', b'D'].map(|kind| fields.get(&kind).cloned());
                    let texts = texts.map(Option::unwrap_or_default);
                    reply.notices.push(texts.join("\n"));
                }
                b'S' => {
                    let mut texts = body.split(|&byte| byte == 0);
                    let mut next = || String::from_utf8_lossy(texts.next().unwrap_or_default());
                    let name = next().into_owned();
                    let value = next().into_owned();
                    self.settings.insert(name, value);
                }
                b'G' => self.send(b'f', b"no data\0")?,
                b'Z' => {
                    reply.status = body.first().copied().unwrap_or_default();
                    return Ok(reply);
                }
                _ => {}
            }
        }
    }
}

fn row(body: &[u8]) -> Vec<Option<Vec<u8>>> {
    let mut rest = &body[2..];
    let mut values = Vec::new();
    while let Some((length, more)) = rest.split_first_chunk::<4>() {
        let length = i32::from_be_bytes(*length);
        let bytes = usize::try_from(length).unwrap_or_default();
        values.push((length >= 0).then(|| more[..bytes].to_vec()));
        rest = &more[bytes..];
    }
    values
}

fn fields(body: &[u8]) -> BTreeMap<u8, String> {
    let texts = body.split(|&byte| byte == 0);
    let fields = texts.filter_map(|text| text.split_first());
    fields
        .map(|(&kind, text)| (kind, String::from_utf8_lossy(text).into_owned()))
        .collect()
}

fn refusal(body: &[u8]) -> Refusal {
    let mut fields = fields(body);
    Refusal {
        code: fields.remove(&b'C').unwrap_or_default(),
        message: fields.remove(&b'M').unwrap_or_default(),
        position: fields.remove(&b'P').and_then(|text| text.parse().ok()),
    }
}
