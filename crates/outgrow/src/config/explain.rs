//! What would happen to a request, and why not something else: `outgrow explain URL`.
//!
//! Pure: nothing is connected to. The match itself is the edge's own
//! ([`outgrow_edge::router`]), so that it cannot differ from what really happens.

use std::fmt;

use outgrow_core::settings::{Address, ByteSize, Name};
use outgrow_edge::router::{Router, Rule, host_matches, path_matches};
use outgrow_edge::settings::{ListenerSettings, RouteSettings};
use outgrow_message::path::{PathProblem, normalise};
use serde_json::{Value as Json, json};

use super::Config;

/// Why a URL cannot be explained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UrlError {
    /// A scheme other than http, https, ws and wss.
    Scheme(String),
    /// There is no host in it.
    Host,
    /// The port is not 1..=65535.
    Port,
    /// The path is one that every listener refuses with 400.
    Path(PathProblem),
}

impl fmt::Display for UrlError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scheme(scheme) => write!(
                formatter,
                "{scheme:?} is not a scheme that can be explained; write http://, https://, or \
                 the path alone"
            ),
            Self::Host => formatter.write_str("the URL has no host; write http://HOST/PATH"),
            Self::Port => formatter.write_str("the port must be a number from 1 to 65535"),
            Self::Path(PathProblem::BadEscape) => formatter
                .write_str("a % needs two hexadecimal digits behind it; such a request gets 400"),
            Self::Path(PathProblem::EscapedNul) => {
                formatter.write_str("the path has an escaped NUL; such a request gets 400")
            }
            Self::Path(PathProblem::HiddenDotSegment) => formatter
                .write_str("the path hides a .. behind an escaped slash; such a request gets 400"),
        }
    }
}

impl std::error::Error for UrlError {}

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
    /// Every route: whether it matches, or else why not.
    pub routes: Vec<(Name, Result<(), String>)>,
    /// The route that wins.
    pub route: Option<Name>,
    /// What is done.
    pub outcome: Outcome,
}

/// What is done with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It goes to a service.
    Service {
        /// Its name.
        name: Name,
        /// Where it answers: addresses, or the instances and their command.
        endpoints: Vec<String>,
        /// The lowest limit of the request's body of the route and its listeners, if there is one.
        body_limit: Option<ByteSize>,
    },
    /// It gets a fixed answer with this status.
    Respond(u16),
    /// No route matches: 404.
    NotFound,
    /// No listener would get it.
    NoListener,
}

/// Says what happens to a request for `url`: a whole URL, or a path alone for any listener.
pub fn explain(config: &Config, url: &str, method: &str) -> Result<Explanation, UrlError> {
    let url = Url::parse(url)?;
    let listeners: Vec<(Name, Result<(), String>)> = config
        .listener
        .iter()
        .map(|(name, listener)| (name.clone(), url.reaches(listener)))
        .collect();
    let names: Vec<&Name> = config.route.keys().collect();
    let routes: Vec<&RouteSettings> = config.route.values().collect();
    let router = Router::compile(routes.iter().map(|route| Rule {
        hosts: &route.host,
        path: &route.path,
    }));
    let winner = router.find(url.host.as_bytes(), url.path.as_bytes());
    let why = |index: usize| {
        why_not(
            routes[index],
            &url,
            winner.map(|at| (names[at], index == at)),
        )
    };
    let outcome = if listeners.iter().all(|(_, verdict)| verdict.is_err()) {
        Outcome::NoListener
    } else {
        match winner {
            None => Outcome::NotFound,
            Some(index) => outcome(config, routes[index], &listeners),
        }
    };
    Ok(Explanation {
        method: method.to_owned(),
        routes: (0..routes.len())
            .map(|index| (names[index].clone(), why(index)))
            .collect(),
        route: winner.map(|index| names[index].clone()),
        listeners,
        outcome,
        host: url.authority(),
        path: url.path,
    })
}

/// Why a route is not the one; `winner` is the name of the one that is and whether it is this.
fn why_not(route: &RouteSettings, url: &Url, winner: Option<(&Name, bool)>) -> Result<(), String> {
    let host = url.host.as_bytes();
    let hosts = &route.host;
    if !hosts.is_empty() && !hosts.iter().any(|pattern| host_matches(pattern, host)) {
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let seen = if url.host.is_empty() {
            "no host was given"
        } else {
            &url.host
        };
        return Err(format!("host {} does not match: {seen}", hosts.join(", ")));
    }
    if !path_matches(&route.path, url.path.as_bytes()) {
        return Err(format!("path {} is not a prefix, by segment", route.path));
    }
    match winner {
        Some((_, true)) | None => Ok(()),
        Some((name, false)) => Err(format!("matches too, but route {name} is more specific")),
    }
}

fn outcome(
    config: &Config,
    route: &RouteSettings,
    listeners: &[(Name, Result<(), String>)],
) -> Outcome {
    if let Some(respond) = &route.respond {
        return Outcome::Respond(respond.status);
    }
    let Some(service) = &route.service else {
        return Outcome::NotFound;
    };
    let endpoints = match config.service.get(service.as_str()) {
        Some(found) => endpoints(found),
        None => Vec::new(),
    };
    let reached = listeners.iter().filter(|(_, verdict)| verdict.is_ok());
    let limits = reached.filter_map(|(name, _)| config.listener.get(name.as_str()));
    let body_limit = limits
        .map(|listener| listener.body_limit)
        .chain([route.body_limit])
        .filter(|limit| limit.limit().is_some())
        .min();
    Outcome::Service {
        name: service.0.clone(),
        endpoints,
        body_limit,
    }
}

fn endpoints(service: &super::Service) -> Vec<String> {
    let addresses = service.upstream.endpoints.iter();
    let mut lines: Vec<String> = addresses
        .map(|endpoint| match endpoint.weight {
            1 => endpoint.address.to_string(),
            weight => format!("{} (weight {weight})", endpoint.address),
        })
        .collect();
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

impl fmt::Display for Explanation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{} {}{}", self.method, self.host, self.path)?;
        write_verdicts(out, "listener", &self.listeners)?;
        write_verdicts(out, "route", &self.routes)?;
        match &self.outcome {
            Outcome::Service {
                name,
                endpoints,
                body_limit,
            } => {
                writeln!(out, "→ service {name}: {}", endpoints.join(", "))?;
                if let Some(limit) = body_limit {
                    writeln!(out, "  a body above {limit} gets 413")?;
                }
                Ok(())
            }
            Outcome::Respond(status) => writeln!(out, "→ a fixed answer with status {status}"),
            Outcome::NotFound => writeln!(out, "→ 404: no route matches"),
            Outcome::NoListener => writeln!(out, "→ nothing listens there"),
        }
    }
}

fn write_verdicts(
    out: &mut fmt::Formatter<'_>,
    kind: &str,
    verdicts: &[(Name, Result<(), String>)],
) -> fmt::Result {
    for (name, verdict) in verdicts {
        match verdict {
            Ok(()) => writeln!(out, "  + {kind} {name}")?,
            Err(reason) => writeln!(out, "  - {kind} {name}: {reason}")?,
        }
    }
    Ok(())
}

impl Explanation {
    /// The same for programs.
    pub fn to_json(&self) -> Json {
        let verdicts = |list: &[(Name, Result<(), String>)]| -> Vec<Json> {
            let each = |(name, verdict): &(Name, Result<(), String>)| {
                json!({
                    "name": name.as_str(),
                    "matches": verdict.is_ok(),
                    "reason": verdict.as_ref().err(),
                })
            };
            list.iter().map(each).collect()
        };
        let outcome = match &self.outcome {
            Outcome::Service {
                name,
                endpoints,
                body_limit,
            } => json!({
                "service": name.as_str(),
                "endpoints": endpoints,
                "body_limit": body_limit.map(ByteSize::bytes),
            }),
            Outcome::Respond(status) => json!({ "respond": status }),
            Outcome::NotFound => json!({ "respond": 404 }),
            Outcome::NoListener => Json::Null,
        };
        json!({
            "method": self.method,
            "host": self.host,
            "path": self.path,
            "listeners": verdicts(&self.listeners),
            "routes": verdicts(&self.routes),
            "route": self.route.as_ref().map(Name::as_str),
            "outcome": outcome,
        })
    }
}

/// The parts of a URL that decide.
struct Url {
    /// Whether TLS is asked for; `None` when only a path was given.
    tls: Option<bool>,
    /// Empty when only a path was given.
    host: String,
    port: u16,
    /// Normalised.
    path: String,
}

impl Url {
    fn parse(text: &str) -> Result<Self, UrlError> {
        let text = text.split(['?', '#']).next().unwrap_or_default();
        if text.starts_with('/') {
            return Ok(Self {
                tls: None,
                host: String::new(),
                port: 0,
                path: normal_path(text)?,
            });
        }
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "http" | "ws" => false,
            "https" | "wss" => true,
            _ => return Err(UrlError::Scheme(scheme.to_owned())),
        };
        let at = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(at);
        let authority = authority
            .rsplit_once('@')
            .map_or(authority, |(_, host)| host);
        let (host, port) = match authority.rsplit_once(':') {
            // The colons of an IPv6 address are inside of brackets.
            Some((host, port)) if !port.ends_with(']') => (host, port),
            _ => (authority, ""),
        };
        if host.is_empty() {
            return Err(UrlError::Host);
        }
        let port = match port {
            "" if tls => 443,
            "" => 80,
            port => port
                .parse()
                .ok()
                .filter(|port| *port != 0)
                .ok_or(UrlError::Port)?,
        };
        Ok(Self {
            tls: Some(tls),
            host: host.to_owned(),
            port,
            path: normal_path(if path.is_empty() { "/" } else { path })?,
        })
    }

    fn authority(&self) -> String {
        match (self.tls, self.port) {
            (None, _) => String::new(),
            (Some(true), 443) | (Some(false), 80) => self.host.clone(),
            (_, port) => format!("{}:{port}", self.host),
        }
    }

    /// Whether a listener would get the request: its port and whether it speaks TLS decide. The
    /// host is not resolved.
    fn reaches(&self, listener: &ListenerSettings) -> Result<(), String> {
        let Some(tls) = self.tls else { return Ok(()) };
        match &listener.address {
            Address::Unix(path) => Err(format!("listens at the socket {}", path.display())),
            Address::Tcp { port, .. } if *port != self.port && *port != 0 => {
                Err(format!("listens at port {port}, the URL has {}", self.port))
            }
            Address::Tcp { .. } if tls && listener.tls.is_none() => {
                Err("does not speak TLS, the URL is https".to_owned())
            }
            Address::Tcp { .. } if !tls && listener.tls.is_some() => {
                Err("speaks TLS only, the URL is http".to_owned())
            }
            Address::Tcp { .. } => Ok(()),
        }
    }
}

fn normal_path(path: &str) -> Result<String, UrlError> {
    let mut out = Vec::new();
    normalise(path.as_bytes(), &mut out).map_err(UrlError::Path)?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}
