//! What listeners are to be, and what their clients are told of HTTP/3.

use std::collections::BTreeMap;

use outgrow_core::settings::Name;
use outgrow_edge::settings::ListenerSettings;

use super::super::certificates::Certificates;
use super::super::pages::PageTexts;
use super::super::{alt_svc, compile, listeners};
use super::Control;
use crate::config::Config;

impl Control {
    /// The plans of all listeners of a configuration.
    pub(super) fn listener_plans(
        &self,
        config: &Config,
        certificates: &Certificates,
        pages: &PageTexts,
    ) -> Result<BTreeMap<String, listeners::Wanted>, String> {
        let now = alt_svc::now();
        let plan = |(name, settings): (&Name, &ListenerSettings)| {
            let alt_svc = self.alt_svc.told(settings, now);
            let tls = certificates.servers.get(name).cloned();
            let shared = &self.parts.edge.shared;
            let http3 = self.parts.http3.plan(name, settings, tls.as_deref())?;
            let told = (tls, http3, alt_svc);
            let plan = compile::listener(name.as_str(), settings, told, shared, pages);
            let address = settings.address.to_string();
            let quic = settings.http3.as_ref().map(|_| listeners::WantedQuic {
                key: listeners::quic_key(&address),
                without: self.alt_svc.told_without(settings, now),
            });
            Ok((listeners::key(&address), listeners::Wanted { plan, quic }))
        };
        config.listener.iter().map(plan).collect()
    }

    /// Takes note of what clients are told of HTTP/3 from now on.
    pub(super) async fn remember_alt_svc(&mut self) {
        let listeners = self.parts.config.listener.values();
        if let Some(keep) = self.alt_svc.apply(listeners, alt_svc::now()) {
            self.tell(&keep).await;
        }
    }
}
