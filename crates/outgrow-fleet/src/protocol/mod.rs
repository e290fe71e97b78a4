//! The words that keeper and data process say to each other, one JSON record
//! per packet of a `SOCK_SEQPACKET` socketpair that is the data process's
//! standard input. How packets carry them is in `channel`; what keeper and
//! shim say is in `shim`.
//!
//! Both sides may be of different versions during an upgrade. Therefore a
//! record of an unknown type is ignored with a log line, an unknown field is
//! ignored, and a new field has a default.
//!
//! Order of a start: the keeper spawns the data process and sends `Hello` with
//! every listening socket it holds. The data process binds what is missing,
//! and says `Ready` when it serves. Only then does the keeper make it the one
//! whose commands count (what it commanded before is held until then, unless
//! there is no other) and tell the previous one to `Drain`. So `Ready` must
//! never wait for an instance that was commanded in the same upgrade.

pub mod channel;
pub mod instance;
pub mod limits;
pub mod shim;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use instance::{
    Command, Exit, InstanceId, InstanceReport, InstanceSpec, InstanceState, Listen, RestartPolicy,
};
pub use limits::{Limits, LimitsReport};

/// The version of this protocol. Raised only when the two sides could
/// misunderstand each other in spite of the rules above.
pub const PROTOCOL_VERSION: u32 = 1;

/// The version of the state that a keeper hands to its successor when it
/// re-executes itself. A data process tells which one its own binary reads, so
/// that a keeper never becomes a binary that cannot take its state over.
pub const KEEPER_STATE_VERSION: u32 = 1;

/// Data process to keeper.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum DataMessage {
    /// Make listening sockets, or give those again that this key has already.
    /// Answered by `Bound` or `BindFailed`.
    Bind {
        /// Chosen by the data process, such as the listener's name and address.
        key: String,
        /// The listener's name: sockets that were passed to the keeper and bear it are
        /// its, where none is bound to the address.
        #[serde(default)]
        name: String,
        /// `host:port` (an IP address, `localhost` or `*`), `udp:host:port` for
        /// datagrams, or `unix:/path`.
        address: String,
        /// How many `SO_REUSEPORT` sockets, 1..=256; one is made for a Unix path.
        sockets: u32,
        /// Whether a Unix path is for this user only, whatever the umask says.
        #[serde(default)]
        private: bool,
    },
    /// The sockets of this key are not needed any more. Take what is in their
    /// queues first.
    Release {
        /// As given to `Bind`.
        key: String,
    },
    /// Start an instance and keep it running. Ignored if the id exists.
    StartInstance {
        /// What to run.
        spec: InstanceSpec,
    },
    /// Stop an instance for good: SIGTERM, grace, SIGKILL of the whole group.
    StopInstance {
        /// Which.
        id: InstanceId,
    },
    /// Stop an instance and start it anew: the first time at once, then later
    /// and later, as after an early exit.
    RestartInstance {
        /// Which.
        id: InstanceId,
        /// Why, for the log and the state.
        reason: String,
        /// It never got ready: this is an early exit however long it ran.
        #[serde(default)]
        never_ready: bool,
    },
    /// Change how an instance's end is handled, without touching it.
    UpdateInstance {
        /// Which.
        id: InstanceId,
        /// From SIGTERM to SIGKILL, in milliseconds.
        stop_grace_ms: u64,
        /// When it is started again after an exit.
        restart: RestartPolicy,
    },
    /// Change what an instance may use, while it runs and for its next starts.
    LimitInstance {
        /// Which.
        id: InstanceId,
        /// From now on.
        limits: Limits,
    },
    /// The data process serves.
    Ready {
        /// [`KEEPER_STATE_VERSION`] of its binary.
        #[serde(default)]
        keeper_state: u32,
    },
    /// The data process has drained and is about to exit.
    Drained {},
    /// The data process cannot start. Its first start ends the keeper with
    /// code 1; an upgrade is called off.
    Fatal {
        /// What is wrong, for people.
        message: String,
    },
    /// Start the new binary's data process next to this one. Answered by
    /// `UpgradeResult`.
    Upgrade {
        /// The new binary. Default: the file that the keeper was started from.
        #[serde(default)]
        binary: Option<PathBuf>,
    },
    /// Stop everything gracefully and exit.
    Stop {},
    /// Keep a value for the data processes to come; `null` forgets it, and so
    /// does one that finds no room: all values together may take 8 MiB. Of one that drains it is not kept: the
    /// active one is told (`Kept`), which was greeted before that.
    Keep {
        /// Its name.
        key: String,
        /// Any JSON.
        value: serde_json::Value,
    },
    /// A reload that the keeper asked for is over.
    Reloaded {
        /// As in `Reload`; the highest where several were done at once.
        number: u64,
        /// Whether it was taken over.
        ok: bool,
        /// If not: whether it was but for what the message says.
        #[serde(default)]
        in_part: bool,
        /// What happened, for people.
        message: String,
    },
    /// On which instances a data process that drains after an upgrade still has
    /// requests. Sent at each change; the keeper tells the active one.
    InFlight {
        /// All of them.
        instances: Vec<InstanceId>,
    },
    /// How long a data process may live after `Drain`; then it is killed.
    SetLimits {
        /// On a stop, in milliseconds. Default 30,000.
        stop_drain_ms: u64,
        /// On an upgrade, in milliseconds. Default 3,600,000.
        upgrade_drain_ms: u64,
    },
    /// A message that this version does not know.
    #[serde(other)]
    Unknown,
}

/// Listening sockets that the keeper holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerEntry {
    /// As given to `Bind`.
    pub key: String,
    /// As given to `Bind`.
    pub address: String,
    /// How many there are.
    pub sockets: u32,
}

/// Why a data process should drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrainReason {
    /// A newer data process serves now.
    Upgrade,
    /// Everything ends.
    Stop,
}

/// The first record a data process gets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// Which data process this is, counted from 1 over the keeper's life.
    pub generation: u64,
    /// [`PROTOCOL_VERSION`] of the keeper.
    pub protocol: u32,
    /// The keeper's own version, for people.
    pub version: String,
    /// The keeper's pid.
    pub keeper: u32,
    /// Another data process serves meanwhile.
    pub upgrade: bool,
    /// How often a data process died unasked so far.
    #[serde(default)]
    pub data_restarts: u32,
    /// What is bound. The descriptors are attached, in this order.
    pub listeners: Vec<ListenerEntry>,
    /// Every instance and how it is.
    pub instances: Vec<InstanceReport>,
    /// What earlier data processes asked to keep.
    #[serde(default)]
    pub kept: BTreeMap<String, serde_json::Value>,
    /// Other data processes that are there: the one that serves meanwhile, those that drain.
    #[serde(default)]
    pub others: Vec<u64>,
}

/// Keeper to data process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum KeeperMessage {
    /// The first record.
    Hello(Box<Hello>),
    /// The answer to `Bind`. The descriptors are attached: non-blocking and
    /// listening. There may be more than were asked for when an earlier data
    /// process asked for more: **all** must be accepted from, for the kernel
    /// spreads connections over all.
    Bound {
        /// As given to `Bind`.
        key: String,
        /// The address really bound (a port 0 is replaced by the port).
        address: String,
        /// How many descriptors are attached.
        sockets: u32,
    },
    /// The answer to `Bind` when it failed.
    BindFailed {
        /// As given to `Bind`.
        key: String,
        /// What is wrong, for people.
        reason: String,
    },
    /// An instance changed its state.
    Instance(Box<InstanceReport>),
    /// On which instances data processes that drain still have requests: not
    /// to be stopped meanwhile.
    InFlight {
        /// All of them.
        instances: Vec<InstanceId>,
    },
    /// What a data process that drains asked to keep, for the one that goes on.
    Kept {
        /// Its name.
        key: String,
        /// Any JSON.
        value: serde_json::Value,
    },
    /// For a data process that drains, or is about to, after an upgrade: the
    /// one that serves now is at the other end of the attached socket pair
    /// (`SOCK_SEQPACKET`). What they say to each other is their business.
    /// Again whenever another one serves.
    Successor {},
    /// For the one that serves: one that drains after an upgrade is at the
    /// other end of the attached socket pair.
    Predecessor {},
    /// For both of them, beside `Successor` and `Predecessor`: another data process has connections whose
    /// datagrams come to sockets that both have, and is at the other end of the attached socket pair
    /// (`SOCK_SEQPACKET`).
    Neighbour {
        /// Which, as in `Hello`.
        generation: u64,
    },
    /// SIGHUP: read the configuration again. Answered by `Reloaded`.
    Reload {
        /// Counts them.
        #[serde(default)]
        number: u64,
    },
    /// Finish what is in flight, take nothing new, then exit.
    Drain {
        /// Why.
        reason: DrainReason,
    },
    /// The answer to `Upgrade`.
    UpgradeResult {
        /// Whether the new data process serves.
        ok: bool,
        /// What happened, for people.
        message: String,
    },
    /// A message that this version does not know.
    #[serde(other)]
    Unknown,
}

/// A record read from a packet.
#[derive(Debug)]
pub enum Decoded<T> {
    /// A message that this version knows.
    Message(T),
    /// Something else: to be ignored with this log line.
    Ignored(String),
}

/// Reads a record. `is_unknown` tells the catch-all variant of `T`.
pub fn decode<T>(bytes: &[u8], is_unknown: impl Fn(&T) -> bool) -> Decoded<T>
where
    T: serde::de::DeserializeOwned,
{
    match serde_json::from_slice::<T>(bytes) {
        Ok(message) if is_unknown(&message) => {
            let kind = serde_json::from_slice::<serde_json::Value>(bytes)
                .ok()
                .and_then(|value| value.get("type")?.as_str().map(str::to_owned))
                .unwrap_or_default();
            Decoded::Ignored(format!("a message of unknown type `{kind}`"))
        }
        Ok(message) => Decoded::Message(message),
        Err(error) => Decoded::Ignored(format!("an unreadable message: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Decoded<DataMessage> {
        decode(json.as_bytes(), |message| {
            matches!(message, DataMessage::Unknown)
        })
    }

    #[test]
    fn unknown_types_and_nonsense_are_ignored_with_their_reason() {
        let Decoded::Ignored(line) = read(r#"{"type":"dance","with":"me"}"#) else {
            panic!("must be ignored");
        };
        assert!(line.contains("`dance`"), "{line}");
        let Decoded::Ignored(line) = read("not json") else {
            panic!("must be ignored");
        };
        assert!(line.contains("unreadable"), "{line}");
    }

    #[test]
    fn unknown_fields_are_ignored() {
        let Decoded::Message(message) = read(r#"{"type":"drained","mood":"good"}"#) else {
            panic!("must be read");
        };
        assert_eq!(message, DataMessage::Drained {});
    }

    #[test]
    fn records_survive_the_way_there_and_back() {
        let hello = KeeperMessage::Hello(Box::new(Hello {
            generation: 2,
            protocol: PROTOCOL_VERSION,
            version: "1".into(),
            keeper: 1,
            upgrade: true,
            data_restarts: 0,
            listeners: vec![ListenerEntry {
                key: "public".into(),
                address: "127.0.0.1:80".into(),
                sockets: 2,
            }],
            instances: Vec::new(),
            kept: BTreeMap::new(),
            others: vec![1],
        }));
        let text = serde_json::to_string(&hello).unwrap();
        assert_eq!(serde_json::from_str::<KeeperMessage>(&text).unwrap(), hello);
    }
}
