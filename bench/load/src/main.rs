//! What stands around a proxy in the bench: the load, the backend, the floor program and a certificate.
//!
//! An own generator rather than wrk or h2load, because POST bodies, chunked responses, a connection
//! per request and TLS then go through the same code, and because every response is verified: status,
//! framing and body length. All parts are single-threaded on raw edge-triggered epoll with bytes made
//! beforehand, so that they take as little as possible of the core they share.
//!
//! Deliberately not here: starting the proxies, counting their CPU time, the table. `cargo xtask bench`
//! does that and starts this program with the arguments below.
#![expect(
    clippy::print_stdout,
    reason = "a command-line program that answers on its standard output"
)]

mod backend;
mod certificate;
mod exchange;
mod floor;
mod generate;
mod latency;
mod poll;
mod response;
mod transport;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::exchange::Exchange;

/// The bench's load generator, backend and floor program.
#[derive(Parser)]
#[command(name = "bench-load")]
enum Command {
    /// Writes a self-signed P-256 certificate for the TLS scenario: cert.pem, key.pem and both.pem.
    Certificate {
        /// Folder to write into.
        #[arg(long)]
        directory: PathBuf,
    },
    /// Answers every exchange on two ports of loopback; prints `ready PORT PORT`.
    Backend,
    /// Relays bytes without reading them: what no proxy with the same syscalls can go below.
    Floor(floor::Settings),
    /// Sends one exchange over and over; prints `window` when the warm-up is over, then one JSON object.
    Generate {
        /// The proxy's address.
        #[arg(long)]
        address: SocketAddr,
        /// What is asked for.
        #[arg(long)]
        exchange: Exchange,
        /// Connections, each with one request under way.
        #[arg(long, default_value_t = 64)]
        connections: usize,
        /// Seconds before the measured window.
        #[arg(long, default_value_t = 0.5)]
        warm_up: f64,
        /// Seconds of the measured window.
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,
        /// One request per connection, with `Connection: close`.
        #[arg(long)]
        close: bool,
        /// TLS, trusting this certificate.
        #[arg(long)]
        trust: Option<PathBuf>,
    },
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Certificate { directory } => certificate::write(&directory),
        Command::Backend => {
            let backend = backend::Backend::bind()?;
            let [first, second] = backend.ports()?;
            println!("ready {first} {second}");
            backend.run()
        }
        Command::Floor(settings) => floor::run(&settings),
        Command::Generate {
            address,
            exchange,
            connections,
            warm_up,
            seconds,
            close,
            trust,
        } => {
            let client = trust.map(|path| certificate::client(&path)).transpose()?;
            let load = generate::Load {
                address,
                exchange,
                connections,
                close,
                client,
            };
            let summary = load.run(
                Duration::try_from_secs_f64(warm_up)?,
                Duration::try_from_secs_f64(seconds)?,
                || println!("window"),
            )?;
            println!("{summary}");
            Ok(())
        }
    }
}
