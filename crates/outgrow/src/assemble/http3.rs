//! HTTP/3 of listeners: what their plans have of it, and the other data processes that have connections.

#![cfg_attr(
    not(feature = "http3"),
    expect(clippy::unused_self, reason = "without HTTP/3 there is nothing to ask")
)]

use std::os::fd::OwnedFd;
#[cfg(feature = "http3")]
use std::sync::Arc;
#[cfg(feature = "http3")]
use std::sync::atomic::Ordering;
#[cfg(feature = "http3")]
use std::time::Instant;

use outgrow_core::settings::Name;
#[cfg(feature = "http3")]
use outgrow_edge::Http3Plan;
use outgrow_edge::settings::{Http3Settings, ListenerSettings};
#[cfg(feature = "http3")]
use outgrow_net::quic::{Dispatch, Keys, Neighbour};
use outgrow_tls::ServerTls;

#[cfg(feature = "http3")]
use super::{listeners, log};

/// What a build without HTTP/3 says of it.
#[cfg(not(feature = "http3"))]
const NOT_BUILT: &str = "this outgrow was built without HTTP/3 (the feature http3)";

/// Who has which connections.
#[derive(Clone, Debug)]
pub(super) struct Http3 {
    #[cfg(feature = "http3")]
    dispatch: Arc<Dispatch>,
}

/// A listener's plan of HTTP/3, if it speaks it.
#[cfg(feature = "http3")]
pub(super) type Plan = Option<Arc<Http3Plan>>;
/// A listener's plan of HTTP/3: it has none.
#[cfg(not(feature = "http3"))]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Plan {}

impl Http3 {
    /// Of the data process with this number, beside `others`.
    pub(super) fn new(secret: &[u8; 32], generation: u64, others: &[u64]) -> Result<Self, String> {
        #[cfg(not(feature = "http3"))]
        {
            let _ = (secret, generation, others);
            Ok(Self {})
        }
        #[cfg(feature = "http3")]
        {
            let keys = Keys::derive(secret).ok_or("no key can be derived for HTTP/3")?;
            let dispatch = Dispatch::new(keys, generation, others, Instant::now());
            Ok(Self { dispatch })
        }
    }

    /// The plan of a listener.
    pub(super) fn plan(
        &self,
        name: &Name,
        settings: &ListenerSettings,
        tls: Option<&ServerTls>,
    ) -> Result<Plan, String> {
        let (Some(http3), Some(tls)) = (&settings.http3, tls) else {
            return Ok(Plan::default());
        };
        self.build(name, settings, http3, tls)
    }

    #[cfg(not(feature = "http3"))]
    fn build(
        &self,
        name: &Name,
        _: &ListenerSettings,
        _: &Http3Settings,
        _: &ServerTls,
    ) -> Result<Plan, String> {
        Err(format!("[listener.{name}.http3] {NOT_BUILT}"))
    }

    #[cfg(feature = "http3")]
    fn build(
        &self,
        name: &Name,
        settings: &ListenerSettings,
        http3: &Http3Settings,
        tls: &ServerTls,
    ) -> Result<Plan, String> {
        let key = listeners::quic_key(&settings.address.to_string());
        let plan = Http3Plan::new(&key, http3, tls, &self.dispatch);
        plan.map(Some)
            .map_err(|problem| super::tls_files::told(&format!("listener.{name}.http3"), &problem))
    }

    /// Whether this is the key of a listener's HTTP/3, and connections are left at its sockets, of this data
    /// process or of another one.
    pub(super) fn needs(&self, key: &str) -> bool {
        #[cfg(not(feature = "http3"))]
        {
            let _ = key;
            false
        }
        #[cfg(feature = "http3")]
        {
            listeners::is_quic(key) && self.dispatch.is_needed(key, Instant::now())
        }
    }

    /// What became of groups of datagrams that came to the wrong place.
    pub(super) fn counts(&self) -> [(&'static str, u64); 4] {
        const WAYS: [&str; 4] = ["to_worker", "to_process", "from_process", "dropped"];
        #[cfg(not(feature = "http3"))]
        return WAYS.map(|way| (way, 0));
        #[cfg(feature = "http3")]
        {
            let counts = &self.dispatch.counts;
            let [worker, to, from, dropped] = [
                &counts.to_workers,
                &counts.to_processes,
                &counts.from_processes,
                &counts.dropped,
            ]
            .map(|count| count.load(Ordering::Relaxed));
            let [one, two, three, four] = WAYS;
            [(one, worker), (two, to), (three, from), (four, dropped)]
        }
    }

    /// How often a socket had nothing but errors.
    pub(super) fn socket_errors(&self) -> u64 {
        #[cfg(not(feature = "http3"))]
        return 0;
        #[cfg(feature = "http3")]
        self.dispatch.counts.socket_errors.load(Ordering::Relaxed)
    }

    /// Another data process has connections, or takes over the sockets: it is at the other end.
    pub(super) fn meet(&self, generation: u64, descriptors: Vec<OwnedFd>) {
        let Some(end) = descriptors.into_iter().next() else {
            return;
        };
        #[cfg(not(feature = "http3"))]
        drop((generation, end));
        #[cfg(feature = "http3")]
        if let Err(error) = Neighbour::meet(&self.dispatch, generation, end) {
            log::warn(&format!(
                "http3: data process {generation} cannot be reached: {error}"
            ));
        }
    }
}
