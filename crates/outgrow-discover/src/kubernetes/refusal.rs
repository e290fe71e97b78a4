//! What it means that the API server refuses, in words for whoever has to do something about it:
//! pure.

use std::path::Path;

use super::messages;
use super::place::Place;
use crate::http::Problem;

/// What we must be allowed to do, and where the API has it.
#[derive(Debug)]
pub(crate) struct Rights {
    /// In words.
    pub(crate) what: &'static str,
    /// The group of the API, of which version 1 is used.
    pub(crate) group: &'static str,
    /// Its objects.
    pub(crate) resource: &'static str,
    /// What is done with them.
    pub(crate) verbs: &'static [&'static str],
    /// The first Kubernetes that has them.
    pub(crate) since: &'static str,
}

/// A problem in words.
pub(crate) fn told(place: &Place, problem: &Problem, rights: &Rights) -> String {
    let Problem::Status(status, body) = problem else {
        return problem.to_string();
    };
    let token_file = place.token_file.as_deref();
    refused(*status, body, token_file, &place.namespace, rights)
}

/// Whether the API itself says that there is no such object: a server that does not know the group
/// says 404 as well, but not in the API's words.
pub(crate) fn is_missing(problem: &Problem) -> bool {
    matches!(problem, Problem::Status(404, body) if messages::is_status(body))
}

fn refused(
    status: u16,
    body: &str,
    token_file: Option<&Path>,
    namespace: &str,
    rights: &Rights,
) -> String {
    let message = messages::message(body);
    let anonymous = "set `token_file`, or `tls.certificate` and `tls.key`";
    match (status, token_file) {
        (401, Some(file)) => format!(
            "the token in {} is not accepted (401): it has expired, or is for another cluster",
            file.display()
        ),
        (401, None) => format!("it wants to know who we are (401): {anonymous}"),
        (403, _) => match messages::user(&message) {
            Some("system:anonymous") => {
                format!("it does not know who we are (403, system:anonymous): {anonymous}")
            }
            Some(user) => format!(
                "{user} may not {} (403): bind it to a Role in the namespace {namespace} with \
                 apiGroups [{:?}], resources [{:?}], verbs {:?}",
                rights.what, rights.group, rights.resource, rights.verbs
            ),
            // Not for want of a Role: a namespace that is being removed, a quota, a webhook.
            None => format!("it refuses (403): {message}"),
        },
        (404, _) if !messages::is_status(body) => format!(
            "there is no {}/v1 (404): Kubernetes {} or newer is needed",
            rights.group, rights.since
        ),
        _ => format!("status {status}: {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RIGHTS: Rights = Rights {
        what: "eat apples",
        group: "fruit.test",
        resource: "apples",
        verbs: &["get", "eat"],
        since: "1.2",
    };

    #[test]
    fn refusals_say_what_to_do() {
        let check = |status: u16, message: &str, file: Option<&str>, expected: &str| {
            let body = match message {
                text if text.starts_with("404") => text.to_owned(),
                _ => serde_json::json!({ "kind": "Status", "message": message }).to_string(),
            };
            let told = refused(status, &body, file.map(Path::new), "shop", &RIGHTS);
            assert_eq!(told, expected);
        };
        check(
            401,
            "Unauthorized",
            Some("/t"),
            "the token in /t is not accepted (401): it has expired, or is for another cluster",
        );
        let anonymous = "set `token_file`, or `tls.certificate` and `tls.key`";
        let expected = format!("it wants to know who we are (401): {anonymous}");
        check(401, "Unauthorized", None, &expected);
        let expected = format!("it does not know who we are (403, system:anonymous): {anonymous}");
        let message = "apples is forbidden: User \"system:anonymous\" cannot eat";
        check(403, message, None, &expected);
        check(
            403,
            "apples is forbidden: User \"eve\" cannot eat",
            None,
            "eve may not eat apples (403): bind it to a Role in the namespace shop with apiGroups \
             [\"fruit.test\"], resources [\"apples\"], verbs [\"get\", \"eat\"]",
        );
        let message = "the namespace shop is being terminated";
        let expected = "it refuses (403): the namespace shop is being terminated";
        check(403, message, None, expected);
        let expected = "there is no fruit.test/v1 (404): Kubernetes 1.2 or newer is needed";
        check(404, "404 page not found", None, expected);
        let message = "namespaces \"shop\" not found";
        let expected = "status 404: namespaces \"shop\" not found";
        check(404, message, None, expected);
        check(429, "too many", None, "status 429: too many");
    }
}
