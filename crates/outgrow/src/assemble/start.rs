//! The start of a data process: configuration, sockets from the keeper, workers, then the loop.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use outgrow_core::Clock;
use outgrow_edge::{Edge, RecordWriter, Shared};
use outgrow_fleet::client::{Client, ClientError, FromKeeper, Receiver, Sender};
use outgrow_fleet::protocol::{
    DataMessage, Hello, InstanceReport, KEEPER_STATE_VERSION, KeeperMessage,
};
use outgrow_message::Ledger;
use outgrow_upstream::Registry;

use super::control::{Control, Parts};
use super::listeners::Sockets;
use super::watch::Watch;
use super::{certificates, log};
use crate::cli::ConfigSource;
use crate::config::{Config, Look};

/// How long this process may live on when its keeper is gone.
const ORPHAN_LIMIT: Duration = Duration::from_secs(10);
/// Under which name the keeper holds the text of the last good configuration.
const CONFIGURATION: &str = "configuration";

/// Runs the data process until it has drained.
pub fn data(source: ConfigSource) -> ExitCode {
    let client = match Client::from_stdin() {
        Ok(client) => client,
        Err(error) => {
            eprintln!("outgrow: {error}");
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = client.watch_keeper(ORPHAN_LIMIT) {
        eprintln!("outgrow: {error}");
        return ExitCode::FAILURE;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("outgrow: no runtime can be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(async move {
        match begin(client, source).await {
            Ok(control) => control.run().await,
            Err(()) => ExitCode::FAILURE,
        }
    });
    log::finish();
    code
}

/// Everything up to the moment at which the loop takes over. What fails is told to the keeper,
/// which decides whether the old data process goes on.
async fn begin(client: Client, source: ConfigSource) -> Result<Control, ()> {
    let (sender, mut receiver) = client
        .split()
        .map_err(|error| log::warn(&error.to_string()))?;
    let started = start(&sender, &mut receiver, &source).await;
    match started {
        Ok(parts) => Control::new(parts, sender, receiver, source).await,
        Err(message) => {
            let _ = sender.send(&DataMessage::Fatal { message }).await;
            Err(())
        }
    }
}

async fn start(
    sender: &Sender,
    receiver: &mut Receiver,
    source: &ConfigSource,
) -> Result<Parts, String> {
    let (mut hello, mut sockets) = wait_for_hello(receiver).await?;
    let watch = Watch::before_reading(source.file());
    let (config, warnings) = configuration(sender, source, &hello).await?;
    let watch = watch.with_certificates(&config);
    for warning in warnings.lines() {
        log::warn(warning);
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = config
        .process
        .workers
        .map_or(cores, usize::from)
        .clamp(1, 256);
    let reports = bind_missing(sender, receiver, &config, workers, &mut sockets).await?;
    hello.instances.extend(reports);
    let clock = Clock::start();
    let registry = Arc::new(Registry::new(workers));
    let ledger = Ledger::new(config.process.memory.0);
    let shared = Shared::new(clock, ledger, workers);
    let records = RecordWriter::start().map_err(|error| error.to_string())?;
    super::access::direct(&records, &config.access)?;
    let kept = hello
        .kept
        .get("ticket_secret")
        .and_then(|value| value.as_str());
    let (tickets, secret) = certificates::ticket_keys(kept)?;
    if kept.is_none() {
        let keep = DataMessage::Keep {
            key: "ticket_secret".to_owned(),
            value: secret.clone().into(),
        };
        sender
            .send(&keep)
            .await
            .map_err(|error| error.to_string())?;
    }
    let cookie_secret = outgrow_edge::sticky::secret_of(&secret);
    let edge = Edge::start(shared, &registry, &records).map_err(|error| error.to_string())?;
    Ok(Parts {
        hello,
        config,
        watch,
        cores,
        sockets,
        registry,
        records,
        tickets,
        cookie_secret,
        edge,
    })
}

/// The configuration as it is now; the last one that was good when this process replaces one that
/// died and the file has been broken since: a typo must not turn a crash into an outage.
async fn configuration(
    sender: &Sender,
    source: &ConfigSource,
    hello: &Hello,
) -> Result<(Config, String), String> {
    let loaded = match source.text() {
        Ok(text) => source
            .load_text(&text, Look::Plain)
            .map(|loaded| (loaded, text)),
        Err(problem) => Err(problem),
    };
    match loaded {
        Ok((loaded, text)) => {
            keep_text(sender, text).await;
            Ok(loaded)
        }
        Err(problems) => {
            let kept = hello
                .kept
                .get(CONFIGURATION)
                .and_then(|value| value.as_str());
            let Some(kept) = kept.filter(|_| !hello.upgrade) else {
                return Err(problems);
            };
            for line in problems.lines() {
                log::warn(line);
            }
            log::warn("the file is not valid: the configuration that ran before is used");
            source.load_text(kept, Look::Plain)
        }
    }
}

/// Lets the keeper hold the text of a configuration that is in force.
pub(super) async fn keep_text(sender: &Sender, text: String) {
    let keep = DataMessage::Keep {
        key: CONFIGURATION.to_owned(),
        value: text.into(),
    };
    if let Err(error) = sender.send(&keep).await {
        log::warn(&format!("the keeper cannot be told: {error}"));
    }
}

async fn wait_for_hello(receiver: &mut Receiver) -> Result<(Hello, Sockets), String> {
    loop {
        match receiver.receive().await {
            Ok(FromKeeper::Message(KeeperMessage::Hello(hello), descriptors)) => {
                let mut sockets = Sockets::default();
                let mut descriptors = descriptors.into_iter();
                for entry in &hello.listeners {
                    let own = descriptors.by_ref().take(entry.sockets as usize).collect();
                    sockets.put(entry.key.clone(), own);
                }
                return Ok((*hello, sockets));
            }
            Ok(FromKeeper::Message(..) | FromKeeper::Ignored(_)) => {}
            Err(ClientError::Gone) => return Err("the keeper is gone".to_owned()),
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Every address of the configuration with its key and how many sockets it wants.
pub(super) fn addresses(config: &Config, workers: usize) -> Vec<(String, String, u32)> {
    let workers = u32::try_from(workers).unwrap_or(1);
    let mut wanted: Vec<(String, String, u32)> = config
        .listener
        .values()
        .map(|listener| {
            let address = listener.address.to_string();
            (super::listeners::key(&address), address, workers)
        })
        .collect();
    if let Some(address) = config.admin.listen.address() {
        let address = address.to_string();
        wanted.push((super::listeners::admin_key(&address), address, 1));
    }
    wanted
}

/// Gets sockets for the addresses that the keeper did not hand over. What it tells of instances
/// meanwhile is returned: it is told once.
async fn bind_missing(
    sender: &Sender,
    receiver: &mut Receiver,
    config: &Config,
    workers: usize,
    sockets: &mut Sockets,
) -> Result<Vec<InstanceReport>, String> {
    let mut reports = Vec::new();
    for (key, address, count) in addresses(config, workers) {
        if sockets.has(&key) {
            continue;
        }
        let bind = DataMessage::Bind {
            key: key.clone(),
            address: address.clone(),
            sockets: count,
        };
        sender
            .send(&bind)
            .await
            .map_err(|error| error.to_string())?;
        let bound = loop {
            match receiver
                .receive()
                .await
                .map_err(|error| error.to_string())?
            {
                FromKeeper::Message(KeeperMessage::Bound { key: bound, .. }, descriptors)
                    if bound == key =>
                {
                    break descriptors;
                }
                FromKeeper::Message(
                    KeeperMessage::BindFailed {
                        key: failed,
                        reason,
                    },
                    _,
                ) if failed == key => {
                    return Err(format!("cannot listen at {address}: {reason}"));
                }
                FromKeeper::Message(KeeperMessage::Instance(report), _) => reports.push(*report),
                // Nothing else can be meant for a process that is not ready.
                FromKeeper::Message(..) | FromKeeper::Ignored(_) => {}
            }
        };
        sockets.put(key, bound);
    }
    Ok(reports)
}

/// Says that this process serves.
pub(super) async fn say_ready(sender: &Sender, config: &Config) -> Result<(), ClientError> {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let process = &config.process;
    let limits = DataMessage::SetLimits {
        stop_drain_ms: millis(process.drain_delay + process.drain_timeout),
        upgrade_drain_ms: millis(process.upgrade_drain_timeout),
    };
    sender.send(&limits).await?;
    sender
        .send(&DataMessage::Ready {
            keeper_state: KEEPER_STATE_VERSION,
        })
        .await
}

#[cfg(test)]
mod tests;
