//! The rules between the keys of a route.

use outgrow_core::settings::TableReader;

use super::{CONDITION_LIMIT, HeaderEdits, RouteSettings, RouteTimeouts, SPLIT_LIMIT, SplitBy};

/// Tells of everything between the keys of a route that is wrong.
pub(super) fn check(route: &RouteSettings, table: &mut TableReader<'_, '_>) {
    actions(route, table);
    forwarding(route, table);
    split(route, table);
    templates(route, table);
    if route.request_headers.removes("host") {
        let message = "a request must have a Host";
        let hint = "use set = { Host = \"…\" } to change it";
        table.problem("request_headers", message, hint);
    }
    if table.has("host") && route.host.is_empty() {
        let message = "an empty list of hosts matches nothing";
        table.problem("host", message, "leave `host` out to match any host");
    }
    if table.has("method") && route.method.is_empty() {
        let message = "an empty list of methods matches nothing";
        table.problem("method", message, "leave `method` out to match any method");
    }
    let counts = [
        ("header", route.header.len()),
        ("query", route.query.len()),
        ("cookie", route.cookie.len()),
    ];
    for (key, count) in counts {
        if count > CONDITION_LIMIT {
            let message = format!("{count} conditions are more than {CONDITION_LIMIT}");
            table.problem(key, message, "remove some");
        }
    }
}

/// A route does one thing.
fn actions(route: &RouteSettings, table: &mut TableReader<'_, '_>) {
    let actions = [
        ("service", route.service.is_some()),
        ("split", !route.split.is_empty()),
        ("redirect", route.redirect.is_some()),
        ("files", route.files.is_some()),
        ("respond", route.respond.is_some()),
    ];
    let mut written = actions
        .into_iter()
        .filter(|(_, is)| *is)
        .map(|(key, _)| key);
    match (written.next(), written.next()) {
        (None, _) => {
            let span = table.span();
            let message = "a route needs `service`, `split`, `redirect`, `files` or `respond`";
            let hint = "add service = \"NAME\" or respond = { status = 404, body = \"\" }";
            table.reader().error_with_hint(span, message, hint);
        }
        (Some(first), Some(second)) => {
            let message = format!("a route has either `{first}` or `{second}`, not both");
            table.problem(second, message, "remove one of them");
        }
        (Some(_), None) => {}
    }
    let sends_none = match (&route.respond, &route.files) {
        (Some(_), _) => Some("a fixed answer sends no request on, so there are no request headers"),
        (None, Some(_)) => {
            Some("files are sent by outgrow itself, so there are no request headers")
        }
        (None, None) => None,
    };
    if let Some(message) = sends_none
        && route.request_headers != HeaderEdits::default()
    {
        table.problem("request_headers", message, "remove request_headers");
    }
}

/// What only means something when a request is sent on.
fn forwarding(route: &RouteSettings, table: &mut TableReader<'_, '_>) {
    if route.services().next().is_none() {
        let has_files = route.files.is_some();
        let keys = [
            ("rewrite", route.rewrite.is_some() && !has_files),
            ("strip_prefix", route.strip_prefix && !has_files),
            ("compress", route.compress.is_some() && !has_files),
            ("decompress", route.decompress.is_some()),
            ("mirror", route.mirror.is_some()),
            ("timeouts", route.timeouts != RouteTimeouts::default()),
        ];
        for (key, _) in keys.into_iter().filter(|(_, is)| *is) {
            let message = format!("`{key}` means nothing where no request is sent on");
            table.problem(key, message, format!("remove {key}"));
        }
    }
    if route.files.is_some()
        && route
            .rewrite
            .as_ref()
            .is_some_and(|rewrite| rewrite.host.is_some())
    {
        let message = "files have no host";
        table.problem("rewrite", message, "remove host from rewrite");
    }
    if let Some(mirror) = &route.mirror
        && route
            .services()
            .any(|(service, _)| *service == mirror.service)
    {
        let message = "the copies would go to the service that has the request already";
        table.problem("mirror", message, "name another service");
    }
}

fn split(route: &RouteSettings, table: &mut TableReader<'_, '_>) {
    if route.split.is_empty() {
        if route.split_by != SplitBy::Random {
            let message = "`split_by` means nothing without `split`";
            table.problem("split_by", message, "remove split_by");
        }
        return;
    }
    let mut names: Vec<&str> = route
        .split
        .iter()
        .map(|share| share.service.as_str())
        .collect();
    names.sort_unstable();
    if let Some([twice, _]) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        let message = format!("service {twice} is in the list twice");
        table.problem("split", message, "give it one weight");
    } else if route.split.iter().all(|share| share.weight == 0) {
        let message = "a split needs a weight above 0";
        let hint = "write for example [{ service = \"app\", weight = 95 }, { service = \"next\", \
                    weight = 5 }]";
        table.problem("split", message, hint);
    } else if route.split.len() > SPLIT_LIMIT {
        let message = format!("{} services are more than {SPLIT_LIMIT}", route.split.len());
        table.problem("split", message, "remove some");
    }
}

/// The names in templates stand for something.
fn templates(route: &RouteSettings, table: &mut TableReader<'_, '_>) {
    if route.strip_prefix && route.path.is_exact() {
        let message = "an exact path has no prefix that something follows";
        table.problem(
            "strip_prefix",
            message,
            "remove strip_prefix or write path as a prefix",
        );
    }
    if let Some(rewrite) = &route.rewrite {
        if route.strip_prefix && rewrite.path.is_some() {
            let message = "`strip_prefix` and `rewrite.path` both say which path is sent";
            table.problem("strip_prefix", message, "remove one of them");
        }
        if rewrite.host.is_some() && route.request_headers.set.keys().any(|name| name.is("host")) {
            let message = "`rewrite.host` and `request_headers` both say which Host is sent";
            table.problem("rewrite", message, "remove one of them");
        }
        for name in rewrite.path.iter().flat_map(|path| path.names()) {
            self::name(route, table, "rewrite", name, &["rest"]);
        }
        for name in rewrite.host.iter().flat_map(|host| host.names()) {
            self::name(route, table, "rewrite", name, &[]);
        }
    }
    if let Some(redirect) = &route.redirect {
        for name in redirect.to.names() {
            self::name(
                route,
                table,
                "redirect",
                name,
                &["rest", "host", "path", "query"],
            );
        }
    }
}

fn name(
    route: &RouteSettings,
    table: &mut TableReader<'_, '_>,
    key: &str,
    name: &str,
    others: &[&str],
) {
    if name == "rest" && others.contains(&"rest") && route.path.is_exact() {
        let message = "nothing follows an exact path, so there is no {rest}";
        table.problem(
            key,
            message,
            "write path as a prefix, or use its parameters",
        );
    } else if !others.contains(&name) && !route.path.parameters().any(|known| known == name) {
        let known = route.path.parameters().chain(others.iter().copied());
        let known: Vec<String> = known.map(|name| format!("{{{name}}}")).collect();
        let hint = if known.is_empty() {
            format!("write {{{name}}} as a segment of `path`")
        } else {
            format!("known here: {}", known.join(", "))
        };
        table.problem(key, format!("there is no parameter {{{name}}}"), hint);
    }
}
