//! Servers of all kinds, honest and other ones.

use std::num::NonZeroU32;

use super::*;
use crate::login::credential::PassedKeys;
use crate::login::demand::Method;
use crate::login::facts::Tls;
use crate::login::secret::Secret;
use crate::login::server::tests::{facts, md5_of, plain, scram_of, settings};
use crate::login::server::{Known, ServerExchange, ServerStep};
use crate::login::{AUTHENTICATION_OK, RANDOM_BYTES};

const HASH: &[u8] = b"the hash of a certificate";

fn password(text: &str) -> Credential {
    Credential::of(plain(text).as_ref())
}

fn keys(text: &str) -> Credential {
    let Some(Secret::Scram(verifier)) = scram_of(text) else {
        panic!("no verifier");
    };
    let salt = verifier.salt().clone();
    let keys = Keys::derive(text.as_bytes(), &salt);
    Credential::Scram(Arc::new(PassedKeys { keys, salt }))
}

fn tls(end_point: Option<&[u8]>) -> Channel {
    Channel::Tls {
        end_point: end_point.map(<[u8]>::to_vec),
    }
}

/// A login at a server of ours; `Done`, or why not.
fn log_in(
    method: Method,
    stored: Option<Secret>,
    credential: Credential,
    channel: Channel,
    policy: &Policy,
) -> String {
    let mut facts = facts("ann");
    if let Channel::Tls { end_point } = &channel {
        let end_point = end_point.as_deref();
        facts.tls = Some(Tls {
            end_point,
            certificate: None,
        });
    }
    let known = Known::User(stored);
    let random = [3; RANDOM_BYTES];
    let (mut server, mut step) =
        ServerExchange::start(&facts, &method.into(), known, &settings(), &random);
    let mut client =
        ClientExchange::new("ann", credential, channel.clone(), policy, [4; NONCE_BYTES]);
    let mut mine = None;
    loop {
        mine = match mine {
            Some(ClientStep::Refused(refusal)) => return refusal.reason,
            Some(ClientStep::Done) => return "Done".to_owned(),
            Some(ClientStep::Derive(derivation)) => Some(client.derived(derivation.run())),
            Some(ClientStep::Send(body)) => {
                step = server.answer(&body);
                None
            }
            Some(ClientStep::Wait) | None => {
                let (body, next) = match step {
                    ServerStep::Send(body) => (body, ServerStep::NeedSecret),
                    ServerStep::Derive(derivation) => {
                        step = server.derived(derivation.run());
                        continue;
                    }
                    ServerStep::Done(mut proven) => match proven.last.take() {
                        Some(last) => (last, ServerStep::Done(proven)),
                        None => (AUTHENTICATION_OK.to_vec(), ServerStep::NeedSecret),
                    },
                    ServerStep::Refused(refusal) => return refusal.text,
                    ServerStep::NeedSecret => panic!("nobody is asked"),
                };
                step = next;
                Some(client.answer(&body))
            }
        };
    }
}

#[test]
fn every_credential_at_every_kind_of_server() {
    let open = Policy {
        cleartext: Cleartext::Anywhere,
        ..Policy::default()
    };
    let check = |method: Method, stored: Option<Secret>, credential: Credential, expected: &str| {
        let said = log_in(method, stored, credential.clone(), Channel::Plain, &open);
        assert_eq!(said, expected, "{method:?} {credential:?}");
    };
    let of = |credential: &Option<Secret>| Credential::of(credential.as_ref());
    let (md5, scram) = (md5_of("apple", "ann"), scram_of("apple"));
    for credential in [Credential::None, password("apple"), of(&md5), of(&scram)] {
        check(Method::Trust, None, credential, "Done");
    }
    for method in [Method::Password, Method::Md5, Method::ScramSha256] {
        check(method, scram.clone(), password("apple"), "Done");
        let wrong = "password authentication failed for user \"ann\"";
        check(method, scram.clone(), password("pear"), wrong);
    }
    check(Method::Md5, md5.clone(), password("apple"), "Done");
    check(Method::Md5, md5.clone(), of(&md5), "Done");
    check(Method::Md5, plain("apple"), of(&md5), "Done");
    check(Method::ScramSha256, scram.clone(), keys("apple"), "Done");
    let asks = |what: &str, has: &str| {
        format!("user \"ann\": the server asks for {what}, and we have {has}")
    };
    let none = asks("SCRAM-SHA-256", "none");
    check(Method::ScramSha256, scram.clone(), Credential::None, &none);
    let locked = asks("SCRAM-SHA-256", "a SCRAM verifier without its keys");
    check(Method::ScramSha256, scram.clone(), of(&scram), &locked);
    let hash = asks("SCRAM-SHA-256", "an MD5 verifier");
    check(Method::ScramSha256, scram.clone(), of(&md5), &hash);
    let clear = asks("the password in clear text", "an MD5 verifier");
    check(Method::Password, md5.clone(), of(&md5), &clear);
    let clear = asks("the password in clear text", "SCRAM keys");
    check(Method::Password, scram, keys("apple"), &clear);
    let hash = asks("an MD5 hash", "SCRAM keys");
    check(Method::Md5, md5, keys("apple"), &hash);
    // A verifier of ours, made of the password: another salt.
    let other = "user \"ann\": the server has another SCRAM verifier for the user than the one the \
                 client logged in with here (another salt or count of iterations): store the same \
                 one at both, or the password";
    check(Method::ScramSha256, plain("apple"), keys("apple"), other);
}

#[test]
fn what_clients_are_told_is_what_pgbouncer_tells() {
    let mut client = ClientExchange::new(
        "ann",
        Credential::Locked,
        Channel::Plain,
        &Policy::default(),
        [0; NONCE_BYTES],
    );
    let ClientStep::Refused(refusal) = client.answer(b"\0\0\0\x0aSCRAM-SHA-256\0\0") else {
        panic!("not refused");
    };
    assert_eq!(refusal.text, "server login failed: wrong password type");
    assert_eq!((refusal.cause, refusal.sqlstate), (Cause::Ours, "28000"));
}

#[test]
fn servers_that_ask_for_less_than_they_must_are_refused() {
    let check = |least: Least, method: Method, expected: &str| {
        let policy = Policy {
            least,
            ..Policy::default()
        };
        let stored = match method {
            Method::Md5 => md5_of("apple", "ann"),
            _ => scram_of("apple"),
        };
        let said = log_in(method, stored, password("apple"), tls(None), &policy);
        let expected = match expected {
            "" => "Done".to_owned(),
            less => format!("user \"ann\": the server asks for {less} that is required"),
        };
        assert_eq!(said, expected, "{least:?} {method:?}");
    };
    let ways = [
        (Least::Nothing, Method::Trust, "nothing"),
        (
            Least::Cleartext,
            Method::Password,
            "a password in clear text",
        ),
        (Least::Md5, Method::Md5, "an MD5 hash"),
        (Least::Scram, Method::ScramSha256, "SCRAM-SHA-256"),
    ];
    for (least, _, wanted) in ways {
        for (shown, method, given) in ways {
            let less = format!("{given}, less than the {wanted}");
            check(least, method, if shown < least { &less } else { "" });
        }
    }
}

#[test]
fn clear_text_needs_tls_unless_it_is_allowed() {
    let check = |channel: Channel, cleartext: Cleartext, is_sent: bool| {
        let policy = Policy {
            cleartext,
            ..Policy::default()
        };
        let said = log_in(
            Method::Password,
            plain("apple"),
            password("apple"),
            channel,
            &policy,
        );
        let expected = match is_sent {
            true => "Done",
            false => {
                "user \"ann\": the server asks for the password in clear text over a connection \
                 without TLS"
            }
        };
        assert_eq!(said, expected);
    };
    check(Channel::Plain, Cleartext::Encrypted, false);
    check(Channel::Plain, Cleartext::Anywhere, true);
    check(Channel::Local, Cleartext::Encrypted, true);
    check(tls(None), Cleartext::Encrypted, true);
}

fn refused(client: &mut ClientExchange, body: &[u8]) -> String {
    match client.answer(body) {
        ClientStep::Refused(refusal) => {
            let text = refusal.reason.strip_prefix("user \"ann\": the server ");
            text.expect("the usual start").to_owned()
        }
        other => panic!("{other:?}"),
    }
}

fn client(channel: Channel, channel_binding: ChannelBinding) -> ClientExchange {
    let policy = Policy {
        channel_binding,
        ..Policy::default()
    };
    ClientExchange::new("ann", password("apple"), channel, &policy, [1; NONCE_BYTES])
}

const BOTH: &[u8] = b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";
const WITHOUT: &[u8] = b"\0\0\0\x0aSCRAM-SHA-256\0\0";

#[test]
fn channels_are_bound_where_that_can_be_done() {
    let check = |channel: Channel, wanted, offer: &[u8], expected: Result<&str, &str>| {
        let mut client = client(channel, wanted);
        match expected {
            Err(text) => assert_eq!(refused(&mut client, offer), text),
            Ok(start) => {
                let ClientStep::Send(body) = client.answer(offer) else {
                    panic!("refused");
                };
                let body = String::from_utf8_lossy(&body).replace('\0', "|");
                assert!(body.starts_with(start), "{body}");
            }
        }
    };
    let (prefer, require, disable) = (
        ChannelBinding::Prefer,
        ChannelBinding::Require,
        ChannelBinding::Disable,
    );
    let bound = "SCRAM-SHA-256-PLUS|||";
    check(tls(Some(HASH)), prefer, BOTH, Ok(bound));
    check(tls(Some(HASH)), require, BOTH, Ok(bound));
    check(tls(Some(HASH)), disable, BOTH, Ok("SCRAM-SHA-256|||| n,,"));
    check(
        tls(Some(HASH)),
        prefer,
        WITHOUT,
        Ok("SCRAM-SHA-256|||| y,,"),
    );
    check(tls(None), prefer, BOTH, Ok("SCRAM-SHA-256|||| n,,"));
    check(Channel::Plain, prefer, WITHOUT, Ok("SCRAM-SHA-256|||| n,,"));
    let missing = "does not bind the login to its certificate, which is required";
    check(tls(Some(HASH)), require, WITHOUT, Err(missing));
    check(tls(None), require, BOTH, Err(missing));
    let odd = "offers channel binding over a connection without TLS";
    check(Channel::Plain, prefer, BOTH, Err(odd));
    let mut client = client(tls(Some(HASH)), require);
    let text = "did not bind the login to its certificate, which is required";
    assert_eq!(refused(&mut client, &AUTHENTICATION_OK), text);
    // With our server at the other end, and with one that has another certificate.
    let policy = Policy {
        channel_binding: require,
        ..Policy::default()
    };
    let stored = scram_of("apple");
    let said = log_in(
        Method::ScramSha256,
        stored,
        keys("apple"),
        tls(Some(HASH)),
        &policy,
    );
    assert_eq!(said, "Done");
}

#[test]
fn logins_that_are_not_spoken_are_named() {
    for (code, name) in [
        (2_u32, "Kerberos V5"),
        (4, "crypt"),
        (6, "SCM credentials"),
        (7, "GSSAPI"),
        (8, "GSSAPI"),
        (9, "SSPI"),
    ] {
        let mut client = client(Channel::Plain, ChannelBinding::Prefer);
        let text = format!(
            "asks for a login by {name}, which is not spoken here: scram-sha-256, md5, password \
             and trust are"
        );
        assert_eq!(refused(&mut client, &code.to_be_bytes()), text);
        assert!(client.is_over());
    }
    let mut client = client(Channel::Plain, ChannelBinding::Prefer);
    let text = "asks for a login of kind 13, which is unknown here";
    assert_eq!(refused(&mut client, &13_u32.to_be_bytes()), text);
}

#[test]
fn what_is_no_message_or_out_of_turn_is_refused() {
    let check = |bodies: &[&[u8]], expected: &str| {
        let mut client = client(tls(None), ChannelBinding::Prefer);
        let (last, before) = bodies.split_last().unwrap();
        for body in before {
            let step = client.answer(body);
            assert!(matches!(step, ClientStep::Send(_)), "{step:?}");
        }
        assert_eq!(refused(&mut client, last), expected, "{bodies:?}");
    };
    let none = "sent an authentication message that is none";
    check(&[b""], none);
    check(&[b"\0\0\0"], none);
    let turn = "sent an authentication message out of turn";
    check(&[b"\0\0\0\0x"], turn);
    check(&[b"\0\0\0\x03x"], turn);
    check(&[b"\0\0\0\x0bx"], turn);
    check(&[b"\0\0\0\x0cv=x"], turn);
    check(&[WITHOUT, WITHOUT], turn);
    check(&[WITHOUT, b"\0\0\0\x03"], turn);
    check(&[b"\0\0\0\x03", b"\0\0\0\x03"], turn);
    check(&[b"\0\0\0\x05salt", b"\0\0\0\x05salt"], turn);
    let salt = "asked by MD5 with a salt that is none";
    check(&[b"\0\0\0\x05sal"], salt);
    check(&[b"\0\0\0\x05salty"], salt);
    let list = "sent a list of mechanisms that is none";
    check(&[b"\0\0\0\x0a"], list);
    check(&[b"\0\0\0\x0a\0"], list);
    check(&[b"\0\0\0\x0aSCRAM-SHA-256\0"], list);
    let spoken = "offers no mechanism that is spoken here: only SCRAM-SHA-256 is";
    check(&[b"\0\0\0\x0aSCRAM-SHA-1\0PLAIN\0\0"], spoken);
    check(&[b"\0\0\0\x0a\0\0"], spoken);
    let before = "let us in before it proved that it knows the password";
    check(&[WITHOUT, &AUTHENTICATION_OK], before);
    check(
        &[WITHOUT, b"\0\0\0\x0bx"],
        "sent a message that is not of SCRAM-SHA-256",
    );
}

#[test]
fn servers_that_ask_for_too_much_or_prove_nothing() {
    let mut exchange = client(Channel::Plain, ChannelBinding::Prefer);
    let ClientStep::Send(body) = exchange.answer(WITHOUT) else {
        panic!("refused");
    };
    let first = String::from_utf8(body[18..].to_vec()).unwrap();
    let nonce = first.strip_prefix("n,,n=,r=").unwrap();
    let challenge = |count: u32| {
        let text = format!("r={nonce}server,s=AAAA,i={count}");
        [&11_u32.to_be_bytes()[..], text.as_bytes()].concat()
    };
    let text = "asks for 1000001 iterations, more than 1000000";
    assert_eq!(refused(&mut exchange, &challenge(1_000_001)), text);
    for odd in ["v=AAAA", "e=other-error", ""] {
        let mut exchange = client(Channel::Plain, ChannelBinding::Prefer);
        let _ = exchange.answer(WITHOUT);
        let ClientStep::Derive(derivation) = exchange.answer(&challenge(2)) else {
            panic!("nothing to derive");
        };
        assert_eq!(derivation.iterations(), 2);
        let step = exchange.derived(derivation.run());
        assert!(matches!(step, ClientStep::Send(_)), "{step:?}");
        let last = [&12_u32.to_be_bytes()[..], odd.as_bytes()].concat();
        let text = refused(&mut exchange, &last);
        assert_eq!(
            text,
            "did not prove that it knows the password: not the right server"
        );
        let turn = "sent an authentication message out of turn";
        assert_eq!(refused(&mut exchange, &challenge(2)), turn);
    }
    let before = "let us in before it proved that it knows the password";
    let mut exchange = client(Channel::Plain, ChannelBinding::Prefer);
    let _ = exchange.answer(WITHOUT);
    let ClientStep::Derive(derivation) = exchange.answer(&challenge(2)) else {
        panic!("nothing to derive");
    };
    let _ = exchange.derived(derivation.run());
    assert_eq!(refused(&mut exchange, &AUTHENTICATION_OK), before);
}

#[test]
fn keys_are_derived_once_for_a_salt() {
    let credential = password("apple");
    let login = || {
        let channel = Channel::Plain;
        let policy = Policy::default();
        log_in(
            Method::ScramSha256,
            scram_of("apple"),
            credential.clone(),
            channel,
            &policy,
        )
    };
    assert_eq!(login(), "Done");
    let Credential::Password(password) = &credential else {
        panic!("no password");
    };
    let Some(Secret::Scram(verifier)) = scram_of("apple") else {
        panic!("no verifier");
    };
    assert_eq!(verifier.salt().iterations, NonZeroU32::new(3).unwrap());
    assert!(password.memory.known(verifier.salt()).is_some());
    assert_eq!(login(), "Done");
}
