//! The rules of routes: paths, conditions, ranks, and what routes do to requests.

use super::*;

#[test]
fn paths_conditions_and_ranks_of_routes_are_told() {
    let x = "[route.x]\nservice = \"web\"\n";
    let path = |path: &str, expected: &str| {
        let expected = format!("3:route.x.path{expected}");
        check(&format!("{x}path = {path}\n"), &[&expected]);
    };
    path(
        "\"/{a\"",
        ": \"/{a\" is not a path prefix: a parameter is a whole segment",
    );
    path(
        "\"/{a}/{a}\"",
        ": \"/{a}/{a}\" is not a path prefix: two parameters",
    );
    path(
        "{ exact = \"x\" }",
        ": \"x\" is not a path: it does not start with /",
    );
    path("{}", ": `exact` is missing");
    path("3", ": expected a path prefix or a table, found an integer");
    let x = &format!("{x}path = \"/x\"\n");
    let line = |line: &str, expected: &str| {
        check(&format!("{x}{line}\n"), &[&format!("4:route.x.{expected}")]);
    };
    line(
        "method = \"get\"",
        "method: \"get\" is not a method: methods are written in capitals",
    );
    line(
        "method = []",
        "method: an empty list of methods matches nothing",
    );
    line(
        "header = { \"a b\" = \"\" }",
        "header.a b: \"a b\" is not the name of a header field",
    );
    line(
        "query = { a = \"x*y\" }",
        "query.a: \"x*y\" is not a pattern: one * stands alone",
    );
    line(
        "priority = 2000000",
        "priority: 2000000 is outside of what is possible: -1000000 to 1000000",
    );
    line(
        "tineouts = {}",
        "tineouts: unknown key \"tineouts\" | did you mean `timeouts`?",
    );
    line(
        "timeouts = { conect = \"1s\" }",
        "timeouts.conect: unknown key \"conect\" | did you mean `connect`?",
    );
    line(
        "timeouts = { queue = \"2h\" }",
        "timeouts.queue: \"2h\" is outside",
    );
    let pair = |one: &str, two: &str, expected: &[&str]| {
        let other = "[route.y]\nservice = \"web\"\npath = \"/x\"\n";
        check(&format!("{x}{one}\n{other}{two}\n"), expected);
    };
    pair("", "method = \"GET\"", &[]);
    pair("method = \"PUT\"", "method = [\"GET\", \"POST\"]", &[]);
    pair("header = { A = \"1\" }", "header = { a = \"2\" }", &[]);
    pair(
        "cookie = { a = \"1\" }\npriority = 1",
        "query = { a = \"2\" }",
        &[],
    );
    pair(
        "",
        "",
        &[
            "5:route.y: route x matches the same: any host /x | which one would win is not said by the order in the file; change host, path or listener",
        ],
    );
    pair(
        "cookie = { a = \"1\" }",
        "query = { a = \"2\" }",
        &[
            "5:route.y: route x matches the same: any host /x, and a request can fulfil the conditions of both | give the one that is to win a higher `priority`",
        ],
    );
}

#[test]
fn what_routes_do_to_requests_is_checked() {
    let line = |more: &str, expected: &str| {
        let table = format!("[route.x]\npath = \"/x/{{id}}\"\n{more}\n");
        check(&table, &[&format!("3:route.x.{expected}")]);
    };
    line(
        "redirect = { to = \"//evil.example\" }",
        "redirect.to: \"//evil.example\" is not the target of a redirect: it starts with neither",
    );
    line(
        "redirect = { to = \"https://{id}.example\" }",
        "redirect.to: \"https://{id}.example\" is not the target of a redirect: between the scheme",
    );
    line(
        "redirect = { to = \"/{ID}\" }",
        "redirect: there is no parameter {ID} | known here: {id}, {rest}, {host}, {path}, {query}",
    );
    line(
        "redirect = { to = \"/\", status = 304 }",
        "redirect.status: 304 is not the status of a redirect | write 301",
    );
    line(
        "split = [{ service = \"web\", weight = 0 }]",
        "split: a split needs a weight above 0",
    );
    line(
        "split = [{ service = \"wep\", weight = 1 }]",
        "split.0.service: there is no service \"wep\" | did you mean \"web\"?",
    );
    line(
        "split = [{ service = \"web\", weight = 1 }, { service = \"web\", weight = 2 }]",
        "split: service web is in the list twice",
    );
    line(
        "split = [{ service = \"web\" }]",
        "split.0: `weight` is missing",
    );
    let line = |more: &str, expected: &str| {
        let table = format!("[route.x]\npath = \"/x/{{id}}\"\nservice = \"web\"\n{more}\n");
        check(&table, &[&format!("4:route.x.{expected}")]);
    };
    line(
        "split_by = \"address\"",
        "split_by: `split_by` means nothing without `split`",
    );
    line(
        "rewrite = { path = \"/{nr}\" }",
        "rewrite: there is no parameter {nr} | known here: {id}, {rest}",
    );
    line(
        "rewrite = { path = \"x\" }",
        "rewrite.path: \"x\" is not a path with names: it does not start with /",
    );
    line("rewrite = {}", "rewrite: this rewrite changes nothing");
    line(
        "mirror = { service = \"web\" }",
        "mirror: the copies would go to the service that has the request",
    );
    line(
        "mirror = { service = \"x\" }",
        "mirror.service: there is no service \"x\"",
    );
    check(
        "[service.s]\nendpoints = [\"a:1\"]\n[route.x]\npath = \"/x\"\nservice = \"web\"\n\
         mirror = { service = \"s\", share = 10 }\n",
        &["6:route.x.mirror.share: expected a percentage, found an integer"],
    );
    line(
        "redirect = { to = \"/\" }",
        "redirect: a route has either `service` or `redirect`, not both",
    );
    let exact = "[route.x]\npath = { exact = \"/x\" }\nservice = \"web\"\n";
    check(
        &format!("{exact}strip_prefix = true\n"),
        &["4:route.x.strip_prefix: an exact path has no prefix"],
    );
    check(
        &format!("{exact}rewrite = {{ path = \"/{{rest}}\" }}\n"),
        &["4:route.x.rewrite: nothing follows an exact path"],
    );
    let respond = "[route.x]\npath = \"/x\"\nrespond = {}\n";
    check(
        &format!("{respond}timeouts = {{ queue = \"1s\" }}\n"),
        &["4:route.x.timeouts: `timeouts` means nothing where no request is sent on"],
    );
}
