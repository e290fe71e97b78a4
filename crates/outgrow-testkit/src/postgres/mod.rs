//! A client of Postgres that sends exactly the given messages and shows exactly what comes back.
//! Blocking, without encryption, without passwords: for servers that trust.
//!
//! Not here: what real drivers do; they are run as they are.

pub mod message;

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

pub use message::{Message, Problem};

/// How long a message may be waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest message that is taken; longer ones are nonsense.
const LONGEST: usize = 256 * 1024 * 1024;

/// What a client of a test met.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// The connection: refused, ended, or nothing came for half a minute.
    #[error("the connection: {0}")]
    Io(#[from] io::Error),
    /// The server said an error.
    #[error("{0}")]
    Said(Problem),
    /// What came is not what the protocol says.
    #[error("unexpected: {0:?}")]
    Unexpected(Message),
}

impl PostgresError {
    /// The SQLSTATE that the server said; empty when it said nothing.
    pub fn code(&self) -> &str {
        match self {
            Self::Said(problem) => &problem.code,
            Self::Io(_) | Self::Unexpected(_) => "",
        }
    }
}

/// A row as text; none stands for NULL.
pub type Row = Vec<Option<String>>;

/// A connection.
#[derive(Debug)]
pub struct Session {
    stream: TcpStream,
    /// What a cancel request must name: process and secret.
    pub key: (u32, Vec<u8>),
    /// The settings that the server has reported, the last value of each.
    pub parameters: BTreeMap<String, String>,
    /// The transaction's state as of the last ReadyForQuery: `I`, `T` or `E`.
    pub state: u8,
}

impl Session {
    /// Connects, and does no more.
    ///
    /// # Errors
    /// When there is no connection.
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            key: (0, Vec::new()),
            parameters: BTreeMap::new(),
            state: b'I',
        })
    }

    /// Connects and logs in, with these parameters of the start (`user`, `database`, …).
    ///
    /// # Errors
    /// When it is not let in: what the server said.
    pub fn start(address: SocketAddr, parameters: &[(&str, &str)]) -> Result<Self, PostgresError> {
        let mut session = Self::open(address)?;
        session.send(&message::startup(parameters))?;
        session.answer()?;
        Ok(session)
    }

    /// The same as user `postgres` in this database.
    ///
    /// # Errors
    /// As [`Session::start`].
    pub fn of(address: SocketAddr, database: &str) -> Result<Self, PostgresError> {
        Self::start(address, &[("user", "postgres"), ("database", database)])
    }

    /// Sends these bytes.
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next message, whatever it is. What it says of the session is noted.
    ///
    /// # Errors
    /// When the connection has ended, or nothing comes.
    pub fn receive(&mut self) -> io::Result<Message> {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head)?;
        let [tag, length @ ..] = head;
        let length = (u32::from_be_bytes(length) as usize).checked_sub(4);
        let Some(length) = length.filter(|length| *length <= LONGEST) else {
            return Err(io::Error::other(format!("a message of {length:?} bytes")));
        };
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        let message = Message { tag, body };
        self.note(&message);
        Ok(message)
    }

    fn note(&mut self, message: &Message) {
        match (message.tag, &message.body[..]) {
            (b'S', _) => self.parameters.extend(message.parameter()),
            (b'Z', [state]) => self.state = *state,
            (b'K', [a, b, c, d, secret @ ..]) => {
                self.key = (u32::from_be_bytes([*a, *b, *c, *d]), secret.to_vec());
            }
            _ => {}
        }
    }

    /// All messages up to the next ReadyForQuery, which is the last one.
    ///
    /// # Errors
    /// When the connection has ended before it.
    pub fn until_ready(&mut self) -> io::Result<Vec<Message>> {
        let mut messages = Vec::new();
        loop {
            messages.push(self.receive()?);
            if messages.last().is_some_and(|last| last.tag == b'Z') {
                return Ok(messages);
            }
        }
    }

    /// The rows up to the next ReadyForQuery.
    ///
    /// # Errors
    /// The first error that the server said; when that ended the connection as well.
    pub fn answer(&mut self) -> Result<Vec<Row>, PostgresError> {
        let mut rows = Vec::new();
        let mut problem = None;
        loop {
            let message = match self.receive() {
                Ok(message) => message,
                Err(error) => return Err(problem.map_or(error.into(), PostgresError::Said)),
            };
            match message.tag {
                b'D' => match message.row() {
                    Some(row) => rows.push(row),
                    None => return Err(PostgresError::Unexpected(message)),
                },
                b'E' if problem.is_none() => problem = message.problem(),
                // A demand for a password.
                b'R' if message.body != [0; 4] => return Err(PostgresError::Unexpected(message)),
                b'Z' => return problem.map_or(Ok(rows), |said| Err(PostgresError::Said(said))),
                _ => {}
            }
        }
    }

    /// A simple query: all its rows.
    ///
    /// # Errors
    /// The first error that the server said, or the connection's.
    pub fn query(&mut self, sql: &str) -> Result<Vec<Row>, PostgresError> {
        self.send(&message::query(sql))?;
        self.answer()
    }

    /// A simple query with one value: that value, empty for NULL or no row.
    ///
    /// # Errors
    /// As [`Session::query`].
    pub fn value(&mut self, sql: &str) -> Result<String, PostgresError> {
        let rows = self.query(sql)?;
        let first = rows
            .into_iter()
            .next()
            .and_then(|row| row.into_iter().next());
        Ok(first.flatten().unwrap_or_default())
    }

    /// An extended query with parameters as text, by the unnamed statement.
    ///
    /// # Errors
    /// As [`Session::query`].
    pub fn extended(
        &mut self,
        sql: &str,
        parameters: &[Option<&str>],
    ) -> Result<Vec<Row>, PostgresError> {
        self.send(&message::parse("", sql))?;
        self.execute("", parameters)
    }

    /// Prepares a statement.
    ///
    /// # Errors
    /// As [`Session::query`].
    pub fn prepare(&mut self, name: &str, sql: &str) -> Result<(), PostgresError> {
        self.send(&[message::parse(name, sql), message::sync()].concat())?;
        self.answer().map(|_| ())
    }

    /// Executes a prepared statement.
    ///
    /// # Errors
    /// As [`Session::query`].
    pub fn execute(
        &mut self,
        name: &str,
        parameters: &[Option<&str>],
    ) -> Result<Vec<Row>, PostgresError> {
        let messages = [
            message::bind("", name, parameters),
            message::execute("", 0),
            message::sync(),
        ];
        self.send(&messages.concat())?;
        self.answer()
    }

    /// Asks the server to cancel what this session does, over a connection of its own; returns when
    /// the server has closed that.
    ///
    /// # Errors
    /// When there is no connection.
    pub fn cancel(&self) -> io::Result<()> {
        let (process, secret) = &self.key;
        let mut other = TcpStream::connect(self.stream.peer_addr()?)?;
        other.set_read_timeout(Some(PATIENCE))?;
        other.write_all(&message::cancel(*process, secret))?;
        let mut rest = Vec::new();
        match other.read_to_end(&mut rest) {
            Ok(0) => Ok(()),
            Ok(_) => Err(io::Error::other(format!("it answered {rest:?}"))),
            // What was sent was not all read: closed as well.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Whether the other side has ended the connection without another word.
    ///
    /// # Errors
    /// When something else comes, or nothing for half a minute.
    pub fn is_over(&mut self) -> io::Result<()> {
        match self.receive() {
            Ok(message) => Err(io::Error::other(format!("it said {message:?}"))),
            Err(error) => match error.kind() {
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// Says goodbye, and returns when the other side has closed.
    ///
    /// # Errors
    /// When something else comes.
    pub fn leave(mut self) -> io::Result<()> {
        self.send(&message::terminate())?;
        self.is_over()
    }

    /// The connection itself, for what only a socket can do.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Ends the sending side: the other side sees the end, and may still answer.
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn end_sending(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }
}
