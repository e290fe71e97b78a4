//! Logins of the Postgres tier: nothing panics whatever is read, nobody gets in without the
//! password, we believe no server that does not have it, and no message can be changed on its way.
#![no_main]

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use outgrow_postgres::login::auth_query::{Answer, Reader};
use outgrow_postgres::login::hba::{Hba, Maps};
use outgrow_postgres::login::scram::{Verifier, end_point_hash, mock_salt};
use outgrow_postgres::login::{
    AUTHENTICATION_OK, Channel, ClientExchange, ClientStep, Credential, Facts, Known, Least,
    Method, Policy, RANDOM_BYTES, Replication, Secret, ServerExchange, ServerSettings, ServerStep,
    Source, Tls, UserList, md5,
};
use outgrow_upstream::scram::{Keys, NONCE_BYTES};

const PASSWORD: &[u8] = b"nobody guesses this one: 8f2k0q7z";

/// Most messages of one login.
const MOST_MESSAGES: usize = 16;

static SECRETS: LazyLock<[Option<Secret>; 4]> = LazyLock::new(|| {
    let salt = mock_salt(&[1; 32], "salt", NonZeroU32::MIN);
    let verifier = Verifier::of(&Keys::derive(PASSWORD, &salt), salt);
    [
        None,
        Secret::read(PASSWORD).ok().flatten(),
        Some(Secret::Md5(md5::Hash::of(PASSWORD, "ann"))),
        Secret::read(verifier.text().as_bytes()).ok().flatten(),
    ]
});

fuzz_target!(|input: &[u8]| {
    let Some((&kind, input)) = input.split_first() else {
        return;
    };
    match kind % 6 {
        0 => files(input),
        1 => users(input),
        2 => pieces(input),
        3 => to_us(kind / 6, input),
        4 => from_us(kind / 6, input),
        _ => on_the_way(kind / 6, input),
    }
});

fn facts(has_tls: bool) -> Facts<'static> {
    Facts {
        user: "ann",
        database: "shop",
        replication: Replication::None,
        source: Source::Address(IpAddr::from([10, 0, 0, 1])),
        tls: has_tls.then_some(Tls {
            end_point: Some(b"hash"),
            certificate: None,
        }),
    }
}

fn files(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let maps = Maps::parse(&text, "pg_ident.conf").unwrap_or_default();
    if let Some(map) = maps.get("m") {
        let _ = map.allows("ann@example.org", "ann");
    }
    let mut files = |name: &str| match name.len() % 2 {
        0 => Ok(text.to_string()),
        _ => Err("there is none".to_owned()),
    };
    let hba = match Hba::parse(&text, "pg_hba.conf", &maps, &mut files) {
        Ok(hba) => hba,
        Err(problems) => {
            assert!(!problems.is_empty() && problems.iter().all(|one| one.line > 0));
            return;
        }
    };
    for has_tls in [false, true] {
        let facts = facts(has_tls);
        let found = hba.rule(&facts, &[]).map(|rule| rule.line());
        assert_eq!(found, hba.rule(&facts, &[]).map(|rule| rule.line()));
    }
}

fn users(input: &[u8]) {
    let Ok(list) = UserList::parse(input, "users.txt") else {
        return;
    };
    let Ok(text) = list.text() else {
        return;
    };
    let again = UserList::parse(&text, "users.txt").expect("what is written can be read");
    assert_eq!(list.iter().len(), again.iter().len());
    for (name, user) in list.iter() {
        let other = again.get(name).expect("each user is written");
        assert_eq!(user.secret, other.secret);
    }
}

fn pieces(input: &[u8]) {
    let _ = end_point_hash(input);
    let mut reader = Reader::new("ann");
    let _ = reader.description(input);
    let _ = reader.row(input);
    let _ = reader.end();
    if let Ok(Some(secret)) = Secret::read(input) {
        assert_eq!(secret.text(), input);
    }
}

/// The messages in an input: each after its length, in two bytes.
fn messages(mut input: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (&length, rest) = input.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes(length)).min(rest.len());
        let (message, rest) = rest.split_at(length);
        input = rest;
        Some(message)
    })
    .take(MOST_MESSAGES)
}

fn settings() -> ServerSettings {
    ServerSettings {
        iterations: NonZeroU32::MIN,
        ..ServerSettings::new([7; 32])
    }
}

/// A client that does not know the password.
fn to_us(choice: u8, input: &[u8]) {
    let methods = [Method::Password, Method::Md5, Method::ScramSha256];
    let method = methods[usize::from(choice) % 3];
    let secret = SECRETS[usize::from(choice / 3) % 4].clone();
    let known = match choice / 12 {
        0 => Known::Ask,
        1 => Known::Remembered(Answer::User(secret.clone())),
        2 => Known::Nobody,
        _ => Known::User(secret.clone()),
    };
    let facts = facts(choice % 2 == 0);
    let random = [3; RANDOM_BYTES];
    let (mut exchange, mut step) =
        ServerExchange::start(&facts, &method.into(), known, &settings(), &random);
    let mut bodies = messages(input);
    loop {
        step = match step {
            ServerStep::Send(_) => match bodies.next() {
                Some(body) => exchange.answer(body),
                None => return,
            },
            ServerStep::NeedSecret => exchange.supply(Answer::User(secret.clone())),
            ServerStep::Derive(derivation) => exchange.derived(derivation.run()),
            ServerStep::Done(proven) => panic!("got in: {proven:?}"),
            ServerStep::Refused(_) => {
                assert!(matches!(exchange.answer(b"x\0"), ServerStep::Refused(_)));
                return;
            }
        };
    }
}

fn channel(choice: u8) -> Channel {
    match choice % 3 {
        0 => Channel::Plain,
        1 => Channel::Local,
        _ => Channel::Tls {
            end_point: Some(b"hash".to_vec()),
        },
    }
}

fn policy() -> Policy {
    Policy {
        least: Least::Scram,
        most_iterations: 64,
        ..Policy::default()
    }
}

/// A server that does not know the password.
fn from_us(choice: u8, input: &[u8]) {
    let credential = Credential::of(SECRETS[usize::from(choice) % 4].as_ref());
    let nonce = [5; NONCE_BYTES];
    let mut exchange =
        ClientExchange::new("ann", credential, channel(choice / 4), &policy(), nonce);
    for body in messages(input) {
        let mut step = exchange.answer(body);
        if let ClientStep::Derive(derivation) = step {
            step = exchange.derived(derivation.run());
        }
        match step {
            ClientStep::Done => panic!("believed a server"),
            ClientStep::Refused(_) => {
                assert!(exchange.is_over());
                return;
            }
            ClientStep::Send(_) | ClientStep::Wait | ClientStep::Derive(_) => {}
        }
    }
}

/// Both sides are honest and know the password; one message is changed on its way: put in, taken
/// out and exchanged bytes.
fn on_the_way(choice: u8, input: &[u8]) {
    let Some((&[number, place, cut], put)) = input.split_first_chunk() else {
        return;
    };
    let secret = SECRETS[3].clone();
    let channel = channel(choice);
    let facts = facts(matches!(channel, Channel::Tls { .. }));
    let known = Known::User(secret);
    let (mut server, mut step) = ServerExchange::start(
        &facts,
        &Method::ScramSha256.into(),
        known,
        &settings(),
        &[3; RANDOM_BYTES],
    );
    let password = Credential::of(SECRETS[1].as_ref());
    let mut client = ClientExchange::new("ann", password, channel, &policy(), [5; NONCE_BYTES]);
    let mut count = 0;
    let mut is_changed = false;
    let mut carry = |body: Vec<u8>| {
        let mut body = body;
        if count == number % 5 {
            let before = body.clone();
            let from = usize::from(place).min(body.len());
            let to = (from + usize::from(cut % 8)).min(body.len());
            body.splice(from..to, put.iter().copied().take(16));
            is_changed = before != body;
        }
        count += 1;
        body
    };
    let is_believed = loop {
        let (body, last) = match step {
            ServerStep::Send(body) => (body, false),
            ServerStep::Done(proven) => (proven.last.unwrap_or_default(), true),
            ServerStep::Refused(_) => break false,
            ServerStep::NeedSecret | ServerStep::Derive(_) => panic!("nothing is missing"),
        };
        let mut answer = client.answer(&carry(body));
        if let ClientStep::Derive(derivation) = answer {
            answer = client.derived(derivation.run());
        }
        step = match answer {
            ClientStep::Send(body) if !last => server.answer(&carry(body)),
            ClientStep::Wait if last => {
                break matches!(client.answer(&AUTHENTICATION_OK), ClientStep::Done);
            }
            _ => break false,
        };
    };
    // The list of mechanisms is not signed: names that nobody knows can be put into it.
    let is_harmless = number % 5 == 0;
    assert!(is_believed != is_changed || is_harmless);
}
