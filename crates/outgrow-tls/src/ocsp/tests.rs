//! Responses by a real responder (`openssl ocsp`), and what becomes of them.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use outgrow_core::WallTime;
use outgrow_testkit::ocsp::{OcspAuthority, Pair, Wish};
use rustls::crypto::aws_lc_rs::default_provider;

use super::subject::Wishes;
use super::{OcspProblem, OcspStatus, RESPONSE_LIMIT, Staple, Staples};
use crate::certificate::{self, CertificateText, StapleText};
use crate::problem::TlsWarning;
use crate::server::Stapling;

const DAY: &[&str] = &["-ndays", "1"];
const HOUR: u64 = 3_600_000_000_000;

fn authority() -> OcspAuthority {
    OcspAuthority::new().expect("an authority; openssl: apt-get install openssl")
}

fn asked() -> Wish {
    Wish {
        responder: Some(([127, 0, 0, 1], 9).into()),
        must_staple: false,
    }
}

fn text(pair: &Pair) -> CertificateText {
    CertificateText {
        certificate: fs::read(&pair.chain).expect("a chain"),
        key: fs::read(&pair.key).expect("a key"),
        certificate_name: "a.pem".to_owned(),
        key_name: "a.key".to_owned(),
        staple: None,
    }
}

fn load(text: &CertificateText, stapling: &Stapling) -> (Option<Arc<Staple>>, Vec<TlsWarning>) {
    let now = WallTime::now();
    let mut warnings = Vec::new();
    let provider = default_provider();
    let mut loaded = certificate::load(text, &provider, now, &mut warnings).expect("loaded");
    stapling.apply(&mut loaded, text, now, &mut warnings);
    (loaded.facts.staple, warnings)
}

fn asking(staples: &Arc<Staples>) -> Stapling {
    Stapling {
        staples: Arc::clone(staples),
        asks: true,
    }
}

fn staple(pair: &Pair) -> Arc<Staple> {
    let (staple, warnings) = load(&text(pair), &asking(&Arc::default()));
    assert_eq!(warnings, []);
    staple.expect("it names a responder")
}

fn stapled(staple: &Staple, now: WallTime) -> Option<Vec<u8>> {
    staple.key(now).ocsp.clone()
}

#[test]
fn a_good_response_is_stapled_until_its_end() {
    let mut authority = authority();
    let pair = authority
        .issue("a.example", 0x1234, asked())
        .expect("issued");
    let staple = staple(&pair);
    assert_eq!(staple.responders(), ["http://127.0.0.1:9/"]);
    assert_eq!(
        (staple.host(), staple.serial().as_str()),
        ("a.example", "1234")
    );
    let now = WallTime::now();
    assert_eq!(stapled(&staple, now), None);
    let response = authority
        .response(&pair, &authority.own(), DAY)
        .expect("made");
    let taken = staple.take(&response, now).expect("taken");
    assert_eq!(taken.status, OcspStatus::Good);
    assert_eq!(taken.next_update.0 - taken.this_update.0, 24 * HOUR);
    assert_eq!(stapled(&staple, now), Some(response));
    let end = WallTime(taken.next_update.0 - 1);
    assert!(stapled(&staple, end).is_some());
    assert_eq!(stapled(&staple, taken.next_update), None);
    assert_eq!(staple.facts(taken.next_update).response, None);
}

#[test]
fn the_request_is_what_openssl_asks() {
    let mut authority = authority();
    for serial in [1, 0x80, 0xffff_ffff_ffff_ffff] {
        let pair = authority
            .issue("a.example", serial, asked())
            .expect("issued");
        let request = pair.chain.with_extension("req");
        let path = request.to_str().expect("a path");
        let more = ["-ndays", "1", "-reqout", path];
        authority
            .response(&pair, &authority.own(), &more)
            .expect("made");
        assert_eq!(
            staple(&pair).request(),
            fs::read(&request).expect("one"),
            "{serial:x}"
        );
    }
}

#[test]
fn who_may_sign() {
    let mut authority = authority();
    let pair = authority.issue("a.example", 1, asked()).expect("issued");
    let own = authority.own();
    let delegate = authority.delegate("responder", true).expect("issued");
    let stranger = authority.delegate("stranger", false).expect("issued");
    let other = OcspAuthority::new().expect("another authority");
    let foreign = other.delegate("responder", true).expect("issued");
    let signer = |problem| Err(OcspProblem::Signer(problem));
    let check = |signer: &Pair, more: &[&str], expected: Result<(), OcspProblem>| {
        let more = [DAY, more].concat();
        let response = authority.response(&pair, signer, &more).expect("made");
        let taken = staple(&pair).take(&response, WallTime::now());
        assert_eq!(taken.map(|_| ()), expected, "{signer:?} {more:?}");
    };
    check(&own, &[], Ok(()));
    check(&own, &["-resp_key_id"], Ok(()));
    check(&own, &["-resp_no_certs"], Ok(()));
    check(&own, &["-sha256", "-rmd", "sha384"], Ok(()));
    check(&delegate, &[], Ok(()));
    check(&delegate, &["-resp_key_id"], Ok(()));
    check(
        &delegate,
        &["-resp_no_certs"],
        signer("its signer's certificate is not in it"),
    );
    let purpose = "its signer's certificate is not for signing responses (OCSPSigning)";
    check(&stranger, &[], signer(purpose));
    let by_another = "its signer's certificate is not by the issuer";
    check(&foreign, &[], signer(by_another));
    check(
        &own,
        &["-badsig"],
        signer("the issuer's signature is wrong"),
    );
    check(&delegate, &["-badsig"], signer("its signature is wrong"));
    // The other authority has the same name.
    check(&other.own(), &[], signer("the issuer's signature is wrong"));
}

#[test]
fn what_is_not_stapled() {
    let mut authority = authority();
    let pair = authority.issue("a.example", 1, asked()).expect("issued");
    let other = authority.issue("b.example", 2, asked()).expect("issued");
    let own = authority.own();
    let now = WallTime::now();
    let check = |response: &[u8], now: WallTime, expected: OcspProblem| {
        let staple = staple(&pair);
        assert_eq!(staple.take(response, now), Err(expected.clone()));
        assert_eq!(stapled(&staple, now), None);
        let problem = staple.facts(now).problem;
        assert_eq!(problem, Some(expected.to_string()));
    };
    let good = authority.response(&pair, &own, DAY).expect("made");
    check(&good, WallTime(now.0 + 25 * HOUR), OcspProblem::Late);
    check(&good, WallTime(now.0 - HOUR), OcspProblem::Early);
    staple(&pair)
        .take(&good, WallTime(now.0 - HOUR / 20))
        .expect("within the skew of clocks");
    let about_other = authority.response(&other, &own, DAY).expect("made");
    check(&about_other, now, OcspProblem::Other);
    let endless = authority.response(&pair, &own, &[]).expect("made");
    check(&endless, now, OcspProblem::Endless);
    // "tryLater" (RFC 6960 section 4.2.1).
    let later = [0x30, 3, 0x0a, 1, 3];
    check(
        &later,
        now,
        OcspProblem::Refused("that it should be tried later"),
    );
    check(b"", now, OcspProblem::Malformed("it is no response"));
    check(b"<html>", now, OcspProblem::Malformed("it is no response"));
    let long = vec![0; RESPONSE_LIMIT + 1];
    check(
        &long,
        now,
        OcspProblem::Malformed("it is longer than 16 KiB"),
    );
    authority.forget(1).expect("forgotten");
    let unknown = authority.response(&pair, &own, DAY).expect("made");
    check(&unknown, now, OcspProblem::Unknown);
}

#[test]
fn every_broken_response_is_refused() {
    let mut authority = authority();
    let pair = authority.issue("a.example", 1, asked()).expect("issued");
    let delegate = authority.delegate("responder", true).expect("issued");
    let response = authority.response(&pair, &delegate, DAY).expect("made");
    let staple = staple(&pair);
    let now = WallTime::now();
    for end in 0..response.len() {
        assert!(staple.take(&response[..end], now).is_err(), "{end}");
    }
    let mut taken = 0;
    for at in 0..response.len() {
        let mut broken = response.clone();
        broken[at] ^= 0x21;
        taken += usize::from(staple.take(&broken, now).is_ok());
    }
    // Nobody signs the lengths and tags around what is signed, of which few may change unseen.
    assert!(taken < 8, "{taken}");
    staple.take(&response, now).expect("the whole one");
}

#[test]
fn revoked_is_stapled_and_told() {
    let mut authority = authority();
    let pair = authority.issue("a.example", 7, asked()).expect("issued");
    authority.revoke(7).expect("revoked");
    let response = authority
        .response(&pair, &authority.own(), DAY)
        .expect("made");
    let staple = staple(&pair);
    let taken = staple.take(&response, WallTime::now()).expect("taken");
    let at = WallTime(1_767_323_045_000_000_000);
    assert_eq!(taken.status, OcspStatus::Revoked { at });
    assert!(stapled(&staple, WallTime::now()).is_some());
    let told = TlsWarning::revoked("a.pem", &taken)
        .expect("a warning")
        .to_string();
    assert!(told.contains("REVOKED since 2026-01-02T03:04:05"), "{told}");
}

#[test]
fn an_older_response_does_not_take_the_place_of_a_newer_one() {
    let mut authority = authority();
    let pair = authority.issue("a.example", 7, asked()).expect("issued");
    let old = authority
        .response(&pair, &authority.own(), DAY)
        .expect("made");
    // Responses know whole seconds only.
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    authority.revoke(7).expect("revoked");
    let new = authority
        .response(&pair, &authority.own(), DAY)
        .expect("made");
    let (staple, now) = (staple(&pair), WallTime::now());
    staple.take(&old, now).expect("taken");
    staple.take(&new, now).expect("taken");
    let replayed = staple.take(&old, now).expect("it is in order by itself");
    assert!(matches!(replayed.status, OcspStatus::Revoked { .. }));
    assert_eq!(stapled(&staple, now), Some(new));
}

#[test]
fn a_certificate_keeps_its_staple_over_reloads_and_processes() {
    let mut authority = authority();
    let pair = authority.issue("a.example", 7, asked()).expect("issued");
    let response = authority
        .response(&pair, &authority.own(), DAY)
        .expect("made");
    let staples = Arc::default();
    let now = WallTime::now();
    let (before, _) = load(&text(&pair), &asking(&staples));
    let before = before.expect("a staple");
    before.take(&response, now).expect("taken");
    let (after, _) = load(&text(&pair), &asking(&staples));
    assert!(Arc::ptr_eq(&before, &after.expect("a staple")));
    assert_eq!(staples.live().len(), 1);
    let kept = staples.kept(now);
    drop((before, staples));
    // Another process; one response was kept badly.
    let recalled = Staples::recall(kept.clone());
    assert_eq!(recalled.live().len(), 0);
    let (again, _) = load(&text(&pair), &asking(&recalled));
    assert_eq!(stapled(&again.expect("a staple"), now), Some(response));
    let bad = kept.into_iter().map(|(id, (mut bytes, until))| {
        // Within what is signed.
        bytes[100] ^= 1;
        (id, (bytes, until))
    });
    let recalled = Staples::recall(bad.collect());
    let (again, _) = load(&text(&pair), &asking(&recalled));
    assert_eq!(stapled(&again.expect("a staple"), now), None);
    assert_eq!(recalled.kept(WallTime(now.0 + 25 * HOUR)), BTreeMap::new());
}

#[test]
fn a_file_is_stapled_and_asks_nobody() {
    let mut authority = authority();
    let pair = authority.issue("a.example", 7, asked()).expect("issued");
    let response = authority
        .response(&pair, &authority.own(), DAY)
        .expect("made");
    let with = |response: Result<Vec<u8>, String>| CertificateText {
        staple: Some(StapleText {
            response,
            name: "a.der".to_owned(),
        }),
        ..text(&pair)
    };
    let stapling = Stapling::default();
    let now = WallTime::now();
    let (staple, warnings) = load(&with(Ok(response.clone())), &stapling);
    let staple = staple.expect("a staple");
    assert_eq!((warnings, staple.responders()), (Vec::new(), &[][..]));
    assert_eq!(stapled(&staple, now), Some(response.clone()));
    // A file that is broken later does not take the good one away.
    let (again, warnings) = load(&with(Ok(b"half".to_vec())), &stapling);
    assert_eq!(stapled(&again.expect("a staple"), now), Some(response));
    let told = warnings[0].to_string();
    assert_eq!(
        told,
        "a.der: it is not stapled: the response is malformed: it is no response"
    );
    drop(staple);
    let (staple, warnings) = load(
        &with(Err("it is not there".to_owned())),
        &Stapling::default(),
    );
    assert_eq!(stapled(&staple.expect("a staple"), now), None);
    assert_eq!(
        warnings[0].to_string(),
        "a.der: it is not stapled: it is not there"
    );
}

#[test]
fn who_is_not_asked_and_what_is_said_of_it() {
    let mut authority = authority();
    let must = Wish {
        must_staple: true,
        ..Wish::default()
    };
    let check = |text: &CertificateText, asks: bool, warnings: &[&str]| {
        let stapling = Stapling {
            asks,
            ..Stapling::default()
        };
        let (staple, told) = load(text, &stapling);
        assert!(staple.is_none());
        assert_eq!(told.len(), warnings.len(), "{told:?}");
        for (told, warning) in told.iter().zip(warnings) {
            assert!(told.to_string().contains(warning), "{told}");
        }
    };
    let plain = authority
        .issue("a.example", 1, Wish::default())
        .expect("issued");
    check(&text(&plain), true, &[]);
    let silent = authority.issue("a.example", 2, asked()).expect("issued");
    check(&text(&silent), false, &[]);
    let must_staple = authority.issue("a.example", 3, must).expect("issued");
    check(&text(&must_staple), true, &["(must-staple)"]);
    let mut alone = text(&silent);
    let end = b"-----END CERTIFICATE-----";
    let at = alone
        .certificate
        .windows(end.len())
        .position(|part| part == end);
    alone.certificate.truncate(at.expect("an end") + end.len());
    check(&alone, true, &["its issuer is not in the file"]);
    check(&alone, false, &[]);
}

#[test]
fn nonsense_wishes_nothing() {
    for bytes in [&b""[..], b"\x30", &[0x30; 64]] {
        assert_eq!(Wishes::of(bytes), Wishes::default());
    }
}
