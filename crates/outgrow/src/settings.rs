//! `[process]`: how the data process itself runs; and the commands of `[leader]`, of
//! `[service.NAME.promote]` and of `[acme]`.

use std::time::Duration;

use outgrow_core::settings::{ByteSize, Kind, Name, Node, Reader, Setting, Value};
use outgrow_fleet::settings::Command;

const DAY: Duration = Duration::from_secs(86_400);

outgrow_core::settings! {
    /// How the process itself runs.
    pub struct ProcessSettings {
        /// Threads that carry traffic. Changed by an upgrade, not by a reload.
        pub workers: Option<u16> = None, in Some(1)..=Some(256), shown = "number of cores";
        /// The name of this box in registries, which get a random part with it. Changed by an
        /// upgrade, not by a reload.
        pub name: Option<Name> = None, shown = "the host's name";
        /// The zone that this process is in: endpoints of the same `zone` are used first.
        pub zone: String = String::new();
        /// Bytes of requests and responses that may be buffered at a time, all workers together.
        /// At the limit connections wait to be read from, and new requests get 503. With HTTP/3 what
        /// clients could send counts from the moment when they may, in a third of it at most and a
        /// twelfth for one client address (IPv6: one /64; `address_percent` of the listener's `http3`): a
        /// connection with a request that does not come as a whole 80 KiB, each such request 32 KiB, and
        /// what the connection's window was widened by for as long as it is there. Above that such
        /// requests get 503 (`outgrow_buffer_unforeseen_total`), as those beyond a connection's fourth do
        /// above half of all memory. An open WebSocket counts the same 32 KiB and its connection the
        /// 80 KiB, to their address, but in the third only where it was opened above half of all memory.
        pub memory: ByteSize = ByteSize::mib(256), in ByteSize::mib(8)..=ByteSize::gib(1_024);
        /// Files of `files` that are open at a time while they are sent: those larger than 64 KiB, until the
        /// last of a file was read. One more gets 503 (`file_limit`). At most half of the files that the process
        /// may open (`ulimit -n`, `LimitNOFILE=`); and none from the last eighth of these, which connections
        /// leave alone too. While more than half of them are open, one client address (a /64 of IPv6) has a fifth
        /// at most, so clients behind a proxy need it in `trusted_proxies`. Where several directories are served,
        /// none has more than half.
        pub max_open_files: Option<u32> = None, in Some(1)..=Some(1_000_000),
            shown = "a quarter of what the process may open, 16384 at most";
        /// On a stop: how long `/readyz` fails before the listeners close, so that whoever sends
        /// traffic here notices first. With `register` of a service they stay open until two
        /// seconds after the registry confirmed the withdrawal as well (seven at most), and with
        /// `[leader]` until the lease is given back.
        pub drain_delay: Duration = Duration::ZERO, in Duration::ZERO..=DAY;
        /// On a stop: how long requests in flight may take to end. After it their connections are
        /// closed. WebSockets of endpoints that are taken out of the configuration end within the same
        /// time.
        pub drain_timeout: Duration = Duration::from_secs(30), in Duration::ZERO..=DAY;
        /// On an upgrade: how long the old data process may live for long connections. After it
        /// they are closed.
        pub upgrade_drain_timeout: Duration = Duration::from_secs(3_600),
            in Duration::ZERO..=DAY * 7;
    }
}

outgrow_core::settings! {
    /// What is done when the lease is gained and lost: commands, run one after the other, with
    /// `OUTGROW_LEADER` (the lease's name) and `OUTGROW_BOX` (this box in the registry) in their
    /// environment. A text is run by `/bin/sh -c`; a list is a program and its arguments.
    pub struct LeaderCommands {
        /// Run when this box gains the lease. It may be run again while it is held (after a crash
        /// in the middle of it), so doing it twice must be as good as once. One that fails is
        /// told, and the lease stays held. What it leaves running behind it nobody looks after.
        pub gained: Option<Command> = None;
        /// Run when the lease is lost or about to be given back, and once at the start of
        /// everything unless the lease is gained at once: what a killed outgrow left is undone so.
        /// To be over before another box gains the lease it must take less than a third of `ttl`.
        pub lost: Option<Command> = None;
        /// How long one may take. After it its process group is killed.
        pub command_timeout: Duration = Duration::from_secs(3),
            in Duration::from_millis(100)..=Duration::from_secs(600);
    }
}

outgrow_core::settings! {
    /// Commands run with a server in their environment: `OUTGROW_SERVICE`, and `OUTGROW_ADDRESS`,
    /// `OUTGROW_HOST` and `OUTGROW_PORT` of the server that it is about; `command` with
    /// `OUTGROW_TIMELINE` and `OUTGROW_LSN` of the replica besides, and with the address, timeline and
    /// position of the primary before (`OUTGROW_OLD_ADDRESS`, `OUTGROW_OLD_HOST`, …). A text is run by
    /// `/bin/sh -c`; a list is a program and its arguments. Each may be run again for the same server.
    pub struct PromoteCommands {
        /// What keeps the old primary from taking writes: it must not end with 0 before that is
        /// certain, and stays so (power off, `pg_ctl stop`, a network rule). Nothing is promoted
        /// unless it ends with 0. `"none"`: the old primary is not fenced; clients of this outgrow
        /// leave it by its timeline, but what others write to it, or what it acknowledges while only
        /// we cannot reach it, is lost. Left out: only
        /// `outgrow postgres promote --force-without-fence` promotes.
        pub fence: Option<Fence> = None;
        /// What promotes the replica. Left out: `SELECT pg_promote()`.
        pub command: Option<Command> = None;
        /// How long a command may take. After it its process group is killed, and it has failed.
        pub command_timeout: Duration = Duration::from_secs(30),
            in Duration::from_millis(100)..=Duration::from_secs(3_600);
    }
}

outgrow_core::settings! {
    /// For `dns-01` commands are run, for each name of a certificate, with `OUTGROW_ACME_NAME` (the
    /// name, without `*.`), `OUTGROW_ACME_RECORD` (`_acme-challenge.` and the name) and
    /// `OUTGROW_ACME_VALUE` (the text of the TXT record) in their environment. A text is run by
    /// `/bin/sh -c`; a list is a program and its arguments.
    pub struct AcmeCommands {
        /// Adds the TXT record, beside others of the same name: a name and its wildcard are proven
        /// by one each. It may be run again for the same record.
        pub dns_present: Option<Command> = None;
        /// Removes the TXT record, and no other one. What it fails to do is told, no more.
        pub dns_clean: Option<Command> = None;
        /// How long one may take. After it its process group is killed, and it has failed.
        pub command_timeout: Duration = Duration::from_secs(60),
            in Duration::from_millis(100)..=Duration::from_secs(3_600);
    }
}

/// How the old primary is fenced.
#[derive(Clone, Debug, PartialEq)]
pub enum Fence {
    /// It is not.
    None,
    /// By this.
    Command(Command),
}

impl Setting for Fence {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        if let Value::String { text, .. } = &node.value
            && text == "none"
        {
            return Some(Self::None);
        }
        Command::read(node, reader).map(Self::Command)
    }

    fn kind() -> Kind {
        Command::kind()
    }

    fn text(&self) -> Option<String> {
        match self {
            Self::None => Some("\"none\"".to_owned()),
            Self::Command(command) => command.text(),
        }
    }
}
