//! The certificates that are served, and those that should be.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use outgrow_admin::Readiness;
use outgrow_core::WallTime;
use outgrow_core::settings::Name;
use outgrow_tls::{CertificateFacts, OcspStatus, ServerTls, Staple};
use serde_json::{Value, json};

use super::super::acme::{CertificateView, date};
use super::View;

impl View {
    /// What listeners serve from files.
    pub(in super::super) fn set_certificates(&self, servers: BTreeMap<Name, Arc<ServerTls>>) {
        *self
            .certificates
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = servers;
    }

    /// The certificates of an authority.
    pub(in super::super) fn acme(&self) -> Vec<CertificateView> {
        self.acme
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Those of files, with the listener that serves each.
    pub(in super::super) fn files(&self) -> Vec<(Name, CertificateFacts)> {
        let servers = self
            .certificates
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let facts = servers.into_iter().flat_map(|(name, server)| {
            let facts = server.certificates().into_iter();
            facts.map(move |facts| (name.clone(), facts))
        });
        facts.collect()
    }

    /// A node without one of its certificates is ready all the same: the authority's question has to
    /// get here before there is one.
    pub(super) fn without_certificates(&self, ready: Readiness) -> Readiness {
        let missing: Vec<String> = self
            .acme()
            .into_iter()
            .filter(|one| one.state != "valid")
            .flat_map(|one| one.names)
            .collect();
        if missing.is_empty() {
            return ready;
        }
        let what = format!("without a valid certificate: {}", missing.join(", "));
        match ready {
            Readiness::Ready => Readiness::ReadyWithout { reason: what },
            Readiness::ReadyWithout { reason } => Readiness::ReadyWithout {
                reason: format!("{reason}; {what}"),
            },
            not_ready @ Readiness::NotReady { .. } => not_ready,
        }
    }

    pub(super) fn certificates_state(&self) -> Value {
        let now = WallTime::now();
        let mut all: Vec<Value> = self.acme().iter().map(CertificateView::told).collect();
        let files = self.files();
        all.extend(
            files
                .iter()
                .map(|(listener, facts)| file(listener, facts, now)),
        );
        Value::Array(all)
    }
}

impl View {
    /// What is stapled, by certificate.
    pub(in super::super) fn staples(&self) -> Vec<Arc<Staple>> {
        self.staples.live()
    }

    pub(super) fn ocsp_state(&self) -> Value {
        let now = WallTime::now();
        let staples = self.staples();
        staples.iter().map(|staple| stapled(staple, now)).collect()
    }
}

fn stapled(staple: &Staple, now: WallTime) -> Value {
    let facts = staple.facts(now);
    let told = |time: WallTime| date(time.seconds());
    let response = facts.response;
    let (status, revoked_at) = match response.map(|response| response.status) {
        None => ("none", None),
        Some(OcspStatus::Good) => ("good", None),
        Some(OcspStatus::Revoked { at }) => ("revoked", Some(told(at))),
    };
    json!({
        "certificate": staple.source_name(),
        "name": staple.host(),
        "serial": staple.serial(),
        "from": facts.from,
        "status": status,
        "revoked_at": revoked_at,
        "this_update": response.map(|response| told(response.this_update)),
        "next_update": response.map(|response| told(response.next_update)),
        "must_staple": facts.must_staple,
        "responses": facts.succeeded,
        "failures": facts.failed,
        "problem": facts.problem,
    })
}

fn file(listener: &Name, facts: &CertificateFacts, now: WallTime) -> Value {
    let told = |time: Option<WallTime>| time.map(|time| date(time.seconds()));
    let is_valid = facts.not_after.is_none_or(|until| now < until);
    json!({
        "name": facts.source_name,
        "names": facts.names,
        "listeners": [listener.as_str()],
        "source": "file",
        "state": if is_valid { "valid" } else { "expired" },
        "not_before": told(facts.not_before),
        "not_after": told(facts.not_after),
        "key_kind": facts.key_kind,
    })
}
