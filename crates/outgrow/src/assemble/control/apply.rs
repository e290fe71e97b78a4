//! The tiers besides the edge, and the certificates of an authority, are brought to the configuration
//! that is in force.

use std::collections::BTreeMap;

use super::Control;
use crate::assemble::certificates::Certificates;
use crate::assemble::postgres_tls::Encryptions;
use crate::assemble::{floors, listeners, postgres, postgres_files, streams};

impl Control {
    /// Has the workers listen for the first time.
    pub(super) async fn listen(
        &mut self,
        plans: BTreeMap<String, listeners::Wanted>,
    ) -> Result<(), String> {
        let listening = &mut self.listeners;
        let listening = listening.apply(&self.parts.edge, &self.parts.sockets, plans);
        let missing = listening.await;
        match missing.is_empty() {
            true => Ok(()),
            false => Err(missing.join("\n")),
        }
    }

    /// Brings the Postgres tier to the configuration.
    pub(super) async fn apply_postgres(
        &mut self,
        files: postgres_files::Files,
        encryptions: &Encryptions,
    ) -> Result<(), String> {
        let shared = &self.parts.edge.shared;
        let around = postgres::Surroundings {
            registry: &self.parts.registry,
            sockets: &self.parts.sockets,
            ledger: &shared.ledger,
            clock: shared.clock,
            workers: shared.loads.len(),
            secret: self.parts.cookie_secret,
            floors: &self.parts.floors,
            follows_requests: floors::follow_requests(&self.parts.config),
            tells_requests: floors::tell_requests(&self.parts.config),
        };
        let config = &self.parts.config;
        let tier = &mut self.postgres;
        let overlap = &self.overlap;
        let applied = tier.apply(config, files, encryptions, overlap, around);
        let applied = applied.await;
        self.view.set_postgres(self.postgres.shared());
        applied
    }

    /// Has the certificates of an authority kept that the configuration in force wants.
    pub(super) fn apply_acme(&self, certificates: &mut Certificates) {
        self.acme.apply(std::mem::take(&mut certificates.acme));
        // Nobody else holds them, so that what is stapled to those that are gone is looked after no
        // more.
        let servers = std::mem::take(&mut certificates.servers);
        self.view.set_certificates(servers);
    }

    /// Brings the stream tier to the configuration.
    pub(super) async fn apply_streams(&mut self) -> Result<(), String> {
        let shared = &self.parts.edge.shared;
        let around = streams::Surroundings {
            registry: &self.parts.registry,
            sockets: &self.parts.sockets,
            ledger: &shared.ledger,
            records: &self.parts.records,
            clock: shared.clock,
            workers: shared.loads.len(),
        };
        let applied = self.streams.apply(&self.parts.config, around).await;
        self.view.set_streams(self.streams.shared());
        applied
    }
}
