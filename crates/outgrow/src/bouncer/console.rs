//! What orders on the console do.

use std::sync::Arc;
use std::time::Duration;

use outgrow_postgres::console::{Answer, Console, Reply};
use outgrow_postgres::pgbouncer::console::{Command, ConsoleError, Role, Shutdown, answer};
use outgrow_postgres::pgbouncer::ini::CONSOLE;

use super::control::{Bouncer, Ending, Standstill};
use super::show;

/// How often it is looked whether what was waited for is there.
const LOOK: Duration = Duration::from_millis(5);
/// How long clients that are sent away are waited for.
const FAREWELL: Duration = Duration::from_secs(1);

/// The console of a [`Bouncer`].
#[derive(Debug)]
pub(super) struct Desk(pub(super) Arc<Bouncer>);

impl Console for Desk {
    fn database(&self) -> &str {
        CONSOLE
    }

    fn is_own(&self, user: &str, system_user: u32) -> bool {
        user == CONSOLE && system_user == self.0.system_user
    }

    fn admit(&self, user: &str, is_own: bool) -> Option<Role> {
        let role = Role::of(user, is_own, &self.0.state().config.ini.settings);
        if role.is_some() {
            self.0.count(true);
        }
        role
    }

    fn version(&self) -> &str {
        self.0.version_text()
    }

    fn run(&self, client: u64, command: Command) -> Answer {
        self.0.count(false);
        let bouncer = Arc::clone(&self.0);
        Box::pin(async move { run(bouncer, client, command).await })
    }

    fn left(&self, client: u64) {
        // Whoever has suspended everything and left will not resume it.
        if self.0.state().standstill == Standstill::Suspended(client) {
            let _ = self.0.resume();
        }
    }
}

async fn run(bouncer: Arc<Bouncer>, client: u64, command: Command) -> Reply {
    let mut out = Vec::new();
    match obey(&bouncer, client, command, &mut out).await {
        Ok(true) => Reply::Say(out),
        Ok(false) => Reply::End,
        Err(error) => {
            out.clear();
            answer::error(&mut out, &error);
            Reply::Say(out)
        }
    }
}

/// Does what is ordered; false when there is no answer.
async fn obey(
    bouncer: &Bouncer,
    client: u64,
    command: Command,
    out: &mut Vec<u8>,
) -> Result<bool, ConsoleError> {
    let shared = &bouncer.shared;
    match command {
        Command::Show(what) => show::show(bouncer, client, what, out),
        Command::ShowParameter(parameter) => answer::parameter(out, parameter),
        Command::SetParameter(_) => answer::set_parameter(out),
        Command::Set { key, value } => {
            let is_applied = bouncer.set(&key, &value)?;
            until(|| shared.is_followed()).await;
            answer::set(out, &key, &value, is_applied);
        }
        Command::Reload => {
            bouncer.log.info("RELOAD command issued");
            bouncer.reload().map_err(|_| ConsoleError::Reload)?;
            until(|| shared.is_followed()).await;
            answer::complete(out, "RELOAD");
        }
        Command::Pause(None) => {
            bouncer.log.info("PAUSE command issued");
            bouncer.pause()?;
            until(|| shared.is_quiet(None)).await;
            answer::complete(out, "PAUSE");
        }
        Command::Pause(Some(name)) => {
            check(bouncer, &name, "pause")?;
            bouncer
                .log
                .info(format_args!("PAUSE '{name}' command issued"));
            shared.pause(Some(&name));
            until(|| shared.is_quiet(Some(&name))).await;
            answer::complete(out, "PAUSE");
        }
        Command::Resume(None) => {
            bouncer.log.info("RESUME command issued");
            bouncer.resume()?;
            answer::complete(out, "RESUME");
        }
        Command::Resume(Some(name)) => {
            check(bouncer, &name, "resume")?;
            bouncer
                .log
                .info(format_args!("RESUME '{name}' command issued"));
            if !shared.paused_databases().contains(&name) {
                return Err(ConsoleError::DatabaseNotPaused(name));
            }
            shared.resume(Some(&name));
            answer::complete(out, "RESUME");
        }
        Command::Suspend => {
            bouncer.log.info("SUSPEND command issued");
            bouncer.suspend(client)?;
            answer::complete(out, "SUSPEND");
        }
        Command::HandOver(pid) => {
            bouncer
                .log
                .info(format_args!("HANDOVER {pid} command issued"));
            bouncer.hand_over(pid)?;
            answer::complete(out, "HANDOVER");
        }
        Command::Shutdown(how) => return shut_down(bouncer, how, out),
        other => of_databases(bouncer, other, out).await?,
    }
    Ok(true)
}

async fn of_databases(
    bouncer: &Bouncer,
    command: Command,
    out: &mut Vec<u8>,
) -> Result<(), ConsoleError> {
    let shared = &bouncer.shared;
    match command {
        Command::Disable(name) => {
            check(bouncer, &name, "disable")?;
            bouncer.disable(&name, true);
            until(|| shared.is_followed()).await;
            answer::complete(out, "DISABLE");
        }
        Command::Enable(name) => {
            check(bouncer, &name, "enable")?;
            bouncer.disable(&name, false);
            until(|| shared.is_followed()).await;
            answer::complete(out, "ENABLE");
        }
        Command::Reconnect(name) => {
            if let Some(name) = &name {
                check(bouncer, name, "reconnect")?;
            }
            bouncer.log.info("RECONNECT command issued");
            shared.reconnect(name.as_deref());
            answer::complete(out, "RECONNECT");
        }
        Command::WaitClose(name) => {
            if let Some(name) = &name {
                check(bouncer, name, "wait in")?;
            }
            until(|| !shared.has_old(name.as_deref())).await;
            answer::complete(out, "WAIT_CLOSE");
        }
        Command::Kill(name) => {
            match &name {
                Some(name) => {
                    check(bouncer, name, "kill")?;
                    bouncer
                        .log
                        .info(format_args!("KILL '{name}' command issued"));
                    shared.pause(Some(name));
                }
                None => {
                    bouncer.log.info("KILL command issued");
                    bouncer.pause()?;
                }
            }
            let away = shared.kill(name.as_deref());
            // They are gone when this is answered, but for one that does not even take its farewell.
            let are_gone = until(|| !away.iter().any(|&number| shared.has_client(number)));
            let _ = tokio::time::timeout(FAREWELL, are_gone).await;
            answer::complete(out, "KILL");
        }
        Command::KillClient(number) => {
            if !shared.kill_client(number) {
                return Err(ConsoleError::NoSuchClient);
            }
            answer::complete(out, "KILL_CLIENT");
        }
        // All others are obeyed where this is called.
        _ => {}
    }
    Ok(())
}

fn shut_down(bouncer: &Bouncer, how: Shutdown, out: &mut Vec<u8>) -> Result<bool, ConsoleError> {
    let (word, ending) = match how {
        Shutdown::Immediate => ("SHUTDOWN", Ending::Immediate),
        Shutdown::WaitForClients => ("SHUTDOWN WAIT_FOR_CLIENTS", Ending::WaitForClients),
        Shutdown::WaitForServers => ("SHUTDOWN WAIT_FOR_SERVERS", Ending::WaitForServers),
    };
    bouncer.log.info(format_args!("{word} command issued"));
    bouncer.end(ending);
    answer::complete(out, "SHUTDOWN");
    Ok(how != Shutdown::Immediate)
}

/// Whether something can be done to a database.
fn check(bouncer: &Bouncer, name: &str, what: &'static str) -> Result<(), ConsoleError> {
    if name == CONSOLE {
        return Err(ConsoleError::Console(what));
    }
    if !bouncer.has_database(name) {
        return Err(ConsoleError::NoSuchDatabase(name.to_owned()));
    }
    Ok(())
}

async fn until(is_done: impl Fn() -> bool) {
    while !is_done() {
        tokio::time::sleep(LOOK).await;
    }
}
