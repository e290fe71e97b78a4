//! The least of a Redis client (RESP2): one question after the other, answers that are a line, a
//! number or a text, with a bound on everything that is read.

use std::io;

use outgrow_core::settings::Address;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::settings::LeaderRedis;

/// Most bytes of all answers on one connection.
const LIMIT: u64 = 64 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    /// The connection failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It was closed.
    #[error("it closed the connection without an answer")]
    Closed,
    /// What came is not RESP2, or too long.
    #[error("the answer is not Redis's")]
    NotRedis,
    /// It refused.
    #[error("it answered {0:?}")]
    Refused(String),
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// A line or a text.
    Text(String),
    /// A number.
    Number(i64),
    /// Nothing.
    Nothing,
}

/// A connection to a server.
pub(super) struct Connection<S> {
    stream: BufReader<tokio::io::Take<S>>,
}

impl Connection<TcpStream> {
    /// Connects, says who one is and chooses the database.
    pub(super) async fn open(settings: &LeaderRedis) -> Result<Self, Problem> {
        let Address::Tcp { host, port } = &settings.server else {
            // The settings let none through.
            return Err(io::Error::from(io::ErrorKind::Unsupported).into());
        };
        let stream = TcpStream::connect((host.as_str(), *port)).await?;
        stream.set_nodelay(true)?;
        let mut connection = Self::new(stream);
        connection.begin(settings).await?;
        Ok(connection)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    fn new(stream: S) -> Self {
        Self {
            stream: BufReader::new(stream.take(LIMIT)),
        }
    }

    async fn begin(&mut self, settings: &LeaderRedis) -> Result<(), Problem> {
        let password = settings.password.expose();
        if !password.is_empty() {
            match settings.user.as_str() {
                "" => self.ask(&["AUTH", password]).await?,
                user => self.ask(&["AUTH", user, password]).await?,
            };
        }
        if settings.database > 0 {
            let database = settings.database.to_string();
            self.ask(&["SELECT", &database]).await?;
        }
        Ok(())
    }

    /// Asks and reads the answer.
    pub(super) async fn ask(&mut self, words: &[&str]) -> Result<Reply, Problem> {
        let mut question = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            question.extend(format!("${}\r\n{word}\r\n", word.len()).into_bytes());
        }
        self.stream.get_mut().get_mut().write_all(&question).await?;
        self.read().await
    }

    async fn read(&mut self) -> Result<Reply, Problem> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).await?;
        if line.is_empty() {
            return Err(Problem::Closed);
        }
        let line = line.strip_suffix(b"\r\n").ok_or(Problem::NotRedis)?;
        let line = std::str::from_utf8(line).map_err(|_| Problem::NotRedis)?;
        let (kind, rest) = line.split_at_checked(1).ok_or(Problem::NotRedis)?;
        let number = || rest.parse::<i64>().map_err(|_| Problem::NotRedis);
        match kind {
            "+" => Ok(Reply::Text(rest.to_owned())),
            "-" => Err(Problem::Refused(rest.chars().take(120).collect())),
            ":" => number().map(Reply::Number),
            "$" => match number()? {
                -1 => Ok(Reply::Nothing),
                length => self.text(length).await,
            },
            _ => Err(Problem::NotRedis),
        }
    }

    async fn text(&mut self, length: i64) -> Result<Reply, Problem> {
        let length = usize::try_from(length).ok();
        let length = length.filter(|length| (*length as u64) < LIMIT);
        let mut text = vec![0; length.ok_or(Problem::NotRedis)? + 2];
        self.stream.read_exact(&mut text).await?;
        let text = text.strip_suffix(b"\r\n").ok_or(Problem::NotRedis)?;
        let text = std::str::from_utf8(text).map_err(|_| Problem::NotRedis)?;
        Ok(Reply::Text(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use outgrow_core::settings::Secret;

    use super::*;

    async fn asked(settings: &LeaderRedis, answers: &[u8]) -> (String, Result<Reply, Problem>) {
        let (ours, mut theirs) = tokio::io::duplex(256 * 1024);
        theirs.write_all(answers).await.unwrap();
        theirs.shutdown().await.unwrap();
        let mut connection = Connection::new(ours);
        let reply = match connection.begin(settings).await {
            Ok(()) => connection.ask(&["GET", "a b"]).await,
            Err(problem) => Err(problem),
        };
        drop(connection);
        let mut sent = String::new();
        theirs.read_to_string(&mut sent).await.unwrap();
        (sent, reply)
    }

    #[tokio::test]
    async fn answers_are_read_or_refused() {
        let plain = LeaderRedis::default();
        let question = "*2\r\n$3\r\nGET\r\n$3\r\na b\r\n";
        let text = |text: &str| Ok(Reply::Text(text.to_owned()));
        let long = format!("+{}\r\n", "x".repeat(LIMIT as usize));
        let table: [(&[u8], Result<Reply, &str>); 11] = [
            (b"+OK\r\n", text("OK")),
            (b"$3\r\na\r\n\r\n", text("a\r\n")),
            (b"$-1\r\n", Ok(Reply::Nothing)),
            (b":7\r\n", Ok(Reply::Number(7))),
            (b"-NOAUTH no\r\n", Err("it answered \"NOAUTH no\"")),
            (b"", Err("closed the connection")),
            (b"HTTP/1.1 400\r\n", Err("not Redis's")),
            (b"$99999999\r\n", Err("not Redis's")),
            (b"$-7\r\n", Err("not Redis's")),
            (b"+OK", Err("not Redis's")),
            (long.as_bytes(), Err("not Redis's")),
        ];
        for (answer, expected) in table {
            let (sent, reply) = asked(&plain, answer).await;
            assert_eq!(sent, question);
            match (reply, expected) {
                (Ok(reply), Ok(expected)) => assert_eq!(reply, expected),
                (Err(problem), Err(expected)) => {
                    assert!(problem.to_string().contains(expected), "{problem}");
                }
                (reply, _) => panic!("{}: {reply:?}", answer.escape_ascii()),
            }
        }
    }

    #[tokio::test]
    async fn who_one_is_is_said_first() {
        let settings = LeaderRedis {
            user: "u".to_owned(),
            password: Secret::new("pw"),
            database: 3,
            ..LeaderRedis::default()
        };
        let (sent, reply) = asked(&settings, b"+OK\r\n+OK\r\n$-1\r\n").await;
        let expected =
            "*3\r\n$4\r\nAUTH\r\n$1\r\nu\r\n$2\r\npw\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n";
        assert!(sent.starts_with(expected), "{sent}");
        assert!(matches!(reply, Ok(Reply::Nothing)));
        let (sent, reply) = asked(&settings, b"-WRONGPASS\r\n").await;
        assert!(!sent.contains("GET") && reply.is_err());
    }
}
