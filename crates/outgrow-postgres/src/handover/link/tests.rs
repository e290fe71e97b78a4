//! Both ends of a link, each with a test at the other one that says what it likes.

mod listeners;

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use outgrow_core::Clock;
use outgrow_message::Ledger;
use outgrow_net::packets::pair;

use super::sending::send;
use super::*;
use crate::handover::Way;
use crate::handover::state::ClientState;

/// A process, and what the other end of its link hears and says.
struct Process {
    shared: Arc<Shared>,
    other: Passage,
    arrived: mpsc::Receiver<Moved>,
    task: tokio::task::JoinHandle<()>,
}

impl Process {
    fn start(is_successor: bool) -> Self {
        let shared = Shared::new(Clock::start(), Ledger::new(1 << 20), 1);
        Self::of(shared, is_successor)
    }

    /// One more link of a process.
    fn of(shared: Arc<Shared>, is_successor: bool) -> Self {
        let (own, other) = pair().expect("a pair");
        let [own, other] = [own, other].map(|end| Passage::new(end).expect("an end"));
        let (mailbox, arrived) = mpsc::channel(16);
        let task = run(Arc::clone(&shared), [mailbox].into(), own, is_successor);
        Self {
            shared,
            other,
            arrived,
            task: tokio::spawn(task),
        }
    }

    async fn say(&self, record: &Record, descriptors: &[OwnedFd]) {
        send(&self.other, record, descriptors).await.expect("said");
    }

    async fn hello(&self, state: u16) {
        self.hello_of(state, state).await;
    }

    async fn hello_of(&self, oldest_state: u16, newest_state: u16) {
        let hello = Record::Hello {
            version: VERSION,
            oldest_state,
            newest_state,
        };
        self.say(&hello, &[]).await;
    }

    /// The next record, with how many descriptors came along.
    async fn hear(&self) -> Option<(Record, usize)> {
        let (mut assembly, mut buffer) = (Assembly::default(), Vec::new());
        loop {
            let packet = self
                .other
                .receive(&mut buffer)
                .await
                .expect("no nonsense")?;
            let piece = &buffer[..packet.length];
            if let Some(record) = assembly.take(piece).expect("a record") {
                return Some((record, packet.descriptors.len()));
            }
        }
    }

    async fn wait(&self, way: Way) {
        while self.shared.handover.way() != way {
            tokio::task::yield_now().await;
        }
    }

    /// One that leaves, and a next one that takes clients.
    async fn leaving() -> Self {
        let process = Self::start(true);
        let hello = process.hear().await;
        assert!(matches!(hello, Some((Record::Hello { .. }, 0))));
        assert_eq!(process.shared.handover.way(), Way::Hold);
        process.hello(state::VERSION).await;
        process.wait(Way::Offer).await;
        process
    }

    fn offer(&self, size: usize) -> tokio::task::JoinHandle<Answer> {
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            shared
                .handover
                .offer(vec![7; size], descriptor(), None)
                .await
        })
    }

    /// The clients that are offered, by number.
    async fn offered(&self) -> Vec<u64> {
        let Some((Record::Clients(clients), descriptors)) = self.hear().await else {
            panic!("no clients");
        };
        assert_eq!(clients.len(), descriptors);
        clients.iter().map(|(number, _)| *number).collect()
    }
}

fn descriptor() -> OwnedFd {
    UnixStream::pair().expect("a pair").0.into()
}

fn test(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(async {
            let limit = Duration::from_secs(60);
            tokio::time::timeout(limit, test).await.expect("in time");
        });
}

#[test]
fn each_client_is_answered() {
    test(async {
        let process = Process::leaving().await;
        let waiting: Vec<_> = (0..200).map(|number| process.offer(number * 40)).collect();
        let mut seen = 0;
        while seen < 200 {
            let clients = process.offered().await;
            seen += clients.len();
            let (taken, refused) = clients.split_at(clients.len() / 2);
            for &client in refused {
                let refused = Record::Refused {
                    client,
                    told: Some(("28000".to_owned(), "no".to_owned())),
                    why: "a test".to_owned(),
                };
                process.say(&refused, &[]).await;
            }
            process.say(&Record::Taken(taken.to_vec()), &[]).await;
        }
        let (mut taken, mut refused) = (0, 0);
        for one in waiting {
            match one.await.expect("no panic") {
                Answer::Taken => taken += 1,
                Answer::Refused(Some(refusal)) if refusal.code == "28000" => refused += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!(taken > 20 && refused > 20, "{taken} {refused}");
    });
}

#[test]
fn one_that_is_as_large_as_may_be_goes_in_pieces() {
    test(async {
        let process = Process::leaving().await;
        let waiting = process.offer(state::MOST_BYTES);
        let clients = process.offered().await;
        process.say(&Record::Taken(clients), &[]).await;
        assert_eq!(waiting.await.expect("no panic"), Answer::Taken);
    });
}

#[test]
fn who_was_not_answered_stays_when_the_next_process_dies() {
    test(async {
        let process = Process::leaving().await;
        let waiting: Vec<_> = (0..10).map(|_| process.offer(10)).collect();
        let mut clients = Vec::new();
        while clients.len() < 10 {
            clients.extend(process.offered().await);
        }
        // Said in its last moment: those four are its own, and die with it.
        process
            .say(&Record::Taken(clients[..4].to_vec()), &[])
            .await;
        drop(process.other);
        let mut answers = Vec::new();
        for one in waiting {
            answers.push(one.await.expect("no panic"));
        }
        let count = |answer: &Answer| answers.iter().filter(|one| *one == answer).count();
        assert_eq!((count(&Answer::Taken), count(&Answer::Lost)), (4, 6));
        assert_eq!(process.shared.handover.way(), Way::Hold, "for the next one");
        let offered = process
            .shared
            .handover
            .offer(vec![1], descriptor(), None)
            .await;
        assert_eq!(offered, Answer::Lost);
        process.task.await.expect("it ends");
    });
}

#[test]
fn a_process_of_another_kind_gets_no_clients() {
    test(async {
        let process = Process::start(true);
        process.hello(state::VERSION + 1).await;
        process.wait(Way::Tell).await;
        let offered = process
            .shared
            .handover
            .offer(vec![1], descriptor(), None)
            .await;
        assert_eq!(offered, Answer::Lost);
        // One that knows nothing of all this, or has no pool.
        let process = Process::start(true);
        drop(process.other);
        process.task.await.expect("it ends");
        assert_eq!(process.shared.handover.way(), Way::Tell);
    });
}

#[test]
fn nonsense_ends_a_link_and_nothing_else() {
    test(async {
        for nonsense in [&[1, 99][..], &[7], &[1], &[1, 3, 0]] {
            let process = Process::leaving().await;
            let waiting = process.offer(10);
            let clients = process.offered().await;
            process.other.send(nonsense, &[]).await.expect("sent");
            process.task.await.expect("it ends");
            assert_eq!(waiting.await.expect("no panic"), Answer::Lost);
            let late = send(&process.other, &Record::Taken(clients), &[]).await;
            assert!(late.is_err(), "it is not heard any more");
        }
    });
}

#[test]
fn what_is_no_client_is_not_taken() {
    test(async {
        let mut process = Process::start(false);
        process.hello(state::VERSION).await;
        let hello = process.hear().await;
        assert!(matches!(hello, Some((Record::Hello { .. }, 0))));
        let whole = ClientState {
            database: "nowhere".to_owned(),
            user: "ann".to_owned(),
            secret: vec![1; 4],
            ..ClientState::default()
        };
        let whole = whole.encode().expect("it is small");
        let refused = async |state: &[u8], descriptor: OwnedFd| {
            let clients = Record::Clients(vec![(5, state.to_vec())]);
            process.say(&clients, &[descriptor]).await;
            match process.hear().await {
                Some((Record::Refused { client, told, why }, 0)) => {
                    assert_eq!(client, 5);
                    (told.map(|(code, _)| code), why)
                }
                other => panic!("{other:?}"),
            }
        };
        let (told, why) = refused(b"nonsense", descriptor()).await;
        assert_eq!(told, None, "{why}");
        let file = std::fs::File::open("/dev/null").expect("opened");
        let (told, why) = refused(&whole, file.into()).await;
        assert_eq!(told, None, "{why}");
        let (near, far) = UnixStream::pair().expect("a pair");
        let (told, why) = refused(&whole, far.into()).await;
        assert_eq!(told.as_deref(), Some("3D000"), "{why}");
        drop(near);
        // A client without its descriptor.
        let clients = Record::Clients(vec![(6, whole)]);
        process.say(&clients, &[]).await;
        let answer = process.hear().await;
        assert!(matches!(
            answer,
            Some((
                Record::Refused {
                    client: 6,
                    told: None,
                    ..
                },
                0
            ))
        ));
        assert!(process.arrived.try_recv().is_err());
        assert_eq!(process.shared.handover_numbers().refused.get(), 4);
    });
}

#[test]
fn a_process_that_leaves_takes_nobody() {
    test(async {
        let process = Process::leaving().await;
        let clients = Record::Clients(vec![(1, vec![])]);
        process.say(&clients, &[descriptor()]).await;
        process.task.await.expect("it ends the link");
    });
}
