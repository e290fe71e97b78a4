//! A shop on a thread of its own, on a free port.

use std::{
    net::SocketAddr,
    sync::mpsc,
    thread::{self, JoinHandle},
    time::Duration,
};

use outgrow_shop::{Address, Server, ServerOptions};
use tokio::sync::oneshot;

/// Waits of a test end here; none takes nearly so long.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A shop that runs until this is dropped.
pub(crate) struct RunningShop {
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl RunningShop {
    pub(crate) fn start() -> Self {
        Self::with(ServerOptions {
            drain_delay: Duration::ZERO,
            tick: Duration::from_millis(20),
            ..ServerOptions::default()
        })
    }

    pub(crate) fn with(options: ServerOptions) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let server = Server::bind(options).unwrap();
                let Address::Tcp(address) = server.address() else {
                    panic!("the shop listens on no port");
                };
                tell.send(*address).unwrap();
                let stop = async move {
                    let _dropped = stopped.await;
                };
                server.run(stop).await.unwrap();
            });
        });
        Self {
            address: told.recv().unwrap(),
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Tells it to stop, as SIGTERM does.
    pub(crate) fn terminate(&mut self) {
        drop(self.stop.take());
    }

    /// Waits until it has drained.
    pub(crate) fn join(&mut self) {
        self.terminate();
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for RunningShop {
    fn drop(&mut self) {
        self.terminate();
    }
}
