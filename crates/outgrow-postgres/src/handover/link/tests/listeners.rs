//! Clients that listen and are to change their process: what is said of them.

use super::*;
use crate::handover::{Traveller, prepare};
use crate::listening::crossing::{Marker, Standing};
use crate::listening::listener::Listener;

/// A client that listens, with the number by which the next process expects it.
struct Traveling {
    listener: Listener,
    ticket: u64,
    prepared: tokio::task::JoinHandle<()>,
}

impl Traveling {
    /// One that is to leave a process.
    fn begin(shared: &Arc<Shared>) -> Self {
        let listener = Listener::new(shared, "c");
        Self::again(shared, listener, 1)
    }

    fn again(shared: &Arc<Shared>, listener: Listener, number: u8) -> Self {
        let marker = Marker::new(&[number; 32]);
        let channels = listener.ear.begin_leaving(marker.clone());
        let channels = channels.expect("it listens");
        let ticket = shared.handover.next_number();
        let traveller = Traveller {
            ticket,
            hub: Arc::clone(&listener.hub),
            ear: Arc::clone(&listener.ear),
            marker,
            encoding: "UTF8".to_owned(),
            state: ClientState {
                channels: channels.iter().map(|name| name.to_vec()).collect(),
                secret: vec![1; 4],
                ..ClientState::default()
            },
        };
        Self {
            listener,
            ticket,
            prepared: tokio::spawn(prepare(Arc::clone(shared), traveller)),
        }
    }

    /// It is told of, and the other side says whether it listens for it.
    async fn answer(&self, process: &Process, problem: Option<String>) {
        match process.hear().await {
            Some((Record::Expect { ticket, .. }, 0)) => assert_eq!(ticket, self.ticket),
            other => panic!("{other:?}"),
        }
        self.listener.answer();
        let ticket = self.ticket;
        let expected = Record::Expected { ticket, problem };
        process.say(&expected, &[]).await;
    }

    async fn wait(&self, standing: Standing) {
        while self.listener.ear.standing() != standing {
            tokio::task::yield_now().await;
        }
    }
}

/// A next process that takes clients that listen, of this one.
async fn next(shared: &Arc<Shared>) -> Process {
    let process = Process::of(Arc::clone(shared), true);
    greet(&process).await;
    process
}

async fn greet(process: &Process) {
    let hello = process.hear().await;
    assert!(matches!(hello, Some((Record::Hello { .. }, 0))));
    process.hello_of(state::VERSION, state::WITH_CHANNELS).await;
    process.wait(Way::Offer).await;
}

fn shared() -> Arc<Shared> {
    Shared::new(Clock::start(), Ledger::new(1 << 20), 1)
}

#[test]
fn an_older_process_is_sent_nobody_who_listens() {
    test(async {
        // What it reads is what those are written in who do not listen.
        let process = Process::leaving().await;
        assert!(!process.shared.handover.takes_listeners());
        let traveling = Traveling::begin(&process.shared);
        traveling.wait(Standing::Lost).await;
        traveling.prepared.await.expect("it ends");
        // The first that is said of clients.
        let offered = process.offer(1);
        assert_eq!(process.offered().await.len(), 1);
        offered.abort();
        let process = next(&shared()).await;
        assert!(process.shared.handover.takes_listeners());
        drop(process.other);
        process.task.await.expect("it ends");
        assert!(!process.shared.handover.takes_listeners());
    });
}

#[test]
fn what_is_prepared_in_a_process_is_nothing_to_the_one_that_replaces_it() {
    test(async {
        let shared = shared();
        let first = next(&shared).await;
        let traveling = Traveling::begin(&shared);
        traveling.answer(&first, None).await;
        traveling.wait(Standing::Ready).await;
        // Another one comes; the first one lives on.
        let second = Process::of(Arc::clone(&shared), true);
        assert_eq!(traveling.listener.ear.standing(), Standing::Lost);
        let ticket = Some(traveling.ticket);
        let offer = |ticket| shared.handover.offer(vec![7], descriptor(), ticket);
        assert_eq!(offer(ticket).await, Answer::Lost);
        greet(&second).await;
        assert_eq!(offer(ticket).await, Answer::Lost);
        traveling.prepared.await.expect("it ends");
        let stays = first.hear().await;
        assert!(matches!(stays, Some((Record::Stays { ticket }, 0)) if ticket == traveling.ticket));
        // It is prepared anew there, and goes there.
        let listener = traveling.listener;
        listener.ear.end_leaving();
        let traveling = Traveling::again(&shared, listener, 2);
        let nonsense = Record::Expected {
            ticket: traveling.ticket,
            problem: Some("the first one knows nothing of it".to_owned()),
        };
        first.say(&nonsense, &[]).await;
        traveling.answer(&second, None).await;
        traveling.wait(Standing::Ready).await;
        let (offered, ()) = tokio::join!(offer(Some(traveling.ticket)), async {
            let clients = second.offered().await;
            second.say(&Record::Taken(clients), &[]).await;
        });
        assert_eq!(offered, Answer::Taken);
    });
}

#[test]
fn who_cannot_go_makes_room_at_once() {
    test(async {
        let process = next(&shared()).await;
        let traveling = Traveling::begin(&process.shared);
        traveling.answer(&process, Some("no".to_owned())).await;
        let limit = Duration::from_secs(5);
        let ended = tokio::time::timeout(limit, traveling.prepared).await;
        ended.expect("it does not wait").expect("it ends");
        assert_eq!(traveling.listener.ear.standing(), Standing::Refused);
    });
}

#[test]
fn who_is_not_taken_for_now_stays() {
    test(async {
        let process = Process::leaving().await;
        let waiting = process.offer(10);
        let client = process.offered().await[0];
        let why = "it is too late".to_owned();
        process.say(&Record::NotNow { client, why }, &[]).await;
        assert_eq!(waiting.await.expect("no panic"), Answer::Lost);
    });
}

#[test]
fn who_listens_is_taken_only_when_it_is_expected() {
    test(async {
        let mut process = Process::start(false);
        process.hello(state::VERSION).await;
        process.hear().await.expect("it greets");
        let whole = |channel: &[u8]| {
            let state = ClientState {
                database: "nowhere".to_owned(),
                user: "ann".to_owned(),
                secret: vec![1; 4],
                channels: vec![channel.to_vec()],
                ticket: Some(9),
                ..ClientState::default()
            };
            state.encode().expect("it is small")
        };
        let marker = Marker::new(&[7; 32]);
        let (channel, word) = (&**marker.channel(), marker.word());
        let expect_at = |channel: &[u8], word: &[u8], state: Vec<u8>| Record::Expect {
            ticket: 9,
            encoding: "UTF8".to_owned(),
            channel: channel.to_vec(),
            word: word.to_vec(),
            state,
        };
        let expect = |state| expect_at(channel, word, state);
        for nonsense in [
            expect(whole(b"")),
            expect(whole(b"a\0b")),
            expect(whole(&[b'x'; 64])),
            expect(whole("ü".as_bytes())),
            expect(whole(channel)),
            expect(b"nonsense".to_vec()),
            expect_at(b"", word, whole(b"c")),
            expect_at(b"an application's", word, whole(b"c")),
            expect_at(&channel[1..], word, whole(b"c")),
            expect_at(&[channel, b"0"].concat(), word, whole(b"c")),
            expect_at(channel, &word[1..], whole(b"c")),
            expect_at(channel, &[&word[1..], b"'"].concat(), whole(b"c")),
        ] {
            process.say(&nonsense, &[]).await;
            match process.hear().await {
                Some((Record::Expected { ticket: 9, problem }, 0)) => {
                    problem.expect("it is not listened on");
                }
                other => panic!("{other:?}"),
            }
        }
        let (near, far) = UnixStream::pair().expect("a pair");
        let clients = Record::Clients(vec![(5, whole(b"c"))]);
        process.say(&clients, &[far.into()]).await;
        match process.hear().await {
            Some((Record::NotNow { client: 5, .. }, 0)) => {}
            other => panic!("{other:?}"),
        }
        drop(near);
        assert!(process.arrived.try_recv().is_err());
        // What is good goes to the worker of its pool.
        process.say(&expect(whole(b"c")), &[]).await;
        let moved = process.arrived.recv().await;
        assert!(matches!(moved, Some(Moved::Expected(_))));
        // With nobody who answers it, it cannot.
        drop(moved);
        let answer = process.hear().await;
        assert!(matches!(
            answer,
            Some((
                Record::Expected {
                    problem: Some(_),
                    ..
                },
                0
            ))
        ));
    });
}

#[test]
fn who_leaves_expects_nobody() {
    test(async {
        for nonsense in [
            Record::Stays { ticket: 1 },
            Record::Expect {
                ticket: 1,
                encoding: String::new(),
                channel: Vec::new(),
                word: Vec::new(),
                state: Vec::new(),
            },
        ] {
            let process = Process::leaving().await;
            process.say(&nonsense, &[]).await;
            process.task.await.expect("it ends the link");
        }
    });
}
