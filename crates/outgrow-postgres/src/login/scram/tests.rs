//! The server's side against the RFC's example, against what clients must not send, and against
//! our own client over many seeds, with every cut and every changed byte.

use std::num::NonZeroU32;

use outgrow_core::Random;
use outgrow_core::base64;
use outgrow_upstream::scram::{Binding, Client, Keys, NAME, NAME_PLUS, NONCE_BYTES, Salt};

use super::{Outcome, Problem, Server, Verifier, mock_salt};

const ITERATIONS: NonZeroU32 = NonZeroU32::MIN;

fn salt(byte: u8) -> Salt {
    Salt {
        bytes: vec![byte; 16],
        iterations: ITERATIONS,
    }
}

fn verifier(password: &str) -> Verifier {
    let keys = Keys::derive(password.as_bytes(), &salt(1));
    Verifier::of(&keys, salt(1))
}

fn server(end_point: Option<&[u8]>, choice: &str) -> Server {
    let end_point = end_point.map(<[u8]>::to_vec);
    let mut server = Server::new(verifier("pencil"), false, end_point, &[9; NONCE_BYTES]);
    server.choose(choice.as_bytes()).unwrap();
    server
}

#[test]
fn the_example_of_the_rfc() {
    let salt = Salt {
        bytes: base64::decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap(),
        iterations: NonZeroU32::new(4_096).unwrap(),
    };
    let keys = Keys::derive(b"pencil", &salt);
    let verifier = Verifier::of(&keys, salt);
    let mut server = Server::new(verifier, false, None, &[0; NONCE_BYTES]);
    server.nonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".to_owned();
    server.choose(b"SCRAM-SHA-256").unwrap();
    let first = server.answer(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO").unwrap();
    let expected = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                    s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    assert_eq!(first, Outcome::Continue(expected.as_bytes().to_vec()));
    let last = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    let Outcome::Proven { last, keys: found } = server.answer(last.as_bytes()).unwrap() else {
        panic!("not proven");
    };
    assert_eq!(last, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    assert_eq!(found, keys);
}

#[test]
fn verifiers_are_read_as_they_are_written() {
    let text = verifier("pencil").text();
    assert_eq!(Verifier::read(&text).unwrap(), verifier("pencil"));
    assert_ne!(verifier("pencil"), verifier("pen"));
    let key = base64::encode(&[7; 32]);
    let good = format!("SCRAM-SHA-256$4096:AAAA${key}:{key}");
    assert!(Verifier::read(&good).is_some());
    for odd in [
        good.replace("4096", "0"),
        good.replace("4096", ""),
        good.replace("4096", "+1"),
        good.replace("4096", "2147483648"),
        good.replace("AAAA", ""),
        good.replace("AAAA", "AAA"),
        good.replace(&key, "AAAA"),
        good.replace("256", "512"),
        good.replace('$', ":"),
        format!("{good}:"),
        base64::encode(&[0; 1025]).replace("AA", &good),
        String::new(),
    ] {
        assert_eq!(Verifier::read(&odd), None, "{odd}");
    }
    for end in 0..good.len() {
        assert_eq!(Verifier::read(&good[..end]), None, "{end}");
    }
}

#[test]
fn salts_of_unknown_users_are_always_the_same() {
    let one = mock_salt(&[1; 32], "eve", ITERATIONS);
    assert_eq!(one, mock_salt(&[1; 32], "eve", ITERATIONS));
    assert_ne!(one, mock_salt(&[1; 32], "adam", ITERATIONS));
    assert_ne!(one, mock_salt(&[2; 32], "eve", ITERATIONS));
    assert_eq!(one.bytes.len(), 16);
}

/// The end of an exchange with this first message, and this last one, where `NONCE` is what the
/// server said.
#[track_caller]
fn check(end_point: Option<&[u8]>, choice: &str, first: &str, last: &str, expected: &str) {
    let mut server = server(end_point, choice);
    let outcome = server.answer(first.as_bytes()).and_then(|outcome| {
        let Outcome::Continue(text) = outcome else {
            panic!("{outcome:?}");
        };
        let text = String::from_utf8(text).unwrap();
        let nonce = text[2..].split(',').next().unwrap();
        server.answer(last.replace("NONCE", nonce).as_bytes())
    });
    let said = match outcome {
        Ok(outcome) => format!("{outcome:?}"),
        Err(Problem {
            sqlstate,
            text,
            detail,
        }) => format!("{sqlstate} {text}: {}", detail.unwrap_or_default()),
    };
    assert!(said.starts_with(expected), "{said}\n{expected}");
}

const PROOF: &str = "p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

#[test]
fn first_messages_are_judged_as_postgres_does() {
    let check = |first: &str, expected: &str| check(None, NAME, first, "", expected);
    let malformed = |detail: &str| format!("08P01 malformed SCRAM message: {detail}");
    // Good ones get as far as the empty last message.
    let good = malformed("The message is empty.");
    check("n,,n=,r=abc", &good);
    check("y,,n=,r=abc", &good);
    check("n,,n=somebody,r=abc,x=extension,y=another", &good);
    check("n,,n=,r=", &good);
    check("", &good);
    check(
        "x,,n=,r=abc",
        &malformed("Unexpected channel-binding flag \"'x'\"."),
    );
    check(
        "n",
        &malformed("Comma expected, but found character \"0x00\"."),
    );
    check(
        "nn",
        &malformed("Comma expected, but found character \"'n'\"."),
    );
    check(
        "n,a=somebody,n=,r=abc",
        "0A000 client uses authorization identity, but it is not supported",
    );
    check(
        "n,b,n=,r=abc",
        &malformed("Unexpected attribute \"'b'\" in client-first-message."),
    );
    check(
        "n,,m=x,n=,r=abc",
        "0A000 client requires an unsupported SCRAM extension",
    );
    check(
        "n,,r=abc",
        &malformed("Expected attribute \"n\" but found \"'r'\"."),
    );
    check(
        "n,,n,r=abc",
        &malformed("Expected character \"=\" for attribute \"n\"."),
    );
    check(
        "n,,n=",
        &malformed("Expected attribute \"r\" but found \"0x00\"."),
    );
    check(
        "n,,n=,r=a c",
        "08P01 non-printable characters in SCRAM nonce",
    );
    check(
        "n,,n=,r=abc,1=x",
        &malformed("Attribute expected, but found invalid character \"'1'\"."),
    );
    check(
        "p=tls-server-end-point,,n=,r=abc",
        &malformed("The client selected SCRAM-SHA-256 without channel binding, but"),
    );
    let length = malformed("Message length does not match input length.");
    check("n,,n=,r=abc\0", &length);
    check(&format!("n,,n=,r={}", "a".repeat(1017)), &length);
    check(&format!("n,,n=,r={}", "a".repeat(1016)), &good);
}

#[test]
fn last_messages_are_judged_as_postgres_does() {
    let check = |last: &str, expected: &str| check(None, NAME, "n,,n=,r=abc", last, expected);
    let malformed = |detail: &str| format!("08P01 malformed SCRAM message: {detail}");
    check(&format!("c=biws,r=NONCE,{PROOF}"), "Wrong");
    check(&format!("c=biws,r=NONCE,x=extension,{PROOF}"), "Wrong");
    let channel = "08P01 unexpected SCRAM channel-binding attribute";
    check(&format!("c=eSws,r=NONCE,{PROOF}"), channel);
    check(&format!("c=,r=NONCE,{PROOF}"), channel);
    let nonce = "08P01 invalid SCRAM response: Nonce does not match.";
    check(&format!("c=biws,r=NONCEx,{PROOF}"), nonce);
    check(&format!("c=biws,r=abc,{PROOF}"), nonce);
    let proof = malformed("Malformed proof in client-final-message.");
    check("c=biws,r=NONCE,p=AAAA", &proof);
    check("c=biws,r=NONCE,p=", &proof);
    check("c=biws,r=NONCE,p=ä", &proof);
    let garbage = malformed("Garbage found at the end of client-final-message.");
    check(&format!("c=biws,r=NONCE,{PROOF},x=y"), &garbage);
    check(&format!("c=biws,r=NONCE,{PROOF},"), &garbage);
    check(
        "c=biws,r=NONCE",
        &malformed("Attribute expected, but found end of string."),
    );
    check(
        &format!("r=NONCE,{PROOF}"),
        &malformed("Expected attribute \"c\" but found \"'r'\"."),
    );
}

#[test]
fn channels_are_bound_by_the_rules() {
    let hash: Option<&[u8]> = Some(b"hash");
    let negotiation = "28000 SCRAM channel binding negotiation error: The client supports";
    check(hash, NAME, "y,,n=,r=abc", "", negotiation);
    let selected = "08P01 malformed SCRAM message: The client selected SCRAM-SHA-256-PLUS, but";
    check(hash, NAME_PLUS, "n,,n=,r=abc", "", selected);
    check(hash, NAME_PLUS, "y,,n=,r=abc", "", selected);
    let unknown = "08P01 unsupported SCRAM channel-binding type \"tls-unique\"";
    check(hash, NAME_PLUS, "p=tls-unique,,n=,r=abc", "", unknown);
    let wrong = format!("c=biws,r=NONCE,{PROOF}");
    check(hash, NAME, "n,,n=,r=abc", &wrong, "Wrong");
    let bound = "p=tls-server-end-point,,n=,r=abc";
    let other = base64::encode(b"p=tls-server-end-point,,other");
    let other = format!("c={other},r=NONCE,{PROOF}");
    let failed = "28000 SCRAM channel binding check failed";
    check(hash, NAME_PLUS, bound, &other, failed);
    check(hash, NAME_PLUS, bound, &wrong, failed);
    let mut server = Server::new(verifier("x"), false, None, &[9; NONCE_BYTES]);
    assert_eq!(server.offer(), [NAME]);
    let problem = server.choose(NAME_PLUS.as_bytes()).unwrap_err();
    let text = "client selected an invalid SASL authentication mechanism";
    assert_eq!(problem.text, text);
    assert!(server.choose(NAME.as_bytes()).is_err() && server.answer(b"n,,n=,r=abc").is_err());
}

/// Our client against our server.
struct Run {
    client: Client,
    server: Server,
    keys: Keys,
}

impl Run {
    fn new(seed: u64, client_hash: Option<&[u8]>, server_hash: Option<&[u8]>) -> Self {
        let mut random = Random::from_seed(seed);
        let mut draw = || std::array::from_fn(|_| random.below(256) as u8);
        let binding = match (client_hash, server_hash) {
            (Some(hash), Some(_)) => Binding::EndPoint(hash.to_vec()),
            (Some(_), None) => Binding::NotOffered,
            (None, _) => Binding::Unsupported,
        };
        let client = Client::new(&draw(), binding);
        let nonce = draw();
        let hash = server_hash.map(<[u8]>::to_vec);
        let mut server = Server::new(verifier("pencil"), false, hash, &nonce);
        server.choose(client.mechanism().as_bytes()).unwrap();
        Self {
            client,
            server,
            keys: Keys::derive(b"pencil", &salt(1)),
        }
    }

    /// Goes through, with each message changed on its way; whether both believe each other.
    fn go(mut self, mut change: impl FnMut(usize, &mut Vec<u8>)) -> (bool, bool) {
        let mut first = self.client.first().into_bytes();
        change(0, &mut first);
        let Ok(Outcome::Continue(mut challenge)) = self.server.answer(&first) else {
            return (false, false);
        };
        change(1, &mut challenge);
        if self.client.challenge(&challenge, 4_096).is_err() {
            return (false, false);
        }
        let mut last = self.client.respond(&self.keys).unwrap().into_bytes();
        change(2, &mut last);
        let Ok(Outcome::Proven { mut last, keys }) = self.server.answer(&last) else {
            return (false, false);
        };
        assert_eq!(keys, self.keys);
        change(3, &mut last);
        (true, self.client.verify(&last).is_ok())
    }
}

#[test]
fn both_sides_agree_over_many_seeds() {
    for seed in 0..500 {
        let hash: &[u8] = &[seed as u8; 32];
        for (of_client, of_server) in [
            (None, None),
            (Some(hash), None),
            (None, Some(hash)),
            (Some(hash), Some(hash)),
        ] {
            let run = Run::new(seed, of_client, of_server);
            assert_eq!(run.go(|_, _| {}), (true, true), "seed {seed}");
        }
        // Somebody in between, with a certificate of their own.
        let run = Run::new(seed, Some(hash), Some(b"theirs"));
        assert_eq!(run.go(|_, _| {}), (false, false), "seed {seed}");
    }
}

#[test]
fn nothing_that_was_cut_or_changed_succeeds() {
    let mut random = Random::from_seed(42);
    let hash: Option<&[u8]> = Some(b"hash");
    for number in 0..4 {
        let mut length = 0;
        Run::new(0, hash, hash).go(|at, message| {
            if at == number {
                length = message.len();
            }
        });
        for byte in 0..=255 {
            let longer = |at: usize, message: &mut Vec<u8>| {
                if at == number {
                    message.push(byte);
                }
            };
            let both = Run::new(1, hash, hash).go(longer);
            assert_eq!(both, (number == 3, false), "message {number}, then {byte}");
        }
        for place in 0..length {
            // The message that nobody signs is the last one: cut or changed, the client notices.
            let expected = (number == 3, false);
            let cut = |at: usize, message: &mut Vec<u8>| {
                if at == number {
                    message.truncate(place);
                }
            };
            assert_eq!(
                Run::new(1, hash, hash).go(cut),
                expected,
                "{number} {place}"
            );
            for _ in 0..8 {
                let by = 1 + random.below(255) as u8;
                let changed = |at: usize, message: &mut Vec<u8>| {
                    if at == number {
                        message[place] ^= by;
                    }
                };
                let both = Run::new(1, hash, hash).go(changed);
                assert_eq!(both, expected, "message {number}, byte {place}, {by}");
            }
            let doubled = |at: usize, message: &mut Vec<u8>| {
                if at == number {
                    message.insert(place, message[place]);
                }
            };
            assert_eq!(
                Run::new(1, hash, hash).go(doubled),
                expected,
                "{number} {place}"
            );
        }
    }
}

#[test]
fn who_is_doomed_fails_with_the_right_password() {
    let keys = Keys::derive(b"pencil", &salt(1));
    for is_doomed in [false, true] {
        let mut client = Client::new(&[3; NONCE_BYTES], Binding::Unsupported);
        let mut server = Server::new(verifier("pencil"), is_doomed, None, &[4; NONCE_BYTES]);
        server.choose(NAME.as_bytes()).unwrap();
        let first = client.first();
        let Ok(Outcome::Continue(challenge)) = server.answer(first.as_bytes()) else {
            panic!("no challenge");
        };
        client.challenge(&challenge, 4_096).unwrap();
        let last = client.respond(&keys).unwrap();
        let outcome = server.answer(last.as_bytes()).unwrap();
        assert_eq!(outcome == Outcome::Wrong, is_doomed);
        assert!(server.answer(last.as_bytes()).is_err());
    }
}
