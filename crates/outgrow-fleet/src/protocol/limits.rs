//! What is said about the limits of an instance: what is wanted (`Limits`), where it is written
//! (`Grant`, a control group for each controller), and what came of it (`LimitsReport`). How control
//! groups are found, made and written is in `cgroup`.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What an instance may use at most. No part of what makes a specification another one: a changed
/// limit is written to the instance that runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Processor time for each second of time, in thousandths of a core.
    pub cpu_thousandths: Option<u32>,
    /// Memory in bytes.
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    pub processes: Option<u32>,
    /// Whether the instance is not started where they cannot be enforced.
    pub required: bool,
}

impl Limits {
    /// Whether there is any limit.
    pub fn is_any(&self) -> bool {
        Controller::ALL
            .iter()
            .any(|controller| self.wants(*controller))
    }

    /// Whether there is a limit of this kind.
    pub fn wants(&self, controller: Controller) -> bool {
        match controller {
            Controller::Cpu => self.cpu_thousandths.is_some(),
            Controller::Memory => self.memory_bytes.is_some(),
            Controller::Processes => self.processes.is_some(),
        }
    }
}

/// A kind of limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Controller {
    /// Processor time.
    Cpu,
    /// Memory.
    Memory,
    /// Processes and threads.
    Processes,
}

impl Controller {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Cpu, Self::Memory, Self::Processes];

    /// The kernel's name of it.
    pub fn kernel_name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Processes => "pids",
        }
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Processes => "processes",
        })
    }
}

/// Which of the kernel's two interfaces a control group has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Version {
    /// A hierarchy for each controller.
    V1,
    /// One hierarchy for all.
    V2,
}

/// A control group of one instance, for one controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Its interface.
    pub version: Version,
    /// The group's directory. The same one for several controllers of v2.
    pub directory: PathBuf,
    /// The group in which outgrow's own processes are.
    pub outside: PathBuf,
}

/// Where the limits of one instance are written, or why they cannot be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// For processor time.
    pub cpu: Result<Place, String>,
    /// For memory.
    pub memory: Result<Place, String>,
    /// For processes.
    pub processes: Result<Place, String>,
}

impl Grant {
    /// The place of one controller.
    pub fn of(&self, controller: Controller) -> &Result<Place, String> {
        match controller {
            Controller::Cpu => &self.cpu,
            Controller::Memory => &self.memory,
            Controller::Processes => &self.processes,
        }
    }

    /// Each directory once.
    pub fn places(&self) -> Vec<&Place> {
        let mut places: Vec<&Place> = Vec::new();
        for place in Controller::ALL
            .iter()
            .filter_map(|one| self.of(*one).as_ref().ok())
        {
            if places.iter().all(|one| one.directory != place.directory) {
                places.push(place);
            }
        }
        places
    }
}

/// What came of an instance's limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsReport {
    /// What holds now.
    pub in_force: Limits,
    /// Why not all that is wanted holds; empty when it does.
    #[serde(default)]
    pub problems: Vec<String>,
    /// Where use and limits can be read.
    #[serde(default)]
    pub grant: Option<Grant>,
}
