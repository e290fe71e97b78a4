//! The question of [`http`](super::http) by HTTP/2, for endpoints that are spoken to so, and the
//! connection on which all checks by HTTP/2 ask.

use bytes::Bytes;
use h2::client;
use http::{HeaderValue, Method, Request, Uri, header};
use tokio::io::{AsyncRead, AsyncWrite};

use super::failure::Failure;
use super::http::{BODY_LIMIT, Question, contains, missing};
use crate::settings::CheckMethod;

/// Longest head of the answer.
const HEAD_LIMIT: u32 = 16 * 1024;

/// Asks, and says what is wrong with the answer. `scheme`: of the connection.
pub(super) async fn ask(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    question: &Question<'_>,
    scheme: &str,
) -> Result<(), Failure> {
    connected(stream, |sender| exchange(sender, question, scheme)).await
}

/// Does an exchange over a connection that stands, which is driven meanwhile.
pub(super) async fn connected<E>(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    exchange: impl FnOnce(client::SendRequest<Bytes>) -> E,
) -> Result<(), Failure>
where
    E: Future<Output = Result<(), Failure>>,
{
    let (sender, connection) = client::Builder::new()
        .max_header_list_size(HEAD_LIMIT)
        .enable_push(false)
        .handshake(stream)
        .await
        .map_err(failure)?;
    let exchange = exchange(sender);
    tokio::pin!(connection, exchange);
    tokio::select! {
        result = &mut exchange => result,
        ended = &mut connection => {
            // What came before the end may be the answer.
            match exchange.await {
                Err(Failure::Closed) => Err(ended.map_or_else(failure, |()| Failure::Closed)),
                result => result,
            }
        }
    }
}

async fn exchange(
    sender: client::SendRequest<Bytes>,
    question: &Question<'_>,
    scheme: &str,
) -> Result<(), Failure> {
    let mut sender = sender.ready().await.map_err(failure)?;
    let request = request(question, scheme).ok_or(Failure::Not("possible by HTTP/2"))?;
    let (response, _) = sender.send_request(request, true).map_err(failure)?;
    let response = response.await.map_err(failure)?;
    let status = response.status().as_u16();
    if !question.status.contains(status) {
        return Err(Failure::Answer(format!("status {status}")));
    }
    if question.body.is_empty() {
        return Ok(());
    }
    let mut body = response.into_body();
    let mut seen = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(failure)?;
        seen.extend_from_slice(&data[..data.len().min(BODY_LIMIT - seen.len())]);
        if contains(&seen, question.body.as_bytes()) {
            return Ok(());
        }
        if seen.len() == BODY_LIMIT {
            break;
        }
        let released = body.flow_control().release_capacity(data.len());
        released.map_err(failure)?;
    }
    Err(missing(status, question.body))
}

/// The request; none when something of the configuration has no form in HTTP/2.
fn request(question: &Question<'_>, scheme: &str) -> Option<Request<()>> {
    let uri = Uri::builder()
        .scheme(scheme)
        .authority(question.host)
        .path_and_query(question.path)
        .build();
    let mut request = Request::new(());
    *request.uri_mut() = uri.ok()?;
    *request.method_mut() = match question.method {
        CheckMethod::Get => Method::GET,
        CheckMethod::Head => Method::HEAD,
    };
    let fields = request.headers_mut();
    fields.insert(
        header::USER_AGENT,
        HeaderValue::from_static("outgrow-check"),
    );
    fields.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    for (name, value) in &question.headers {
        let name = header::HeaderName::from_bytes(name.as_bytes()).ok()?;
        fields.append(name, HeaderValue::from_str(value).ok()?);
    }
    Some(request)
}

/// What an error of the protocol means.
pub(super) fn failure(error: h2::Error) -> Failure {
    if error.is_io() {
        match error.into_io() {
            Some(error) => error.into(),
            None => Failure::Closed,
        }
    } else if error.is_go_away() || error.is_reset() {
        Failure::Closed
    } else {
        Failure::Not("HTTP/2")
    }
}
