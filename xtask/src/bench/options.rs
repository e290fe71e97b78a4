//! The command line of the edge's bench and of that of layer 4.
//!
//! Deliberately not here: what the options do; see `edge.rs`.

use std::path::PathBuf;

use anyhow::{Context, bail};

use super::contestant::{FLOOR, OURS, WAYS};
use super::peers;
use super::scenario::{self, Scenario};
use crate::arguments::Arguments;

/// Which cores are used.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cores {
    /// Contestant, load and backend on one core.
    One,
    /// The contestant on one core, load and backend on another.
    Split,
}

impl Cores {
    /// `--cores`.
    pub(crate) fn read(arguments: &mut Arguments) -> anyhow::Result<Self> {
        match arguments.value("--cores")?.as_deref() {
            None | Some("one") => Ok(Self::One),
            Some("split") => Ok(Self::Split),
            Some(other) => bail!("--cores is `one` or `split`, not `{other}`"),
        }
    }

    /// The contestants' and the load's, as taskset takes them.
    pub(crate) fn lists(self, scenario: &Scenario) -> (&'static str, &'static str) {
        self.lists_of(scenario.workers)
    }

    /// The same for contestants with so many workers.
    pub(crate) fn lists_of(self, workers: usize) -> (&'static str, &'static str) {
        let available = std::thread::available_parallelism().map_or(1, usize::from);
        match (available, workers, self) {
            (1, ..) | (_, 1, Self::One) => ("0", "0"),
            (_, 1, Self::Split) => ("0", "1"),
            _ => ("0,1", "0,1"),
        }
    }
}

/// What looks at the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    /// The HTTP proxies.
    Seven,
    /// Nobody: TCP.
    Four,
    /// The HTTP proxies, for what TLS costs.
    Tls,
    /// The HTTP proxies, by HTTP/2.
    Http2,
}

impl Layer {
    /// Name of its bench.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Seven => "edge",
            Self::Four => "l4",
            Self::Tls => "tls",
            Self::Http2 => "h2",
        }
    }

    /// The folder with its configurations.
    pub(crate) fn templates(self) -> &'static str {
        match self {
            Self::Four => "l4",
            Self::Seven | Self::Tls | Self::Http2 => "edge",
        }
    }

    fn scenarios(self) -> &'static [Scenario] {
        match self {
            Self::Seven => &scenario::ALL,
            Self::Four => &scenario::LAYER_FOUR,
            Self::Tls => &scenario::TLS,
            Self::Http2 => &scenario::HTTP2,
        }
    }

    /// Whom ours is compared with unless others are named.
    pub(crate) fn peers(self) -> &'static [&'static str] {
        match self {
            Self::Seven => &peers::NAMES,
            Self::Tls | Self::Http2 => &["nginx", "haproxy", "envoy"],
            Self::Four => &["nginx", "haproxy", "envoy"],
        }
    }
}

/// What the command line asks for.
pub(crate) struct Options {
    /// What looks at the bytes.
    pub(crate) layer: Layer,
    /// Whom ours is compared with; the floor is always the last.
    pub(crate) peers: Vec<String>,
    /// What is measured.
    pub(crate) scenarios: Vec<&'static Scenario>,
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
    /// Who runs in our place.
    pub(crate) ours: String,
    /// JSON lines instead of the table.
    pub(crate) is_json: bool,
}

impl Options {
    /// The same with our ways of choosing an endpoint as the peers; where no scenarios were named,
    /// those in which a choice costs most.
    pub(crate) fn of_ways(mut self) -> Self {
        self.peers = WAYS.iter().map(|(name, _)| (*name).to_owned()).collect();
        if self.scenarios.len() == scenario::ALL.len() {
            self.scenarios
                .retain(|scenario| scenario.name.starts_with("get-1k-"));
        }
        self
    }

    /// Reads the command line of the edge's bench.
    pub(crate) fn read(arguments: Arguments) -> anyhow::Result<Self> {
        Self::read_for(arguments, Layer::Seven)
    }

    /// Reads the command line.
    pub(crate) fn read_for(mut arguments: Arguments, layer: Layer) -> anyhow::Result<Self> {
        let mut peers = match arguments.value("--peers")? {
            Some(value) => names(&value),
            None => layer
                .peers()
                .iter()
                .map(|name| (*name).to_owned())
                .collect(),
        };
        // The floor is in every table, but it speaks no HTTP/2.
        peers.retain(|name| name != FLOOR);
        if layer != Layer::Http2 {
            peers.push(FLOOR.to_owned());
        }
        let scenarios = match arguments.value("--scenarios")? {
            None => layer.scenarios().iter().collect(),
            Some(value) => names(&value)
                .iter()
                .map(|name| find_scenario(name, layer))
                .collect::<anyhow::Result<_>>()?,
        };
        let options = Self {
            layer,
            peers,
            scenarios,
            rounds: rounds(&mut arguments)?,
            seconds: seconds(arguments.parsed("--seconds")?)?,
            cores: Cores::read(&mut arguments)?,
            binary: arguments.parsed("--binary")?,
            is_plain: arguments.flag("--plain"),
            // For work on the bench itself: any contestant in our place.
            ours: arguments
                .value("--ours")?
                .unwrap_or_else(|| OURS.to_owned()),
            is_json: arguments.flag("--json"),
        };
        arguments.finish()?;
        Ok(options)
    }
}

/// The names in a list with commas.
pub(crate) fn names(list: &str) -> Vec<String> {
    let names = list.split(',').map(|name| name.trim().to_owned());
    names.filter(|name| !name.is_empty()).collect()
}

/// `--rounds`.
pub(crate) fn rounds(arguments: &mut Arguments) -> anyhow::Result<usize> {
    let rounds = arguments.parsed("--rounds")?.unwrap_or(5);
    anyhow::ensure!((1..=100).contains(&rounds), "--rounds is from 1 to 100");
    Ok(rounds)
}

/// The seconds of a round, if they were given.
pub(crate) fn seconds(given: Option<f64>) -> anyhow::Result<f64> {
    let seconds = given.unwrap_or(3.0);
    anyhow::ensure!(
        (0.2..=600.0).contains(&seconds),
        "--seconds is from 0.2 to 600"
    );
    Ok(seconds)
}

fn find_scenario(name: &str, layer: Layer) -> anyhow::Result<&'static Scenario> {
    let all = layer.scenarios();
    all.iter()
        .find(|scenario| scenario.name == name)
        .with_context(|| {
            let names: Vec<&str> = all.iter().map(|one| one.name).collect();
            format!(
                "there is no scenario `{name}`; there are {}",
                names.join(", ")
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> anyhow::Result<Options> {
        Options::read(Arguments::new(line.split_whitespace().map(str::to_owned)))
    }

    #[test]
    fn the_floor_is_always_there_and_once() {
        let read = options("--peers nginx,floor,haproxy --scenarios get-1k-8").unwrap();
        assert_eq!(read.peers, ["nginx", "haproxy", "floor"]);
        assert_eq!(read.scenarios.len(), 1);
        assert_eq!(options("").unwrap().scenarios.len(), scenario::ALL.len());
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "--scenarios get",
            "--rounds 0",
            "--cores all",
            "--json yes",
            "--seconds 0",
        ] {
            assert!(options(line).is_err(), "{line}");
        }
    }
}
