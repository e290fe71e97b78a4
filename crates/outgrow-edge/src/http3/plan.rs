//! What a listener's HTTP/3 is, compiled.

use std::sync::Arc;
use std::time::Duration;

use outgrow_http::h3::{Account, Windows};
use outgrow_net::quic::Dispatch;
use outgrow_net::quic::quinn::{
    IdleTimeout, ServerConfig, TransportConfig, ValidationTokenConfig, VarInt,
};
use outgrow_tls::{ServerTls, TlsProblem};

use super::handshakes::Handshakes;
use crate::settings::Http3Settings;

/// A client of which nothing is heard for so long is gone. It is asked three times in this time, so
/// that one that waits for an answer need not say anything.
const SILENCE_MILLIS: u32 = 30_000;
const ASKING: Duration = Duration::from_secs(10);
/// Streams in one direction that a client may have open: three are needed, and some clients try what
/// becomes of others.
const ONE_WAY_STREAMS: u32 = 8;
/// For how long a client that was here is believed that it hears at the same address (RFC 9000 section
/// 8.1.3): others may have it then.
const TOKEN_LIFETIME: Duration = Duration::from_secs(3_600);
/// New connections of one worker that nobody has looked at yet, and what may wait of their packets.
const INCOMING: usize = 1_024;
const INCOMING_BYTES: u64 = 16 * 1024;
const ALL_INCOMING_BYTES: u64 = 4 * 1024 * 1024;

/// A listener's HTTP/3.
#[derive(Debug)]
pub struct Http3Plan {
    /// By what its sockets are called.
    pub(crate) key: Arc<str>,
    pub(crate) dispatch: Arc<Dispatch>,
    /// Of the endpoint; a connection's is [`Http3Plan::config_of`].
    pub(crate) config: Arc<ServerConfig>,
    settings: Http3Settings,
    pub(crate) max_streams: u32,
    pub(crate) windows: Windows,
    pub(crate) early_data: bool,
    pub(crate) handshakes: Arc<Handshakes>,
}

impl Http3Plan {
    /// With the certificates that `tls` serves now. `key` is what the listener's sockets are called.
    ///
    /// # Errors
    /// TLS for QUIC cannot be had.
    pub fn new(
        key: &str,
        settings: &Http3Settings,
        tls: &ServerTls,
        dispatch: &Arc<Dispatch>,
    ) -> Result<Arc<Self>, TlsProblem> {
        let early_data = settings.early_data;
        let crypto = tls.quic(outgrow_http::h3::ALPN, early_data)?;
        let mut config = ServerConfig::new(crypto, Arc::clone(&dispatch.keys().token));
        let mut tokens = ValidationTokenConfig::default();
        tokens.lifetime(TOKEN_LIFETIME);
        config
            .transport_config(Arc::new(transport(settings)))
            .validation_token_config(tokens)
            .max_incoming(INCOMING)
            .incoming_buffer_size(INCOMING_BYTES)
            .incoming_buffer_size_total(ALL_INCOMING_BYTES);
        Ok(Arc::new(Self {
            key: key.into(),
            dispatch: Arc::clone(dispatch),
            config: Arc::new(config),
            settings: settings.clone(),
            max_streams: settings.max_streams,
            windows: Windows {
                stream: settings.stream_window.0,
                connection: settings.connection_window.0,
                address_percent: settings.address_percent.into(),
            },
            early_data,
            handshakes: Handshakes::new(settings),
        }))
    }

    /// How a connection is made that is counted in `account`.
    pub(super) fn config_of(&self, account: &Arc<Account>) -> Arc<ServerConfig> {
        let mut transport = transport(&self.settings);
        account.keep_with(&mut transport);
        let mut config = (*self.config).clone();
        config.transport_config(Arc::new(transport));
        Arc::new(config)
    }
}

fn transport(settings: &Http3Settings) -> TransportConfig {
    let window = |size: outgrow_core::settings::ByteSize| {
        // The settings' bounds are below the largest that there is.
        VarInt::from_u32(u32::try_from(size.0).unwrap_or(u32::MAX))
    };
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(settings.max_streams.into())
        .max_concurrent_uni_streams(ONE_WAY_STREAMS.into())
        .stream_receive_window(window(settings.stream_window))
        .receive_window(window(settings.connection_window))
        .send_window(settings.send_window.0)
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(SILENCE_MILLIS))))
        .keep_alive_interval(Some(ASKING))
        .datagram_receive_buffer_size(None);
    transport
}

/// What a connection is ended with before anybody looked at it.
pub(super) fn no_error() -> VarInt {
    VarInt::from_u32(0x100)
}
