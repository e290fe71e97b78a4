//! A part of this room's tests, not of the product: plays keeper, shim, data
//! process or instance by its first argument. The data process does nothing by
//! itself: it tells the test over a Unix socket (`PROBE_CONTROL`) what the
//! keeper says, and does what the test tells it.

#![expect(clippy::print_stdout, reason = "it plays programs that print")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

use outgrow_fleet::client::{Client, ClientError, FromKeeper, Sender};
use outgrow_fleet::keeper::{KeeperOptions, run};
use outgrow_fleet::protocol::{DataMessage, KeeperMessage};
use outgrow_fleet::{LogFormat, shim};
use rustix::event::{PollFd, PollFlags};
use serde_json::{Value, json};

fn main() -> ExitCode {
    let role = std::env::args().nth(1).unwrap_or_default();
    match role.as_str() {
        "keeper" => keeper(),
        "shim" => ExitCode::from(u8::try_from(shim::run()).unwrap_or(1)),
        "data" => data(),
        "instance" => instance(),
        _ => panic!("fleet-probe is a part of the tests of outgrow-fleet"),
    }
}

fn keeper() -> ExitCode {
    let mut options = KeeperOptions::new(vec!["data".into()], vec!["shim".into()]);
    "probe".clone_into(&mut options.version);
    if let Ok(milliseconds) = std::env::var("PROBE_READY_MS") {
        options.ready_timeout = Duration::from_millis(milliseconds.parse().expect("a number"));
    }
    options.drain_margin = Duration::from_millis(100);
    if let Ok(milliseconds) = std::env::var("PROBE_MARGIN_MS") {
        options.drain_margin = Duration::from_millis(milliseconds.parse().expect("a number"));
    }
    if std::env::var_os("PROBE_JSON").is_some() {
        options.log_format = LogFormat::Json;
    }
    match run(options) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("outgrow: {error}");
            ExitCode::from(70)
        }
    }
}

fn data() -> ExitCode {
    let client = match Client::from_stdin() {
        Ok(client) => client,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let watch = client
        .watch_keeper(Duration::from_secs(5))
        .expect("a thread");
    let path = std::env::var("PROBE_CONTROL").expect("PROBE_CONTROL");
    let control = UnixStream::connect(path).expect("the test listens");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .expect("a runtime");
    let code = runtime.block_on(async {
        let (sender, mut receiver) = client.split().expect("a channel");
        let mut server = None;
        let orders = control.try_clone().expect("a clone");
        let handle = tokio::runtime::Handle::current();
        let (serve, serving) = mpsc::channel();
        std::thread::spawn(move || obey(orders, &handle, &sender, &serve));
        let tell = |event: Value| {
            (&control)
                .write_all(format!("{event}\n").as_bytes())
                .expect("the test reads");
        };
        let mut serving = Some(serving);
        loop {
            match receiver.receive().await {
                Ok(FromKeeper::Message(message, descriptors)) => {
                    if let KeeperMessage::Hello(hello) = &message {
                        let generation = hello.generation;
                        let serving = serving.take().expect("one hello");
                        let (listeners, new) = mpsc::channel();
                        server = Some(listeners);
                        std::thread::spawn(move || server_thread(generation, &new, &serving));
                    }
                    let mut event = serde_json::to_value(&message).expect("JSON");
                    event["descriptors"] = json!(descriptors.len());
                    event["data_pid"] = json!(std::process::id());
                    if let Some(server) = &server {
                        let _ = server.send(descriptors);
                    }
                    tell(event);
                }
                Ok(FromKeeper::Ignored(line)) => tell(json!({"type": "ignored", "line": line})),
                Err(ClientError::Gone) => {
                    tell(json!({"type": "gone"}));
                    return ExitCode::SUCCESS;
                }
                Err(error) => panic!("{error}"),
            }
        }
    });
    watch.finish();
    code
}

/// Does what the test says: messages for the keeper, or `{"probe": …}`.
fn obey(
    orders: UnixStream,
    handle: &tokio::runtime::Handle,
    sender: &Sender,
    serve: &mpsc::Sender<()>,
) {
    for line in BufReader::new(orders).lines() {
        let Ok(line) = line else { return };
        let order: Value = serde_json::from_str(&line).expect("JSON");
        match order["probe"].as_str() {
            Some("exit") => {
                std::process::exit(i32::try_from(order["code"].as_i64().unwrap_or(0)).unwrap_or(0))
            }
            // From now on it can have no more than there are.
            Some("open_files") => {
                let limit = rustix::process::Rlimit {
                    current: order["most"].as_u64(),
                    ..rustix::process::getrlimit(rustix::process::Resource::Nofile)
                };
                rustix::process::setrlimit(rustix::process::Resource::Nofile, limit)
                    .expect("a lower limit");
            }
            Some("serve") => serve.send(()).expect("the server thread"),
            Some(other) => panic!("unknown order {other}"),
            None => {
                let message: DataMessage = serde_json::from_value(order).expect("a message");
                handle
                    .block_on(sender.send(&message))
                    .expect("the keeper listens");
            }
        }
    }
}

/// Answers every connection with the generation, once it is told to serve.
fn server_thread(generation: u64, new: &mpsc::Receiver<Vec<OwnedFd>>, serve: &mpsc::Receiver<()>) {
    let _ = serve.recv();
    let mut sockets: Vec<OwnedFd> = Vec::new();
    loop {
        sockets.extend(new.try_iter().flatten());
        let mut polls: Vec<_> = sockets
            .iter()
            .map(|one| PollFd::new(one, PollFlags::IN))
            .collect();
        let limit = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: 20_000_000,
        };
        let _ = rustix::event::poll(&mut polls, Some(&limit));
        for socket in &sockets {
            if let Ok(connection) = rustix::net::accept(socket) {
                let answer = format!("generation {generation}\n");
                let _ = rustix::io::write(connection.as_fd(), answer.as_bytes());
            }
        }
    }
}

/// A server like those that people run; `elsewhere` ignores PORT.
fn instance() -> ExitCode {
    let mode = std::env::args().nth(2).unwrap_or_default();
    let answer = std::env::var("OUTGROW_INSTANCE").unwrap_or_default();
    if let Ok(path) = std::env::var("SOCKET") {
        let listener = UnixListener::bind(path).expect("a socket");
        println!("listening");
        for connection in listener.incoming() {
            let _ = connection
                .expect("a connection")
                .write_all(answer.as_bytes());
        }
    }
    let port = if mode == "elsewhere" {
        "0".to_owned()
    } else {
        std::env::var("PORT").expect("PORT")
    };
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).expect("a port");
    println!(
        "listening on {}",
        listener.local_addr().expect("an address")
    );
    for connection in listener.incoming() {
        let mut connection = connection.expect("a connection");
        let _ = connection.write_all(answer.as_bytes());
        let _ = connection.read(&mut [0; 1]);
    }
    ExitCode::SUCCESS
}
