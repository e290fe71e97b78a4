//! The start of a data process: configuration, sockets from the keeper, workers, then the loop.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use outgrow_core::Clock;
use outgrow_edge::{Edge, RecordWriter, Shared};
use outgrow_fleet::LogFormat;
use outgrow_fleet::client::{Client, ClientError, FromKeeper, Receiver, Sender};
use outgrow_fleet::protocol::channel::LOST;
use outgrow_fleet::protocol::{DataMessage, Hello, KEEPER_STATE_VERSION, KeeperMessage};
use outgrow_message::Ledger;
use outgrow_tls::TicketKeys;
use outgrow_upstream::Registry;

use super::control::{Control, Parts};
use super::floors::Floors;
use super::http3::Http3;
use super::listeners::Sockets;
use super::prepare::{self, Preparation};
use super::{boxes, certificates, control, log, ocsp};
use crate::cli::ConfigSource;
use crate::config::Config;

/// How long this process may live on when its keeper is gone.
const ORPHAN_LIMIT: Duration = Duration::from_secs(10);

/// Runs the data process until it has drained.
pub fn data(source: ConfigSource, log_format: LogFormat) -> ExitCode {
    log::begin(log_format);
    let client = match Client::from_stdin() {
        Ok(client) => client,
        Err(error) => {
            eprintln!("outgrow: {error}");
            return ExitCode::FAILURE;
        }
    };
    let watch = match client.watch_keeper(ORPHAN_LIMIT) {
        Ok(watch) => watch,
        Err(error) => {
            eprintln!("outgrow: {error}");
            return ExitCode::FAILURE;
        }
    };
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
    watch.finish();
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
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (tickets, cookie_secret, quic_secret) = ticket_keys(sender, &hello).await?;
    let http3 = Http3::new(&quic_secret, hello.generation, &hello.others)?;
    let staples = ocsp::recall(&hello);
    let mut preparation = Preparation {
        sender,
        receiver,
        source,
        tickets: &tickets,
        staples: &staples,
        cores,
        hello: &mut hello,
        sockets: &mut sockets,
    };
    let prepared = preparation.prepare().await?;
    for warning in prepared.warnings.lines() {
        log::warn(warning);
    }
    let config = prepared.config;
    let box_name = boxes::name(&config, sender, &hello).await?;
    let workers = prepare::workers(&config, cores);
    let clock = Clock::start();
    let registry = Arc::new(Registry::new(workers));
    let ledger = Ledger::new(config.process.memory.0);
    let shared = Shared::new(clock, ledger, workers);
    shared
        .open_files
        .set_most(config.process.max_open_files.map(u64::from));
    let records = RecordWriter::start().map_err(|error| error.to_string())?;
    records.direct(prepared.access, config.access.format);
    let edge = Edge::start(shared, &registry, &records).map_err(|error| error.to_string())?;
    Ok(Parts {
        hello,
        config,
        watch: prepared.watch,
        text: prepared.text,
        certificates: prepared.certificates,
        pages: prepared.pages,
        cores,
        sockets,
        registry,
        records,
        tickets,
        staples,
        cookie_secret,
        http3,
        floors: Floors::default(),
        box_name,
        edge,
    })
}

/// The keys of session tickets, the secret of sticky cookies and that of QUIC's keys, which outlive
/// data processes.
async fn ticket_keys(
    sender: &Sender,
    hello: &Hello,
) -> Result<(Arc<TicketKeys>, [u8; 32], [u8; 32]), String> {
    let kept = hello.kept.get("ticket_secret");
    let kept = kept.and_then(|value| value.as_str());
    let (tickets, secret) = certificates::ticket_keys(kept)?;
    let cookie_secret = outgrow_edge::sticky::secret_of(&secret);
    let quic_secret = outgrow_edge::sticky::quic_secret_of(&secret);
    if kept.is_none() {
        let keep = DataMessage::Keep {
            key: "ticket_secret".to_owned(),
            value: secret.into(),
        };
        let told = sender.send(&keep).await;
        told.map_err(|error| error.to_string())?;
    }
    Ok((tickets, cookie_secret, quic_secret))
}

async fn wait_for_hello(receiver: &mut Receiver) -> Result<(Hello, Sockets), String> {
    loop {
        match receiver.receive().await {
            Ok(FromKeeper::Message(KeeperMessage::Hello(hello), descriptors)) => {
                let mut sockets = Sockets::default();
                if descriptors.is_empty() && !hello.listeners.is_empty() {
                    return Err(LOST.to_owned());
                }
                let mut descriptors = descriptors.into_iter();
                for entry in &hello.listeners {
                    let own = descriptors.by_ref().take(entry.sockets as usize).collect();
                    sockets.put(entry.key.clone(), own);
                }
                return Ok((*hello, sockets));
            }
            Ok(FromKeeper::Message(..)) => {}
            // It is the first thing that is said.
            Ok(FromKeeper::Ignored(line)) => return Err(line),
            Err(ClientError::Gone) => return Err("the keeper is gone".to_owned()),
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Says that this process serves.
pub(super) async fn say_ready(sender: &Sender, config: &Config) -> Result<(), ClientError> {
    say_limits(sender, config).await?;
    sender
        .send(&DataMessage::Ready {
            keeper_state: KEEPER_STATE_VERSION,
        })
        .await
}

/// Says how long this process may take to drain.
pub(super) async fn say_limits(sender: &Sender, config: &Config) -> Result<(), ClientError> {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let process = &config.process;
    let limits = DataMessage::SetLimits {
        stop_drain_ms: millis(control::longest_leaving(config) + process.drain_timeout),
        upgrade_drain_ms: millis(process.upgrade_drain_timeout),
    };
    sender.send(&limits).await
}

#[cfg(test)]
mod tests;
