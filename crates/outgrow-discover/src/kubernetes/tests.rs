//! What is made of the API server's words: pages, events, conditions, ports, and nonsense.

use outgrow_core::Random;
use serde_json::{Value, json};

use super::messages::{Watched, message, read_page, read_watch, user};
use super::settings::{Family, Port};
use super::view::View;
use crate::found::LIMIT;

/// A slice with one port called `http` at 8080.
fn slice(name: &str, endpoints: Value) -> Value {
    json!({
        "metadata": { "name": name, "resourceVersion": "5" },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
    })
}

fn ready(address: &str) -> Value {
    json!({ "addresses": [address], "conditions": { "ready": true } })
}

fn page(slices: &[Value]) -> Vec<u8> {
    let page = json!({
        "kind": "EndpointSliceList",
        "metadata": { "resourceVersion": "7" },
        "items": slices,
    });
    page.to_string().into_bytes()
}

fn view(slices: &[Value], port: Option<&Port>) -> View {
    let mut view = View::default();
    let page = read_page(&page(slices), port).expect("a page");
    page.slices.into_iter().for_each(|slice| view.put(slice));
    view
}

/// The endpoints of these slices, what is left out, and why.
fn told(
    slices: &[Value],
    port: Option<&Port>,
    family: Option<Family>,
) -> (Vec<String>, usize, String) {
    let view = view(slices, port);
    let discovered = view.discovered(family);
    let endpoint = |one: &crate::Found| match one.zone.as_str() {
        "" => one.address.to_string(),
        zone => format!("{} in {zone}", one.address),
    };
    (
        discovered.endpoints().iter().map(endpoint).collect(),
        discovered.left_out(),
        view.problem().unwrap_or_default().to_owned(),
    )
}

#[test]
fn conditions_say_who_gets_requests() {
    let check = |conditions: &[Value], expected: &[&str]| {
        let endpoints = conditions.iter().enumerate().map(|(number, conditions)| {
            json!({ "addresses": [format!("10.0.0.{number}")], "conditions": conditions })
        });
        let (told, left_out, _) = told(&[slice("a", endpoints.collect())], None, None);
        let expected: Vec<String> = expected
            .iter()
            .map(|end| format!("10.0.0.{end}:8080"))
            .collect();
        assert_eq!((told, left_out), (expected, 0), "{conditions:?}");
    };
    let is_ready = json!({ "ready": true, "serving": true, "terminating": false });
    let is_not = json!({ "ready": false, "serving": false, "terminating": false });
    let leaves = json!({ "ready": false, "serving": true, "terminating": true });
    let is_over = json!({ "ready": false, "serving": false, "terminating": true });
    // Of a service with publishNotReadyAddresses.
    let forced = json!({ "ready": true, "serving": true, "terminating": true });
    let unknown = json!({ "ready": null, "serving": null, "terminating": null });
    let (nothing, none) = (json!({}), Value::Null);
    check(
        &[
            is_ready.clone(),
            is_not.clone(),
            leaves.clone(),
            is_over.clone(),
        ],
        &["0"],
    );
    check(&[nothing, none, unknown, json!(7)], &["0", "1", "2", "3"]);
    // Nobody else: those that terminate go on, as with kube-proxy.
    check(
        &[
            is_not.clone(),
            leaves.clone(),
            is_over.clone(),
            forced.clone(),
        ],
        &["1", "3"],
    );
    check(&[forced, is_ready], &["1"]);
    check(&[is_not, is_over.clone()], &[]);
    check(&[json!({ "terminating": true }), is_over], &["0"]);
}

#[test]
fn slices_are_merged_and_an_address_is_one_endpoint() {
    let zoned = json!({ "addresses": ["10.0.0.9"], "zone": "eu-1b" });
    let slices = [
        slice("a", json!([ready("10.0.0.1"), ready("10.0.0.2"), zoned])),
        slice("b", json!([ready("10.0.0.2"), ready("10.0.0.3")])),
        slice("c", Value::Null),
        slice("d", json!([])),
        // On its way from one slice to the other: ready in one of them.
        slice(
            "e",
            json!([{ "addresses": ["10.0.0.1"], "conditions": { "ready": false } }]),
        ),
    ];
    let expected = [
        "10.0.0.1:8080",
        "10.0.0.2:8080",
        "10.0.0.3:8080",
        "10.0.0.9:8080 in eu-1b",
    ];
    assert_eq!(
        told(&slices, None, None),
        (expected.map(str::to_owned).to_vec(), 0, String::new())
    );
    let mut view = view(&slices, None);
    let count = |view: &View| view.discovered(None).endpoints().len();
    view.remove("a");
    assert_eq!(count(&view), 2, "the other slice still has it");
    view.remove("b");
    view.remove("b");
    view.remove("unknown");
    assert_eq!((count(&view), view.is_whole()), (0, true));
}

#[test]
fn addresses_are_of_one_family() {
    let six = |name, endpoints: Value| {
        let mut slice = slice(name, endpoints);
        slice["addressType"] = json!("IPv6");
        slice
    };
    let names = |kind: &str| {
        let mut slice = slice("names", json!([ready("a.example"), ready("b.example")]));
        slice["addressType"] = json!(kind);
        slice
    };
    let both = [
        slice("a", json!([ready("10.0.0.1")])),
        six("b", json!([ready("fd00::1"), ready("fd00:0::2")])),
        names("FQDN"),
    ];
    let check = |slices: &[Value], family, expected: &[&str], left_out| {
        let (told, count, _) = told(slices, None, family);
        assert_eq!(
            (told, count),
            (expected.iter().map(ToString::to_string).collect(), left_out)
        );
    };
    check(&both, None, &["10.0.0.1:8080"], 2);
    check(
        &both,
        Some(Family::Ipv6),
        &["[fd00::1]:8080", "[fd00::2]:8080"],
        2,
    );
    check(&both[1..], None, &["[fd00::1]:8080", "[fd00::2]:8080"], 2);
    check(&both[1..], Some(Family::Ipv4), &[], 2);
    let empty = [slice("a", json!([])), both[1].clone()];
    check(&empty, None, &["[fd00::1]:8080", "[fd00::2]:8080"], 0);
    check(&[names("Names"), names("ipv4")], None, &[], 2);
    let mixed = json!([
        ready("fd00::1"),
        ready("10.0.0.256"),
        ready(""),
        ready("0.0.0.0"),
        {},
        7
    ]);
    check(&[slice("a", mixed)], None, &[], 6);
    // Only the first address counts.
    let several = json!([{ "addresses": ["10.0.0.1", "10.0.0.2"] }, { "addresses": [] }]);
    check(&[slice("a", several)], None, &["10.0.0.1:8080"], 1);
}

#[test]
fn the_port_is_found_by_name_or_number() {
    let name = |text: &str| Some(Port::Name(text.to_owned()));
    let number = |number| Some(Port::Number(number));
    let check = |ports: Value, port: Option<Port>, expected: Result<u16, &str>| {
        let mut one = slice("a", json!([ready("10.0.0.1")]));
        one["ports"] = ports;
        let (endpoints, left_out, problem) = told(&[one], port.as_ref(), None);
        match expected {
            Ok(port) => assert_eq!(endpoints, [format!("10.0.0.1:{port}")], "{problem}"),
            Err(text) => {
                assert!(problem.contains(text), "{problem}");
                assert_eq!((endpoints.len(), left_out), (0, 1));
            }
        }
    };
    let one = json!([{ "name": "http", "port": 8080 }]);
    let two = json!([{ "name": "http", "port": 8080, "protocol": "TCP" },
                     { "name": "metrics", "port": 9090 }]);
    let dns = json!([{ "name": "dns", "port": 53, "protocol": "UDP" },
                     { "name": "dns-tcp", "port": 5353, "protocol": "TCP" }]);
    let unnamed = json!([{ "name": "", "port": 80 }]);
    let every = json!([{ "name": "all", "port": null, "protocol": "TCP" }]);
    check(one.clone(), None, Ok(8080));
    check(one.clone(), name("http"), Ok(8080));
    check(one.clone(), number(8080), Ok(8080));
    check(
        one,
        number(80),
        Err("no port 80 (of TCP there is \"http\" at 8080)"),
    );
    check(
        two.clone(),
        None,
        Err("several ports: write `port` (of TCP there is \"http\" at 8080, \"metrics\" at 9090)"),
    );
    check(two.clone(), name("metrics"), Ok(9090));
    check(two.clone(), number(9090), Ok(9090));
    check(
        two,
        name("https"),
        Err("no port with a number called \"https\""),
    );
    check(dns.clone(), None, Ok(5353));
    check(dns.clone(), number(53), Err("no port 53"));
    check(dns, name("dns"), Err("called \"dns\""));
    check(unnamed.clone(), None, Ok(80));
    check(unnamed, name("http"), Err("(of TCP there is \"\" at 80)"));
    check(every.clone(), None, Err("no number of a port"));
    check(every.clone(), name("all"), Err("called \"all\""));
    check(every, number(7), Ok(7));
    for open in [Value::Null, json!([])] {
        check(open.clone(), number(7), Ok(7));
        check(open, None, Err("(of TCP there is none)"));
    }
    for wrong in [json!(0), json!(65_536), json!(-1), json!("80"), json!(1.5)] {
        check(
            json!([{ "name": "http", "port": wrong }]),
            None,
            Err("no number of a port"),
        );
    }
    // Each slice has its own number for the name, as in the middle of a rollout.
    let mut other = slice("b", json!([ready("10.0.0.2")]));
    other["ports"][0]["port"] = json!(9090);
    let slices = [slice("a", json!([ready("10.0.0.1")])), other];
    let (endpoints, left_out, _) = told(&slices, name("http").as_ref(), None);
    assert_eq!(
        (endpoints, left_out),
        (
            vec!["10.0.0.1:8080".to_owned(), "10.0.0.2:9090".to_owned()],
            0
        )
    );
    let (endpoints, left_out, _) = told(&slices, number(9090).as_ref(), None);
    assert_eq!((endpoints, left_out), (vec!["10.0.0.2:9090".to_owned()], 1));
}

#[test]
fn pages_are_read_or_refused() {
    let read = |text: &str| read_page(text.as_bytes(), None);
    let page = read(
        r#"{"kind":"EndpointSliceList","metadata":{"resourceVersion":"12","continue":"abc",
            "remainingItemCount":3},"items":null}"#,
    );
    let page = page.expect("a page");
    assert_eq!(
        (page.version.as_str(), page.next.as_deref(), page.remaining),
        ("12", Some("abc"), 3)
    );
    let long = "x".repeat(5_000);
    for wrong in [
        "",
        "7",
        "[]",
        "{}",
        r#"{"items":[]}"#,
        r#"{"items":[],"metadata":{}}"#,
        r#"{"items":[],"metadata":{"resourceVersion":7}}"#,
        r#"{"items":[],"metadata":{"resourceVersion":""}}"#,
        r#"{"items":{},"metadata":{"resourceVersion":"7"}}"#,
        r#"{"items":[{}],"metadata":{"resourceVersion":"7"}}"#,
        r#"{"items":[{"metadata":{"name":"a"},"endpoints":7}],"metadata":{"resourceVersion":"7"}}"#,
        r#"{"kind":"Status","status":"Failure","metadata":{"resourceVersion":"7"}}"#,
        &format!(r#"{{"items":[],"metadata":{{"resourceVersion":"{long}"}}}}"#),
        &format!(r#"{{"items":[],"metadata":{{"resourceVersion":"7","continue":"{long}"}}}}"#),
        &"[".repeat(100_000),
    ] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn events_are_read_or_refused() {
    let read = |event: Value| read_watch(event.to_string().as_bytes(), None);
    let object = slice("a", json!([ready("10.0.0.1")]));
    for kind in ["ADDED", "MODIFIED"] {
        let event = read(json!({ "type": kind, "object": object }));
        assert!(matches!(event, Ok(Watched::Put(slice, version))
            if slice.name == "a" && slice.told.len() == 1 && version == "5"));
    }
    let gone = Watched::Gone("a".to_owned(), "5".to_owned());
    assert_eq!(
        read(json!({ "type": "DELETED", "object": object })),
        Ok(gone)
    );
    let mark = json!({ "kind": "EndpointSlice", "metadata": { "resourceVersion": "9" } });
    let marked = Watched::Mark("9".to_owned());
    assert_eq!(
        read(json!({ "type": "BOOKMARK", "object": mark })),
        Ok(marked)
    );
    let expired = json!({ "kind": "Status", "code": 410, "reason": "Expired",
                          "message": "too old resource version: 1 (9)" });
    assert_eq!(
        read(json!({ "type": "ERROR", "object": expired })),
        Ok(Watched::Lost)
    );
    let other = json!({ "kind": "Status", "code": 500, "message": "etcd is full" });
    let failed = Watched::Failed("etcd is full".to_owned());
    assert_eq!(
        read(json!({ "type": "ERROR", "object": other })),
        Ok(failed)
    );
    for wrong in [
        json!({}),
        json!({ "type": "ADDED" }),
        json!({ "type": "ADDED", "object": {} }),
        json!({ "type": "ADDED", "object": { "metadata": { "name": "a" } } }),
        json!({ "type": "DELETED", "object": { "metadata": { "resourceVersion": "5" } } }),
        json!({ "type": "BOOKMARK", "object": {} }),
        json!({ "type": "RENAMED", "object": object }),
        json!({ "type": 7, "object": object }),
        json!([]),
    ] {
        assert!(read(wrong.clone()).is_err(), "{wrong}");
    }
}

#[test]
fn nonsense_is_refused_or_read_but_never_worse() {
    let slices = [
        slice(
            "a",
            json!([ready("10.0.0.1"), { "addresses": ["10.0.0.2"], "zone": "b" }]),
        ),
        slice("b", json!([ready("fd00::1")])),
    ];
    let whole = page(&slices);
    let event = json!({ "type": "ADDED", "object": slices[0] })
        .to_string()
        .into_bytes();
    let mut read = 0;
    for seed in 0..3_000 {
        let mut random = Random::from_seed(seed);
        let mut bytes = if seed % 2 == 0 {
            whole.clone()
        } else {
            event.clone()
        };
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len());
            match random.below(3) {
                0 => bytes[at] = random.next_u64() as u8,
                1 => bytes.truncate(at.max(1)),
                _ => bytes[at] = b"0,:{}[]\"n"[random.below(9)],
            }
        }
        if let Ok(page) = read_page(&bytes, None) {
            let mut view = View::default();
            page.slices.into_iter().for_each(|slice| view.put(slice));
            assert!(view.discovered(None).endpoints().len() <= 3, "seed {seed}");
            read += 1;
        }
        read += usize::from(read_watch(&bytes, None).is_ok());
    }
    assert!(read > 100, "only {read} were read: nothing is tried");
}

#[test]
fn a_flood_is_bounded_and_counted() {
    let address = |number: usize| {
        format!(
            "10.{}.{}.{}",
            number / 65_536,
            number / 256 % 256,
            number % 256
        )
    };
    let many = |from: usize, count: usize| -> Value {
        (from..from + count)
            .map(|number| ready(&address(number)))
            .collect()
    };
    // More than the API allows in one slice.
    let (endpoints, left_out, _) = told(&[slice("a", many(0, 1_200))], None, None);
    assert_eq!((endpoints.len(), left_out), (1_000, 200));
    let slices: Vec<Value> = (0..12)
        .map(|number| slice(&number.to_string(), many(number * 100, 100)))
        .collect();
    let (endpoints, left_out, _) = told(&slices, None, None);
    assert_eq!((endpoints.len(), left_out), (LIMIT, 1_200 - LIMIT));
    // Slices without an end.
    let mut view = View::default();
    for number in 0..3_000 {
        let page = read_page(&page(&[slice(&number.to_string(), many(number, 1))]), None);
        page.expect("a page")
            .slices
            .into_iter()
            .for_each(|slice| view.put(slice));
    }
    assert!(view.is_full() && !view.is_whole());
    let discovered = view.discovered(None);
    assert_eq!(
        (discovered.endpoints().len(), discovered.left_out()),
        (LIMIT, 3_000 - 1_024)
    );
    view.leave_out(usize::MAX);
    assert_eq!(view.discovered(None).left_out(), usize::MAX);
}

#[test]
fn refusals_say_who_we_are() {
    let body = r#"{"kind":"Status","status":"Failure","message":"endpointslices.discovery.k8s.io is forbidden: User \"system:serviceaccount:shop:outgrow\" cannot list resource","code":403}"#;
    let text = message(body);
    assert_eq!(user(&text), Some("system:serviceaccount:shop:outgrow"));
    assert_eq!(message("404 page not found"), "404 page not found");
    assert_eq!(user("no quotes"), None);
    assert_eq!(user("User \"half"), None);
}
