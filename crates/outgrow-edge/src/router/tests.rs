//! Tests of the router: tables, and random routes against a model that tries every rule.

use std::time::Instant;

use outgrow_core::Random;

use super::*;

fn hosts(texts: &[&str]) -> Vec<HostPattern> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn path(text: &str) -> PathPrefix {
    text.parse().unwrap()
}

fn compile(rules: &[(Vec<HostPattern>, PathPrefix)]) -> Router {
    Router::compile(rules.iter().map(|(hosts, path)| Rule { hosts, path }))
}

#[test]
fn the_more_special_route_wins() {
    let rules = [
        (vec![], path("/")),
        (hosts(&["shop.example"]), path("/")),
        (hosts(&["shop.example"]), path("/api")),
        (
            hosts(&["shop.example", "www.shop.example"]),
            path("/api/v2"),
        ),
        (hosts(&["*.example"]), path("/")),
        (hosts(&["*.shop.example"]), path("/")),
        (hosts(&["strict.test"]), path("/only")),
        (vec![], path("/health")),
        (hosts(&["[::1]"]), path("/")),
        (hosts(&["10.0.0.1"]), path("/")),
    ];
    let router = compile(&rules);
    let table: &[(&str, &str, Option<usize>)] = &[
        ("shop.example", "/", Some(1)),
        ("SHOP.Example", "/x", Some(1)),
        ("shop.example:8080", "/", Some(1)),
        ("shop.example.", "/", Some(1)),
        ("shop.example.:8080", "/", Some(1)),
        ("shop.example:", "/", Some(1)),
        ("shop.example", "/api", Some(2)),
        ("shop.example", "/api/", Some(2)),
        ("shop.example", "/api/v1", Some(2)),
        ("shop.example", "/apis", Some(1)),
        ("shop.example", "/api/v2/x", Some(3)),
        ("www.shop.example", "/api/v2", Some(3)),
        ("www.shop.example", "/api", Some(5)),
        ("a.b.shop.example", "/", Some(5)),
        ("other.example", "/", Some(4)),
        ("other.example", "/health", Some(4)),
        ("example", "/", Some(0)),
        (".example", "/", Some(0)),
        ("notexample", "/", Some(0)),
        ("strict.test", "/only", Some(6)),
        ("strict.test", "/", Some(0)),
        ("strict.test", "/health/x", Some(7)),
        ("", "/health", Some(7)),
        ("", "", Some(0)),
        ("", "*", Some(0)),
        ("shop.example", "*", Some(1)),
        ("[::1]:80", "/", Some(8)),
        ("[::1]", "/", Some(8)),
        ("10.0.0.1", "/", Some(9)),
        ("10.0.0.1:443", "/", Some(9)),
    ];
    for (host, path, expected) in table {
        let found = router.find(host.as_bytes(), path.as_bytes());
        assert_eq!(found, *expected, "{host} {path}");
    }
    assert_eq!(router.find(&vec![b'a'; 100_000], b"/"), Some(0));
    assert_eq!(router.find(b"shop.example", &vec![b'/'; 100_000]), Some(1));
}

#[test]
fn without_a_route_for_everything_some_requests_have_none() {
    let router = compile(&[(hosts(&["a.test"]), path("/x"))]);
    assert_eq!(router.find(b"a.test", b"/x"), Some(0));
    assert_eq!(router.find(b"a.test", b"/"), None);
    assert_eq!(router.find(b"b.test", b"/x"), None);
    assert_eq!(Router::default().find(b"a.test", b"/x"), None);
}

#[test]
fn of_two_equal_rules_the_first_stays() {
    let rules = [(vec![], path("/x")), (vec![], path("/x/"))];
    assert_eq!(compile(&rules).find(b"", b"/x"), Some(0));
}

/// Tries every rule by the words of the manual; shares nothing with the router.
fn model(rules: &[(Vec<HostPattern>, PathPrefix)], host: &str, path: &str) -> Option<usize> {
    let host = host.to_lowercase();
    let host = host.split(':').next().unwrap();
    let host = host.strip_suffix('.').unwrap_or(host);
    let labels: Vec<&str> = host.split('.').collect();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let mut best: Option<((u32, usize, usize), usize)> = None;
    for (index, (patterns, prefix)) in rules.iter().enumerate() {
        let prefix: Vec<String> = prefix
            .to_string()
            .split('/')
            .skip(1)
            .map(String::from)
            .collect();
        let prefix: Vec<&String> = prefix
            .iter()
            .filter(|segment| !segment.is_empty())
            .collect();
        let starts = prefix.len() <= segments.len()
            && prefix
                .iter()
                .zip(&segments)
                .all(|(left, right)| left == right);
        if !starts {
            continue;
        }
        let rank = |pattern: &HostPattern| {
            let text = pattern.to_string();
            match text.strip_prefix("*.") {
                Some(rest) => {
                    let rest: Vec<&str> = rest.split('.').collect();
                    (labels.len() > rest.len() && labels.ends_with(&rest))
                        .then_some((1, rest.len()))
                }
                None => (text == host).then_some((2, 0)),
            }
        };
        let rank = if patterns.is_empty() {
            Some((0, 0))
        } else {
            patterns.iter().filter_map(rank).max()
        };
        if let Some((kind, length)) = rank {
            let key = (kind, length, prefix.len());
            if best.is_none_or(|(known, _)| key > known) {
                best = Some((key, index));
            }
        }
    }
    best.map(|(_, index)| index)
}

#[test]
fn random_routes_agree_with_the_model() {
    for seed in 0..400 {
        let mut random = Random::from_seed(seed);
        let mut pick = |most: usize| (random.next_u64() % most as u64) as usize;
        let name = |pick: &mut dyn FnMut(usize) -> usize| {
            let labels: Vec<&str> = (0..=pick(3))
                .map(|_| ["a", "bb", "c", "aa"][pick(4)])
                .collect();
            labels.join(".")
        };
        let route = |pick: &mut dyn FnMut(usize) -> usize| {
            let segments: String = (0..pick(4))
                .map(|_| ["/x", "/yy", "/z", "/xx"][pick(4)])
                .collect();
            if segments.is_empty() {
                "/".to_owned()
            } else {
                segments
            }
        };
        let mut rules = Vec::new();
        for _ in 0..=pick(30) {
            let patterns: Vec<HostPattern> = (0..pick(3))
                .map(|_| {
                    let star = ["", "*."][pick(2)];
                    format!("{star}{}", name(&mut pick)).parse().unwrap()
                })
                .collect();
            rules.push((patterns, path(&route(&mut pick))));
        }
        let router = compile(&rules);
        for _ in 0..200 {
            let port = ["", ":80", ".", ".:80"][pick(4)];
            let host = format!("{}{port}", name(&mut pick));
            let host = if pick(2) == 0 {
                host.to_uppercase()
            } else {
                host
            };
            let path = format!("{}{}", route(&mut pick), ["", "/", "/x"][pick(3)]);
            let path = path.replace("//", "/");
            assert_eq!(
                router.find(host.as_bytes(), path.as_bytes()),
                model(&rules, &host, &path),
                "seed {seed}, {host} {path}, rules {rules:?}"
            );
        }
    }
}

#[test]
#[ignore = "measures; run by hand with optimisation"]
fn how_long_a_lookup_takes() {
    let mut rules = vec![(vec![], path("/"))];
    for index in 0..50 {
        let host = format!("host{index}.example");
        rules.push((hosts(&[&host]), path("/")));
        rules.push((hosts(&[&host]), path("/api/orders")));
        rules.push((
            hosts(&[&format!("*.tenant{index}.example")]),
            path("/static"),
        ));
    }
    let router = compile(&rules);
    let cases: [(&str, &str); 4] = [
        ("host49.example:8080", "/api/orders/17"),
        ("a.tenant40.example", "/static/site.css"),
        ("elsewhere.test", "/page"),
        ("", "/"),
    ];
    for (host, path) in cases {
        // The best of many short batches: what the machine does besides does not count.
        let rounds = 1_000_u32;
        let batch = || {
            let start = Instant::now();
            for _ in 0..rounds {
                let host = std::hint::black_box(host.as_bytes());
                std::hint::black_box(router.find(host, path.as_bytes()));
            }
            start.elapsed()
        };
        let best = (0..2_000).map(|_| batch()).min().unwrap();
        println!("{host} {path}: {:?}", best / rounds);
    }
}
