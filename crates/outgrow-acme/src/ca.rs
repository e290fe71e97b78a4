//! How an authority is spoken to: the library's questions over the house's own client, so that there
//! is one TLS, one verification and one set of bounds; and what the library drops of the answers.

use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{Request, Response};
use http_body_util::BodyExt;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use outgrow_discover::Surroundings;
use outgrow_discover::http::{Client, Media, Question, RegistryTls};

use crate::settings::AcmeSettings;
use crate::url::Url;

/// How long an authority may take for an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest answer, in bytes: a chain of certificates has a few KiB.
const LENGTH: usize = 256 * 1024;

/// The client of one authority.
#[derive(Clone, Debug)]
pub(crate) struct Ca {
    client: Arc<Client>,
    /// What the last answer said about when to come again.
    retry_after: Arc<Mutex<Option<Duration>>>,
}

impl Ca {
    pub(crate) fn new(settings: &AcmeSettings, surroundings: Surroundings) -> Self {
        let tls = RegistryTls {
            ca: settings.ca.clone(),
            ..RegistryTls::default()
        };
        Self {
            client: Arc::new(Client::new(Some(&tls), surroundings)),
            retry_after: Arc::default(),
        }
    }

    /// What the last answer said about when to come again, in seconds.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        *self
            .retry_after
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, retry_after: Option<Duration>) {
        let mut noted = self
            .retry_after
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *noted = retry_after;
    }

    async fn exchange(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
        self.note(None);
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes());
        let body = body.unwrap_or_default();
        let url: Url = parts.uri.to_string().parse().map_err(|problem| {
            other(format!(
                "{}: the authority's URL cannot be used: {problem}",
                parts.uri
            ))
        })?;
        let text = |name| {
            parts
                .headers
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        let fields: Vec<(&str, &str)> = parts
            .headers
            .iter()
            .filter(|(name, _)| *name != CONTENT_TYPE && *name != USER_AGENT)
            .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
            .collect();
        let question = Question {
            target: url.target(),
            fields: &fields,
            body: (parts.method == http::Method::POST).then_some(&body[..]),
            media: Some(Media {
                sent: text(CONTENT_TYPE).unwrap_or("application/jose+json"),
                wanted: "*/*",
            }),
            method: Some(match parts.method {
                http::Method::HEAD => "HEAD",
                http::Method::POST => "POST",
                _ => "GET",
            }),
        };
        let asked = self.client.ask(url.server(), &question, PATIENCE).await;
        let told = |problem| other(format!("{} cannot be reached: {problem}", url.server()));
        let mut answer = asked.map_err(told)?;
        let body = answer.whole(PATIENCE, LENGTH).await.map_err(told)?;
        let head = answer.head();
        let mut response = Response::builder().status(head.status);
        for (_, name, value) in head.fields.iter() {
            response = response.header(name, value);
            if name.eq_ignore_ascii_case(b"retry-after") {
                self.note(seconds(value));
            }
        }
        let (parts, ()) = response.body(()).map_err(Error::Http)?.into_parts();
        Ok(BytesResponse {
            parts,
            body: Box::new(Bytes::from(body)),
        })
    }
}

impl HttpClient for Ca {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        Box::pin(self.clone().exchange(request))
    }
}

/// `Retry-After` as seconds, or as a date.
fn seconds(value: &[u8]) -> Option<Duration> {
    let text = str::from_utf8(value).ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    date.duration_since(std::time::SystemTime::now()).ok()
}

fn other(text: String) -> Error {
    Error::Other(Box::<dyn StdError + Send + Sync>::from(text))
}
