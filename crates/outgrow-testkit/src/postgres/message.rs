//! Messages of the Postgres protocol 3, byte for byte: those of clients are made, those of servers
//! are taken apart. Nothing is checked that a test may want to send wrong.

use std::fmt;

/// The protocol's number in a startup message: 3.0.
const VERSION: u32 = 3 << 16;
/// In place of that number: a request to cancel.
const CANCEL: u32 = 80_877_102;
/// In place of that number: a request for TLS.
const TLS: u32 = 80_877_103;

/// A message that a server has sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// Its kind.
    pub tag: u8,
    /// What follows its length.
    pub body: Vec<u8>,
}

impl fmt::Debug for Message {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = self.body.escape_ascii();
        write!(formatter, "{}({body})", char::from(self.tag))
    }
}

impl Message {
    /// The values of a row; none stands for NULL. Nothing for another message.
    pub fn row(&self) -> Option<Vec<Option<String>>> {
        let (count, mut rest) = self.body.split_first_chunk::<2>()?;
        if self.tag != b'D' {
            return None;
        }
        let mut row = Vec::new();
        for _ in 0..u16::from_be_bytes(*count) {
            let (length, after) = rest.split_first_chunk::<4>()?;
            rest = after;
            row.push(match usize::try_from(i32::from_be_bytes(*length)) {
                Err(_) => None,
                Ok(length) => {
                    let (value, after) = rest.split_at_checked(length)?;
                    rest = after;
                    Some(String::from_utf8_lossy(value).into_owned())
                }
            });
        }
        Some(row)
    }

    /// The name and value of a ParameterStatus.
    pub fn parameter(&self) -> Option<(String, String)> {
        let mut texts = texts(&self.body);
        (self.tag == b'S').then(|| Some((texts.next()?, texts.next()?)))?
    }

    /// What an error or notice says.
    pub fn problem(&self) -> Option<Problem> {
        if !matches!(self.tag, b'E' | b'N') {
            return None;
        }
        let mut problem = Problem::default();
        for field in self.body.split(|byte| *byte == 0) {
            let Some((kind, text)) = field.split_first() else {
                break;
            };
            let text = String::from_utf8_lossy(text).into_owned();
            match kind {
                b'V' => problem.severity = text,
                b'C' => problem.code = text,
                b'M' => problem.message = text,
                b'D' => problem.detail = text,
                b'H' => problem.hint = text,
                _ => {}
            }
        }
        Some(problem)
    }

    /// The tag of a CommandComplete.
    pub fn command(&self) -> Option<String> {
        (self.tag == b'C').then(|| texts(&self.body).next())?
    }
}

fn texts(body: &[u8]) -> impl Iterator<Item = String> {
    body.split(|byte| *byte == 0)
        .map(|text| String::from_utf8_lossy(text).into_owned())
}

/// What an error or notice says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problem {
    /// `ERROR`, `FATAL`, …, whatever the language.
    pub severity: String,
    /// The SQLSTATE.
    pub code: String,
    /// The text.
    pub message: String,
    /// More about it.
    pub detail: String,
    /// What to do about it.
    pub hint: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { severity, code, .. } = self;
        write!(formatter, "{severity} {code} {}", self.message)
    }
}

/// A message of this kind.
pub fn tagged(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![tag];
    message.extend_from_slice(&sized(body));
    message
}

fn sized(body: &[u8]) -> Vec<u8> {
    let mut message = (body.len() as u32 + 4).to_be_bytes().to_vec();
    message.extend_from_slice(body);
    message
}

/// Startup with these parameters (`user`, `database`, …).
pub fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = VERSION.to_be_bytes().to_vec();
    for (name, value) in parameters {
        body.extend_from_slice(format!("{name}\0{value}\0").as_bytes());
    }
    body.push(0);
    sized(&body)
}

/// A request to cancel, for a connection of its own.
pub fn cancel(process: u32, secret: &[u8]) -> Vec<u8> {
    sized(&[&CANCEL.to_be_bytes()[..], &process.to_be_bytes(), secret].concat())
}

/// A request for TLS.
pub fn tls_request() -> Vec<u8> {
    sized(&TLS.to_be_bytes())
}

/// A simple query.
pub fn query(sql: &str) -> Vec<u8> {
    tagged(b'Q', format!("{sql}\0").as_bytes())
}

/// Parse, without types.
pub fn parse(name: &str, sql: &str) -> Vec<u8> {
    tagged(b'P', format!("{name}\0{sql}\0\0\0").as_bytes())
}

/// Bind with parameters as text; results come as text.
pub fn bind(portal: &str, statement: &str, parameters: &[Option<&str>]) -> Vec<u8> {
    let mut body = format!("{portal}\0{statement}\0\0\0").into_bytes();
    body.extend_from_slice(&(parameters.len() as u16).to_be_bytes());
    for parameter in parameters {
        match parameter {
            None => body.extend_from_slice(&(-1_i32).to_be_bytes()),
            Some(text) => body.extend_from_slice(&sized_value(text)),
        }
    }
    body.extend_from_slice(&[0, 0]);
    tagged(b'B', &body)
}

fn sized_value(text: &str) -> Vec<u8> {
    let mut value = (text.len() as u32).to_be_bytes().to_vec();
    value.extend_from_slice(text.as_bytes());
    value
}

/// Describe: `S` for a statement, `P` for a portal.
pub fn describe(kind: u8, name: &str) -> Vec<u8> {
    tagged(b'D', &[&[kind], name.as_bytes(), &[0]].concat())
}

/// Close: `S` for a statement, `P` for a portal.
pub fn close(kind: u8, name: &str) -> Vec<u8> {
    tagged(b'C', &[&[kind], name.as_bytes(), &[0]].concat())
}

/// Execute; at most so many rows, 0 for all.
pub fn execute(portal: &str, rows: u32) -> Vec<u8> {
    tagged(
        b'E',
        &[portal.as_bytes(), &[0], &rows.to_be_bytes()].concat(),
    )
}

/// Sync.
pub fn sync() -> Vec<u8> {
    tagged(b'S', b"")
}

/// Flush.
pub fn flush() -> Vec<u8> {
    tagged(b'H', b"")
}

/// Data of a COPY.
pub fn copy_data(data: &[u8]) -> Vec<u8> {
    tagged(b'd', data)
}

/// The end of a COPY's data.
pub fn copy_done() -> Vec<u8> {
    tagged(b'c', b"")
}

/// A COPY's data come to nothing.
pub fn copy_fail(why: &str) -> Vec<u8> {
    tagged(b'f', format!("{why}\0").as_bytes())
}

/// Goodbye.
pub fn terminate() -> Vec<u8> {
    tagged(b'X', b"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_as_the_protocol_has_them() {
        assert_eq!(query("x"), b"Q\0\0\0\x06x\0");
        assert_eq!(
            startup(&[("user", "a")]),
            b"\0\0\0\x10\0\x03\0\0user\0a\0\0"
        );
        assert_eq!(
            bind("p", "s", &[Some("ab"), None]),
            b"B\0\0\0\x18p\0s\0\0\0\0\x02\0\0\0\x02ab\xff\xff\xff\xff\0\0"
        );
        assert_eq!(cancel(1, &[2; 4]).len(), 16);
    }

    #[test]
    fn messages_of_servers_are_taken_apart() {
        let message = |tag, body: &[u8]| Message {
            tag,
            body: body.to_vec(),
        };
        let row = message(b'D', b"\0\x02\0\0\0\x01a\xff\xff\xff\xff");
        assert_eq!(row.row(), Some(vec![Some("a".to_owned()), None]));
        assert_eq!(message(b'D', b"\0\x02\0\0\0\x01a").row(), None);
        let error = message(b'E', b"SFEHLER\0VERROR\0C26000\0Mno\0Hhint\0\0");
        let problem = error.problem().expect("it is one");
        assert_eq!(problem.to_string(), "ERROR 26000 no");
        assert_eq!(problem.hint, "hint");
        let parameter = message(b'S', b"TimeZone\0UTC\0").parameter();
        assert_eq!(parameter, Some(("TimeZone".to_owned(), "UTC".to_owned())));
        assert_eq!(
            message(b'C', b"SELECT 1\0").command(),
            Some("SELECT 1".to_owned())
        );
    }
}
