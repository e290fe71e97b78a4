//! As much of the Postgres protocol as waiting for a server and holding a client takes: a login
//! without a password, and simple queries.

use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Protocol 3.0.
const VERSION: u32 = 3 << 16;
/// Longer messages are nonsense.
const LONGEST: u32 = 1 << 24;

/// A client that is logged in.
pub(crate) struct Client {
    stream: TcpStream,
}

impl Client {
    /// Connects and logs in.
    pub(crate) fn connect(address: SocketAddr, user: &str, database: &str) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut body = VERSION.to_be_bytes().to_vec();
        for text in ["user", user, "database", database, ""] {
            body.extend_from_slice(text.as_bytes());
            body.push(0);
        }
        let mut client = Self { stream };
        client.send(&[], &body)?;
        client.until_ready()?;
        Ok(client)
    }

    /// Runs a statement; what it answers is left out.
    pub(crate) fn run(&mut self, sql: &str) -> io::Result<()> {
        self.value(sql).map(|_| ())
    }

    /// The first value of the last row of a statement's answer; empty when there is none.
    pub(crate) fn value(&mut self, sql: &str) -> io::Result<String> {
        self.send(b"Q", format!("{sql}\0").as_bytes())?;
        self.until_ready()
    }

    fn send(&mut self, tag: &[u8], body: &[u8]) -> io::Result<()> {
        let length = (body.len() as u32 + 4).to_be_bytes();
        self.stream.write_all(&[tag, &length, body].concat())
    }

    fn until_ready(&mut self) -> io::Result<String> {
        let mut value = String::new();
        // Nothing follows ReadyForQuery, so that nothing is lost in the buffer.
        let mut reader = BufReader::new(&self.stream);
        loop {
            let mut head = [0; 5];
            reader.read_exact(&mut head)?;
            let [tag, length @ ..] = head;
            let length = u32::from_be_bytes(length).saturating_sub(4).min(LONGEST);
            let mut body = vec![0; length as usize];
            reader.read_exact(&mut body)?;
            match tag {
                b'Z' => return Ok(value),
                // Its columns are counted by two bytes, and each has its length in four.
                b'D' => value = String::from_utf8_lossy(first_value(&body)).into_owned(),
                b'E' => {
                    let text = String::from_utf8_lossy(&body).replace('\0', " ");
                    return Err(io::Error::other(text));
                }
                _ => {}
            }
        }
    }
}

fn first_value(row: &[u8]) -> &[u8] {
    let length = row.get(2..6).and_then(|bytes| bytes.try_into().ok());
    let length = length.map_or(-1, i32::from_be_bytes);
    let length = usize::try_from(length).unwrap_or(0);
    row.get(6..6 + length).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_of_a_row() {
        assert_eq!(first_value(b"\0\x02\0\0\0\x0212\0\0\0\x013"), b"12");
        assert_eq!(first_value(b"\0\x01\xff\xff\xff\xff"), b"");
        assert_eq!(first_value(b"\0"), b"");
    }
}
