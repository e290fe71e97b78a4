//! A server that tells what it was asked.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use outgrow_http::h1::Limits;
use outgrow_http::h3::{self, Account, Connection, H3Stream, NoHead, Settings, Windows};
use outgrow_http::{Downstream, Tunnel};
use outgrow_message::{Blocks, BodyLength, BodySource, Ledger, RequestHead, ResponseHead};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::rustls;
use quinn::rustls::pki_types::PrivateKeyDer;
use quinn::{Endpoint, IdleTimeout, TransportConfig, VarInt};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The bounds of heads in these tests.
pub(crate) const LIMITS: Limits = Limits {
    head_bytes: 2_048,
    fields: 20,
    target_bytes: 256,
};
/// How often an answer to `/long` says so: 1 MiB.
pub(crate) const LONG_WORDS: usize = 1024 * 1024 / 5;
/// The same with `/longest`: 32 MiB.
pub(crate) const LONGEST_WORDS: usize = 32 * LONG_WORDS;
/// What a client may send of a body before it is taken.
pub(crate) const STREAM_WINDOW: u32 = 64 * 1024;

/// What the windows of a connection may grow to.
pub(crate) const WIDEST_WINDOW: u64 = 1024 * 1024;
const WINDOWS: Windows = Windows {
    stream: STREAM_WINDOW as u64,
    connection: WIDEST_WINDOW,
    address_percent: 25,
};
/// What the ledger counts for a connection's state.
pub(crate) const CONNECTION_BYTES: u64 = 10_000;
/// For how long it is waited for what follows a head.
const PATIENCE: Duration = Duration::from_millis(200);

fn transport(account: &Arc<Account>) -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .max_concurrent_bidi_streams(VarInt::from_u32(100))
        .max_concurrent_uni_streams(VarInt::from_u32(8));
    account.keep_with(&mut transport);
    transport
}

/// A server that runs, and a client's endpoint that believes it.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) client: Endpoint,
    pub(crate) client_config: quinn::ClientConfig,
    pub(crate) ledger: Arc<Ledger>,
    /// Tells why a connection ended, when one has.
    pub(crate) ends: UnboundedReceiver<Option<outgrow_core::Cause>>,
    /// Whether each answer was taken whole.
    pub(crate) deliveries: UnboundedReceiver<bool>,
}

impl Server {
    /// `takes`: whether bodies are read. A request without one is answered in any case.
    pub(crate) fn start(takes: bool) -> Self {
        let names = vec!["localhost".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let mut tls =
            rustls::ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
                .with_no_client_auth()
                .with_single_cert(vec![made.cert.der().clone()], key)
                .expect("TLS");
        tls.alpn_protocols = vec![h3::ALPN.to_vec()];
        let tls = QuicServerConfig::try_from(tls).expect("TLS for QUIC");
        let config = quinn::ServerConfig::with_crypto(Arc::new(tls));
        let any = "127.0.0.1:0".parse().expect("an address");
        let endpoint = Endpoint::server(config.clone(), any).expect("bound");
        let address = endpoint.local_addr().expect("an address");
        let ledger = Ledger::new(64 * 1024 * 1024);
        let blocks = Blocks::new(Arc::clone(&ledger));
        let (ended, ends) = unbounded_channel();
        let (delivered, deliveries) = unbounded_channel();
        tokio::spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                let (blocks, ended) = (Arc::clone(&blocks), ended.clone());
                let delivered = delivered.clone();
                let charge = blocks.ledger().charge(CONNECTION_BYTES).expect("room");
                // As if each connection were of another address.
                let holder = Arc::default();
                let account = Account::new(blocks.ledger(), charge, WINDOWS, holder);
                let mut config = config.clone();
                config.transport_config(Arc::new(transport(&account)));
                tokio::spawn(async move {
                    let accepted = incoming.accept_with(Arc::new(config)).expect("accepted");
                    let Ok(quic) = accepted.await else { return };
                    let settings = Settings::default();
                    let served = h3::serve(quic, account, blocks, LIMITS, settings).await;
                    let Ok(mut connection) = served else { return };
                    serve(&mut connection, takes, &delivered).await;
                    let _ = ended.send(connection.fault().map(|fault| fault.cause));
                });
            }
        });
        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.cert.der().clone()).expect("a root");
        let mut tls =
            rustls::ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
                .with_root_certificates(roots)
                .with_no_client_auth();
        tls.alpn_protocols = vec![h3::ALPN.to_vec()];
        let tls = QuicClientConfig::try_from(tls).expect("TLS for QUIC");
        let mut config = quinn::ClientConfig::new(Arc::new(tls));
        let mut transport = TransportConfig::default();
        let patience = IdleTimeout::try_from(Duration::from_secs(20)).expect("a time");
        transport.max_idle_timeout(Some(patience));
        config.transport_config(Arc::new(transport));
        let mut client = Endpoint::client(any).expect("bound");
        client.set_default_client_config(config.clone());
        Self {
            address,
            client,
            client_config: config,
            ledger,
            ends,
            deliveries,
        }
    }
}

async fn serve(connection: &mut Connection, takes: bool, sent_to: &UnboundedSender<bool>) {
    while let Some(stream) = poll_fn(|cx| connection.poll_accept(cx)).await {
        tokio::spawn(answer(stream, takes, sent_to.clone()));
    }
}

/// Answers with what was asked (at length where that is `/long` or `/longest`, in pieces of a byte where it is
/// `/pieces`): method, target, the fields that begin with `x-`, the body's length and its trailers; or
/// with the status that a refused request gets.
async fn answer(mut stream: H3Stream, takes: bool, sent_to: UnboundedSender<bool>) {
    let mut request = RequestHead::default();
    let head = tokio::time::timeout(PATIENCE, poll_fn(|cx| stream.poll_head(cx))).await;
    let is_whole = head.is_ok();
    let head = match head {
        Err(_) if stream.has_head() => Ok(stream.take_head().expect("a head")),
        Err(_) => poll_fn(|cx| stream.poll_head(cx)).await,
        Ok(head) => head,
    };
    let filled = match head {
        Ok(parts) => parts.fill(&mut request),
        Err(NoHead::Gone) => return,
        Err(NoHead::Reject(reject)) => Err(reject),
    };
    if let Err(reject) = filled {
        stream.note(reject);
    }
    let told = match filled {
        Err(reject) => Err(reject.cause),
        Ok(()) => {
            stream.begin_body(&request);
            match takes {
                _ if !is_whole => Ok(b"open".to_vec()),
                true => read(&mut stream, &request).await,
                false if request.length.is_empty() => read(&mut stream, &request).await,
                false => std::future::pending().await,
            }
        }
    };
    let mut head = ResponseHead::default();
    if told.is_ok() && stream.can_tunnel() {
        return flood(stream, &head).await;
    }
    let fault = |cause| outgrow_core::Fault::client(outgrow_core::Phase::RequestHead, cause);
    head.status = match &told {
        Ok(_) => 200,
        Err(cause) => outgrow_http::status::of(fault(*cause)).unwrap_or(499),
    };
    let body = told.unwrap_or_default();
    let length = BodyLength::Known(body.len() as u64);
    if stream.respond(&head, length, request.method).is_err() {
        return;
    }
    let mut sent = 0;
    let piece = match request.text(request.target_text) {
        b"/pieces" => 1,
        _ => body.len(),
    };
    while sent < body.len() {
        let end = body.len().min(sent + piece);
        let pushed = poll_fn(|cx| stream.poll_push(cx, &body[sent..end])).await;
        let Ok(count) = pushed else {
            let _ = sent_to.send(false);
            return;
        };
        sent += count;
    }
    let _ = stream.finish(None);
    let delivered = poll_fn(|cx| stream.poll_flush(cx)).await;
    let _ = sent_to.send(delivered.is_ok());
}

/// Opens a tunnel, and says 32 MiB in it without a pause.
async fn flood(mut stream: H3Stream, head: &ResponseHead) {
    stream.switch(head, b"").expect("a tunnel");
    let mut left = 5 * LONGEST_WORDS;
    while left > 0 {
        let data = &[b'x'; 16 * 1024][..left.min(16 * 1024)];
        let pushed = poll_fn(|cx| stream.poll_push(cx, data)).await;
        let Ok(count) = pushed else { return };
        left -= count;
    }
    let _ = stream.finish(None);
    let _ = poll_fn(|cx| stream.poll_flush(cx)).await;
}

async fn read(
    stream: &mut H3Stream,
    request: &RequestHead,
) -> Result<Vec<u8>, outgrow_core::Cause> {
    let mut length = 0;
    loop {
        match poll_fn(|cx| stream.poll_data(cx)).await {
            Ok(true) => {
                let count = stream.data().len();
                length += count;
                stream.consume(count);
            }
            Ok(false) => break,
            Err(fault) => return Err(fault.cause),
        }
    }
    let text = |span| String::from_utf8_lossy(request.text(span)).into_owned();
    let mut told = format!(
        "{} {}\n",
        text(request.method_text),
        text(request.target_text)
    );
    let line = |name: &[u8], value: &[u8]| {
        let (name, value) = (
            String::from_utf8_lossy(name),
            String::from_utf8_lossy(value),
        );
        format!("{name}: {value}\n")
    };
    for (_, name, value) in request.fields.iter() {
        if name.starts_with(b"x-") || name == b"cookie" {
            told.push_str(&line(name, value));
        }
    }
    told.push_str(&format!("{length} bytes, {:?}\n", request.length));
    if let Some(trailers) = stream.trailers() {
        for (_, name, value) in trailers.iter() {
            told.push_str(&line(name, value));
        }
    }
    let words = match request.text(request.target_text) {
        b"/long" => LONG_WORDS,
        b"/longest" => LONGEST_WORDS,
        _ => 0,
    };
    told.push_str(&"long ".repeat(words));
    Ok(told.into_bytes())
}
