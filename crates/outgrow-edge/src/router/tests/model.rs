//! Random routes and requests against a model that tries every rule by the words of the manual.

use outgrow_core::Random;

use super::*;

/// The rank of a rule for a request by the words of the manual; none when it does not match.
/// Larger is better.
type Rank = ((u32, usize), Vec<u8>, i64, bool, usize);

fn model_path(pattern: &PathPattern, path: &str) -> Option<Vec<u8>> {
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let mut rank = Vec::new();
    for (at, segment) in pattern.segments().iter().enumerate() {
        let text = segments.get(at)?;
        match segment {
            Segment::Literal(literal) if literal == text => rank.push(3),
            Segment::Parameter(_) if !text.is_empty() => rank.push(2),
            _ => return None,
        }
    }
    let whole = pattern.segments().len() == segments.len();
    if pattern.is_exact() && !whole {
        return None;
    }
    rank.push(u8::from(pattern.is_exact()));
    Some(rank)
}

fn model_host(patterns: &[HostPattern], host: &str) -> Option<(u32, usize)> {
    let host = host.to_lowercase();
    let host = host.split(':').next().unwrap();
    let host = host.strip_suffix('.').unwrap_or(host);
    let labels: Vec<&str> = host.split('.').collect();
    let rank = |pattern: &HostPattern| {
        let text = pattern.to_string();
        match text.strip_prefix("*.") {
            Some(rest) => {
                let rest: Vec<&str> = rest.split('.').collect();
                (labels.len() > rest.len() && labels.ends_with(&rest)).then_some((1, rest.len()))
            }
            None => (text == host).then_some((2, 0)),
        }
    };
    match patterns {
        [] => Some((0, 0)),
        patterns => patterns.iter().filter_map(rank).max(),
    }
}

/// `about` are the request's method, its values of the header X, and its query's values of q.
fn model_rank(route: &RouteSettings, host: &str, path: &str, about: &About) -> Option<Rank> {
    let host = model_host(&route.host, host)?;
    let path = model_path(&route.path, path)?;
    let method = route.method.first().map(|method| method.as_str());
    let takes = method
        .is_none_or(|method| method == about.method || (method == "GET" && about.method == "HEAD"));
    let fits = |wanted: Option<String>, seen: &[&str]| {
        let Some(wanted) = wanted else { return true };
        seen.iter().any(|seen| match wanted.strip_suffix('*') {
            Some(start) => seen.starts_with(start),
            None => *seen == wanted,
        })
    };
    let wanted = |pattern: Option<&crate::settings::ValuePattern>| pattern.map(ToString::to_string);
    let holds = takes
        && fits(wanted(route.header.values().next()), &about.header)
        && fits(wanted(route.query.values().next()), &about.query);
    let count = route.header.len() + route.query.len();
    holds.then_some((host, path, route.priority, method.is_some(), count))
}

struct About {
    method: &'static str,
    header: Vec<&'static str>,
    query: Vec<&'static str>,
}

#[test]
fn random_routes_agree_with_the_model() {
    const METHODS: [&str; 4] = ["GET", "HEAD", "PUT", "POST"];
    let mut matched = 0;
    for seed in 0..600 {
        let mut random = Random::from_seed(seed);
        let mut pick = |most: usize| (random.next_u64() % most as u64) as usize;
        let name = |pick: &mut dyn FnMut(usize) -> usize| {
            let labels: Vec<&str> = (0..=pick(3))
                .map(|_| ["a", "bb", "c", "aa"][pick(4)])
                .collect();
            labels.join(".")
        };
        let some_path = |pick: &mut dyn FnMut(usize) -> usize, parameters: bool| {
            let mut text = String::new();
            for at in 0..pick(5) {
                text += "/";
                match pick(if parameters { 6 } else { 4 }) {
                    choice @ 0..4 => text += ["x", "yy", "z", "xx"][choice],
                    _ => text += &format!("{{p{at}}}"),
                }
            }
            if text.is_empty() {
                "/".to_owned()
            } else {
                text
            }
        };
        let mut routes: Vec<RouteSettings> = Vec::new();
        // More than a few children at one place now and then.
        for _ in 0..=pick(40) {
            let patterns: Vec<HostPattern> = (0..pick(3))
                .map(|_| {
                    let star = ["", "*."][pick(2)];
                    format!("{star}{}", name(&mut pick)).parse().unwrap()
                })
                .collect();
            let exact = ["", "", "="][pick(3)];
            let slash = ["", "", "", "/"][pick(4)];
            let text = format!("{exact}{}{slash}", some_path(&mut pick, true)).replace("//", "/");
            let mut route = route(patterns, &text);
            route.priority = pick(3) as i64;
            let method = if pick(3) == 0 {
                &[METHODS[pick(4)]][..]
            } else {
                &[]
            };
            conditions(&mut route, method, &[]);
            if pick(3) == 0 {
                conditions(
                    &mut route,
                    method,
                    &[("header", "X", ["1", "12", "1*", "*"][pick(4)])],
                );
            }
            if pick(4) == 0 {
                conditions(
                    &mut route,
                    method,
                    &[("query", "q", ["1", "2", "*"][pick(3)])],
                );
            }
            let rule = Rule::of(&route);
            if routes
                .iter()
                .all(|known| same_rank(&Rule::of(known), &rule).is_none())
            {
                routes.push(route);
            }
        }
        let router = compile(&routes);
        for _ in 0..200 {
            let port = ["", ":80", ".", ".:80"][pick(4)];
            let host = format!("{}{port}", name(&mut pick));
            let host = if pick(2) == 0 {
                host.to_uppercase()
            } else {
                host
            };
            let path = format!(
                "{}{}",
                some_path(&mut pick, false),
                ["", "/", "/x"][pick(3)]
            );
            let path = path.replace("//", "/");
            // One value each: of several that exclude each other nothing is promised.
            let about = About {
                method: METHODS[pick(4)],
                header: [vec![], vec!["1"], vec!["12"], vec!["3"]][pick(4)].clone(),
                query: [vec![], vec!["1"], vec!["2"]][pick(3)].clone(),
            };
            let lines: Vec<_> = about.header.iter().map(|value| ("X", *value)).collect();
            let query = match about.query.first() {
                Some(value) => format!("?q={value}"),
                None => String::new(),
            };
            let head = request(about.method, &host, &format!("{path}{query}"), &lines);
            let rank = |(index, route)| Some((model_rank(route, &host, &path, &about)?, index));
            let best = routes.iter().enumerate().filter_map(rank).max();
            let expected = best.map(|(_, index)| index);
            matched += u32::from(expected.is_some());
            let found = router.find(&head, &mut Captures::default());
            assert_eq!(
                found, expected,
                "seed {seed}, {} {host} {path} {:?} {:?}, rules {routes:#?}",
                about.method, about.header, about.query
            );
            let considered = router.consider(&head);
            let first = considered
                .iter()
                .find(|considered| considered.failed.is_empty());
            assert_eq!(
                first.map(|considered| considered.index),
                expected,
                "seed {seed}"
            );
        }
    }
    assert!(matched > 10_000, "{matched}");
}
