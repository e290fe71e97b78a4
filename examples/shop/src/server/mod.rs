//! The shop's server: listens, serves HTTP/1.1 with hyper, drains on SIGTERM.
//! What is answered to which request is in `routes`, bytes in `content`.

mod checkout;
mod drain;
mod options;
mod reply;
mod routes;
mod web_socket;

use std::{
    future::Future,
    io::{self, Write},
    os::unix::net::UnixStream as StdUnixStream,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use signal_hook::consts::{SIGINT, SIGTERM};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    net::{TcpListener, UnixListener, UnixStream},
    sync::Semaphore,
    time,
};

use drain::Watcher;
pub use options::{Address, ServerOptions};
use routes::Shop;

/// Connections at one time; more wait in the kernel's queue.
const MOST_CONNECTIONS: usize = 10_000;

/// How long a request's head may take, and how long a connection may be idle.
/// Longer than any usual proxy keeps one, so the proxy closes first.
const HEAD_TIME: Duration = Duration::from_secs(75);

/// Why the shop does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ShopError {
    /// A variable of the environment does not hold what it should.
    #[error("the variable {name} is \"{value}\", but must be {may_be}")]
    Variable {
        /// The variable's name.
        name: &'static str,
        /// What it holds.
        value: String,
        /// What it may hold.
        may_be: &'static str,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; choose another with PORT, HOST or SOCKET")]
    Bind {
        /// The address.
        address: Address,
        /// What the system said.
        source: io::Error,
    },
    /// The signals cannot be listened for, or the runtime not be started.
    #[error("cannot start: {0}")]
    Start(#[source] io::Error),
    /// The listening socket broke.
    #[error("cannot accept any more: {0}")]
    Accept(#[source] io::Error),
}

/// A shop that listens and does not yet serve.
#[derive(Debug)]
pub struct Server {
    listener: Listener,
    address: Address,
    options: ServerOptions,
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Server {
    /// Listens on the options' address. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`ShopError::Bind`] when the address cannot be had.
    pub fn bind(options: ServerOptions) -> Result<Self, ShopError> {
        let (listener, address) = bind(&options.address).map_err(|source| ShopError::Bind {
            address: options.address.clone(),
            source,
        })?;
        Ok(Self {
            listener,
            address,
            options,
        })
    }

    /// Where it listens; with port 0 asked for, the port that was given.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Serves until `stop` ends, then drains: `/readyz` fails for the drain
    /// delay, then nothing new is taken, and what is in flight has the drain
    /// timeout to end.
    ///
    /// # Errors
    /// [`ShopError::Accept`] when the listening socket breaks.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), ShopError> {
        let (drain, watcher) = drain::drain();
        let shop = Arc::new(Shop::new(&self.options, watcher.clone()));
        let permits = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        let ending = async {
            stop.await;
            drain.not_ready();
            time::sleep(self.options.drain_delay).await;
        };
        tokio::select! {
            broken = accept_all(&self.listener, &shop, &permits, &watcher) => {
                return Err(ShopError::Accept(broken));
            }
            () = ending => {}
        }
        drop(self.listener);
        drop((shop, watcher));
        drain.stop(self.options.drain_timeout).await;
        Ok(())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            // Whoever starts next replaces it if this fails.
            let _left = std::fs::remove_file(path);
        }
    }
}

fn bind(address: &Address) -> io::Result<(Listener, Address)> {
    match address {
        Address::Tcp(address) => {
            let listener = std::net::TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            let address = Address::Tcp(listener.local_addr()?);
            Ok((Listener::Tcp(TcpListener::from_std(listener)?), address))
        }
        Address::Unix(path) => {
            let listener = match UnixListener::bind(path) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    if StdUnixStream::connect(path).is_ok() {
                        return Err(error);
                    }
                    std::fs::remove_file(path)?;
                    UnixListener::bind(path)?
                }
                other => other?,
            };
            let address = Address::Unix(path.clone());
            Ok((Listener::Unix(listener, path.clone()), address))
        }
    }
}

/// Accepts until the socket breaks.
async fn accept_all(
    listener: &Listener,
    shop: &Arc<Shop>,
    permits: &Arc<Semaphore>,
    watcher: &Watcher,
) -> io::Error {
    loop {
        let Ok(permit) = Arc::clone(permits).acquire_owned().await else {
            return io::Error::other("the connection limit was closed");
        };
        let accepted = match listener {
            Listener::Tcp(listener) => match listener.accept().await {
                Ok((stream, _)) => {
                    // Without this the answer still goes out, later.
                    let _slow = stream.set_nodelay(true);
                    let serving = serve_connection(stream, Arc::clone(shop), watcher.clone());
                    tokio::spawn(async move {
                        serving.await;
                        drop(permit);
                    });
                    Ok(())
                }
                Err(error) => Err(error),
            },
            Listener::Unix(listener, _) => match listener.accept().await {
                Ok((stream, _)) => {
                    let serving = serve_connection(stream, Arc::clone(shop), watcher.clone());
                    tokio::spawn(async move {
                        serving.await;
                        drop(permit);
                    });
                    Ok(())
                }
                Err(error) => Err(error),
            },
        };
        if let Err(error) = accepted {
            if error.kind() == io::ErrorKind::InvalidInput {
                return error;
            }
            // Out of descriptors, or a client that left at once: try again soon.
            time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    shop: Arc<Shop>,
    mut watcher: Watcher,
) {
    let service = service_fn(move |request| {
        let shop = Arc::clone(&shop);
        async move { shop.answer(request).await }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    // A connection's error is its client's doing; the shop has nobody to tell.
    tokio::select! {
        _ended = connection.as_mut() => return,
        () = watcher.stopping() => connection.as_mut().graceful_shutdown(),
    }
    let _ended = connection.await;
}

/// Serves with these options until SIGTERM or SIGINT, then drains.
///
/// # Errors
/// When the address cannot be had or the signals cannot be listened for.
pub async fn serve(options: ServerOptions) -> Result<(), ShopError> {
    let mut signals = signals().map_err(ShopError::Start)?;
    let server = Server::bind(options)?;
    let said = writeln!(
        io::stdout(),
        "{} listens on {}",
        server.options.instance,
        server.address()
    );
    // Nobody reading our output is no reason to stop serving.
    drop(said);
    let stop = async move {
        let _signal = signals.read_u8().await;
    };
    server.run(stop).await
}

/// A stream that gives a byte for each SIGTERM or SIGINT.
fn signals() -> io::Result<UnixStream> {
    let (reader, writer) = StdUnixStream::pair()?;
    for signal in [SIGTERM, SIGINT] {
        signal_hook::low_level::pipe::register(signal, writer.try_clone()?)?;
    }
    reader.set_nonblocking(true)?;
    UnixStream::from_std(reader)
}

/// What the program `shop` does: reads the environment ([`ServerOptions`]),
/// serves, drains on SIGTERM, and says on standard error why it could not.
/// Blocks until then.
pub fn main_from_env() -> ExitCode {
    let served = ServerOptions::from_env().and_then(|options| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(ShopError::Start)?;
        runtime.block_on(serve(options))
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shop: {error}");
            ExitCode::FAILURE
        }
    }
}
