//! What takes time in a promotion: commands and orders to servers.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use outgrow_core::settings::Address;
use outgrow_fleet::settings::Command;
use outgrow_postgres::Shared;
use outgrow_postgres::promotion::order::Order;
use outgrow_postgres::promotion::{Known, Step};
use outgrow_postgres::standing::Lsn;
use tokio::task::JoinHandle;

use super::super::command::{Group, Outcome, Running};
use crate::config::Promote;
use crate::settings::Fence;

/// Something under way; dropping it ends it.
#[derive(Debug)]
pub(super) enum Doing {
    /// A command.
    Command(Running),
    /// An order to a server.
    Order(JoinHandle<()>, Arc<OnceLock<Outcome>>),
}

impl Drop for Doing {
    fn drop(&mut self) {
        if let Self::Order(task, _) = self {
            task.abort();
        }
    }
}

impl Doing {
    /// Begins what a step says.
    pub(super) fn begin(
        service: &str,
        settings: &Promote,
        step: Step,
        shared: &Arc<Shared>,
    ) -> Option<Self> {
        let commands = &settings.commands;
        match step {
            Step::Fence { server } => {
                let Some(Fence::Command(command)) = &commands.fence else {
                    // The file was changed meanwhile.
                    return Some(Self::over(Err(
                        "there is no fence command any more".to_owned()
                    )));
                };
                let environment = environment(service, &server, None);
                let about = format!("promotion: {service}: fence");
                let limit = commands.command_timeout;
                Some(Self::command(&about, command, &environment, limit))
            }
            Step::Promote { server, old, lsn } => {
                let Some(command) = &commands.command else {
                    return Some(Self::order(service, server, Order::Promote, shared));
                };
                let environment = environment(service, &server, Some((&old, lsn)));
                let about = format!("promotion: {service}: command");
                let limit = commands.command_timeout;
                Some(Self::command(&about, command, &environment, limit))
            }
            Step::Checkpoint { server } => {
                let order = Order::Checkpoint(settings.terms.promote_timeout);
                Some(Self::order(service, server, order, shared))
            }
            Step::Hold | Step::Release | Step::Kill => None,
        }
    }

    fn command(about: &str, command: &Command, variables: &Variables, limit: Duration) -> Self {
        let environment = variables.iter();
        let environment: Vec<_> = environment
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        Self::Command(Running::start(about, command, &environment, limit))
    }

    fn over(outcome: Outcome) -> Self {
        Self::Order(tokio::spawn(async {}), Arc::new(OnceLock::from(outcome)))
    }

    fn order(service: &str, server: String, order: Order, shared: &Arc<Shared>) -> Self {
        let outcome = Arc::new(OnceLock::new());
        let (told, shared, service) =
            (Arc::clone(&outcome), Arc::clone(shared), service.to_owned());
        let task = tokio::spawn(async move {
            let done = shared.order(&service, &server, order).await;
            let _ = told.set(done);
        });
        Self::Order(task, outcome)
    }

    /// How it ended, once it has.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        match self {
            Self::Command(running) => {
                let outcome = running.outcome()?;
                Some(outcome.map_err(|problem| format!("the command {problem}")))
            }
            Self::Order(_, outcome) => outcome.get().cloned(),
        }
    }

    /// The process group of a command.
    pub(super) fn group(&self) -> Option<Group> {
        match self {
            Self::Command(running) => running.group(),
            Self::Order(..) => None,
        }
    }
}

type Variables = Vec<(String, String)>;

/// What a command is told: the server that it is about, and the primary before.
fn environment(service: &str, server: &str, old: Option<(&Known, Lsn)>) -> Variables {
    let mut variables = vec![("OUTGROW_SERVICE".to_owned(), service.to_owned())];
    place(&mut variables, "OUTGROW", server);
    if let Some((old, lsn)) = old {
        let mut tell = |name: &str, value: String| variables.push((name.to_owned(), value));
        tell("OUTGROW_TIMELINE", old.timeline.to_string());
        tell("OUTGROW_LSN", lsn.to_string());
        tell("OUTGROW_OLD_TIMELINE", old.timeline.to_string());
        tell("OUTGROW_OLD_LSN", old.lsn.to_string());
        place(&mut variables, "OUTGROW_OLD", &old.address);
    }
    variables
}

fn place(variables: &mut Variables, prefix: &str, address: &str) {
    let mut tell = |name: &str, value: String| variables.push((format!("{prefix}_{name}"), value));
    tell("ADDRESS", address.to_owned());
    match address.parse() {
        Ok(Address::Tcp { host, port }) => {
            tell("HOST", host);
            tell("PORT", port.to_string());
        }
        // As libpq has it: the directory of the socket is the host.
        Ok(Address::Unix(path)) => {
            let folder = path.parent().map(|folder| folder.display().to_string());
            tell("HOST", folder.unwrap_or_default());
            let port = path
                .extension()
                .map(|port| port.to_string_lossy().into_owned());
            tell("PORT", port.unwrap_or_default());
        }
        Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_told_where_the_servers_are() {
        let old = Known {
            address: "[::1]:5433".to_owned(),
            timeline: 3,
            lsn: Lsn(0x0300_0060),
            synchronous: 0,
        };
        let all = environment("db", "10.0.0.2:5432", Some((&old, Lsn(0x0300_0000))));
        let of = |name: &str| {
            let found = all.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.as_str())
        };
        assert_eq!(of("OUTGROW_SERVICE"), Some("db"));
        assert_eq!(of("OUTGROW_ADDRESS"), Some("10.0.0.2:5432"));
        assert_eq!(
            (of("OUTGROW_HOST"), of("OUTGROW_PORT")),
            (Some("10.0.0.2"), Some("5432"))
        );
        assert_eq!(of("OUTGROW_LSN"), Some("0/3000000"));
        assert_eq!(of("OUTGROW_OLD_LSN"), Some("0/3000060"));
        assert_eq!(of("OUTGROW_OLD_HOST"), Some("::1"));
        assert_eq!(of("OUTGROW_OLD_PORT"), Some("5433"));
        let fence = environment("db", "unix:/run/pg/.s.PGSQL.5432", None);
        assert!(fence.contains(&("OUTGROW_HOST".to_owned(), "/run/pg".to_owned())));
        assert!(fence.contains(&("OUTGROW_PORT".to_owned(), "5432".to_owned())));
    }
}
