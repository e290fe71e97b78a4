//! The same messages to Postgres and to us: the same answers, to the word.
//!
//! The one difference on purpose: after a client's proof Postgres lets a comma pass.

use outgrow_postgres::login::{
    Demand, Facts, Known, Method, RANDOM_BYTES, Replication, Secret, ServerExchange,
    ServerSettings, ServerStep, Source,
};
use outgrow_testkit::databases;

use crate::database::Database;
use crate::is_there;
use crate::wire::{Wire, said};

/// An answer: what is asked next without what is random in it, or the refusal.
fn of_postgres(server: &Database, database: &str, user: &str, bodies: &[Vec<u8>]) -> Vec<String> {
    let mut wire = Wire::connect(server.address()).unwrap();
    wire.start(user, database).unwrap();
    let mut answers = Vec::new();
    let mut nonce = String::new();
    for body in bodies {
        match wire.authentication().unwrap() {
            Ok(asked) => answers.push(shape(&asked, &mut nonce)),
            Err(body) => return [answers, vec![said(&body)]].concat(),
        }
        wire.send(b'p', &with_nonce(body, &nonce)).unwrap();
    }
    answers.push(match wire.authentication().unwrap() {
        Ok(asked) => shape(&asked, &mut nonce),
        Err(body) => said(&body),
    });
    answers
}

fn of_us(secret: Option<&Secret>, method: Method, user: &str, bodies: &[Vec<u8>]) -> Vec<String> {
    let facts = Facts {
        user,
        database: "postgres",
        replication: Replication::None,
        source: Source::Address([127, 0, 0, 1].into()),
        tls: None,
    };
    let known = match user {
        "nobody" => Known::Nobody,
        _ => Known::User(secret.cloned()),
    };
    let settings = ServerSettings::new([3; 32]);
    let random = [5; RANDOM_BYTES];
    let demand = Demand::from(method);
    let (mut exchange, mut step) =
        ServerExchange::start(&facts, &demand, known, &settings, &random);
    let mut answers = Vec::new();
    let mut nonce = String::new();
    let mut bodies = bodies.iter();
    loop {
        step = match step {
            ServerStep::Send(asked) => {
                answers.push(shape(&asked, &mut nonce));
                match bodies.next() {
                    Some(body) => exchange.answer(&with_nonce(body, &nonce)),
                    None => return answers,
                }
            }
            ServerStep::Derive(derivation) => exchange.derived(derivation.run()),
            ServerStep::Refused(refusal) => {
                let detail = refusal.detail.map(|detail| format!(" ({detail})"));
                let detail = detail.unwrap_or_default();
                answers.push(format!("{} {}{detail}", refusal.sqlstate, refusal.text));
                return answers;
            }
            ServerStep::Done(_) => {
                answers.push("0".to_owned());
                return answers;
            }
            ServerStep::NeedSecret => panic!("nobody is asked"),
        };
    }
}

/// The code of an authentication message and what is not random in it.
fn shape(body: &[u8], nonce: &mut String) -> String {
    let code = u32::from_be_bytes(body[..4].try_into().unwrap());
    let text = String::from_utf8_lossy(&body[4..]);
    match code {
        5 => "5".to_owned(),
        11 => {
            let mut parts = text.split(',');
            let first = parts.next().unwrap_or_default();
            first
                .strip_prefix("r=")
                .unwrap_or_default()
                .clone_into(nonce);
            let names: Vec<&str> = parts.map(|part| part.split('=').next().unwrap()).collect();
            format!("11 {} {}", nonce.len(), names.join(" "))
        }
        // The real one ends with this, and goes on.
        12 => "0".to_owned(),
        _ => format!("{code} {}", text.replace('\0', "|")),
    }
}

fn with_nonce(body: &[u8], nonce: &str) -> Vec<u8> {
    match String::from_utf8(body.to_vec()) {
        Ok(text) => text.replace("NONCE", nonce).into_bytes(),
        Err(_) => body.to_vec(),
    }
}

fn initial(name: &str, message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u32).to_be_bytes();
    [name.as_bytes(), b"\0", &length, message].concat()
}

const PROOF: &str = "p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

#[test]
fn of_all_that_can_be_wrong() {
    if !is_there(databases::has_postgres(), "postgresql") {
        return;
    }
    let server = Database::start();
    let secret = server.stored("ann");
    let compare = |database: &str, method: Method, bodies: &[Vec<u8>]| {
        for user in ["ann", "nobody"] {
            let theirs = of_postgres(&server, database, user, bodies);
            let ours = of_us(secret.as_ref(), method, user, bodies);
            let shown: Vec<_> = bodies
                .iter()
                .map(|body| String::from_utf8_lossy(body))
                .collect();
            assert_eq!(ours, theirs, "{user}: {shown:?}");
        }
    };
    let clear = |body: &[u8]| compare("clear", Method::Password, &[body.to_vec()]);
    for body in [
        &b""[..],
        b"\0",
        b"pear\0",
        b"apple",
        b"ap\0ple\0",
        b"apple\0\0",
        b"\0\0",
        b"\xff\xfe\0",
    ] {
        clear(body);
    }
    let scram = |bodies: &[Vec<u8>]| compare("postgres", Method::ScramSha256, bodies);
    let md5 = |bodies: &[Vec<u8>]| compare("hashed", Method::Md5, bodies);
    let firsts: &[&[u8]] = &[
        b"n,,n=,r=abc",
        b"y,,n=,r=abc",
        b"n,,n=x,r=abc",
        b"n,,n=,r=abc,x=y,Z=z",
        b"n,,n=,r=",
        b"",
        b"x,,n=,r=abc",
        b"\x01",
        b"\xff,",
        b" ",
        b"n",
        b"nn",
        b"n,",
        b"n,,",
        b"n,a=x,n=,r=a",
        b"n,b,n=,r=a",
        b"n,,m=x,n=,r=a",
        b"n,,m",
        b"n,,r=abc",
        b"n,,n,r=abc",
        b"n,,n=",
        b"n,,n=,",
        b"n,,n=,r",
        b"n,,n=,r=a c",
        b"n,,n=,r=\xc3\xa4",
        b"n,,n=,r=a\x7f",
        b"n,,n=,r=abc,",
        b"n,,n=,r=abc,,",
        b"n,,n=,r=abc,1=x",
        b"n,,n=,r=abc,x",
        b"n,,n=,r=abc,x,",
        b"p=tls-server-end-point,,n=,r=abc",
        b"p=tls-unique,,n=,r=abc",
        b"p=x",
        b"p",
        b"px",
        b"p=",
        b"n,,n=,r=abc\0",
        b"\0",
        b"n,,\0n=,r=abc",
        b"N,,n=,r=abc",
    ];
    for first in firsts {
        scram(&[initial("SCRAM-SHA-256", first)]);
    }
    for body in [
        initial("SCRAM-SHA-1", b"n,,n=,r=abc"),
        initial("SCRAM-SHA-256-PLUS", b"n,,n=,r=abc"),
        initial("", b"n,,n=,r=abc"),
        b"SCRAM-SHA-256\0\xff\xff\xff\xff".to_vec(),
        initial("SCRAM-SHA-256", &[&b"n,,n=,r="[..], &[b'a'; 980]].concat()),
    ] {
        scram(std::slice::from_ref(&body));
        md5(&[body]);
    }
    let good = initial("SCRAM-SHA-256", b"n,,n=,r=abc");
    let last = |text: &str| scram(&[good.clone(), text.as_bytes().to_vec()]);
    for text in [
        format!("c=biws,r=NONCE,{PROOF}"),
        format!("c=biws,r=NONCE,x=y,{PROOF}"),
        format!("c=biws,r=NONCE,{PROOF},x=y"),
        format!("c=eSws,r=NONCE,{PROOF}"),
        format!("c=,r=NONCE,{PROOF}"),
        format!("c=biws,r=NONCEx,{PROOF}"),
        format!("c=biws,r=abc,{PROOF}"),
        format!("r=NONCE,{PROOF}"),
        format!("c=biws,{PROOF}"),
        format!("c,r=NONCE,{PROOF}"),
        "c=biws,r=NONCE".to_owned(),
        "c=biws,r=NONCE,".to_owned(),
        "c=biws,r=NONCE,p=".to_owned(),
        "c=biws,r=NONCE,p=AAAA".to_owned(),
        "c=biws,r=NONCE,p=!".to_owned(),
        "c=biws,r=NONCE,p".to_owned(),
        "c=biws,r=NONCE,1=x".to_owned(),
        String::new(),
        "\0".to_owned(),
    ] {
        last(&text);
    }
    let silent = b"SCRAM-SHA-256\0\xff\xff\xff\xff".to_vec();
    scram(&[silent.clone(), b"n,,n=,r=abc".to_vec()]);
    scram(&[silent, b"".to_vec()]);
}

#[test]
fn of_md5() {
    if !is_there(databases::has_postgres(), "postgresql") {
        return;
    }
    let server = Database::start();
    let secret = server.stored("old");
    for body in [
        &b"md5e2b0a1b0b5b0bd6ee36e1a51d5ec09ba\0"[..],
        b"apple\0",
        b"\0",
        b"",
        b"md5\0\0",
    ] {
        let bodies = [body.to_vec()];
        let theirs = of_postgres(&server, "hashed", "old", &bodies);
        let ours = of_us(secret.as_ref(), Method::Md5, "old", &bodies);
        assert_eq!(ours, theirs, "{body:?}");
    }
    // A role without a password, and the method that its verifier cannot do.
    let bodies = [initial("SCRAM-SHA-256", b"n,,n=,r=abc")];
    for user in ["old", "empty"] {
        let theirs = of_postgres(&server, "postgres", user, &bodies);
        let secret = server.stored(user);
        let ours = of_us(secret.as_ref(), Method::ScramSha256, user, &bodies);
        assert_eq!(ours, theirs, "{user}");
    }
    let theirs = of_postgres(&server, "hashed", "empty", &bodies);
    assert_eq!(of_us(None, Method::Md5, "empty", &bodies), theirs);
}
