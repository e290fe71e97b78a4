//! How the steps of the script are done, as an operator would do them: by signal, by changing the
//! file, by asking the admin listener.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::watch;

use super::admin::{Admin, State};
use super::config::DemoConfig;
use super::format;
use super::script::Step;

/// For what a step brings about.
const LIMIT: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// What a step needs.
#[derive(Debug)]
pub(super) struct Props {
    pub(super) admin: Admin,
    pub(super) config: DemoConfig,
    pub(super) file: PathBuf,
    /// Instances killed before.
    pub(super) kills: usize,
    /// What is happening now, for people.
    pub(super) now: watch::Sender<String>,
}

/// What came of a step.
#[derive(Clone, Debug)]
pub(super) struct Played {
    /// What was done, with names.
    pub(super) what: String,
    /// What came of it.
    pub(super) result: String,
    /// Until what it brings about was there: the killed instance ready again, the new
    /// configuration or data process at work.
    pub(super) took: Duration,
}

/// Does one step. The error says why it was not done, or not to its end.
pub(super) async fn play(step: Step, props: Props) -> Result<Played, String> {
    match step {
        Step::Kill => kill(&props).await,
        Step::Reload { round } => reload(round, props).await,
        Step::Upgrade => upgrade(&props).await,
    }
}

async fn kill(props: &Props) -> Result<Played, String> {
    let state = props.admin.state().await?;
    let mut ready: Vec<_> = state
        .instances
        .iter()
        .filter(|one| one.is_ready())
        .collect();
    ready.sort_by(|one, other| one.name.cmp(&other.name));
    if ready.len() < 2 {
        return Err(format!(
            "no instance was killed: only {} are ready",
            ready.len()
        ));
    }
    let victim = ready[props.kills % ready.len()];
    let name = victim.name.as_str();
    let number = victim
        .pid
        .ok_or_else(|| format!("the pid of {name} is not known"))?;
    let pid = Pid::from_raw(number.cast_signed())
        .ok_or_else(|| format!("{number} is no process id of {name}"))?;
    let what = format!("kill -9 of {name} (pid {number})");
    props
        .now
        .send_replace(format!("{what}: waiting until it is ready again"));
    let begun = Instant::now();
    kill_process(pid, Signal::KILL).map_err(|error| format!("{what}: {error}"))?;
    let is_back = |state: &State| {
        state.instances.iter().any(|one| {
            one.name == name && one.is_ready() && one.pid.is_some_and(|pid| pid != number)
        })
    };
    let missed = || format!("{name} was not ready again within {} s", LIMIT.as_secs());
    until(&props.admin, is_back).await.ok_or_else(missed)?;
    let took = begun.elapsed();
    Ok(Played {
        what,
        result: format!("ready again after {}", format::time(took)),
        took,
    })
}

async fn reload(round: u32, mut props: Props) -> Result<Played, String> {
    let adds = round == 0;
    props.config.round = round + 1;
    let what = if adds {
        "reload: one instance more"
    } else {
        "reload: another header"
    };
    props
        .now
        .send_replace(format!("{what}: the file is changed and read again"));
    let begun = Instant::now();
    // Renamed over the old one, so that nobody reads half a file.
    let new = props.file.with_extension("new");
    let written = std::fs::write(&new, props.config.text());
    let renamed = written.and_then(|()| std::fs::rename(&new, &props.file));
    renamed.map_err(|error| format!("{}: {error}", props.file.display()))?;
    let done = props.admin.act("/reload", String::new()).await;
    done.map_err(|error| format!("{what}: {error}"))?;
    let took = begun.elapsed();
    let mut result = format!("done in {}", format::time(took));
    if adds {
        let wanted = usize::from(props.config.instances);
        props.now.send_replace(format!("{what}: it starts"));
        let missed = || format!("{what}: it was not ready within {} s", LIMIT.as_secs());
        until(&props.admin, |state| state.ready() >= wanted)
            .await
            .ok_or_else(missed)?;
        let _ = write!(result, ", ready after {}", format::time(begun.elapsed()));
    }
    Ok(Played {
        what: what.to_owned(),
        result,
        took,
    })
}

async fn upgrade(props: &Props) -> Result<Played, String> {
    let what = "upgrade: the same binary on the same sockets";
    props.now.send_replace(format!(
        "{what}: the new data process takes over, the old one drains"
    ));
    let before = props.admin.state().await?.data;
    let begun = Instant::now();
    let body = serde_json::json!({ "binary": props.config.binary }).to_string();
    let done = props.admin.act("/upgrade", body).await;
    done.map_err(|error| format!("{what}: {error}"))?;
    let is_new = |state: &State| state.data.generation > before.generation;
    let missed = || format!("{what}: the old data process still answers");
    let state = until(&props.admin, is_new).await.ok_or_else(missed)?;
    let took = begun.elapsed();
    let result = format!(
        "done in {} (data process {} → {})",
        format::time(took),
        before.pid,
        state.data.pid
    );
    Ok(Played {
        what: what.to_owned(),
        result,
        took,
    })
}

/// Looks until it is so; `None` when it does not become so in time.
async fn until(admin: &Admin, is_so: impl Fn(&State) -> bool) -> Option<State> {
    let looking = async {
        loop {
            if let Ok(state) = admin.state().await
                && is_so(&state)
            {
                return state;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(LIMIT, looking).await.ok()
}
