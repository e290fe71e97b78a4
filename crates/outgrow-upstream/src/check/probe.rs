//! One check: connect, and ask what the kind of check asks. Why it failed is told in words.

use std::time::Duration;

use outgrow_net::proxy_header::{Outgoing, Version};
use outgrow_net::{Stream, Transport};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::encrypt::{Duplex, Encrypt};
use super::failure::Failure;
use super::{grpc, http, http2, postgres, redis, tcp};
use crate::connect::{self, Seal, Speaks};
use crate::endpoint::Endpoint;
use crate::scram;
use crate::settings::{CheckKind, CheckSettings};

/// What is asked.
pub(super) enum Question<'a> {
    /// Whether somebody accepts, and perhaps what they say.
    Tcp { send: &'a str, expect: &'a str },
    /// A path.
    Http(http::Question<'a>),
    /// A gRPC server, under this authority.
    Grpc {
        authority: &'a str,
        service: &'a str,
    },
    /// A Postgres server.
    Postgres(&'a CheckSettings, scram::Memory),
    /// A Redis server.
    Redis(&'a CheckSettings),
}

impl<'a> Question<'a> {
    /// Whether somebody accepts.
    pub(super) const CONNECT: Self = Self::Tcp {
        send: "",
        expect: "",
    };

    /// What the settings say. `host` is the Host field where that is looked at.
    pub(super) fn new(check: &'a CheckSettings, host: &'a str) -> Self {
        match check.kind() {
            CheckKind::Http => Self::Http(http::Question::new(check, host)),
            CheckKind::Tcp => Self::Tcp {
                send: &check.send,
                expect: &check.expect,
            },
            CheckKind::Grpc => Self::Grpc {
                authority: host,
                service: &check.grpc_service,
            },
            CheckKind::Postgres => Self::Postgres(check, scram::Memory::default()),
            CheckKind::Redis => Self::Redis(check),
        }
    }

    /// Asks over a connection that stands.
    pub(super) async fn ask(
        &self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        (http2, scheme): (bool, &str),
    ) -> Result<(), Failure> {
        match self {
            Self::Tcp { send, expect } => tcp::ask(stream, send, expect).await,
            Self::Http(question) if http2 => http2::ask(stream, question, scheme).await,
            Self::Http(question) => http::ask(stream, question).await,
            Self::Grpc { authority, service } => grpc::ask(stream, authority, service).await,
            Self::Postgres(check, keys) => postgres::ask(stream, check, keys).await,
            Self::Redis(check) => redis::ask(stream, check).await,
        }
    }
}

/// What stands before the question: a PROXY header in which we speak for ourselves, encryption.
#[derive(Clone, Copy, Default)]
pub(super) struct Cover<'a> {
    /// Those to servers that speak Postgres.
    pub(super) postgres: Option<&'a dyn Encrypt>,
    /// All others.
    pub(super) others: Option<&'a dyn Seal>,
    /// The version of the header; none for no header.
    pub(super) proxy: Option<Version>,
    /// Whether what is asked over HTTP is asked by HTTP/2.
    pub(super) http2: bool,
}

/// Asks once; what went wrong is a text for people.
pub(super) async fn ask(
    endpoint: &Endpoint,
    question: &Question<'_>,
    cover: Cover<'_>,
    timeout: Duration,
) -> Result<(), String> {
    let attempt = attempt(endpoint, question, cover, timeout);
    match tokio::time::timeout(timeout, attempt).await {
        Ok(result) => result.map_err(|failure| failure.to_string()),
        Err(_) => Err(format!("timed out after {}", text_of(timeout))),
    }
}

/// Says that we speak for ourselves.
async fn introduce(stream: &mut Stream, version: Version) -> std::io::Result<()> {
    let outgoing = Outgoing {
        version,
        addresses: None,
        received: &[],
        authority: &[],
    };
    let mut header = Vec::new();
    outgoing.write(&mut header);
    stream.write_all(&header).await
}

async fn attempt(
    endpoint: &Endpoint,
    question: &Question<'_>,
    cover: Cover<'_>,
    timeout: Duration,
) -> Result<(), Failure> {
    let (mut stream, _) = connect::open(endpoint, timeout).await?;
    if let Some(version) = cover.proxy {
        introduce(&mut stream, version).await?;
    }
    let encrypted: Box<dyn Transport> = match (question, cover.postgres, cover.others) {
        (Question::Postgres(..), Some(encrypt), _) => {
            let encrypted = encrypt.encrypt(stream, endpoint).await;
            encrypted.map_err(Failure::Answer)?
        }
        (Question::Grpc { .. }, _, Some(seal)) => {
            let sealed = seal.seal(stream, endpoint, Speaks::Http2).await;
            sealed.map_err(Failure::Answer)?
        }
        (Question::Tcp { .. } | Question::Http(_), _, Some(seal)) => {
            let speaks = match cover.http2 {
                true => Speaks::Http2,
                false => Speaks::Http1,
            };
            let sealed = seal.seal(stream, endpoint, speaks).await;
            sealed.map_err(Failure::Answer)?
        }
        _ => return question.ask(&mut stream, (cover.http2, "http")).await,
    };
    question
        .ask(&mut Duplex(encrypted), (cover.http2, "https"))
        .await
}

/// Whether what went wrong is an answer, if not the right one.
pub(super) fn is_answer(reason: &str) -> bool {
    reason.starts_with("status ")
}

fn text_of(time: Duration) -> String {
    if time.subsec_millis() == 0 {
        format!("{} s", time.as_secs())
    } else {
        format!("{} ms", time.as_millis())
    }
}
