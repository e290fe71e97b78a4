//! A check by the protocol that gRPC servers have for it: `grpc.health.v1.Health/Check`, over
//! HTTP/2. The two messages are small enough to be written and read by hand.

use bytes::Bytes;
use h2::client;
use http::{HeaderMap, Request, Uri};
use tokio::io::{AsyncRead, AsyncWrite};

use super::failure::{Failure, printable};
use super::http2::{self, failure};

/// Longest message.
const BODY_LIMIT: usize = 1024;

/// Asks about a service, the empty name being the server as a whole.
pub(super) async fn ask(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    authority: &str,
    service: &str,
) -> Result<(), Failure> {
    http2::connected(stream, |sender| exchange(sender, authority, service)).await
}

async fn exchange(
    sender: client::SendRequest<Bytes>,
    authority: &str,
    service: &str,
) -> Result<(), Failure> {
    let mut sender = sender.ready().await.map_err(failure)?;
    let uri = Uri::builder()
        .scheme("http")
        .authority(authority)
        .path_and_query("/grpc.health.v1.Health/Check")
        .build();
    let request = uri.and_then(|uri| {
        Request::post(uri)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("user-agent", "outgrow-check")
            .body(())
    });
    let request = request.map_err(|_| Failure::Answer(format!("{authority:?} is not a host")))?;
    let (answer, mut body) = sender.send_request(request, false).map_err(failure)?;
    body.send_data(message(service), true).map_err(failure)?;
    let (head, mut body) = answer.await.map_err(failure)?.into_parts();
    if head.status != http::StatusCode::OK {
        return Err(Failure::Answer(format!("status {}", head.status.as_u16())));
    }
    judge_status(&head.headers, service)?;
    let mut message = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(failure)?;
        if message.len() + data.len() > BODY_LIMIT {
            return Err(Failure::Not("one to a health check"));
        }
        message.extend_from_slice(&data);
        body.flow_control()
            .release_capacity(data.len())
            .map_err(failure)?;
    }
    if let Some(trailers) = body.trailers().await.map_err(failure)? {
        judge_status(&trailers, service)?;
    }
    judge(&message)
}

/// `HealthCheckRequest`, framed: not compressed, its length, field 1 with the name.
fn message(service: &str) -> Bytes {
    let mut field = Vec::new();
    if !service.is_empty() {
        field.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            field.push(length as u8 | 0x80);
            length >>= 7;
        }
        field.push(length as u8);
        field.extend_from_slice(service.as_bytes());
    }
    let mut message = vec![0];
    message.extend_from_slice(&(field.len() as u32).to_be_bytes());
    message.extend(field);
    message.into()
}

/// What the server says of the call itself.
fn judge_status(fields: &HeaderMap, service: &str) -> Result<(), Failure> {
    let status = match fields.get("grpc-status") {
        None => return Ok(()),
        Some(status) if status == "0" => return Ok(()),
        Some(status) => status,
    };
    let text = fields
        .get("grpc-message")
        .map(|text| printable(text.as_bytes()))
        .unwrap_or_default();
    Err(Failure::Answer(match status.as_bytes() {
        b"5" => format!("does not know the service {service:?} (grpc_service): {text}"),
        b"12" => "does not speak grpc.health.v1.Health: add the health service to the server, or \
                  set kind = \"tcp\""
            .to_owned(),
        other => format!("grpc-status {}: {text}", printable(other)),
    }))
}

/// `HealthCheckResponse`: field 1 is 1 when it serves.
fn judge(message: &[u8]) -> Result<(), Failure> {
    let field = match message {
        [0, a, b, c, d, field @ ..]
            if u32::from_be_bytes([*a, *b, *c, *d]) as usize == field.len() =>
        {
            field
        }
        _ => return Err(Failure::Not("one to a health check")),
    };
    let status = match field {
        [0x08, 1, ..] => return Ok(()),
        [0x08, 2, ..] => "NOT_SERVING",
        [0x08, 3, ..] => "SERVICE_UNKNOWN",
        [] | [0x08, 0, ..] => "UNKNOWN",
        _ => return Err(Failure::Not("one to a health check")),
    };
    Err(Failure::Answer(status.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_written_and_read() {
        assert_eq!(&message("")[..], b"\0\0\0\0\0");
        assert_eq!(&message("ab")[..], b"\0\0\0\0\x04\x0a\x02ab");
        let long = message(&"x".repeat(300));
        assert_eq!(&long[..9], b"\0\0\0\x01\x2f\x0a\xac\x02x");
        let check = |message: &[u8], expected: &str| {
            let got = judge(message)
                .map_or_else(|failure| failure.to_string(), |()| "healthy".to_owned());
            assert_eq!(got, expected, "{message:?}");
        };
        check(b"\0\0\0\0\x02\x08\x01", "healthy");
        check(b"\0\0\0\0\x02\x08\x02", "NOT_SERVING");
        check(b"\0\0\0\0\x02\x08\x03", "SERVICE_UNKNOWN");
        check(b"\0\0\0\0\0", "UNKNOWN");
        for odd in [
            &b""[..],
            b"\x01\0\0\0\x02\x08\x01",
            b"\0\0\0\0\x03\x08\x01",
            b"\0\0\0\0\x02\x10\x01",
        ] {
            check(odd, "the answer is not one to a health check");
        }
    }
}
