//! A record as a line of text or JSON.

use outgrow_core::Ticks;
use outgrow_core::context::Context;
use outgrow_http::h1::encode::put_number;

use crate::settings::AccessFormat;

/// Everything that a record says.
pub(crate) struct Line<'a> {
    pub(crate) context: &'a Context,
    pub(crate) client: &'a [u8],
    /// Who was at the other end of the connection, when that was a proxy of the client.
    pub(crate) peer: &'a [u8],
    pub(crate) method: &'a [u8],
    pub(crate) host: &'a [u8],
    pub(crate) path: &'a [u8],
    pub(crate) query: Option<&'a [u8]>,
    pub(crate) route: &'a str,
    pub(crate) service: &'a str,
    pub(crate) endpoint: &'a str,
    pub(crate) detail: &'a str,
    pub(crate) user_agent: &'a [u8],
    pub(crate) given_id: Option<&'a [u8]>,
}

/// Longer targets and agents are cut in the record.
const LONGEST: usize = 1024;

impl Line<'_> {
    /// Appends the line.
    pub(crate) fn write(&self, format: AccessFormat, out: &mut Vec<u8>) {
        match format {
            AccessFormat::Text => self.write_text(out),
            AccessFormat::Json => self.write_json(out),
        }
    }

    fn micros(from: Ticks, to: Ticks) -> Option<u64> {
        (from != Ticks::ZERO && to >= from && to != Ticks::ZERO).then(|| to.micros_since(from))
    }

    /// `time client "METHOD host path PROTOCOL" status bytes coding plain duration_us route service endpoint
    /// first_byte_us retries reason id`
    fn write_text(&self, out: &mut Vec<u8>) {
        let context = self.context;
        let stages = &context.stages;
        context.wall.write_rfc3339(out);
        out.push(b' ');
        put_or_dash(self.client, out);
        out.extend_from_slice(b" \"");
        put_text(self.method, out);
        out.push(b' ');
        put_text(self.host, out);
        put_text(self.path, out);
        if let Some(query) = self.query {
            out.push(b'?');
            put_text(query, out);
        }
        out.push(b' ');
        out.extend_from_slice(context.protocol.name().as_bytes());
        out.extend_from_slice(b"\" ");
        put_number(out, u64::from(context.status));
        if let Some(status) = context.grpc_status {
            out.extend_from_slice(b" grpc_status=");
            put_number(out, u64::from(status));
        }
        out.extend_from_slice(b" in=");
        put_number(out, context.request_bytes);
        if !context.request_coding.is_empty() {
            out.extend_from_slice(b" request_coding=");
            out.extend_from_slice(context.request_coding.as_bytes());
            out.extend_from_slice(b" request_plain=");
            put_number(out, context.request_plain_bytes);
        }
        out.extend_from_slice(b" out=");
        put_number(out, context.response_bytes);
        if !context.coding.is_empty() {
            out.extend_from_slice(b" coding=");
            out.extend_from_slice(context.coding.as_bytes());
            out.extend_from_slice(b" plain=");
            put_number(out, context.plain_bytes);
        }
        out.extend_from_slice(b" us=");
        put_number(out, stages.end.micros_since(stages.start));
        if let Some(micros) = Self::micros(stages.sent, stages.first_byte) {
            out.extend_from_slice(b" first_byte_us=");
            put_number(out, micros);
        }
        out.extend_from_slice(b" route=");
        put_or_dash(self.route.as_bytes(), out);
        if !self.endpoint.is_empty() {
            out.extend_from_slice(b" service=");
            out.extend_from_slice(self.service.as_bytes());
            out.extend_from_slice(b" endpoint=");
            out.extend_from_slice(self.endpoint.as_bytes());
            out.extend_from_slice(if context.reused {
                b" reused=1"
            } else {
                b" reused=0"
            });
        }
        if context.retries > 0 {
            out.extend_from_slice(b" retries=");
            put_number(out, u64::from(context.retries));
        }
        if let Some(fault) = context.fault {
            out.extend_from_slice(b" reason=");
            out.extend_from_slice(fault.cause.reason().as_bytes());
            if !self.detail.is_empty() {
                out.extend_from_slice(b" detail=\"");
                put_text(self.detail.as_bytes(), out);
                out.push(b'"');
            }
        }
        out.extend_from_slice(b" id=");
        self.put_id(out);
        out.push(b'\n');
    }

    fn put_id(&self, out: &mut Vec<u8>) {
        match self.given_id {
            Some(id) => put_text(id, out),
            None => out.extend_from_slice(&self.context.id.hex()),
        }
    }

    fn write_json(&self, out: &mut Vec<u8>) {
        let context = self.context;
        let stages = &context.stages;
        out.extend_from_slice(b"{\"time\":\"");
        context.wall.write_rfc3339(out);
        out.push(b'"');
        put_member("id", |out| self.put_id(out), out);
        for (name, value) in [
            ("client", self.client),
            ("peer", self.peer),
            ("method", self.method),
            ("host", self.host),
            ("path", self.path),
            ("query", self.query.unwrap_or_default()),
            ("protocol", context.protocol.name().as_bytes()),
            ("route", self.route.as_bytes()),
            ("service", self.service.as_bytes()),
            ("endpoint", self.endpoint.as_bytes()),
            ("request_coding", context.request_coding.as_bytes()),
            ("coding", context.coding.as_bytes()),
            ("user_agent", self.user_agent),
            (
                "reason",
                context
                    .fault
                    .map_or(&b""[..], |fault| fault.cause.reason().as_bytes()),
            ),
            ("detail", self.detail.as_bytes()),
        ] {
            if !value.is_empty() {
                put_member(name, |out| put_text(value, out), out);
            }
        }
        for (name, value) in [
            ("status", Some(u64::from(context.status))),
            ("grpc_status", context.grpc_status.map(u64::from)),
            ("request_bytes", Some(context.request_bytes)),
            (
                "request_plain_bytes",
                (!context.request_coding.is_empty()).then_some(context.request_plain_bytes),
            ),
            ("response_bytes", Some(context.response_bytes)),
            (
                "plain_bytes",
                (!context.coding.is_empty()).then_some(context.plain_bytes),
            ),
            ("duration_us", Some(stages.end.micros_since(stages.start))),
            ("admitted_us", Self::micros(stages.start, stages.admitted)),
            (
                "connected_us",
                Self::micros(stages.admitted, stages.connected),
            ),
            (
                "first_byte_us",
                Self::micros(stages.sent, stages.first_byte),
            ),
            ("retries", Some(u64::from(context.retries))),
            ("reused", Some(u64::from(context.reused))),
        ] {
            let Some(value) = value else { continue };
            out.extend_from_slice(b",\"");
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":");
            put_number(out, value);
        }
        out.extend_from_slice(b"}\n");
    }
}

fn put_member(name: &str, value: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":\"");
    value(out);
    out.push(b'"');
}

fn put_or_dash(text: &[u8], out: &mut Vec<u8>) {
    if text.is_empty() {
        out.push(b'-');
    } else {
        put_text(text, out);
    }
}

/// Text from outside: what could end a line, a string or a terminal's mood is escaped as `\u00xx`,
/// which is right in JSON and unambiguous in text.
fn put_text(text: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let text = &text[..text.len().min(LONGEST)];
    let plain = |byte: u8| (0x20..0x7f).contains(&byte) && byte != b'"' && byte != b'\\';
    let mut rest = text;
    while !rest.is_empty() {
        let length = rest
            .iter()
            .position(|&byte| !plain(byte))
            .unwrap_or(rest.len());
        out.extend_from_slice(&rest[..length]);
        let Some(&byte) = rest.get(length) else {
            return;
        };
        out.extend_from_slice(b"\\u00");
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
        rest = &rest[length + 1..];
    }
}

#[cfg(test)]
mod tests {
    use outgrow_core::context::RequestId;
    use outgrow_core::{Cause, Fault, Phase, Sent, WallTime};

    use super::*;

    fn line(format: AccessFormat) -> String {
        let mut context = Context::new(RequestId([1; 16]), WallTime(0), Ticks(1_000));
        context.status = 502;
        context.stages.end = Ticks(2_500_000);
        context.response_bytes = 17;
        context.fault = Some(Fault::upstream(
            Phase::Connect,
            Cause::ConnectRefused,
            Sent::None,
        ));
        let line = Line {
            context: &context,
            client: b"192.0.2.1",
            peer: b"",
            method: b"GET",
            host: b"shop.example",
            path: b"/a\"b\\\n\xff",
            query: Some(b"q=1"),
            route: "shop",
            service: "web",
            endpoint: "127.0.0.1:3000",
            detail: "",
            user_agent: b"agent",
            given_id: None,
        };
        let mut out = Vec::new();
        line.write(format, &mut out);
        String::from_utf8(out).expect("records are ASCII")
    }

    #[test]
    fn a_text_record_is_one_line() {
        assert_eq!(
            line(AccessFormat::Text),
            "1970-01-01T00:00:00.000Z 192.0.2.1 \"GET shop.example/a\\u0022b\\u005c\\u000a\\u00ff?q=1 \
             HTTP/1.1\" 502 in=0 out=17 us=2499 route=shop service=web endpoint=127.0.0.1:3000 \
             reused=0 reason=connect_refused id=01010101010101010101010101010101\n"
        );
    }

    #[test]
    fn a_json_record_is_json() {
        let text = line(AccessFormat::Json);
        assert!(text.starts_with("{\"time\":\"1970-01-01T00:00:00.000Z\",\"id\":\"0101"));
        assert!(text.contains("\"path\":\"/a\\u0022b\\u005c\\u000a\\u00ff\""));
        assert!(text.contains("\"status\":502,") && text.ends_with("\"reused\":0}\n"));
        let record: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(record["path"], "/a\"b\\\n\u{ff}");
        assert_eq!(record["reason"], "connect_refused");
    }
}
