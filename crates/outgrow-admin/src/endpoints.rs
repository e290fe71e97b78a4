//! What there is to ask for, and the way of a request from its head to its answer.

use std::fmt::Write;
use std::path::PathBuf;

use outgrow_message::{Method, RequestHead};
use serde::Deserialize;

use crate::answer::{Answer, Content};
use crate::exposition;
use crate::guard;
use crate::plan::AdminPlan;
use crate::source::{PromoteRequest, Readiness, Source};

/// One thing to ask for.
#[derive(Debug)]
pub(crate) struct Endpoint {
    path: &'static str,
    pub(crate) what: What,
    about: &'static str,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Index,
    Live,
    Ready,
    Leader,
    Metrics,
    State,
    Service,
    Reload,
    Upgrade,
    Deploy,
    Promote,
    Stop,
}

const ENDPOINTS: [Endpoint; 12] = [
    Endpoint {
        path: "/",
        what: What::Index,
        about: "this text",
    },
    Endpoint {
        path: "/livez",
        what: What::Live,
        about: "200 while the process lives; needs no token",
    },
    Endpoint {
        path: "/readyz",
        what: What::Ready,
        about: "200 while traffic should come here, else 503 with the reason; needs no token",
    },
    Endpoint {
        path: "/leader",
        what: What::Leader,
        about: "200 while this box holds the leader lease, else 503 with who does; needs no token",
    },
    Endpoint {
        path: "/metrics",
        what: What::Metrics,
        about: "metrics for Prometheus",
    },
    Endpoint {
        path: "/state",
        what: What::State,
        about: "services, endpoints, instances and listeners as JSON",
    },
    Endpoint {
        path: "/services/NAME/endpoints",
        what: What::Service,
        about: "where a service answers, for clients that choose themselves",
    },
    Endpoint {
        path: "/reload",
        what: What::Reload,
        about: "reads the configuration anew",
    },
    Endpoint {
        path: "/upgrade",
        what: What::Upgrade,
        about: "hands over to a new process; {\"binary\": \"/path\"} names another binary",
    },
    Endpoint {
        path: "/deploy",
        what: What::Deploy,
        about: "replaces the instances of {\"service\": \"NAME\"}, step by step",
    },
    Endpoint {
        path: "/postgres/promote",
        what: What::Promote,
        about: "makes a replica the primary of {\"service\": \"NAME\"}; \"to\", \"dry_run\", …",
    },
    Endpoint {
        path: "/stop",
        what: What::Stop,
        about: "drains and stops everything",
    },
];

impl What {
    pub(crate) fn is_action(self) -> bool {
        matches!(
            self,
            Self::Reload | Self::Upgrade | Self::Deploy | Self::Promote | Self::Stop
        )
    }

    /// Whether it is for probes, which have no token.
    fn is_open(self) -> bool {
        matches!(self, Self::Live | Self::Ready | Self::Leader)
    }
}

/// Finds what a request asks for, if the one who asks may.
pub(crate) fn find(plan: &AdminPlan, head: &RequestHead, is_tcp: bool) -> Result<What, Answer> {
    if is_tcp {
        guard::check_host(plan, head)?;
    }
    let found = ENDPOINTS.iter().find(|endpoint| match endpoint.what {
        What::Service => service_of(head.path()).is_some(),
        _ => endpoint.path.as_bytes() == head.path(),
    });
    if !found.is_some_and(|endpoint| endpoint.what.is_open()) {
        guard::check_token(plan, head)?;
    }
    let Some(endpoint) = found else {
        let hint = "GET / says what there is";
        return Err(Answer::problem(404, "there is nothing here", hint));
    };
    let is_action = endpoint.what.is_action();
    let is_right = match head.method {
        Method::Get | Method::Head => !is_action,
        Method::Post => is_action,
        _ => false,
    };
    if !is_right {
        let allow = if is_action { "POST" } else { "GET, HEAD" };
        let hint = format!("use {allow}");
        let answer = Answer::problem(405, "the method is not allowed here", &hint);
        return Err(answer.with("Allow", allow));
    }
    if is_action {
        guard::check_not_from_page(head)?;
    }
    Ok(endpoint.what)
}

/// The service that the path asks about.
fn service_of(path: &[u8]) -> Option<&str> {
    let name = path.strip_prefix(b"/services/")?;
    let name = std::str::from_utf8(name.strip_suffix(b"/endpoints")?).ok()?;
    (!name.is_empty() && !name.contains('/')).then_some(name)
}

/// Answers a request of `path` whose body is `body`.
pub(crate) async fn answer(source: &dyn Source, what: What, path: &[u8], body: &[u8]) -> Answer {
    let asked = match asked(what, body) {
        Ok(asked) => asked,
        Err(answer) => return answer,
    };
    match what {
        What::Index => Answer::made(200, Content::Text, index().into_bytes()),
        What::Live => Answer::fixed(200, "ok\n"),
        What::Ready => match source.ready() {
            Readiness::Ready => Answer::fixed(200, "ok\n"),
            Readiness::ReadyWithout { reason } => {
                Answer::made(200, Content::Text, format!("ok\n{reason}\n").into_bytes())
            }
            Readiness::NotReady { reason } => {
                Answer::made(503, Content::Text, format!("{reason}\n").into_bytes())
            }
        },
        What::Leader => match source.leader() {
            Some((is_held, told)) => Answer::json(if is_held { 200 } else { 503 }, &told),
            None => Answer::problem(
                404,
                "there is no leader lease",
                "add a table [leader] to the configuration",
            ),
        },
        What::Metrics => {
            let text = exposition::write(&source.families());
            Answer::made(200, Content::Metrics, text.into_bytes())
        }
        What::State => Answer::json(200, &source.state()),
        What::Service => match service_of(path).and_then(|name| source.endpoints(name)) {
            Some(endpoints) => Answer::json(200, &endpoints),
            None => Answer::problem(
                404,
                "there is no such service",
                "GET /state has all of them",
            ),
        },
        What::Reload => Answer::of_action(200, source.reload().await),
        What::Upgrade => Answer::of_action(200, source.upgrade(asked.binary).await),
        What::Deploy => {
            let service = asked.service.unwrap_or_default();
            Answer::of_action(202, source.deploy(service).await)
        }
        What::Promote => Answer::of_action(202, source.promote(asked.promote).await),
        What::Stop => Answer::of_action(202, source.stop().await),
    }
}

/// What the body of an action says. Unknown keys are refused: a misspelt one must not upgrade to
/// something else.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    binary: Option<PathBuf>,
    service: Option<String>,
    /// Of a promotion, which has words of its own.
    #[serde(skip)]
    promote: PromoteRequest,
}

fn asked(what: What, body: &[u8]) -> Result<Asked, Answer> {
    let is_empty = body.trim_ascii().is_empty();
    if !what.is_action() || (is_empty && what != What::Deploy) {
        return Ok(Asked::default());
    }
    let refuse = |problem: &str| {
        let hint = match what {
            What::Upgrade => "send no body, or {\"binary\": \"/absolute/path\"}",
            What::Deploy => "send {\"service\": \"NAME\"}",
            What::Promote => {
                "send {\"service\": \"NAME\"}, with \"to\", \"dry_run\", \"force_without_fence\", \
                 \"accept_loss\" as wanted"
            }
            _ => "send no body",
        };
        Err(Answer::problem(400, problem, hint))
    };
    if what == What::Promote {
        return match serde_json::from_slice(body) {
            Ok(promote) => Ok(Asked {
                promote,
                ..Asked::default()
            }),
            Err(error) => refuse(&format!("the body is not what was expected: {error}")),
        };
    }
    let asked: Asked = match serde_json::from_slice(body) {
        Ok(asked) => asked,
        Err(error) => return refuse(&format!("the body is not what was expected: {error}")),
    };
    match (what, &asked.service) {
        (What::Deploy, None) => return refuse("which service?"),
        (What::Deploy, Some(_)) | (_, None) => {}
        (_, Some(_)) => return refuse("only a deploy takes a service"),
    }
    match asked.binary {
        Some(_) if what != What::Upgrade => refuse("only an upgrade takes a binary"),
        // The caller's folder is not that of the process, so a relative path would be a guess.
        Some(path) if !path.is_absolute() => refuse("the path of the binary is not absolute"),
        binary => Ok(Asked {
            binary,
            service: asked.service,
            ..Asked::default()
        }),
    }
}

fn index() -> String {
    let mut text = String::from("outgrow, admin listener\n\n");
    for endpoint in &ENDPOINTS {
        let method = if endpoint.what.is_action() {
            "POST"
        } else {
            "GET"
        };
        let Endpoint { path, about, .. } = endpoint;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{method:<5} {path:<9} {about}");
    }
    text
}
