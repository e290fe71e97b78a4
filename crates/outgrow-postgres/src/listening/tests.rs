//! Names of channels, and what clients hear of the shared connection.

use std::sync::Arc;

use outgrow_core::Clock;
use outgrow_message::Ledger;

use super::*;
use crate::seen::{ClientEntry, Far};
use crate::shared::Shared;
use crate::sql::Lexing;
use crate::sql::facts::Statements;

#[test]
fn channels_are_known_as_by_the_server() {
    let check = |sql: &str, expected: Option<&str>| {
        let mut statements = Statements::new(sql.as_bytes(), Lexing::default());
        let name = statements.next().and_then(|statement| statement.name);
        let name = name.and_then(channel_name);
        let text = name.map(|name| String::from_utf8_lossy(&name).into_owned());
        assert_eq!(text.as_deref(), expected, "{sql}");
    };
    check("LISTEN c", Some("c"));
    check("LISTEN My_Channel", Some("my_channel"));
    check("listen \"My\"\"Channel\"", Some("My\"Channel"));
    check("LISTEN/* a */u", Some("u"));
    check("LISTEN u_", Some("u_"));
    check("LISTEN \"U&\"", Some("U&"));
    let long = "x".repeat(80);
    check(&format!("LISTEN {long}"), Some(&long[..63]));
    // By itself: its name depends on encodings, or cannot be told.
    check("LISTEN grün", None);
    check("LISTEN \"ü\"", None);
    check("LISTEN U&\"\\0061\"", None);
    check("LISTEN u&\"a\"", None);
    check("LISTEN \"\"", None);
    check("LISTEN 'c'", None);
    check("LISTEN", None);
}

/// A client's ear, and what keeps the client alive.
fn ear() -> (Arc<Ear>, ClientEntry) {
    let shared = Shared::new(Clock::start(), Ledger::new(1 << 20), 1);
    let far = Far::Unix {
        process: 1,
        port: 0,
    };
    let entry = ClientEntry::new(&shared, far, None);
    (Ear::new(&entry.seen), entry)
}

/// Steps of one ear: `promise c`, `hear c payload`, `LISTEN c`, `UNLISTEN c`, `UNLISTEN *`, `quiet`
/// (what came before cannot concern a commit), `give up`, `take`; and what each gives.
#[track_caller]
fn check(steps: &[(&str, &str)]) {
    let (ear, _entry) = ear();
    let names = |names: Vec<board::Name>| {
        let mut names: Vec<_> = names
            .iter()
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect();
        names.sort();
        names.join(" ")
    };
    for (step, expected) in steps {
        let words: Vec<&str> = step.split(' ').collect();
        let name = |place: usize| -> board::Name { words[place].as_bytes().into() };
        let result = match words[0] {
            "promise" => {
                ear.set(&name(1), Hearing::Promised);
                String::new()
            }
            "hear" => {
                let notification = Arc::new(Notification {
                    process: 7,
                    channel: name(1),
                    payload: words[2].as_bytes().into(),
                });
                let fits = ear.push(&notification, 200, || Refusal::new(TOO_MUCH, "too much"));
                fits.to_string()
            }
            "LISTEN" => names(ear.settle(&[Change::Listen(name(1))])),
            "UNLISTEN" if words[1] == "*" => names(ear.settle(&[Change::UnlistenAll])),
            "UNLISTEN" => names(ear.settle(&[Change::Unlisten(name(1))])),
            "again" => names(ear.settle(&[Change::UnlistenAll, Change::Listen(name(1))])),
            "quiet" => {
                ear.drop_promised();
                String::new()
            }
            "give" => names(ear.give_up()),
            "over" => ear.over().map_or(String::new(), |one| one.message.into()),
            "take" => {
                let mut out = Vec::new();
                let foreign = || Refusal::new("22P05", "foreign");
                ear.take(&mut out, 1_000, words.len() == 1, foreign);
                let bodies = out.split(|byte| *byte == b'A').skip(1);
                let texts = bodies.map(|body| String::from_utf8_lossy(&body[8..]).into_owned());
                texts
                    .collect::<String>()
                    .replace('\0', " ")
                    .trim()
                    .to_owned()
            }
            other => panic!("{other}"),
        };
        assert_eq!(result, *expected, "{step} of {steps:?}");
    }
}

#[test]
fn a_client_hears_what_it_listens_on_once_that_is_committed() {
    check(&[
        ("promise c", ""),
        ("hear c early", "true"),
        ("take", ""),
        // Its statement is sent only now.
        ("quiet", ""),
        ("hear c 1", "true"),
        ("take", ""),
        ("LISTEN c", ""),
        ("hear c 2", "true"),
        ("take", "c 1 c 2"),
        ("take", ""),
        ("give up", ""),
        ("hear c 3", "true"),
        ("take", "c 3"),
    ]);
}

#[test]
fn what_was_rolled_back_was_never_there() {
    check(&[
        ("promise c", ""),
        ("hear c 1", "true"),
        ("give up", "c"),
        ("take", ""),
        // Without a promise the client listens by itself.
        ("LISTEN c", ""),
        ("give up", ""),
        ("hear c 2", "true"),
        ("take", ""),
    ]);
}

#[test]
fn who_unlistens_hears_no_more() {
    check(&[
        ("promise a", ""),
        ("promise b", ""),
        ("LISTEN a", ""),
        ("LISTEN b", ""),
        ("hear a 1", "true"),
        ("hear b 1", "true"),
        ("UNLISTEN a", "a"),
        ("take", "b 1"),
        ("again b", ""),
        ("hear b 2", "true"),
        ("take", "b 2"),
        ("UNLISTEN *", "b"),
        ("hear b 3", "true"),
        ("take", ""),
    ]);
}

#[test]
fn order_is_kept_over_what_is_not_committed() {
    check(&[
        ("promise a", ""),
        ("LISTEN a", ""),
        ("promise b", ""),
        ("hear a 1", "true"),
        ("hear b 1", "true"),
        ("hear a 2", "true"),
        ("take", "a 1 a 2"),
        ("hear a 3", "true"),
        ("LISTEN b", ""),
        ("take", "b 1 a 3"),
    ]);
}

#[test]
fn a_backlog_has_an_end() {
    let long = format!("hear c {}", "x".repeat(120));
    check(&[
        ("promise c", ""),
        ("LISTEN c", ""),
        (&long, "true"),
        (&long, "false"),
        ("over", "too much"),
        ("take", ""),
        ("hear c 1", "true"),
        ("take", ""),
    ]);
}

#[test]
fn texts_in_another_encoding_are_not_sent() {
    check(&[
        ("promise c", ""),
        ("LISTEN c", ""),
        ("hear c plain", "true"),
        ("hear c ü", "true"),
        ("take foreign", "c plain"),
        ("over", "foreign"),
    ]);
}

#[test]
fn who_only_asked_is_not_ended() {
    let refusal = Refusal::new(TOO_MUCH, "lost");
    for (hearing, is_ended) in [
        (Hearing::Asked, false),
        (Hearing::Promised, true),
        (Hearing::Active, true),
    ] {
        let (ear, _entry) = ear();
        let name: board::Name = b"c"[..].into();
        ear.set(&name, hearing);
        ear.end(&refusal);
        assert_eq!(ear.over().is_some(), is_ended, "{hearing:?}");
        assert_eq!(ear.hearing(&name), Some(Hearing::Refused));
    }
}
