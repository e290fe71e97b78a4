//! What is measured: the scenarios by the names that `--scenarios` takes.
//!
//! Deliberately not here: how it is measured.

/// Connections to the server that a pool may have.
pub(crate) const POOL: usize = 20;
/// Clients of the scenario in which most of them wait.
const WAITING: usize = 1_000;
/// Clients of the scenario in which all of them are idle.
pub(crate) const IDLE: usize = 10_000;

/// pgbench's script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Script {
    /// One select by primary key.
    Select,
    /// A transaction of three updates, a select and an insert.
    Tpcb,
}

impl Script {
    /// As `pgbench --builtin` takes it.
    pub(crate) fn builtin(self) -> &'static str {
        match self {
            Self::Select => "select-only",
            Self::Tpcb => "tpcb-like",
        }
    }

    /// Statements of a transaction, BEGIN and END included.
    pub(crate) fn queries(self) -> f64 {
        match self {
            Self::Select => 1.0,
            Self::Tpcb => 7.0,
        }
    }
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// CPU time per query, with so many clients.
    Work {
        /// What each client does, again and again.
        script: Script,
        /// pgbench's protocol.
        protocol: &'static str,
        /// How many there are.
        clients: usize,
    },
    /// As above with simple selects; what counts is how long transactions take.
    Wait,
    /// Memory per client of so many that do nothing.
    Idle,
}

/// One scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scenario {
    /// Its name in the table.
    pub(crate) name: String,
    /// What is done.
    pub(crate) what: What,
}

impl Scenario {
    /// What pgbench does in it; none for idle clients.
    pub(crate) fn load(&self) -> Option<(Script, &'static str, usize)> {
        match self.what {
            What::Work {
                script,
                protocol,
                clients,
            } => Some((script, protocol, clients)),
            What::Wait => Some((Script::Select, "simple", WAITING)),
            What::Idle => None,
        }
    }

    /// Its clients.
    pub(crate) fn clients(&self) -> usize {
        self.load().map_or(IDLE, |(_, _, clients)| clients)
    }

    /// Whether a peer can do it at all. Pgpool-II has a process and a connection to the server for each
    /// client; ten thousand of them are more than the bench's machines can hold.
    pub(crate) fn suits(&self, peer: &str) -> bool {
        self.what != What::Idle || peer != "pgpool"
    }
}

/// All of them; the list.
pub(crate) fn all() -> Vec<Scenario> {
    let mut all = Vec::new();
    for (script, short) in [(Script::Select, "select"), (Script::Tpcb, "tpcb")] {
        for protocol in ["simple", "extended", "prepared"] {
            for clients in [1, POOL, 200] {
                all.push(Scenario {
                    name: format!("{short}-{protocol}-{clients}"),
                    what: What::Work {
                        script,
                        protocol,
                        clients,
                    },
                });
            }
        }
    }
    all.push(Scenario {
        name: format!("wait-{WAITING}"),
        what: What::Wait,
    });
    all.push(Scenario {
        name: format!("idle-{IDLE}"),
        what: What::Idle,
    });
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_whole() {
        let all = all();
        assert_eq!(all.len(), 2 * 3 * 3 + 2);
        assert_eq!(all[0].name, "select-simple-1");
        assert_eq!(all[17].name, "tpcb-prepared-200");
        assert_eq!(all[18].clients(), 1_000);
        assert!(!all[19].suits("pgpool") && all[19].suits("pgbouncer"));
    }
}
