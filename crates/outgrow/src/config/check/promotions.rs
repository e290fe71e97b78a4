//! Rules between `[service.NAME.promote]` and other tables.

use outgrow_core::settings::Name;
use outgrow_postgres::settings::{PostgresSettings, PromotionMode};

use super::Check;
use crate::config::Config;
use crate::settings::Fence;

fn leads_to(postgres: &PostgresSettings, service: &Name) -> bool {
    let own = postgres.database.values().map(|one| one.service.as_ref());
    let mut services = own.chain([postgres.service.as_ref()]).flatten();
    services.any(|one| one == service)
}

impl Check<'_> {
    /// Replicas can be promoted where the pool leads to them, by one outgrow.
    pub(super) fn promotions(&mut self, config: &Config) {
        for (name, service) in &config.service {
            let Some(promote) = &service.promote else {
                continue;
            };
            let table = ["service", name.as_str(), "promote"];
            let postgres = config.postgres.as_ref();
            if !postgres.is_some_and(|postgres| leads_to(postgres, name)) {
                let message = format!("no database of [postgres] leads to service {name}");
                let hint = format!("write service = \"{name}\" in [postgres], or remove the table");
                self.error(&table, message, hint);
                continue;
            }
            if service.upstream.endpoints.len() == 1 {
                let message = format!("service {name} has no replica that could be promoted");
                self.warning(&table, message, "add the replicas to `endpoints`");
            }
            if promote.commands.fence == Some(Fence::None) {
                let message = "the old primary is not fenced: what it takes while only this outgrow cannot \
                               reach it is lost";
                let path = [&table[..], &["fence"]].concat();
                self.warning(
                    &path,
                    message.to_owned(),
                    "write a command that stops it for certain",
                );
            }
            if promote.terms.mode == PromotionMode::Automatic && config.leader.is_none() {
                let path = [&table[..], &["mode"]].concat();
                let message = "there is no [leader]: this outgrow takes itself for the only one that promotes";
                let hint = "with several outgrows before the same servers add [leader] to all of them, so \
                            that one acts";
                self.warning(&path, message.to_owned(), hint);
            }
        }
    }
}
