//! Writing messages, to clients and to servers. Each function appends one message.

use super::message::{backend, frontend};
use super::startup;

/// A message of `tag` whose body is written by `body`.
pub fn message(out: &mut Vec<u8>, tag: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    sized(out, body);
}

fn sized(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    let length = (out.len() - start) as u32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// A text with its zero byte; what follows a zero byte within it is left out.
pub fn text(out: &mut Vec<u8>, text: &[u8]) {
    let end = memchr::memchr(0, text).unwrap_or(text.len());
    out.extend_from_slice(&text[..end]);
    out.push(0);
}

/// An error or notice, as clients get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem<'t> {
    /// `ERROR`, `FATAL`, `NOTICE`, …
    pub severity: &'t str,
    /// The SQLSTATE.
    pub code: &'t str,
    /// What is wrong.
    pub message: &'t str,
    /// What to do about it; empty for nothing.
    pub hint: &'t str,
}

impl<'t> Problem<'t> {
    /// An error that ends the connection.
    pub fn fatal(code: &'t str, message: &'t str) -> Self {
        Self {
            severity: "FATAL",
            code,
            message,
            hint: "",
        }
    }

    /// An error after which the connection goes on.
    pub fn error(code: &'t str, message: &'t str) -> Self {
        Self {
            severity: "ERROR",
            ..Self::fatal(code, message)
        }
    }
}

/// ErrorResponse.
pub fn error(out: &mut Vec<u8>, problem: Problem<'_>) {
    problem_as(out, backend::ERROR_RESPONSE, problem);
}

/// NoticeResponse.
pub fn notice(out: &mut Vec<u8>, problem: Problem<'_>) {
    problem_as(out, backend::NOTICE_RESPONSE, problem);
}

fn problem_as(out: &mut Vec<u8>, tag: u8, problem: Problem<'_>) {
    message(out, tag, |out| {
        let fields = [
            (b'S', problem.severity),
            (b'V', problem.severity),
            (b'C', problem.code),
            (b'M', problem.message),
            (b'H', problem.hint),
        ];
        for (field, value) in fields {
            if !value.is_empty() {
                out.push(field);
                text(out, value.as_bytes());
            }
        }
        out.push(0);
    });
}

/// ParameterStatus.
pub fn parameter_status(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    message(out, backend::PARAMETER_STATUS, |out| {
        text(out, name);
        text(out, value);
    });
}

/// BackendKeyData.
pub fn backend_key(out: &mut Vec<u8>, process: u32, secret: &[u8]) {
    message(out, backend::BACKEND_KEY_DATA, |out| {
        out.extend_from_slice(&process.to_be_bytes());
        out.extend_from_slice(secret);
    });
}

/// An Authentication message of any kind, by its body.
pub fn authentication(out: &mut Vec<u8>, body: &[u8]) {
    message(out, backend::AUTHENTICATION, |out| {
        out.extend_from_slice(body);
    });
}

/// AuthenticationOk.
pub fn authentication_ok(out: &mut Vec<u8>) {
    authentication(out, &0_u32.to_be_bytes());
}

/// NegotiateProtocolVersion: the newest minor version that is spoken, and options that are not.
pub fn negotiate<'o>(out: &mut Vec<u8>, minor: u16, options: impl Iterator<Item = &'o str>) {
    message(out, backend::NEGOTIATE_PROTOCOL_VERSION, |out| {
        out.extend_from_slice(&(startup::VERSION_3_0 | u32::from(minor)).to_be_bytes());
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        let mut count = 0_u32;
        for option in options {
            text(out, option.as_bytes());
            count += 1;
        }
        out[start..start + 4].copy_from_slice(&count.to_be_bytes());
    });
}

/// ReadyForQuery with the state of the transaction: `I`, `T` or `E`.
pub fn ready(out: &mut Vec<u8>, state: u8) {
    out.extend_from_slice(&[backend::READY_FOR_QUERY, 0, 0, 0, 5, state]);
}

/// CommandComplete.
pub fn command_complete(out: &mut Vec<u8>, tag: &str) {
    message(out, backend::COMMAND_COMPLETE, |out| {
        text(out, tag.as_bytes());
    });
}

/// A message without a body.
pub fn empty(out: &mut Vec<u8>, tag: u8) {
    out.extend_from_slice(&[tag, 0, 0, 0, 4]);
}

/// A column of a result that is made here. All values are texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column<'t> {
    /// Its name.
    pub name: &'t str,
    /// The number of its type in `pg_type`.
    pub type_oid: u32,
}

/// RowDescription of columns that belong to no table.
pub fn row_description<'c>(out: &mut Vec<u8>, columns: impl ExactSizeIterator<Item = Column<'c>>) {
    message(out, backend::ROW_DESCRIPTION, |out| {
        out.extend_from_slice(&(columns.len() as u16).to_be_bytes());
        for column in columns {
            text(out, column.name.as_bytes());
            out.extend_from_slice(&[0; 6]);
            out.extend_from_slice(&column.type_oid.to_be_bytes());
            out.extend_from_slice(&type_size(column.type_oid).to_be_bytes());
            out.extend_from_slice(&(-1_i32).to_be_bytes());
            out.extend_from_slice(&[0; 2]);
        }
    });
}

/// `typlen` of the types that are used here.
fn type_size(oid: u32) -> i16 {
    match oid {
        16 => 1,
        20 => 8,
        23 => 4,
        _ => -1,
    }
}

/// DataRow of texts; none is a null.
pub fn data_row<'v>(out: &mut Vec<u8>, values: impl ExactSizeIterator<Item = Option<&'v [u8]>>) {
    message(out, backend::DATA_ROW, |out| {
        out.extend_from_slice(&(values.len() as u16).to_be_bytes());
        for value in values {
            match value {
                None => out.extend_from_slice(&(-1_i32).to_be_bytes()),
                Some(value) => {
                    out.extend_from_slice(&(value.len() as i32).to_be_bytes());
                    out.extend_from_slice(value);
                }
            }
        }
    });
}

/// A simple query.
pub fn query(out: &mut Vec<u8>, sql: &[u8]) {
    message(out, frontend::QUERY, |out| text(out, sql));
}

/// A PasswordMessage, SASLInitialResponse or SASLResponse, by its body.
pub fn password(out: &mut Vec<u8>, body: &[u8]) {
    message(out, frontend::PASSWORD, |out| out.extend_from_slice(body));
}

/// Parse; `types` are the number and the types of the parameters as in the message.
pub fn parse(out: &mut Vec<u8>, name: &[u8], sql: &[u8], types: &[u8]) {
    message(out, frontend::PARSE, |out| {
        text(out, name);
        text(out, sql);
        out.extend_from_slice(types);
    });
}

/// Describe (`S` or `P`).
pub fn describe(out: &mut Vec<u8>, kind: u8, name: &[u8]) {
    message(out, frontend::DESCRIBE, |out| {
        out.push(kind);
        text(out, name);
    });
}

/// Close (`S` or `P`).
pub fn close(out: &mut Vec<u8>, kind: u8, name: &[u8]) {
    message(out, frontend::CLOSE, |out| {
        out.push(kind);
        text(out, name);
    });
}

/// A startup message of version 3.0.
pub fn startup<'p>(out: &mut Vec<u8>, parameters: impl Iterator<Item = (&'p str, &'p str)>) {
    sized(out, |out| {
        out.extend_from_slice(&startup::VERSION_3_0.to_be_bytes());
        for (name, value) in parameters {
            text(out, name.as_bytes());
            text(out, value.as_bytes());
        }
        out.push(0);
    });
}

/// An SSLRequest.
pub fn ssl_request(out: &mut Vec<u8>) {
    sized(out, |out| {
        out.extend_from_slice(&startup::SSL_REQUEST.to_be_bytes());
    });
}

/// A CancelRequest.
pub fn cancel(out: &mut Vec<u8>, process: u32, secret: &[u8]) {
    sized(out, |out| {
        out.extend_from_slice(&startup::CANCEL_REQUEST.to_be_bytes());
        out.extend_from_slice(&process.to_be_bytes());
        out.extend_from_slice(secret);
    });
}

#[cfg(test)]
mod tests {
    use super::super::frame::{self, Frame};
    use super::super::read;
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let written = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            write(&mut out);
            let Ok(Frame::Whole(header)) = frame::look(&out) else {
                panic!("{out:?}");
            };
            assert_eq!(header.whole(), out.len());
            (header.tag, out[frame::HEADER_BYTES..].to_vec())
        };
        let (tag, body) = written(&|out| error(out, Problem::fatal("08P01", "no\0t this")));
        let problem = read::Problem::read(&body);
        assert_eq!((tag, problem.code), (b'E', &b"08P01"[..]));
        assert_eq!((problem.message, problem.is_fatal()), (&b"no"[..], true));
        assert_eq!(written(&|out| ready(out, b'T')), (b'Z', b"T".to_vec()));
        assert_eq!(written(&|out| empty(out, b'1')), (b'1', Vec::new()));
        let (_, body) = written(&|out| parameter_status(out, b"a", b"b"));
        assert_eq!(read::parameter(&body), Some((&b"a"[..], &b"b"[..])));
        let (_, body) = written(&|out| parse(out, b"s", b"select 1", b"\0\0"));
        assert_eq!(
            read::Parse::read(&body).map(|one| one.query),
            Some(&b"select 1"[..])
        );
        let (_, body) = written(&|out| close(out, b'S', b"x"));
        assert_eq!(read::target(&body), Some((b'S', &b"x"[..])));
        let row = [Some(&b"1"[..]), None];
        let (_, body) = written(&|out| data_row(out, row.into_iter()));
        assert_eq!(body, b"\0\x02\0\0\0\x011\xff\xff\xff\xff");
    }

    #[test]
    fn first_packets_can_be_read() {
        let mut out = Vec::new();
        startup(&mut out, [("user", "a")].into_iter());
        let Ok(Some((startup::Opening::Session(session), length))) = startup::look(&out) else {
            panic!("{out:?}");
        };
        assert_eq!(length, out.len());
        assert_eq!(session.parameters.get("user"), Some("a"));
        out.clear();
        ssl_request(&mut out);
        assert_eq!(startup::look(&out), Ok(Some((startup::Opening::Ssl, 8))));
        out.clear();
        cancel(&mut out, 7, b"1234");
        let expected = startup::Opening::Cancel {
            process: 7,
            secret: b"1234".to_vec(),
        };
        assert_eq!(startup::look(&out), Ok(Some((expected, 16))));
    }
}
