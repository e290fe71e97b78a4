//! What would happen to a request, and why not something else: `outgrow explain URL`.
//!
//! Pure: nothing is connected to. The match, the rewrite and the split are the edge's own
//! ([`outgrow_edge::router`]), so that they cannot differ from what really happens. How it is shown
//! is in [`show`].

mod show;
mod stream;
mod url;

use outgrow_core::settings::{ByteSize, Name};
use outgrow_edge::rewrite::{Redirect, Rewrite};
use outgrow_edge::router::{Captures, Considered, Failed, Routers, host_matches, path_matches};
use outgrow_edge::settings::{ListenerName, ListenerSettings, RouteSettings};
use outgrow_edge::split::Split;
use outgrow_message::{Method, RequestHead};

use super::Config;
pub use stream::{Connection, explain_connection};
use url::Url;
pub use url::UrlError;

/// The request that somebody asks about.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// A whole URL, or a path alone for any listener.
    pub url: String,
    /// The method.
    pub method: String,
    /// Header fields.
    pub headers: Vec<(String, String)>,
    /// Cookies, as `name=value`.
    pub cookies: Vec<String>,
    /// The listener at which it comes; none: the first one that the URL reaches.
    pub listener: Option<String>,
}

/// What happens to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// `GET`
    pub method: String,
    /// The host with its port as it would stand in the request; empty when only a path was given.
    pub host: String,
    /// The path as routes see it: normalised, without the query.
    pub path: String,
    /// Every listener: whether it would get the request, or else why not.
    pub listeners: Vec<(Name, Result<(), String>)>,
    /// The listener at which it is taken to come: the first one that would get it.
    pub listener: Option<Name>,
    /// Every route: whether it matches, or else why not.
    pub routes: Vec<(Name, Result<(), String>)>,
    /// The route that wins.
    pub route: Option<Name>,
    /// What its path's parameters stand for.
    pub parameters: Vec<(String, String)>,
    /// What is done.
    pub outcome: Outcome,
    /// The lower limit of the request's body of the route and the listener, if there is one.
    pub body_limit: Option<ByteSize>,
}

/// What is done with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It goes to a service.
    Service {
        /// The services that share the route's requests; one where it has only one.
        shares: Vec<ShareTold>,
        /// By what a request's share is decided, where there are several.
        split_by: Option<String>,
        /// The share that has this request, as far as that can be told.
        chosen: Option<Name>,
        /// Host, path and query as the service sees them, where they are rewritten.
        sent: Option<String>,
        /// The service that gets a copy, and of which part of the requests.
        mirror: Option<(Name, String)>,
    },
    /// The client is sent elsewhere.
    Redirect {
        /// With this status.
        status: u16,
        /// To this URL.
        to: String,
    },
    /// It gets a file of this directory, or 404.
    Files {
        /// The directory.
        directory: String,
        /// The path that is looked for in it, as it stands in a URL.
        path: String,
    },
    /// It gets a fixed answer with this status.
    Respond(u16),
    /// No route matches: 404.
    NotFound,
    /// Only its method keeps it from a route: 405, and these would have one.
    MethodNotAllowed(String),
    /// A parameter cannot stand where the rewrite or the redirect puts it: 400.
    BadRequest,
    /// No listener would get it.
    NoListener,
}

impl Explanation {
    /// Whether a route answers it, or sends it somewhere.
    pub fn is_answered(&self) -> bool {
        !matches!(
            self.outcome,
            Outcome::NotFound
                | Outcome::MethodNotAllowed(_)
                | Outcome::BadRequest
                | Outcome::NoListener
        )
    }
}

/// A service's share of a route's requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareTold {
    /// The service.
    pub service: Name,
    /// Its weight.
    pub weight: u32,
    /// Where it answers: addresses, or the instances and their command.
    pub endpoints: Vec<String>,
}

/// Says what happens to a request.
pub fn explain(config: &Config, question: &Question) -> Result<Explanation, UrlError> {
    let url = Url::parse(&question.url)?;
    let reaches = |(name, listener): (&Name, &ListenerSettings)| {
        let verdict = match &question.listener {
            Some(asked) if asked != name.as_str() => Err(format!("{asked} is asked about")),
            _ => url.reaches(listener),
        };
        (name.clone(), verdict)
    };
    let listeners: Vec<(Name, Result<(), String>)> = config.listener.iter().map(reaches).collect();
    let taken = listeners.iter().find(|(_, verdict)| verdict.is_ok());
    let taken = taken.map(|(name, _)| name.clone());
    let reached = taken.as_ref().map_or("", Name::as_str);
    let request = head(question, &url);
    let names: Vec<&Name> = config.route.keys().collect();
    let routes: Vec<&RouteSettings> = config.route.values().collect();
    let routers = Routers::compile(routes.iter().copied());
    let router = routers.of(reached);
    let considered = router.consider(&request);
    let winner = considered.iter().find(|each| each.failed.is_empty());
    let verdicts = routes.iter().enumerate().map(|(index, route)| {
        let winner = winner.map(|winner| (names[winner.index], winner.index == index));
        let known = considered.iter().find(|each| each.index == index);
        (
            names[index].clone(),
            why_not(route, reached, &request, known, winner),
        )
    });
    let outcome = if listeners.iter().all(|(_, verdict)| verdict.is_err()) {
        Outcome::NoListener
    } else if let Some(winner) = winner {
        outcome(
            config,
            routes[winner.index],
            request.clone(),
            &winner.captures,
        )
    } else if let Some(methods) = router.allowed(&request) {
        Outcome::MethodNotAllowed(methods)
    } else {
        Outcome::NotFound
    };
    Ok(Explanation {
        method: question.method.clone(),
        routes: verdicts.collect(),
        route: winner.map(|winner| names[winner.index].clone()),
        parameters: winner.map_or_else(Vec::new, |winner| {
            parameters(routes[winner.index], &request, &winner.captures)
        }),
        body_limit: winner.and_then(|winner| body_limit(config, routes[winner.index], reached)),
        listeners,
        listener: taken,
        outcome,
        host: url.authority(),
        path: url.path,
    })
}

/// The head of the request, as a listener would have read it.
fn head(question: &Question, url: &Url) -> RequestHead {
    let mut head = RequestHead::default();
    head.clear();
    head.method = Method::of(question.method.as_bytes());
    head.method_text = head.fields.push_bytes(question.method.as_bytes());
    head.raw_path = head.fields.push_bytes(url.path.as_bytes());
    let query = url.query.as_deref();
    head.query = query.map(|query| head.fields.push_bytes(query.as_bytes()));
    for (name, value) in &question.headers {
        head.fields.push(name.as_bytes(), value.as_bytes());
    }
    for cookie in &question.cookies {
        head.fields.push(b"Cookie", cookie.as_bytes());
    }
    let named = question.headers.iter();
    let named = named.filter(|(name, _)| name.eq_ignore_ascii_case("host"));
    let host = match named.map(|(_, value)| value).next() {
        Some(host) if url.host.is_empty() => host.clone(),
        _ => url.authority(),
    };
    head.authority = head.fields.push_bytes(host.as_bytes());
    // It was normalised when the URL was read.
    let _ = head.normalise_path();
    head
}

/// Why a route is not the one; `winner` is the name of the one that is and whether it is this.
fn why_not(
    route: &RouteSettings,
    listener: &str,
    request: &RequestHead,
    considered: Option<&Considered>,
    winner: Option<(&Name, bool)>,
) -> Result<(), String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let named: Vec<&str> = route.listener.iter().map(ListenerName::as_str).collect();
    if !named.is_empty() && !named.contains(&listener) {
        let named = named.join(", ");
        return Err(match listener {
            "" => format!("it is for listener {named}"),
            listener => format!("it is for listener {named}, and this comes to {listener}"),
        });
    }
    let host = request.text(request.authority);
    let hosts = &route.host;
    if !hosts.is_empty() && !hosts.iter().any(|pattern| host_matches(pattern, host)) {
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let seen = match text(request.host()) {
            host if host.is_empty() => "no host was given".to_owned(),
            host => host,
        };
        return Err(format!("host {} does not match: {seen}", hosts.join(", ")));
    }
    if !path_matches(&route.path, request.path()) {
        return Err(match route.path.is_exact() {
            true => format!("path {} is not the whole path", route.path),
            false => format!("path {} is not a prefix, by segment", route.path),
        });
    }
    if let Some(considered) = considered
        && !considered.failed.is_empty()
    {
        let failed: Vec<String> = considered.failed.iter().map(failure).collect();
        return Err(failed.join("; "));
    }
    match winner {
        Some((_, true)) | None => Ok(()),
        Some((name, false)) => Err(format!("matches too, but route {name} is more specific")),
    }
}

fn failure(failed: &Failed) -> String {
    let Failed {
        subject,
        wanted,
        seen,
    } = failed;
    match seen.as_slice() {
        [] => format!("{subject} is to be {wanted}, there is none"),
        seen => format!("{subject} is to be {wanted}, it is {}", seen.join(", ")),
    }
}

fn parameters(
    route: &RouteSettings,
    request: &RequestHead,
    captures: &Captures,
) -> Vec<(String, String)> {
    let text = |index| captures.segment(index, request.path());
    let text = |index| String::from_utf8_lossy(text(index)).into_owned();
    let names = route.path.parameters().enumerate();
    names
        .map(|(index, name)| (name.to_owned(), text(index)))
        .collect()
}

fn outcome(
    config: &Config,
    route: &RouteSettings,
    mut request: RequestHead,
    captures: &Captures,
) -> Outcome {
    if let Some(respond) = &route.respond {
        return Outcome::Respond(respond.status);
    }
    let mut text = Vec::new();
    if let Some(files) = &route.files {
        if let Some(rewrite) = Rewrite::new(route)
            && rewrite.apply(&mut request, captures, &mut text).is_err()
        {
            return Outcome::BadRequest;
        }
        let path = request.forward_path();
        return Outcome::Files {
            directory: files.dir.display().to_string(),
            path: String::from_utf8_lossy(path).into_owned(),
        };
    }
    if let Some(redirect) = &route.redirect {
        let redirect = Redirect::new(redirect, &route.path);
        return match redirect.location(&request, captures, &mut text) {
            Ok(()) => Outcome::Redirect {
                status: redirect.status,
                to: String::from_utf8_lossy(&text).into_owned(),
            },
            Err(_) => Outcome::BadRequest,
        };
    }
    let told = |(service, weight): (&outgrow_edge::settings::ServiceName, u32)| ShareTold {
        service: service.0.clone(),
        weight,
        endpoints: match config.service.get(service.as_str()) {
            Some(found) => endpoints(found),
            None => Vec::new(),
        },
    };
    let shares: Vec<ShareTold> = route.shares().into_iter().map(told).collect();
    if shares.is_empty() {
        return Outcome::NotFound;
    }
    let split = Split::new(
        route.split_by.clone(),
        shares.iter().map(|share| share.weight),
    );
    let point = split.key_point(&request);
    let chosen = point.and_then(|point| shares.get(split.pick(point)));
    let chosen = chosen.map(|share| share.service.clone());
    let split_by = (!route.split.is_empty()).then(|| route.split_by.to_string());
    let mirror = route.mirror.as_ref();
    let mirror = mirror.map(|mirror| (mirror.service.0.clone(), mirror.share.to_string()));
    let sent = match Rewrite::new(route) {
        None => None,
        Some(rewrite) => match rewrite.apply(&mut request, captures, &mut text) {
            Ok(()) => Some(sent(&request)),
            Err(_) => return Outcome::BadRequest,
        },
    };
    Outcome::Service {
        shares,
        split_by,
        chosen,
        sent,
        mirror,
    }
}

/// Host, path and query as they are sent.
fn sent(request: &RequestHead) -> String {
    let mut text = request.text(request.authority).to_vec();
    text.extend_from_slice(request.forward_path());
    if let Some(query) = request.query {
        text.push(b'?');
        text.extend_from_slice(request.text(query));
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn body_limit(config: &Config, route: &RouteSettings, listener: &str) -> Option<ByteSize> {
    route.services().next()?;
    let listener = config.listener.get(listener);
    listener
        .map(|listener| listener.body_limit)
        .into_iter()
        .chain([route.body_limit])
        .filter(|limit| limit.limit().is_some())
        .min()
}

fn endpoints(service: &super::Service) -> Vec<String> {
    let addresses = service.upstream.endpoints.iter();
    let mut lines: Vec<String> = addresses
        .map(|endpoint| match endpoint.weight {
            1 => endpoint.address.to_string(),
            weight => format!("{} (weight {weight})", endpoint.address),
        })
        .collect();
    let source = service
        .discover
        .as_ref()
        .and_then(|discover| discover.source());
    lines.extend(source.map(|source| format!("those of {source}")));
    if let Some(instances) = &service.instances {
        let count = match instances.instances {
            Some(1) => "1 instance".to_owned(),
            Some(count) => format!("{count} instances"),
            None if instances.port != 0 => "1 instance".to_owned(),
            None => "an instance per core, at least 2,".to_owned(),
        };
        let command = outgrow_core::settings::Setting::text(&instances.command);
        lines.push(format!("{count} of {}", command.unwrap_or_default()));
    }
    lines
}
