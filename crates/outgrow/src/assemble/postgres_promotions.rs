//! How servers are logged in to by who watches them for a promotion: the user of
//! `[service.NAME.promote]`, in the way in which the pool reaches them.

use std::collections::HashMap;
use std::sync::Arc;

use outgrow_postgres::login::{Credential, Secret};
use outgrow_postgres::plan::{Plan, PoolPlan, PromotionLogin};
use outgrow_postgres::settings::{DatabaseSettings, PoolMode, PostgresSettings};

use super::postgres::{Surroundings, database_plan};
use super::postgres_files::secret;
use super::postgres_tls::Encryptions;
use crate::config::Config;

/// The logins, by service.
pub(super) fn logins(
    config: &Config,
    plan: &Plan,
    encryptions: &Encryptions,
    around: &Surroundings<'_>,
) -> HashMap<String, Arc<PromotionLogin>> {
    let Some(postgres) = &config.postgres else {
        return HashMap::new();
    };
    let services = config.service.iter().filter_map(|(name, service)| {
        let promote = &service.promote.as_ref()?.terms;
        let settings = DatabaseSettings {
            service: Some(name.clone()),
            ..DatabaseSettings::default()
        };
        let mut database = database_plan("", &settings, postgres, around.registry)?;
        database.user = Some(promote.user.clone());
        database.encryption = match first_database(postgres, name.as_str()) {
            Some(database) => encryptions.of_database(database),
            None => Arc::clone(&encryptions.servers),
        };
        let limits = database.limits.clone();
        let pool = PoolPlan {
            server_database: promote.database.clone(),
            server_user: promote.user.clone(),
            mode: PoolMode::Session,
            limits,
            follows_requests: false,
            house: Arc::clone(&plan.house),
            database: Arc::new(database),
        };
        let login = PromotionLogin {
            plan: Arc::new(pool),
            credential: Credential::of(stored(config, name.as_str()).ok().flatten().as_ref()),
        };
        Some((name.as_str().to_owned(), Arc::new(login)))
    });
    services.collect()
}

/// The first database whose servers are those of a service and that says so itself.
fn first_database<'p>(postgres: &'p PostgresSettings, service: &str) -> Option<&'p str> {
    let mut databases = postgres.database.iter();
    let is_it = |database: &DatabaseSettings| {
        let own = database.service.as_ref().or(postgres.service.as_ref());
        own.is_some_and(|own| own.as_str() == service)
    };
    databases.find_map(|(name, database)| is_it(database).then_some(name.as_str()))
}

fn stored(config: &Config, service: &str) -> Result<Option<Secret>, String> {
    let mut services = config.service.iter();
    let service = services.find(|(name, _)| name.as_str() == service);
    let Some(promote) = service.and_then(|(_, service)| service.promote.as_ref()) else {
        return Ok(None);
    };
    let name = service.map_or("", |(name, _)| name.as_str());
    secret(
        promote.terms.password.as_ref(),
        &format!("service.{name}.promote.password"),
    )
}

/// Whether the passwords can be used.
///
/// # Errors
/// All that are wrong, a line each.
pub(super) fn check(config: &Config) -> Result<(), String> {
    let names = config.service.keys();
    let problems: Vec<String> = names
        .filter_map(|name| stored(config, name.as_str()).err())
        .collect();
    match problems.is_empty() {
        true => Ok(()),
        false => Err(problems.join("\n")),
    }
}
