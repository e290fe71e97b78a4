//! Listeners of which a part cannot be had: nobody is told of it, and the rest is heard.

use std::net::{TcpListener, UdpSocket};

use outgrow_core::Clock;
use outgrow_edge::settings::ListenerSettings;
use outgrow_edge::{RecordWriter, Shared};
use outgrow_message::Ledger;
use outgrow_upstream::Registry;

use super::super::{compile, http3, pages::PageTexts};
use super::*;

const OFFER: &str = "h3=\":443\"; ma=86400";

fn edge() -> Edge {
    let registry = Arc::new(Registry::new(1));
    let shared = Shared::new(Clock::start(), Ledger::new(64 << 20), 1);
    let records = RecordWriter::start().expect("a thread");
    Edge::start(shared, &registry, &records).expect("a thread")
}

/// A listener with HTTP/3; `without` is what clients are told where that cannot be had.
fn wanted(edge: &Edge, name: &str, without: Option<&str>) -> (String, Wanted) {
    let told = (None, http3::Plan::default(), Some(OFFER.into()));
    let settings = ListenerSettings::default();
    let pages = PageTexts::default();
    let plan = compile::listener(name, &settings, told, &edge.shared, &pages);
    let quic = Some(WantedQuic {
        key: quic_key(name),
        without: without.map(Into::into),
    });
    (key(name), Wanted { plan, quic })
}

fn put_tcp(sockets: &mut Sockets, name: &str) {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    sockets.put(key(name), vec![socket.into()]);
}

#[tokio::test]
async fn http3_that_cannot_be_had_is_not_told_of() {
    let edge = edge();
    let (mut listeners, mut sockets) = (Listeners::default(), Sockets::default());
    put_tcp(&mut sockets, "new");
    put_tcp(&mut sockets, "known");
    let plans = || {
        let plans = [
            wanted(&edge, "new", None),
            wanted(&edge, "known", Some(CLEAR)),
            wanted(&edge, "nowhere", None),
        ];
        plans.into_iter().collect()
    };
    let problems = listeners.apply(&edge, &sockets, plans()).await;
    let expected = ["quic known", "quic new", "quic nowhere", "listener nowhere"];
    let expected = expected.map(|key| format!("{key}: there are no sockets"));
    assert_eq!(problems, expected);
    let heard = |listeners: &Listeners| {
        let keys = ["new", "known", "nowhere"];
        let keys = keys
            .into_iter()
            .flat_map(|name| [key(name), quic_key(name)]);
        keys.filter(|key| listeners.has(key)).collect::<Vec<_>>()
    };
    assert_eq!(heard(&listeners), ["listener new", "listener known"]);
    let plan_of = |listeners: &Listeners, name| listeners.slots[&key(name)].load();
    let (new, known) = (plan_of(&listeners, "new"), plan_of(&listeners, "known"));
    assert_eq!(
        (new.alt_svc.now(), known.alt_svc.now()),
        (None, Some(CLEAR))
    );

    // The next time it can be had: who came before hears of it as well.
    for name in ["new", "known"] {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        sockets.put(quic_key(name), vec![socket.into()]);
    }
    put_tcp(&mut sockets, "nowhere");
    let problems = listeners.apply(&edge, &sockets, plans()).await;
    assert_eq!(problems, ["quic nowhere: there are no sockets"]);
    let expected = [
        "listener new",
        "quic new",
        "listener known",
        "quic known",
        "listener nowhere",
    ];
    assert_eq!(heard(&listeners), expected);
    assert_eq!(
        (new.alt_svc.now(), known.alt_svc.now()),
        (Some(OFFER), Some(OFFER))
    );
    assert_eq!(plan_of(&listeners, "nowhere").alt_svc.now(), None);
    edge.end().await;
}
