//! The Postgres bench's command line.
//!
//! Deliberately not here: what the options do; see `postgres/mod.rs`.

use std::path::PathBuf;

use anyhow::{Context, bail};

use super::contestant::PEERS;
use super::scenario::{self, Scenario};
use crate::arguments::Arguments;
use crate::bench::options::{self, Cores, names};

/// What the command line asks for.
pub(crate) struct Options {
    /// Whom ours is compared with.
    pub(crate) peers: Vec<String>,
    /// What is measured.
    pub(crate) scenarios: Vec<Scenario>,
    /// Rounds per scenario; 5 by default.
    pub(crate) rounds: usize,
    /// Seconds of each round's window; 3 by default.
    pub(crate) seconds: f64,
    /// Which cores are used; one by default.
    pub(crate) cores: Cores,
    /// Ours, when it is not to be built.
    pub(crate) binary: Option<PathBuf>,
    /// Ours is to be a plain release build, not what packages have.
    pub(crate) is_plain: bool,
    /// Another PgBouncer than Debian's.
    pub(crate) pgbouncer: Option<PathBuf>,
    /// Size of pgbench's tables: 100,000 accounts each.
    pub(crate) scale: usize,
    /// JSON lines instead of the table.
    pub(crate) is_json: bool,
}

impl Options {
    /// Reads the command line.
    pub(crate) fn read(mut arguments: Arguments) -> anyhow::Result<Self> {
        let peers = match arguments.value("--peers")? {
            Some(value) => names(&value),
            None => PEERS.map(str::to_owned).to_vec(),
        };
        if let Some(other) = peers.iter().find(|peer| !PEERS.contains(&peer.as_str())) {
            bail!("there is no peer `{other}`; there are {}", PEERS.join(", "));
        }
        let scenarios = match arguments.value("--scenarios")? {
            None => scenario::all(),
            Some(value) => find_scenarios(&names(&value))?,
        };
        let seconds = match arguments.value("--for")? {
            Some(text) => Some(crate::soak::duration(&text)?.as_secs_f64()),
            None => arguments.parsed("--seconds")?,
        };
        let options = Self {
            peers,
            scenarios,
            rounds: options::rounds(&mut arguments)?,
            seconds: options::seconds(seconds)?,
            cores: Cores::read(&mut arguments)?,
            binary: arguments.parsed("--binary")?,
            is_plain: arguments.flag("--plain"),
            pgbouncer: arguments.parsed("--pgbouncer")?,
            scale: arguments.parsed("--scale")?.unwrap_or(20),
            is_json: arguments.flag("--json"),
        };
        anyhow::ensure!(
            (1..=1000).contains(&options.scale),
            "--scale is from 1 to 1000"
        );
        arguments.finish()?;
        Ok(options)
    }
}

/// Scenarios by their names, or by what their names begin with.
fn find_scenarios(names: &[String]) -> anyhow::Result<Vec<Scenario>> {
    let all = scenario::all();
    let mut found = Vec::new();
    for name in names {
        let before = found.len();
        found.extend(all.iter().filter(|one| is_named(&one.name, name)).cloned());
        if found.len() == before {
            let names: Vec<&str> = all.iter().map(|one| one.name.as_str()).collect();
            return Err(anyhow::anyhow!("there are {}", names.join(", ")))
                .with_context(|| format!("there is no scenario `{name}`"));
        }
    }
    Ok(found)
}

fn is_named(scenario: &str, name: &str) -> bool {
    let rest = scenario.strip_prefix(name);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> anyhow::Result<Options> {
        Options::read(Arguments::new(line.split_whitespace().map(str::to_owned)))
    }

    #[test]
    fn scenarios_are_found_by_the_beginning_of_their_names() {
        let count = |line: &str| options(line).map(|read| read.scenarios.len()).ok();
        assert_eq!(count(""), Some(20));
        assert_eq!(count("--scenarios select"), Some(9));
        assert_eq!(count("--scenarios select-simple,wait"), Some(4));
        assert_eq!(count("--scenarios select-simple-2"), None);
        assert_eq!(count("--scenarios select-simple-20"), Some(1));
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "--peers nginx",
            "--scenarios get",
            "--rounds 0",
            "--cores all",
            "--json yes",
            "--for 3",
        ] {
            assert!(options(line).is_err(), "{line}");
        }
        assert!((options("--for 2s").unwrap().seconds - 2.0).abs() < 1e-9);
    }
}
