//! One question to a responder (RFC 6960 appendix A.1): a POST over plain HTTP, for responses are
//! signed. No redirects; bounded in time and length.

use std::time::Duration;

use outgrow_discover::Surroundings;
use outgrow_discover::http::{Client, Media, Question, Server};
use outgrow_tls::RESPONSE_LIMIT;

/// How long the head of an answer may take, and again its body.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long all of it may take, looking the name up included.
const ALL: Duration = Duration::from_secs(30);

/// What a responder answers, in DER; or why it does not.
pub(super) async fn ask(
    url: &str,
    request: &[u8],
    surroundings: Surroundings,
) -> Result<Vec<u8>, String> {
    let (server, target) = place(url)?;
    let question = Question {
        target: &target,
        body: Some(request),
        media: Some(Media {
            sent: "application/ocsp-request",
            wanted: "application/ocsp-response",
        }),
        ..Question::default()
    };
    let client = Client::new(None, surroundings);
    let exchange = async {
        let asked = client.ask(&server, &question, PATIENCE).await;
        let mut answer = asked.map_err(|problem| problem.to_string())?;
        let status = answer.head().status;
        if status != 200 {
            return Err(format!("the responder answers with status {status}"));
        }
        let body = answer.whole(PATIENCE, RESPONSE_LIMIT).await;
        body.map_err(|problem| problem.to_string())
    };
    match tokio::time::timeout(ALL, exchange).await {
        Ok(answer) => answer,
        Err(_) => Err("no answer in time".to_owned()),
    }
}

/// The server and the path of a URL with `http://`.
fn place(url: &str) -> Result<(Server, String), String> {
    let scheme = url.get(..7).unwrap_or_default();
    if !scheme.eq_ignore_ascii_case("http://") {
        return Err("it is no http:// URL".to_owned());
    }
    let rest = url[7..].split('#').next().unwrap_or_default();
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    let port = match authority.rsplit_once(']') {
        Some((_, after)) => after.contains(':'),
        None => authority.contains(':'),
    };
    let server = match port {
        true => format!("http://{authority}"),
        false => format!("http://{authority}:80"),
    };
    let server = server
        .parse()
        .map_err(|problem| format!("its URL cannot be used: {problem}"))?;
    let target = match target.starts_with('/') {
        true => target.to_owned(),
        false => format!("/{target}"),
    };
    Ok((server, target))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, expected: Option<(&str, &str)>) {
        let found = place(url).ok();
        let found = found.map(|(server, target)| (server.to_string(), target));
        let expected = expected.map(|(server, target)| (server.to_owned(), target.to_owned()));
        assert_eq!(found, expected, "{url}");
    }

    #[test]
    fn urls_are_read() {
        check("http://o.example", Some(("http://o.example:80", "/")));
        check(
            "HTTP://o.example/a/b",
            Some(("http://o.example:80", "/a/b")),
        );
        check(
            "http://o.example:8080?x",
            Some(("http://o.example:8080", "/?x")),
        );
        check("http://[::1]/r5#x", Some(("http://[::1]:80", "/r5")));
        check("http://[::1]:81/r5", Some(("http://[::1]:81", "/r5")));
        check("https://o.example/", None);
        check("http://", None);
        check("http://o.example:x/", None);
        check("ldap://o", None);
        check("ä", None);
    }
}
