//! The record of a connection, or of a session of datagrams: a line of text or JSON, written when it has ended. Where it goes is
//! said by who implements [`Records`].

use std::fmt::{Debug, Write as _};
use std::net::SocketAddr;

use outgrow_core::context::RequestId;
use outgrow_core::{Ticks, WallTime};

use crate::end::End;

/// Longest text from outside in a record.
const LONGEST: usize = 1024;

/// Who takes records. Never waits.
pub trait Records: Send + Sync + Debug {
    /// Whether records are wanted.
    fn is_on(&self) -> bool;

    /// Takes a record of `worker`'s, to be written in the form that is wanted.
    fn put(&self, worker: usize, record: &Record<'_>);
}

/// When each stage was reached; [`Ticks::ZERO`] where it was not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stages {
    /// Accepted.
    pub start: Ticks,
    /// The endpoint was chosen and may be connected to.
    pub admitted: Ticks,
    /// The endpoint had taken it.
    pub connected: Ticks,
    /// It had ended.
    pub end: Ticks,
}

/// The facts of one connection.
#[derive(Debug)]
pub struct Record<'a> {
    /// Its name: 128 random bits.
    pub id: RequestId,
    /// `TCP` or `UDP`.
    pub protocol: &'static str,
    /// When it was accepted.
    pub wall: WallTime,
    /// Stage times.
    pub stages: Stages,
    /// The listener.
    pub listener: &'a str,
    /// The route by ClientHello; empty without.
    pub route: &'a str,
    /// The client; none for a Unix socket.
    pub client: Option<SocketAddr>,
    /// The proxy that said whose connection it is.
    pub peer: Option<SocketAddr>,
    /// The server name of the ClientHello; empty without.
    pub server_name: &'a [u8],
    /// The service; empty when none was found.
    pub service: &'a str,
    /// The endpoint; empty when none took it.
    pub endpoint: &'a str,
    /// Bytes of the client's that the endpoint was given.
    pub received_bytes: u64,
    /// Bytes of the endpoint's that the client was given.
    pub sent_bytes: u64,
    /// Endpoints that did not take it before.
    pub retries: u32,
    /// How it ended.
    pub end: End,
    /// What more can be said of that; empty for nothing.
    pub detail: &'a str,
}

impl Record<'_> {
    /// Appends the line as text: `time client TCP listener in=… out=… us=… …`.
    pub fn write_text(&self, out: &mut Vec<u8>) {
        self.wall.write_rfc3339(out);
        out.push(b' ');
        match self.client {
            Some(client) => put(out, format_args!("{}", client.ip().to_canonical())),
            None => out.push(b'-'),
        }
        put(
            out,
            format_args!(
                " {} {} in={} out={} us={}",
                self.protocol,
                self.listener,
                self.received_bytes,
                self.sent_bytes,
                self.stages.end.micros_since(self.stages.start)
            ),
        );
        if let Some(micros) = micros(self.stages.admitted, self.stages.connected) {
            put(out, format_args!(" connect_us={micros}"));
        }
        for (name, value) in [
            ("route", self.route),
            ("service", self.service),
            ("endpoint", self.endpoint),
        ] {
            if !value.is_empty() {
                put(out, format_args!(" {name}={value}"));
            }
        }
        if !self.server_name.is_empty() {
            out.extend_from_slice(b" server_name=");
            put_text(self.server_name, out);
        }
        if self.retries > 0 {
            put(out, format_args!(" retries={}", self.retries));
        }
        if let Some(reason) = self.end.reason() {
            put(out, format_args!(" reason={reason}"));
            if !self.detail.is_empty() {
                out.extend_from_slice(b" detail=\"");
                put_text(self.detail.as_bytes(), out);
                out.push(b'"');
            }
        }
        out.extend_from_slice(b" id=");
        out.extend_from_slice(&self.id.hex());
        out.push(b'\n');
    }

    /// Appends the line as a JSON object.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"time\":\"");
        self.wall.write_rfc3339(out);
        out.extend_from_slice(b"\",\"id\":\"");
        out.extend_from_slice(&self.id.hex());
        out.extend_from_slice(b"\",\"protocol\":\"");
        out.extend_from_slice(self.protocol.as_bytes());
        out.push(b'"');
        for (name, address) in [("client", self.client), ("peer", self.peer)] {
            if let Some(address) = address {
                put(
                    out,
                    format_args!(",\"{name}\":\"{}\"", address.ip().to_canonical()),
                );
            }
        }
        if let Some(client) = self.client {
            put(out, format_args!(",\"client_port\":{}", client.port()));
        }
        for (name, text) in [
            ("listener", self.listener.as_bytes()),
            ("route", self.route.as_bytes()),
            ("server_name", self.server_name),
            ("service", self.service.as_bytes()),
            ("endpoint", self.endpoint.as_bytes()),
            ("reason", self.end.reason().unwrap_or_default().as_bytes()),
            ("detail", self.detail.as_bytes()),
        ] {
            if !text.is_empty() {
                put(out, format_args!(",\"{name}\":\""));
                put_text(text, out);
                out.push(b'"');
            }
        }
        let stages = &self.stages;
        for (name, number) in [
            ("received_bytes", Some(self.received_bytes)),
            ("sent_bytes", Some(self.sent_bytes)),
            ("duration_us", Some(stages.end.micros_since(stages.start))),
            ("admitted_us", micros(stages.start, stages.admitted)),
            ("connected_us", micros(stages.admitted, stages.connected)),
            ("retries", Some(u64::from(self.retries))),
        ] {
            if let Some(number) = number {
                put(out, format_args!(",\"{name}\":{number}"));
            }
        }
        out.extend_from_slice(b"}\n");
    }
}

fn micros(from: Ticks, to: Ticks) -> Option<u64> {
    (from != Ticks::ZERO && to >= from && to != Ticks::ZERO).then(|| to.micros_since(from))
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    /// A `Vec` takes whatever is written to it.
    struct Bytes<'a>(&'a mut Vec<u8>);
    impl std::fmt::Write for Bytes<'_> {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            self.0.extend_from_slice(text.as_bytes());
            Ok(())
        }
    }
    let _ = Bytes(out).write_fmt(text);
}

/// Text from outside: what could end a line, a string or a terminal's mood is escaped as `\u00xx`.
fn put_text(text: &[u8], out: &mut Vec<u8>) {
    for &byte in &text[..text.len().min(LONGEST)] {
        if (0x20..0x7f).contains(&byte) && byte != b'"' && byte != b'\\' {
            out.push(byte);
        } else {
            put(out, format_args!("\\u00{byte:02x}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use outgrow_core::Cause;

    use super::*;

    fn record(write: impl Fn(&Record<'_>, &mut Vec<u8>)) -> String {
        let record = Record {
            id: RequestId([1; 16]),
            protocol: "TCP",
            wall: WallTime(0),
            stages: Stages {
                start: Ticks(1_000),
                admitted: Ticks(2_000),
                connected: Ticks(302_000),
                end: Ticks(2_501_000),
            },
            listener: "cache",
            route: "",
            client: "[::ffff:192.0.2.1]:5000".parse().ok(),
            peer: None,
            server_name: b"a\"\n",
            service: "redis",
            endpoint: "127.0.0.1:6379",
            received_bytes: 17,
            sent_bytes: 4,
            retries: 1,
            end: End::Refused(Cause::ConnectRefused),
            detail: "",
        };
        let mut line = Vec::new();
        write(&record, &mut line);
        String::from_utf8(line).expect("records are ASCII")
    }

    #[test]
    fn a_text_record_is_one_line() {
        assert_eq!(
            record(|record, out| record.write_text(out)),
            "1970-01-01T00:00:00.000Z 192.0.2.1 TCP cache in=17 out=4 us=2500 connect_us=300 \
             service=redis endpoint=127.0.0.1:6379 server_name=a\\u0022\\u000a retries=1 \
             reason=connect_refused id=01010101010101010101010101010101\n"
        );
    }

    #[test]
    fn a_json_record_is_json() {
        let text = record(|record, out| record.write_json(out));
        assert!(text.starts_with("{\"time\":\"1970-01-01T00:00:00.000Z\",\"id\":\"0101"));
        assert!(text.contains(",\"client\":\"192.0.2.1\",\"client_port\":5000,"));
        assert!(text.contains("\"server_name\":\"a\\u0022\\u000a\""));
        assert!(text.contains("\"connected_us\":300,") && text.ends_with("\"retries\":1}\n"));
    }
}
