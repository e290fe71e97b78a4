//! Tests of the router: tables, and in [`model`] random routes.

use std::time::Instant;

use outgrow_message::Method;

use super::*;

mod model;

fn hosts(texts: &[&str]) -> Vec<HostPattern> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn path(text: &str) -> PathPattern {
    match text.strip_prefix('=') {
        Some(exact) => PathPattern::exact(exact).unwrap(),
        None => text.parse().unwrap(),
    }
}

fn route(patterns: Vec<HostPattern>, pattern: &str) -> RouteSettings {
    let mut route = RouteSettings {
        path: path(pattern),
        ..RouteSettings::default()
    };
    route.host.0 = patterns;
    route
}

fn compile(routes: &[RouteSettings]) -> Router {
    Router::compile(routes.iter().map(Rule::of))
}

/// A request; `more` are header lines.
fn request(method: &str, host: &str, target: &str, more: &[(&str, &str)]) -> RequestHead {
    let mut head = RequestHead::default();
    head.clear();
    head.method = Method::of(method.as_bytes());
    head.method_text = head.fields.push_bytes(method.as_bytes());
    head.authority = head.fields.push_bytes(host.as_bytes());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    head.raw_path = head.fields.push_bytes(path.as_bytes());
    if target.contains('?') {
        head.query = Some(head.fields.push_bytes(query.as_bytes()));
    }
    for (name, value) in more {
        head.fields.push(name.as_bytes(), value.as_bytes());
    }
    head.normalise_path().unwrap();
    head
}

fn find(router: &Router, host: &str, path: &str) -> Option<usize> {
    router.find(&request("GET", host, path, &[]), &mut Captures::default())
}

#[test]
fn the_more_special_route_wins() {
    let rules = [
        route(vec![], "/"),
        route(hosts(&["shop.example"]), "/"),
        route(hosts(&["shop.example"]), "/api"),
        route(hosts(&["shop.example", "www.shop.example"]), "/api/v2"),
        route(hosts(&["*.example"]), "/"),
        route(hosts(&["*.shop.example"]), "/"),
        route(hosts(&["strict.test"]), "/only"),
        route(vec![], "/health"),
        route(hosts(&["[::1]"]), "/"),
        route(hosts(&["10.0.0.1"]), "/"),
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
        let found = find(&router, host, path);
        assert_eq!(found, *expected, "{host} {path}");
    }
    assert_eq!(find(&router, &"a".repeat(100_000), "/"), Some(0));
    assert_eq!(find(&router, "shop.example", &"/".repeat(100_000)), Some(1));
}

#[test]
fn without_a_route_for_everything_some_requests_have_none() {
    let router = compile(&[route(hosts(&["a.test"]), "/x")]);
    assert_eq!(find(&router, "a.test", "/x"), Some(0));
    assert_eq!(find(&router, "a.test", "/"), None);
    assert_eq!(find(&router, "b.test", "/x"), None);
    assert_eq!(find(&Router::default(), "a.test", "/x"), None);
}

#[test]
fn of_two_equal_rules_the_first_stays() {
    let rules = [route(vec![], "/x"), route(vec![], "/x/")];
    assert_eq!(find(&compile(&rules), "", "/x"), Some(0));
}

/// Tries every rule by the words of the manual; shares nothing with the router.
#[test]
fn parameters_and_exact_paths_win_segment_by_segment() {
    let routes: Vec<RouteSettings> = [
        "/",
        "/users/{id}",
        "=/users/{id}",
        "/users/me",
        "=/users/{id}/orders",
        "/{kind}/{id}/orders/{order}",
        "=/users/",
        "=/",
        "/{kind}/7",
    ]
    .map(|pattern| route(vec![], pattern))
    .to_vec();
    let router = compile(&routes);
    let table: &[(&str, usize, &[&str], &str)] = &[
        ("/", 7, &[], ""),
        ("/x", 0, &[], "/x"),
        ("/users", 0, &[], "/users"),
        ("/users/", 6, &[], ""),
        ("/users/5", 2, &["5"], ""),
        ("/users/5/", 1, &["5"], "/"),
        ("/users/5/x", 1, &["5"], "/x"),
        ("/users/me", 3, &[], ""),
        ("/users/me/orders", 3, &[], "/orders"),
        ("/users/5/orders", 4, &["5"], ""),
        // The literal `users` comes first, and there is no way back from a match.
        ("/users/5/orders/9", 1, &["5"], "/orders/9"),
        ("/shops/5/orders/9/x", 5, &["shops", "5", "9"], "/x"),
        // Into `users` and back: the parameter of the first segment takes it.
        ("/shops/7/x", 8, &["shops"], "/x"),
        ("/shops//7", 8, &["shops"], ""),
    ];
    for (target, index, segments, rest) in table {
        let head = request("GET", "a", target, &[]);
        let mut captures = Captures::default();
        assert_eq!(router.find(&head, &mut captures), Some(*index), "{target}");
        assert_eq!(captures.count(), segments.len(), "{target}");
        for (at, segment) in segments.iter().enumerate() {
            assert_eq!(
                captures.segment(at, head.path()),
                segment.as_bytes(),
                "{target}"
            );
        }
        assert_eq!(captures.rest(head.path()), rest.as_bytes(), "{target}");
    }
}

#[test]
fn many_children_are_told_apart() {
    let mut routes = vec![route(vec![], "/{any}/x")];
    routes.extend((0..2_000).map(|number| route(vec![], &format!("/p{number}/x/y"))));
    let router = compile(&routes);
    for number in 0..2_000 {
        let found = find(&router, "a", &format!("/p{number}/x/y/z"));
        assert_eq!(found, Some(number + 1));
    }
    assert_eq!(find(&router, "a", "/p2000/x/y"), Some(0));
    assert_eq!(find(&router, "a", "/p1999/x"), Some(0));
    assert_eq!(find(&router, "a", "/p1999/z"), None);
}

fn conditions(route: &mut RouteSettings, method: &[&str], more: &[(&str, &str, &str)]) {
    route.method.0 = method.iter().map(|text| text.parse().unwrap()).collect();
    for (kind, name, pattern) in more {
        use outgrow_core::settings::MapKey;
        let pattern = pattern.parse().unwrap();
        match *kind {
            "header" => drop(route.header.insert(name.parse().unwrap(), pattern)),
            "query" => drop(route.query.insert(MapKey::from_key(name).unwrap(), pattern)),
            _ => drop(
                route
                    .cookie
                    .insert(MapKey::from_key(name).unwrap(), pattern),
            ),
        }
    }
}

#[test]
fn conditions_decide_and_leave_the_rest_to_others() {
    let mut routes = vec![
        route(vec![], "/api"),
        route(vec![], "/api"),
        route(vec![], "/api"),
        route(vec![], "/api"),
        route(vec![], "/only"),
        route(hosts(&["a.test"]), "/api/v2"),
        route(vec![], "/only/deep"),
    ];
    conditions(&mut routes[1], &["POST", "PUT"], &[]);
    conditions(
        &mut routes[2],
        &[],
        &[("header", "X-Beta", "1"), ("query", "a b", "*")],
    );
    conditions(&mut routes[3], &[], &[("cookie", "who", "me*")]);
    conditions(&mut routes[4], &["GET"], &[]);
    conditions(&mut routes[5], &["PATCH"], &[]);
    conditions(&mut routes[6], &["DELETE"], &[("header", "X-Key", "*")]);
    let router = compile(&routes);
    let check = |method: &str, target: &str, more: &[(&str, &str)], expected| {
        let head = request(method, "a.test", target, more);
        let found = router.find(&head, &mut Captures::default());
        let allowed = router.allowed(&head);
        assert_eq!(
            (found, allowed.as_deref()),
            expected,
            "{method} {target} {more:?}"
        );
    };
    let beta = [("x-beta", "0"), ("X-BETA", "1")];
    check("GET", "/api", &[], (Some(0), Some("POST, PUT")));
    check("PUT", "/api/v2", &[], (Some(1), Some("PATCH")));
    check("PATCH", "/api/v2", &[], (Some(5), Some("POST, PUT")));
    check("GET", "/api?a%20b", &beta, (Some(2), Some("POST, PUT")));
    check("GET", "/api?x&a+b=9", &beta, (Some(2), Some("POST, PUT")));
    check("GET", "/api?ab", &beta, (Some(0), Some("POST, PUT")));
    check("GET", "/api?a+b", &beta[..1], (Some(0), Some("POST, PUT")));
    let cookies = [("Cookie", "a=b; who=you"), ("Cookie", "who=me-too")];
    check("GET", "/api", &cookies, (Some(3), Some("POST, PUT")));
    check("GET", "/api", &cookies[..1], (Some(0), Some("POST, PUT")));
    check("HEAD", "/only", &[], (Some(4), None));
    check("POST", "/only", &[], (None, Some("GET, HEAD")));
    check("POST", "/only/deep", &[], (None, Some("GET, HEAD")));
    check(
        "POST",
        "/only/deep",
        &[("X-Key", "")],
        (None, Some("DELETE, GET, HEAD")),
    );
    check("DELETE", "/only/deep", &[], (None, Some("GET, HEAD")));
    check("GET", "/nothing", &[], (None, None));
}

#[test]
fn equal_ranks_are_found() {
    type Condition<'c> = (&'c str, &'c str, &'c str);
    type Side<'c> = (
        &'c [&'c str],
        &'c str,
        i64,
        &'c [&'c str],
        &'c [Condition<'c>],
    );
    let plain: Side<'_> = (&[], "/a", 0, &[], &[]);
    let header = |pattern| [("header", "X", pattern)];
    let (one, two, star) = (header("1"), header("2"), header("*"));
    let cookie = [("cookie", "X", "1")];
    let table: &[(Side<'_>, Side<'_>, bool)] = &[
        (plain, plain, true),
        (plain, (&[], "=/a", 0, &[], &[]), false),
        ((&[], "/{x}", 0, &[], &[]), (&[], "/{y}", 0, &[], &[]), true),
        (plain, (&[], "/{y}", 0, &[], &[]), false),
        (plain, (&[], "/a", 1, &[], &[]), false),
        (plain, (&["h"], "/a", 0, &[], &[]), false),
        (
            (&["h", "i"], "/a", 0, &[], &[]),
            (&["i"], "/a", 0, &[], &[]),
            true,
        ),
        (
            (&["h"], "/a", 0, &[], &[]),
            (&["*.h"], "/a", 0, &[], &[]),
            false,
        ),
        (plain, (&[], "/a", 0, &["GET"], &[]), false),
        (
            (&[], "/a", 0, &["PUT"], &[]),
            (&[], "/a", 0, &["GET"], &[]),
            false,
        ),
        (
            (&[], "/a", 0, &["HEAD"], &[]),
            (&[], "/a", 0, &["GET"], &[]),
            true,
        ),
        (
            (&[], "/a", 0, &["GET", "PUT"], &[]),
            (&[], "/a", 0, &["PUT"], &[]),
            true,
        ),
        ((&[], "/a", 0, &[], &one), (&[], "/a", 0, &[], &two), false),
        ((&[], "/a", 0, &[], &one), (&[], "/a", 0, &[], &star), true),
        (
            (&[], "/a", 0, &[], &one),
            (&[], "/a", 0, &[], &cookie),
            true,
        ),
    ];
    for (one, two, expected) in table {
        let [one, two] = [one, two].map(|(host, path, priority, methods, more)| {
            let mut route = route(hosts(host), path);
            route.priority = *priority;
            conditions(&mut route, methods, more);
            route
        });
        let met = same_rank(&Rule::of(&one), &Rule::of(&two)).is_some();
        assert_eq!(met, *expected, "{one:?} {two:?}");
    }
}

#[test]
#[ignore = "measures; run by hand with optimisation"]
fn how_long_a_lookup_takes() {
    let mut rules = vec![route(vec![], "/")];
    for index in 0..50 {
        let host = format!("host{index}.example");
        rules.push(route(hosts(&[&host]), "/"));
        rules.push(route(hosts(&[&host]), "/api/orders"));
        rules.push(route(
            hosts(&[&format!("*.tenant{index}.example")]),
            "/static",
        ));
    }
    let router = compile(&rules);
    let cases: [(&str, &str); 4] = [
        ("host49.example:8080", "/api/orders/17"),
        ("a.tenant40.example", "/static/site.css"),
        ("elsewhere.test", "/page"),
        ("", "/"),
    ];
    let mut captures = Captures::default();
    for (host, path) in cases {
        let head = request("GET", host, path, &[]);
        // The best of many short batches: what the machine does besides does not count.
        let rounds = 1_000_u32;
        let mut batch = || {
            let start = Instant::now();
            for _ in 0..rounds {
                let host = std::hint::black_box(host.as_bytes());
                let found = router.walk(host, path.as_bytes(), &mut captures, &mut |found, _| {
                    (found.judge(&head) == Verdict::Holds).then_some(found.index)
                });
                std::hint::black_box(found);
            }
            start.elapsed()
        };
        let best = (0..2_000).map(|_| batch()).min().unwrap();
        println!("{host} {path}: {:?}", best / rounds);
    }
}
