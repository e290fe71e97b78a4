//! The steps to TLS with a server, before anything else is said.

use std::future::poll_fn;
use std::sync::Arc;

use outgrow_net::{Stream, Transport};
use outgrow_tls::Refusal;
use outgrow_upstream::Endpoint;
use outgrow_upstream::check::{Encrypt, Encrypting};

use super::open::Failure;
use crate::encryption::{ALPN, Encryption, Mode};
use crate::socket::Socket;
use crate::wire::write;

/// What is read for an answer of one byte: more than that, to see whether there is more.
const ANSWER_BYTES: usize = 16;

/// Encrypts a new connection as its database says.
///
/// # Errors
/// The server has no TLS and must, or it is not the one that it must be, or something in between
/// has put in what the server did not say.
pub(crate) async fn encrypt(
    stream: Stream,
    endpoint: &Endpoint,
    encryption: &Encryption,
) -> Result<Socket, Failure> {
    if encryption.mode == Mode::Disable || matches!(stream, Stream::Unix(_)) {
        return Ok(Socket::Plain(stream));
    }
    if encryption.is_direct {
        return shake_hands(stream, endpoint, encryption).await;
    }
    let mut socket = Socket::Plain(stream);
    match ask(&mut socket).await? {
        b'S' => match socket {
            Socket::Plain(stream) => shake_hands(stream, endpoint, encryption).await,
            encrypted => Ok(encrypted),
        },
        b'N' if matches!(encryption.mode, Mode::Allow | Mode::Prefer) => Ok(socket),
        b'N' => Err(Failure::Tls("the server has no TLS".to_owned())),
        // Its text is not believed: anybody could have put it in (CVE-2024-10977).
        b'E' => Err(Failure::Broken(
            "the server answers a request for TLS with an error",
        )),
        _ => Err(Failure::Broken("the server does not speak Postgres")),
    }
}

/// Health checks of the servers are encrypted as the pool's own connections are.
impl Encrypt for Encryption {
    fn encrypt<'a>(&'a self, stream: Stream, endpoint: &'a Endpoint) -> Encrypting<'a> {
        Box::pin(async move {
            let socket = encrypt(stream, endpoint, self).await;
            let socket = socket.map_err(|failure| failure.refusal().message.into_owned())?;
            let transport: Box<dyn Transport> = Box::new(socket);
            Ok(transport)
        })
    }
}

/// Encrypts a connection for a cancel request: if the session that it is for was encrypted, in the
/// same way or not at all. What is sent lets whoever reads it cancel more.
pub(crate) async fn encrypt_again(
    stream: Stream,
    endpoint: &Endpoint,
    session: Option<&Arc<Encryption>>,
) -> Result<Socket, Failure> {
    match session {
        None => Ok(Socket::Plain(stream)),
        Some(encryption) => {
            let always = Encryption {
                mode: Mode::Require,
                ..Encryption::clone(encryption)
            };
            encrypt(stream, endpoint, &always).await
        }
    }
}

/// Asks for TLS; gives the answer.
async fn ask(socket: &mut Socket) -> Result<u8, Failure> {
    let gone = |_| Failure::Broken("the server ended the connection when it was asked for TLS");
    let mut request = Vec::new();
    write::ssl_request(&mut request);
    socket.write_all(&request).await.map_err(gone)?;
    let mut answer = [0; ANSWER_BYTES];
    match poll_fn(|cx| socket.poll_read(cx, &mut answer)).await {
        Ok(0) => Err(gone(std::io::ErrorKind::UnexpectedEof.into())),
        Ok(1) => Ok(answer[0]),
        Ok(_) if answer[0] == b'E' => Ok(b'E'),
        // It would be taken for what was said under encryption (CVE-2021-23222).
        Ok(_) => Err(Failure::Tls(
            "there are bytes behind the answer to the request for TLS: somebody may be in between"
                .to_owned(),
        )),
        Err(error) => Err(gone(error)),
    }
}

async fn shake_hands(
    stream: Stream,
    endpoint: &Endpoint,
    encryption: &Encryption,
) -> Result<Socket, Failure> {
    let Some(tls) = &encryption.tls else {
        let why = "the server has TLS, of which no version is allowed that is spoken here";
        return Err(Failure::Tls(why.to_owned()));
    };
    let name = encryption.name(endpoint.address());
    let stream = tls.connect(stream, name).await;
    let stream = stream.map_err(|refusal| Failure::Tls(told(&refusal)))?;
    // Another protocol's server could be had to do things by what a session begins with.
    if encryption.is_direct && stream.alpn() != Some(ALPN) {
        let why = "the server does not say that it speaks Postgres (ALPN), as it must when TLS \
                   begins at once";
        return Err(Failure::Tls(why.to_owned()));
    }
    Ok(Socket::Server(Box::new(stream)))
}

/// In words that begin as OpenSSL's, which people look for.
fn told(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Name { .. } | Refusal::Issuer { .. } | Refusal::Certificate(_) => {
            format!("certificate verify failed: {refusal}")
        }
        _ => refusal.to_string(),
    }
}
