//! Where a connection that is passed on as it is would go: `outgrow explain tcp://HOST:PORT`, or
//! `tls://NAME:PORT?alpn=h2,http/1.1` for one that begins with TLS.
//!
//! Pure. Which route it is is found by the stream room's own match.

use std::fmt::Write as _;
use std::net::IpAddr;

use outgrow_core::settings::{Address, Name};
use outgrow_stream::hello::{Asked, ClientHello, Routes};
use outgrow_stream::settings::TcpSettings;
use serde_json::{Value, json};

use super::{UrlError, endpoints};
use crate::config::Config;

/// A connection that somebody asks about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The address or, with TLS, the server name.
    host: String,
    port: u16,
    /// With TLS: the protocols that the client offers.
    offers: Option<Vec<String>>,
}

/// Where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    /// The listener, if one is there.
    listener: Option<Name>,
    /// Whether its ClientHello decides.
    looks: bool,
    /// The route by its ClientHello.
    route: Option<Name>,
    /// The service, with where it answers.
    service: Option<(Name, Vec<String>)>,
}

impl Passage {
    /// Whether it goes to a service.
    pub fn is_answered(&self) -> bool {
        self.service.is_some()
    }
}

impl Connection {
    /// The connection that a URL means; none when it is one of HTTP.
    pub fn parse(url: &str) -> Option<Result<Self, UrlError>> {
        let (is_tls, rest) = match url.split_once("://")? {
            ("tcp", rest) => (false, rest),
            ("tls", rest) => (true, rest),
            _ => return None,
        };
        let (authority, query) = rest.split_once('?').unwrap_or((rest, ""));
        let authority = authority.trim_end_matches('/');
        let Some((host, port)) = authority.rsplit_once(':') else {
            return Some(Err(UrlError::Port));
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Some(Err(UrlError::Host));
        }
        let port = port.parse().ok().filter(|port| *port != 0);
        let offers = query.strip_prefix("alpn=").unwrap_or_default().split(',');
        let offers = offers.filter(|offer| !offer.is_empty()).map(str::to_owned);
        Some(port.ok_or(UrlError::Port).map(|port| Self {
            host: host.to_owned(),
            port,
            offers: is_tls.then(|| offers.collect()),
        }))
    }

    fn reaches(&self, tcp: &TcpSettings) -> bool {
        let Address::Tcp { host, port } = &tcp.address else {
            return false;
        };
        let is_any = match host.parse::<IpAddr>() {
            Ok(address) => address.is_unspecified(),
            Err(_) => host.is_empty() || host == "*",
        };
        // A name may stand for any address.
        let is_name = self.host.parse::<IpAddr>().is_err();
        *port == self.port && (is_any || is_name || *host == self.host)
    }
}

/// Says where a connection goes.
pub fn explain_connection(config: &Config, connection: &Connection) -> Passage {
    let reached = config.tcp.iter().find(|(_, tcp)| connection.reaches(tcp));
    let Some((listener, tcp)) = reached else {
        return Passage {
            listener: None,
            looks: false,
            route: None,
            service: None,
        };
    };
    let routes = tcp.route.iter().map(|(name, route)| {
        let asked = Asked {
            server_names: route.server_name.to_vec(),
            protocols: route.alpn.to_vec(),
        };
        (asked, (Some(name.clone()), route.service.clone()))
    });
    let rest = tcp.service.clone().map(|service| (None, service));
    let routes = Routes::new(routes.collect(), rest);
    let found = match (&connection.offers, routes.looks()) {
        (_, false) => routes.rest(),
        // It does not begin with TLS.
        (None, true) => None,
        (Some(offers), true) => {
            let offers: Vec<&str> = offers.iter().map(String::as_str).collect();
            let is_name = connection.host.parse::<IpAddr>().is_err();
            let name = is_name.then_some(connection.host.as_str());
            routes.find(&ClientHello::asking(name, &offers))
        }
    };
    let service = found.map(|(_, service)| service);
    Passage {
        listener: Some(listener.clone()),
        looks: routes.looks(),
        route: found.and_then(|(route, _)| route.clone()),
        service: service.map(|name| {
            let known = config.service.get(name);
            (name.clone(), known.map(endpoints).unwrap_or_default())
        }),
    }
}

impl Passage {
    /// One JSON object.
    pub fn to_json(&self) -> Value {
        let (service, endpoints) = self.service.clone().unzip();
        json!({
            "listener": self.listener.as_ref().map(Name::as_str),
            "route": self.route.as_ref().map(Name::as_str),
            "service": service.as_ref().map(Name::as_str),
            "endpoints": endpoints.unwrap_or_default(),
        })
    }

    /// For people.
    pub fn text(&self) -> String {
        let Some(listener) = &self.listener else {
            return "no listener of [tcp] is there\n".to_owned();
        };
        let mut text = format!("listener  {listener}\n");
        // A `String` takes whatever is written to it.
        if let Some(route) = &self.route {
            let _ = writeln!(text, "route     {route}");
        }
        match &self.service {
            Some((service, endpoints)) => {
                let _ = writeln!(text, "service   {service}");
                for endpoint in endpoints {
                    let _ = writeln!(text, "          {endpoint}");
                }
            }
            None if self.looks => text.push_str(
                "refused   no route is for it, and there is no `service` for what none is for; \
                 ask with tls://NAME:PORT\n",
            ),
            None => text.push_str("refused   there is no service\n"),
        }
        text
    }
}
