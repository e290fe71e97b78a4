//! Clients of all kinds against all that can be stored of them.

use std::net::{IpAddr, Ipv4Addr};

use outgrow_core::Random;

use super::*;
use crate::login::client::{Channel, ClientExchange, ClientStep, Policy};
use crate::login::demand::{CertificateDemand, CertificateNames};
use crate::login::facts::{ClientCertificate, Replication, Source, Tls};
use crate::login::hba::Maps;
use crate::login::refusal::Cause;
use crate::login::scram::{Verifier, mock_salt};

const HASH: &[u8] = b"the hash of a certificate";

pub(crate) fn settings() -> ServerSettings {
    ServerSettings {
        iterations: NonZeroU32::new(2).unwrap(),
        ..ServerSettings::new([7; 32])
    }
}

pub(crate) fn facts(user: &str) -> Facts<'_> {
    Facts {
        user,
        database: "shop",
        replication: Replication::None,
        source: Source::Address(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        tls: None,
    }
}

pub(crate) fn plain(text: &str) -> Option<Secret> {
    Secret::read(text.as_bytes()).unwrap()
}

pub(crate) fn md5_of(password: &str, user: &str) -> Option<Secret> {
    Some(Secret::Md5(md5::Hash::of(password.as_bytes(), user)))
}

pub(crate) fn scram_of(password: &str) -> Option<Secret> {
    let salt = mock_salt(&[1; 32], "salt", NonZeroU32::new(3).unwrap());
    let keys = outgrow_upstream::scram::Keys::derive(password.as_bytes(), &salt);
    Some(Secret::Scram(Arc::new(Verifier::of(&keys, salt))))
}

fn random(seed: u64) -> [u8; RANDOM_BYTES] {
    let mut random = Random::from_seed(seed);
    std::array::from_fn(|_| random.below(256) as u8)
}

/// One login: what is stored, what is asked of a server, and the client.
struct Login<'a> {
    facts: Facts<'a>,
    demand: Demand,
    known: Known,
    /// What a server says when it is asked, time after time.
    answers: Vec<Answer>,
    client: Credential,
    settings: ServerSettings,
}

impl<'a> Login<'a> {
    fn new(method: Method, stored: Option<Secret>, password: &str) -> Self {
        Self {
            facts: facts("ann"),
            demand: method.into(),
            known: Known::User(stored),
            answers: Vec::new(),
            client: Credential::of(plain(password).as_ref()),
            settings: settings(),
        }
    }

    /// Goes through with a client of ours, which a server's Ok makes content.
    fn run(self, seed: u64) -> Result<Proven, Refusal> {
        let (mut exchange, mut step) = ServerExchange::start(
            &self.facts,
            &self.demand,
            self.known,
            &self.settings,
            &random(seed),
        );
        let channel = match self.facts.tls {
            None => Channel::Plain,
            Some(tls) => Channel::Tls {
                end_point: tls.end_point.map(<[u8]>::to_vec),
            },
        };
        let policy = Policy {
            cleartext: crate::login::Cleartext::Anywhere,
            ..Policy::default()
        };
        let nonce = [seed as u8; NONCE_BYTES];
        let user = self.facts.user;
        let mut client = ClientExchange::new(user, self.client, channel, &policy, nonce);
        let mut answers = self.answers.into_iter();
        loop {
            step = match step {
                ServerStep::Send(body) => {
                    let answer = reply(&mut client, &body);
                    exchange.answer(&answer.expect("the client goes on"))
                }
                ServerStep::NeedSecret => exchange.supply(answers.next().expect("an answer")),
                ServerStep::Derive(derivation) => exchange.derived(derivation.run()),
                ServerStep::Refused(refusal) => {
                    assert_eq!(exchange.wants(), Wanted::Nothing);
                    assert!(answers.next().is_none(), "was asked less often");
                    return Err(*refusal);
                }
                ServerStep::Done(proven) => {
                    assert_eq!(exchange.wants(), Wanted::Nothing);
                    assert!(answers.next().is_none(), "was asked less often");
                    if let Some(last) = &proven.last {
                        assert!(matches!(client.answer(last), ClientStep::Wait));
                    }
                    let ok = client.answer(&super::super::AUTHENTICATION_OK);
                    assert!(matches!(ok, ClientStep::Done), "{ok:?}");
                    return Ok(proven);
                }
            };
        }
    }

    fn text(self) -> String {
        match self.run(1) {
            Ok(proven) => format!(
                "{} {}",
                proven.proof.method.name(),
                proven.proof.credential.kind()
            ),
            Err(refusal) => format!("{} {}", refusal.sqlstate, refusal.text),
        }
    }
}

fn reply(client: &mut ClientExchange, body: &[u8]) -> Option<Vec<u8>> {
    let mut step = client.answer(body);
    loop {
        step = match step {
            ClientStep::Send(body) => return Some(body),
            ClientStep::Derive(derivation) => client.derived(derivation.run()),
            ClientStep::Wait | ClientStep::Done | ClientStep::Refused(_) => return None,
        };
    }
}

const WRONG: &str = "28P01 password authentication failed for user \"ann\"";

#[test]
fn every_method_with_every_secret() {
    let check = |method: Method, stored: Option<Secret>, expected: &str| {
        let kind = format!("{method:?} {stored:?}");
        let login = Login::new(method, stored.clone(), "apple");
        assert_eq!(login.text(), expected, "{kind}");
        let expected = match method {
            Method::Trust => expected,
            _ => WRONG,
        };
        let login = Login::new(method, stored, "pear");
        assert_eq!(login.text(), expected, "{kind}, wrong password");
    };
    let [none, text, md5, scram] = [
        None,
        plain("apple"),
        md5_of("apple", "ann"),
        scram_of("apple"),
    ];
    check(Method::Trust, none.clone(), "trust none");
    check(Method::Trust, text.clone(), "trust a password");
    check(Method::Trust, md5.clone(), "trust an MD5 verifier");
    let locked = "trust a SCRAM verifier without its keys";
    check(Method::Trust, scram.clone(), locked);
    check(Method::Password, none.clone(), WRONG);
    check(Method::Password, text.clone(), "password a password");
    check(Method::Password, md5.clone(), "password a password");
    check(Method::Password, scram.clone(), "password a password");
    check(Method::Md5, none.clone(), WRONG);
    check(Method::Md5, text.clone(), "md5 a password");
    check(Method::Md5, md5.clone(), "md5 an MD5 verifier");
    check(Method::Md5, scram.clone(), "scram-sha-256 SCRAM keys");
    check(Method::ScramSha256, none, WRONG);
    check(Method::ScramSha256, text, "scram-sha-256 a password");
    check(Method::ScramSha256, md5, WRONG);
    check(Method::ScramSha256, scram, "scram-sha-256 SCRAM keys");
    // An MD5 verifier of another user, whose password is the same.
    check(Method::Md5, md5_of("apple", "bob"), WRONG);
}

#[test]
fn keys_that_are_passed_on_are_those_of_the_verifier() {
    let login = Login::new(Method::ScramSha256, scram_of("apple"), "apple");
    let proof = login.run(3).unwrap().proof;
    let Credential::Scram(passed) = proof.credential else {
        panic!("{proof:?}");
    };
    let Some(Secret::Scram(verifier)) = scram_of("apple") else {
        panic!("no verifier");
    };
    assert_eq!(&passed.salt, verifier.salt());
    assert!(verifier.accepts(&passed.keys));
}

#[test]
fn what_was_derived_is_not_derived_again() {
    let stored = plain("apple");
    let login = || Login::new(Method::ScramSha256, stored.clone(), "apple");
    login().run(1).unwrap();
    let (_, step) = ServerExchange::start(
        &facts("ann"),
        &Method::ScramSha256.into(),
        Known::User(stored.clone()),
        &settings(),
        &random(2),
    );
    assert!(matches!(step, ServerStep::Send(_)), "{step:?}");
    login().run(2).unwrap();
}

#[test]
fn unknown_users_are_asked_like_known_ones() {
    let offer = |known: Known, method: Method, unknown_user| {
        let settings = ServerSettings {
            unknown_user,
            ..settings()
        };
        let facts = facts("ann");
        let (mut exchange, step) =
            ServerExchange::start(&facts, &method.into(), known, &settings, &random(1));
        let step = match step {
            ServerStep::Derive(derivation) => exchange.derived(derivation.run()),
            other => other,
        };
        let ServerStep::Send(first) = step else {
            panic!("{step:?}");
        };
        if first[3] != 10 {
            return (first, Vec::new());
        }
        let first_message = b"n,,n=,r=abc";
        let mut body = b"SCRAM-SHA-256\0\0\0\0".to_vec();
        body.push(first_message.len() as u8);
        body.extend_from_slice(first_message);
        let ServerStep::Send(challenge) = exchange.answer(&body) else {
            panic!("no challenge");
        };
        (first, challenge)
    };
    let known = Known::User(plain("apple"));
    let scram = UnknownUser::Scram;
    // The same salt, iterations and nonce: no bit tells them apart.
    let of_known = offer(known.clone(), Method::ScramSha256, scram);
    assert_eq!(of_known, offer(Known::Nobody, Method::ScramSha256, scram));
    let md5 = Known::User(md5_of("apple", "ann"));
    assert_eq!(of_known, offer(md5, Method::ScramSha256, scram));
    assert_eq!(of_known, offer(Known::User(None), Method::Md5, scram));
    assert_eq!(of_known, offer(Known::Nobody, Method::Md5, scram));
    let of_md5 = offer(known, Method::Md5, UnknownUser::Md5);
    assert_eq!(of_md5, offer(Known::Nobody, Method::Md5, UnknownUser::Md5));
    assert_eq!(of_md5.0[3], 5);
}

#[test]
fn unknown_users_fail_in_every_method() {
    let check = |method: Method, unknown_user, expected: &str| {
        let mut login = Login::new(method, None, "apple");
        login.known = Known::Nobody;
        login.settings.unknown_user = unknown_user;
        assert_eq!(login.text(), expected, "{method:?}");
    };
    let (scram, md5, told) = (UnknownUser::Scram, UnknownUser::Md5, UnknownUser::Told);
    for method in [Method::Password, Method::Md5, Method::ScramSha256] {
        check(method, scram, WRONG);
        check(method, md5, WRONG);
        check(method, told, "28000 no such user");
    }
    check(Method::Trust, scram, "28000 role \"ann\" does not exist");
    check(Method::Trust, told, "28000 no such user");
    let rejected = "28000 pg_hba.conf rejects connection for host \"127.0.0.1\", user \"ann\", \
                    database \"shop\", no encryption";
    check(Method::Reject, scram, rejected);
}

#[test]
fn servers_are_asked_for_users_once_and_again_when_it_was_an_old_answer() {
    let user = |secret: Option<Secret>| Answer::User(secret);
    let check = |method: Method, known: Known, answers: Vec<Answer>, expected: &str| {
        let mut login = Login::new(method, None, "apple");
        login.known = known;
        login.answers = answers;
        assert_eq!(login.text(), expected, "{method:?}");
    };
    let old = || Known::Remembered(user(plain("old")));
    for method in [Method::Password, Method::Md5] {
        let good = format!("{} a password", method.name());
        check(method, Known::Ask, vec![user(plain("apple"))], &good);
        check(method, Known::Ask, vec![Answer::Nobody], WRONG);
        check(method, Known::Ask, vec![user(plain("pear"))], WRONG);
        check(
            method,
            Known::Remembered(user(plain("apple"))),
            vec![],
            &good,
        );
        check(method, old(), vec![user(plain("apple"))], &good);
        check(method, old(), vec![user(plain("old"))], WRONG);
        check(method, old(), vec![Answer::Nobody], WRONG);
        check(method, Known::Remembered(Answer::Nobody), vec![], WRONG);
    }
    let asked = vec![user(scram_of("apple"))];
    check(
        Method::Password,
        old(),
        asked.clone(),
        "password a password",
    );
    check(Method::Md5, old(), asked.clone(), WRONG);
    // By SCRAM the client has computed with the old salt: it must come again.
    check(Method::ScramSha256, old(), vec![], WRONG);
    check(
        Method::ScramSha256,
        Known::Ask,
        asked,
        "scram-sha-256 SCRAM keys",
    );
    let trusted = vec![user(scram_of("apple"))];
    let locked = "trust a SCRAM verifier without its keys";
    check(Method::Trust, Known::Ask, trusted, locked);
    let is_stale = |method: Method, known: Known, answers: Vec<Answer>| {
        let mut login = Login::new(method, None, "apple");
        login.known = known;
        login.answers = answers;
        login.run(1).unwrap_err().is_stale
    };
    assert!(is_stale(Method::ScramSha256, old(), vec![]));
    assert!(!is_stale(Method::Md5, old(), vec![user(plain("old"))]));
    assert!(!is_stale(
        Method::ScramSha256,
        Known::Ask,
        vec![user(plain("x"))]
    ));
    let nobody = Known::Remembered(Answer::Nobody);
    assert!(!is_stale(Method::ScramSha256, nobody, vec![]));
}

#[test]
fn certificates_must_be_those_of_the_user() {
    let names = ["bob.example.org".to_owned(), "eve".to_owned()];
    let certificate = |common_name| ClientCertificate {
        common_name,
        alternative_names: &names,
    };
    let maps = Maps::parse("m bob.example.org ann\nm /^(.*)-client$ \\1", "ident").unwrap();
    let check = |user, certificate: Option<ClientCertificate<'_>>, map: bool, expected: &str| {
        let mut login = Login::new(Method::Certificate, None, "");
        login.facts.user = user;
        login.facts.tls = Some(Tls {
            certificate,
            ..Tls::default()
        });
        login.demand.map = map.then(|| maps.get("m").unwrap());
        let text = match login.run(1) {
            Ok(proven) => proven.proof.identity.unwrap(),
            Err(refusal) => format!("{}: {}", refusal.sqlstate, refusal.reason),
        };
        assert_eq!(text, expected, "{user}");
    };
    check("ann", Some(certificate(Some("ann"))), false, "ann");
    check("eve", Some(certificate(Some("ann"))), false, "eve");
    check("eve", Some(certificate(None)), false, "eve");
    let other = "28000: user \"dan\": is not \"ann\"";
    check("dan", Some(certificate(Some("ann"))), false, other);
    let none = "28000: user \"ann\": shows no certificate";
    check("ann", None, false, none);
    let nameless = "28000: user \"ann\": there is no name in the certificate";
    check("ann", Some(ClientCertificate::default()), false, nameless);
    check("ann", Some(certificate(Some("x"))), true, "bob.example.org");
    check(
        "dan",
        Some(certificate(Some("dan-client"))),
        true,
        "dan-client",
    );
    let unmapped = "28000: user \"dan\": map \"m\" does not have a match for \"dan\"";
    check("dan", Some(certificate(Some("dan"))), true, unmapped);
    // The common name only, as Postgres does.
    let mut login = Login::new(Method::Certificate, None, "");
    login.facts.user = "eve";
    login.demand.names = CertificateNames::CommonName;
    login.facts.tls = Some(Tls {
        certificate: Some(certificate(Some("ann"))),
        ..Tls::default()
    });
    let text = "28000 certificate authentication failed for user \"eve\"";
    assert_eq!(login.text(), text);
    // Without TLS, and of a user whom nobody knows.
    let text = "28000 certificate authentication failed for user \"ann\"";
    assert_eq!(Login::new(Method::Certificate, None, "").text(), text);
    let mut login = Login::new(Method::Certificate, None, "");
    login.known = Known::Nobody;
    login.facts.tls = Some(Tls {
        certificate: Some(certificate(Some("ann"))),
        ..Tls::default()
    });
    assert_eq!(login.text(), text);
    // Nobody is asked about the user of a certificate that is not theirs.
    let mut login = Login::new(Method::Certificate, None, "");
    login.known = Known::Ask;
    assert_eq!(login.text(), text);
}

#[test]
fn certificates_beside_passwords() {
    let check = |demand, common_name: Option<&'static str>, password, expected: &str| {
        let mut login = Login::new(Method::ScramSha256, plain("apple"), password);
        login.demand.certificate = demand;
        login.facts.tls = Some(Tls {
            end_point: Some(HASH),
            certificate: common_name.map(|name| ClientCertificate {
                common_name: Some(name),
                alternative_names: &[],
            }),
        });
        assert_eq!(login.text(), expected);
    };
    let good = "scram-sha-256 a password";
    let missing = "28000 connection requires a valid client certificate";
    let (trusted, of_user) = (CertificateDemand::Trusted, CertificateDemand::OfUser);
    check(CertificateDemand::None, None, "apple", good);
    check(trusted, None, "apple", missing);
    check(trusted, Some("whoever"), "apple", good);
    check(trusted, Some("whoever"), "pear", WRONG);
    check(of_user, Some("ann"), "apple", good);
    check(of_user, Some("whoever"), "apple", WRONG);
    check(of_user, None, "apple", missing);
    let mut login = Login::new(Method::Trust, None, "");
    login.demand.certificate = of_user;
    login.facts.tls = Some(Tls {
        end_point: None,
        certificate: Some(ClientCertificate::default()),
    });
    let text = "28000 \"trust\" authentication failed for user \"ann\"";
    assert_eq!(login.text(), text);
}

#[test]
fn secrets_are_not_shown() {
    let (exchange, _) = begin(Method::ScramSha256, scram_of("apple"));
    let shown = format!("{exchange:?}");
    assert!(!shown.contains("7, 7, 7"), "{shown}");
}

#[test]
fn peers_must_be_the_user() {
    let maps = Maps::parse("m root ann", "ident").unwrap();
    let check = |source: Source<'static>, map: bool, expected: &str| {
        let mut login = Login::new(Method::Peer, plain("apple"), "");
        login.facts.source = source;
        login.demand.map = map.then(|| maps.get("m").unwrap());
        assert_eq!(login.text(), expected, "{source:?}");
    };
    let failed = "28000 Peer authentication failed for user \"ann\"";
    let local = |peer| Source::Local { peer };
    check(local(Some("ann")), false, "peer a password");
    check(local(Some("root")), false, failed);
    check(local(None), false, failed);
    check(local(Some("root")), true, "peer a password");
    check(local(Some("ann")), true, failed);
    check(facts("ann").source, false, failed);
    let passwd = "root:x:0:0:root:/root:/bin/sh\nbad\nann:x:1000:1000::/home/ann:\n:x:7:7::/:\n";
    assert_eq!(crate::login::system_user(passwd, 1000), Some("ann"));
    assert_eq!(crate::login::system_user(passwd, 0), Some("root"));
    assert_eq!(crate::login::system_user(passwd, 7), None);
    assert_eq!(crate::login::system_user(passwd, 1), None);
}

fn begin(method: Method, stored: Option<Secret>) -> (ServerExchange, Vec<u8>) {
    let demand = method.into();
    let known = Known::User(stored);
    let (exchange, step) =
        ServerExchange::start(&facts("ann"), &demand, known, &settings(), &random(1));
    match step {
        ServerStep::Send(body) => (exchange, body),
        other => panic!("{other:?}"),
    }
}

#[test]
fn messages_that_are_no_answers_are_refused_as_postgres_does() {
    let check = |method: Method, body: &[u8], expected: &str| {
        let (mut exchange, _) = begin(method, scram_of("apple"));
        match exchange.answer(body) {
            ServerStep::Refused(refusal) => {
                let text = format!("{} {}", refusal.sqlstate, refusal.text);
                assert_eq!(text, expected, "{body:?}");
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(exchange.answer(body), ServerStep::Refused(_)));
    };
    let size = "08P01 invalid password packet size";
    for odd in [&b""[..], b"apple", b"apple\0x", b"ap\0ple\0", b"\0\0"] {
        check(Method::Password, odd, size);
    }
    check(
        Method::Password,
        b"\0",
        "28P01 empty password returned by client",
    );
    let long = |count: usize| [vec![b'x'; count], vec![0]].concat();
    check(Method::Password, &long(65_536), WRONG);
    check(Method::Password, &long(65_537), size);
    let choice = "08P01 client selected an invalid SASL authentication mechanism";
    check(Method::ScramSha256, b"SCRAM-SHA-1\0\0\0\0\0", choice);
    check(Method::ScramSha256, b"SCRAM-SHA-256-PLUS\0\0\0\0\0", choice);
    let format = "08P01 invalid message format";
    for odd in [
        &b""[..],
        b"SCRAM-SHA-256",
        b"SCRAM-SHA-256\0",
        b"SCRAM-SHA-256\0\0\0\0",
        b"SCRAM-SHA-256\0\0\0\0\x05abc",
        b"SCRAM-SHA-256\0\0\0\0\x02abc",
        b"SCRAM-SHA-256\0\xff\xff\xff\xfe",
        b"SCRAM-SHA-256\0\xff\xff\xff\xffx",
    ] {
        check(Method::ScramSha256, odd, format);
    }
    let malformed = "08P01 malformed SCRAM message";
    check(Method::ScramSha256, b"SCRAM-SHA-256\0\0\0\0\0", malformed);
}

#[test]
fn who_says_nothing_at_first_is_asked_with_nothing() {
    let (mut exchange, _) = begin(Method::ScramSha256, scram_of("apple"));
    let step = exchange.answer(b"SCRAM-SHA-256\0\xff\xff\xff\xff");
    let ServerStep::Send(body) = step else {
        panic!("{step:?}");
    };
    assert_eq!(body, 11_u32.to_be_bytes());
    let step = exchange.answer(b"n,,n=,r=abc");
    assert!(matches!(step, ServerStep::Send(_)), "{step:?}");
}

#[test]
fn what_comes_out_of_turn_is_refused() {
    let refuses = |step: ServerStep| {
        assert!(matches!(&step, ServerStep::Refused(refusal) if refusal.cause == Cause::Protocol));
    };
    let (mut exchange, _) = begin(Method::Md5, plain("apple"));
    assert_eq!(exchange.wants(), Wanted::Message);
    refuses(exchange.supply(Answer::User(plain("apple"))));
    refuses(exchange.answer(b"x\0"));
    let demand = Method::Password.into();
    let (mut exchange, step) =
        ServerExchange::start(&facts("ann"), &demand, Known::Ask, &settings(), &random(1));
    assert!(matches!(step, ServerStep::NeedSecret));
    assert_eq!(exchange.wants(), Wanted::Secret);
    refuses(exchange.answer(b"apple\0"));
    refuses(exchange.supply(Answer::User(plain("apple"))));
    // While keys are derived, a client that goes on talking is refused.
    let (mut exchange, _) = begin(Method::Password, scram_of("apple"));
    let ServerStep::Derive(derivation) = exchange.answer(b"apple\0") else {
        panic!("nothing to derive");
    };
    assert_eq!(
        (exchange.wants(), derivation.iterations()),
        (Wanted::Derived, 3)
    );
    refuses(exchange.answer(b"apple\0"));
    refuses(exchange.derived(derivation.run()));
}

#[test]
fn verifiers_that_take_too_long_are_not_computed() {
    let mut settings = settings();
    settings.most_iterations = 2;
    let (demand, known) = (Method::Password.into(), Known::User(scram_of("apple")));
    let (mut exchange, _) =
        ServerExchange::start(&facts("ann"), &demand, known, &settings, &random(1));
    let step = exchange.answer(b"apple\0");
    let ServerStep::Refused(refusal) = step else {
        panic!("{step:?}");
    };
    assert!(refusal.reason.contains("too many iterations"), "{refusal}");
}

#[test]
fn over_many_seeds_with_and_without_binding() {
    for seed in 0..300 {
        for stored in [plain("apple"), scram_of("apple")] {
            for end_point in [None, Some(HASH)] {
                let login = |password| {
                    let mut login = Login::new(Method::ScramSha256, stored.clone(), password);
                    login.facts.tls = Some(Tls {
                        end_point,
                        certificate: None,
                    });
                    login.run(seed)
                };
                assert!(login("apple").is_ok(), "seed {seed}");
                assert_eq!(login("pear").unwrap_err().cause, Cause::Password);
            }
        }
        let login = |password| Login::new(Method::Md5, plain("apple"), password).run(seed);
        assert!(
            login("apple").is_ok() && login("pear").is_err(),
            "seed {seed}"
        );
    }
}

#[test]
fn no_answer_that_was_cut_or_changed_gets_in() {
    for (method, stored) in [
        (Method::Password, plain("apple")),
        (Method::Password, md5_of("apple", "ann")),
        (Method::Password, scram_of("apple")),
        (Method::Md5, plain("apple")),
        (Method::ScramSha256, scram_of("apple")),
    ] {
        // How many messages there are, and how long each is.
        let mut lengths = Vec::new();
        assert!(changed_run(method, stored.clone(), |_, body| lengths.push(body.len())));
        for (number, &length) in lengths.iter().enumerate() {
            for place in 0..length {
                for kind in 0..10_u8 {
                    let gets_in = changed_run(method, stored.clone(), |at, body| {
                        if at == number {
                            match kind {
                                0 => body.truncate(place),
                                1 => body.insert(place, body[place]),
                                bit => body[place] ^= 1 << (bit - 2),
                            }
                        }
                    });
                    assert!(!gets_in, "{method:?} {number} {place} {kind}");
                }
            }
        }
    }
}

/// A login in which the client's messages are changed; whether it gets in.
fn changed_run(
    method: Method,
    stored: Option<Secret>,
    mut change: impl FnMut(usize, &mut Vec<u8>),
) -> bool {
    let (mut exchange, body) = begin(method, stored);
    let policy = Policy {
        cleartext: crate::login::Cleartext::Anywhere,
        ..Policy::default()
    };
    let credential = Credential::of(plain("apple").as_ref());
    let nonce = [5; NONCE_BYTES];
    let mut client = ClientExchange::new("ann", credential, Channel::Plain, &policy, nonce);
    let mut step = ServerStep::Send(body);
    let mut number = 0;
    loop {
        step = match step {
            ServerStep::Send(body) => {
                let Some(mut answer) = reply(&mut client, &body) else {
                    return false;
                };
                change(number, &mut answer);
                number += 1;
                exchange.answer(&answer)
            }
            ServerStep::Derive(derivation) => exchange.derived(derivation.run()),
            ServerStep::NeedSecret => panic!("nobody is asked"),
            ServerStep::Done(_) => return true,
            ServerStep::Refused(_) => return false,
        };
    }
}
