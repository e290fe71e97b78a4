//! A data process whose keeper is played: what is said while it waits for something else.

use std::net::TcpListener;
use std::os::fd::AsFd;
use std::path::PathBuf;

use outgrow_fleet::protocol::channel::{Channel, Received, pair};
use outgrow_fleet::protocol::{Decoded, DrainReason, InstanceReport, decode};

use super::super::prepare::CONFIGURATION;
use super::*;
use crate::config::Look;

const LONG: Duration = Duration::from_secs(20);

/// The keeper's end.
struct Keeper {
    channel: Channel,
    /// What is bound; the data process has copies.
    bound: Vec<TcpListener>,
}

impl Keeper {
    fn new() -> (Self, Client) {
        let (near, far) = pair().expect("a channel");
        let keeper = Self {
            channel: Channel::new(near),
            bound: Vec::new(),
        };
        (keeper, Client::new(far))
    }

    fn say(&mut self, message: &KeeperMessage) {
        self.channel.send(message, &[]).expect("sent");
    }

    fn greet(&mut self) {
        let hello = serde_json::json!({
            "type": "hello", "generation": 1, "protocol": 1, "version": "1", "keeper": 1,
            "upgrade": false, "listeners": [], "instances": [],
        });
        self.channel.send(&hello, &[]).expect("sent");
    }

    /// The next message.
    async fn hear(&mut self) -> DataMessage {
        let record = async {
            loop {
                match self.channel.receive().expect("the channel is well") {
                    Received::Record(record) => return record,
                    Received::Empty => tokio::task::yield_now().await,
                    Received::Closed => panic!("the data process is gone"),
                }
            }
        };
        let record = tokio::time::timeout(LONG, record).await.expect("a message");
        match decode(&record.bytes, |_: &DataMessage| false) {
            Decoded::Message(DataMessage::Fatal { message }) => panic!("{message}"),
            Decoded::Message(message) => message,
            Decoded::Ignored(line) => panic!("{line}"),
        }
    }

    fn bind(&mut self, key: String, address: String) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("set");
        self.give(key, address, &listener);
        self.bound.push(listener);
    }

    fn give(&mut self, key: String, address: String, socket: &impl AsFd) {
        let message = KeeperMessage::Bound {
            key,
            address,
            sockets: 1,
        };
        let sent = self.channel.send(&message, &[socket.as_fd()]);
        sent.expect("sent");
    }
}

fn report(id: u64) -> InstanceReport {
    let report = serde_json::json!({
        "spec": { "id": id, "name": "web.1", "service": "web", "command": "serve" },
        "state": { "state": "running" }, "restarts": 1,
    });
    serde_json::from_value(report).expect("a report")
}

fn config(listeners: &str, more: &str) -> String {
    let listener = |name| {
        let port = u32::from(name);
        format!("[listener.{name}]\naddress = \"127.0.0.1:{port}\"\n")
    };
    let listeners = listeners.chars().map(listener).collect::<Vec<_>>().concat();
    format!(
        "{listeners}{more}\n[process]\nworkers = 1\ndrain_delay = \"0s\"\n[access]\nto = \"off\"\n\
         [admin]\nlisten = \"off\"\n[route.r]\nrespond = {{ status = 204 }}\n"
    )
}

#[tokio::test]
async fn what_is_told_of_instances_while_sockets_are_bound_is_kept() {
    let (mut keeper, client) = Keeper::new();
    let (sender, mut receiver) = client.split().expect("a runtime");
    let text = config("a", "");
    let source = ConfigSource::File(PathBuf::from("unused"));
    let (config, _) = source.load_text(&text, Look::Plain).expect("good");
    let answer = async {
        let DataMessage::Bind { key, address, .. } = keeper.hear().await else {
            panic!("it binds first");
        };
        keeper.say(&KeeperMessage::Instance(Box::new(report(7))));
        keeper.bind(key, address);
    };
    let mut sockets = Sockets::default();
    let (tickets, _) = certificates::ticket_keys(None).expect("keys");
    let hello = serde_json::json!({
        "generation": 1, "protocol": 1, "version": "1", "keeper": 1, "upgrade": false,
        "listeners": [], "instances": [],
    });
    let mut hello: Hello = serde_json::from_value(hello).expect("a greeting");
    let mut preparation = Preparation {
        sender: &sender,
        receiver: &mut receiver,
        source: &source,
        tickets: &tickets,
        staples: &Arc::default(),
        cores: 1,
        hello: &mut hello,
        sockets: &mut sockets,
    };
    let (bound, ()) = tokio::join!(preparation.bind_missing(&config), answer);
    bound.expect("bound");
    assert_eq!(hello.instances, [report(7)]);
    assert_eq!(sockets.keys(), ["listener 127.0.0.1:97"]);
}

/// The second reload is asked for while the first one waits for a socket, with a newer file.
#[tokio::test]
async fn a_reload_during_a_reload_comes_after_it() {
    let name = format!("outgrow-reload-{}.toml", std::process::id());
    let file = std::env::temp_dir().join(name);
    let write = |text: &str| std::fs::write(&file, text).expect("written");
    let (first, second, third) = (config("a", ""), config("ab", ""), config("ab", "# newer"));
    write(&first);
    let (mut keeper, client) = Keeper::new();
    keeper.greet();
    let source = ConfigSource::File(file.clone());
    let play = async {
        let mut kept = Vec::new();
        loop {
            match keeper.hear().await {
                DataMessage::Bind { key, address, .. } => {
                    if key == "listener 127.0.0.1:98" {
                        write(&third);
                        keeper.say(&KeeperMessage::Reload { number: 0 });
                    }
                    keeper.bind(key, address);
                }
                DataMessage::Ready { .. } => {
                    write(&second);
                    keeper.say(&KeeperMessage::Reload { number: 0 });
                }
                DataMessage::Keep { key, value } if key == CONFIGURATION => {
                    kept.push(value.as_str().unwrap_or_default().to_owned());
                    if kept.len() == 3 {
                        let reason = DrainReason::Stop;
                        keeper.say(&KeeperMessage::Drain { reason });
                    }
                }
                DataMessage::Drained {} => return kept,
                _ => {}
            }
        }
    };
    let serve = async {
        let control = begin(client, source).await.expect("it starts");
        control.run().await
    };
    let (_, kept) = tokio::join!(serve, play);
    assert_eq!(kept, [first, second, third]);
    std::fs::remove_file(&file).expect("removed");
}

/// The admin listener gets what is no socket, which is found when everything else is in force: nobody
/// listens there then, and it is tried anew at the next reload.
#[tokio::test]
async fn a_reload_that_fails_in_part_is_no_success_and_releases_what_is_not_heard() {
    let name = format!("outgrow-in-part-{}.toml", std::process::id());
    let file = std::env::temp_dir().join(name);
    let write = |text: &str| std::fs::write(&file, text).expect("written");
    let (first, second) = (config("ab", ""), config("a", ""));
    let second = second.replace("\"off\"\n[route", "\"127.0.0.1:99\"\n[route");
    write(&first);
    let (mut keeper, client) = Keeper::new();
    keeper.greet();
    let source = ConfigSource::File(file.clone());
    let play = async {
        let (mut kept, mut released, mut told) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            match keeper.hear().await {
                DataMessage::Bind { key, address, .. }
                    if key.starts_with("admin ") && told.is_empty() =>
                {
                    let no_socket = std::fs::File::open("/dev/null").expect("opened");
                    keeper.give(key, address, &no_socket);
                }
                DataMessage::Bind { key, address, .. } => keeper.bind(key, address),
                DataMessage::Ready { .. } => {
                    write(&second);
                    keeper.say(&KeeperMessage::Reload { number: 5 });
                }
                DataMessage::Keep { key, value } if key == CONFIGURATION => kept.push(value),
                // Its drain releases the rest.
                DataMessage::Release { key } if told.len() < 2 => released.push(key),
                DataMessage::Reloaded {
                    number,
                    ok,
                    in_part,
                    message,
                } => {
                    assert_eq!(number, 5 + told.len() as u64);
                    told.push((ok, in_part, message));
                    match number {
                        5 => keeper.say(&KeeperMessage::Reload { number: 6 }),
                        _ => {
                            let reason = DrainReason::Stop;
                            keeper.say(&KeeperMessage::Drain { reason });
                        }
                    }
                }
                DataMessage::Drained {} => return (kept, released, told),
                _ => {}
            }
        }
    };
    let serve = async {
        let control = begin(client, source).await.expect("it starts");
        control.run().await
    };
    let (_, (kept, released, told)) = tokio::join!(serve, play);
    let [(false, true, message), (true, false, _)] = &told[..] else {
        panic!("{told:?}");
    };
    assert!(
        message.starts_with("the new configuration is in force, but "),
        "{message}"
    );
    let expected = [first, second.clone(), second].map(serde_json::Value::from);
    assert_eq!(kept, expected);
    assert_eq!(released, ["admin 127.0.0.1:99", "listener 127.0.0.1:98"]);
    std::fs::remove_file(&file).expect("removed");
}
