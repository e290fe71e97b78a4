//! What the API server says: pages of a list, lines of a watch, and why it does not: pure.

use std::net::IpAddr;

use outgrow_core::settings::Address;
use serde_json::Value;

use super::settings::{Family, Port};
use super::view::{Slice, Told};
use crate::found::Found;

/// Most endpoints of one slice: the API allows no more.
const ENDPOINTS: usize = 1_000;
/// Longest version, mark of a next page, and name, in bytes.
const TEXT: usize = 4_096;

/// One page of a list.
#[derive(Debug, PartialEq)]
pub(super) struct Page {
    /// What the list is as of.
    pub(super) version: String,
    /// With what the next page is asked for; `None`: there is none.
    pub(super) next: Option<String>,
    /// How many slices follow, as far as that is told.
    pub(super) remaining: usize,
    pub(super) slices: Vec<Slice>,
}

/// What one line of a watch says.
#[derive(Debug, PartialEq)]
pub(super) enum Watched {
    /// A slice is so now.
    Put(Slice, String),
    /// A slice is gone.
    Gone(String, String),
    /// Nothing but the version.
    Mark(String),
    /// What followed our version is not known any more: all must be read anew.
    Lost,
    /// The server ends the watch with an error.
    Failed(String),
}

/// Reads a page.
pub(super) fn read_page(bytes: &[u8], port: Option<&Port>) -> Result<Page, String> {
    let page = parse(bytes)?;
    let items = match page.get("items") {
        // An empty list may be written so.
        None | Some(Value::Null) if is_list(&page) => &[][..],
        Some(Value::Array(items)) => items,
        _ => return Err("there is no list in the answer".to_owned()),
    };
    let next = text(&page, "/metadata/continue").filter(|next| !next.is_empty());
    let remaining = page.pointer("/metadata/remainingItemCount");
    let remaining = remaining.and_then(Value::as_u64).unwrap_or(0);
    let slices = items.iter().map(|item| slice(item, port));
    Ok(Page {
        version: version(&page)?,
        next: next.map(bounded).transpose()?,
        remaining: usize::try_from(remaining).unwrap_or(usize::MAX),
        slices: slices.collect::<Result<_, _>>()?,
    })
}

fn is_list(page: &Value) -> bool {
    text(page, "/kind") == Some("EndpointSliceList")
}

/// Reads one line of a watch.
pub(super) fn read_watch(line: &[u8], port: Option<&Port>) -> Result<Watched, String> {
    let event = parse(line)?;
    let object = event
        .get("object")
        .ok_or("there is no object in an event")?;
    match text(&event, "/type") {
        Some("ADDED" | "MODIFIED") => Ok(Watched::Put(slice(object, port)?, version(object)?)),
        Some("DELETED") => Ok(Watched::Gone(name(object)?, version(object)?)),
        Some("BOOKMARK") => Ok(Watched::Mark(version(object)?)),
        Some("ERROR") if object.get("code").and_then(Value::as_u64) == Some(410) => {
            Ok(Watched::Lost)
        }
        Some("ERROR") => {
            let message = text(object, "/message").unwrap_or("the watch failed");
            Ok(Watched::Failed(message.to_owned()))
        }
        _ => Err("an event of an unknown kind".to_owned()),
    }
}

/// What a server says beside a status that is not 200.
pub(super) fn message(body: &str) -> String {
    let status: Option<Value> = serde_json::from_str(body).ok();
    let message = status.as_ref().and_then(|status| text(status, "/message"));
    message.unwrap_or(body).to_owned()
}

/// Whether what a server says beside a status is the API's own word.
pub(super) fn is_status(body: &str) -> bool {
    let status: Option<Value> = serde_json::from_str(body).ok();
    status.is_some_and(|status| text(&status, "/kind") == Some("Status"))
}

/// Who we are, as the server says in its message.
pub(super) fn user(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("User \"")?;
    rest.split_once('"').map(|(user, _)| user)
}

fn parse(bytes: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(bytes).map_err(|error| format!("the answer is not JSON: {error}"))
}

fn text<'v>(value: &'v Value, pointer: &str) -> Option<&'v str> {
    value.pointer(pointer).and_then(Value::as_str)
}

fn bounded(text: &str) -> Result<String, String> {
    if text.len() > TEXT {
        return Err("a text in the answer is too long".to_owned());
    }
    Ok(text.to_owned())
}

fn version(object: &Value) -> Result<String, String> {
    let version = text(object, "/metadata/resourceVersion").filter(|version| !version.is_empty());
    bounded(version.ok_or("there is no resourceVersion in the answer")?)
}

fn name(object: &Value) -> Result<String, String> {
    let name = text(object, "/metadata/name").filter(|name| !name.is_empty());
    bounded(name.ok_or("an EndpointSlice has no name")?)
}

fn slice(object: &Value, wanted: Option<&Port>) -> Result<Slice, String> {
    let endpoints = match object.get("endpoints") {
        None | Some(Value::Null) => &[][..],
        Some(Value::Array(endpoints)) => endpoints,
        Some(_) => return Err("the endpoints of an EndpointSlice are not a list".to_owned()),
    };
    let family = match text(object, "/addressType") {
        Some("IPv4") => Ok(Family::Ipv4),
        Some("IPv6") => Ok(Family::Ipv6),
        Some("FQDN") => Err("endpoints that are names (FQDN) are not used".to_owned()),
        _ => Err("the kind of the addresses is not known".to_owned()),
    };
    let port = family.and_then(|family| Ok((family, port(object, wanted)?)));
    let mut slice = Slice {
        name: name(object)?,
        family: None,
        told: Vec::new(),
        unusable: endpoints.len().saturating_sub(ENDPOINTS),
        problem: None,
    };
    let endpoints = endpoints.iter().take(ENDPOINTS);
    match port {
        Err(problem) => {
            let used = endpoints.filter(|endpoint| state(endpoint) != State::Off);
            slice.unusable += used.count();
            slice.problem = Some(problem);
        }
        Ok((family, port)) => {
            slice.family = Some(family);
            for one in endpoints {
                let is_leaving = match state(one) {
                    State::Off => continue,
                    State::Leaving => true,
                    State::Ready => false,
                };
                match found(one, family, port) {
                    Some(found) => slice.told.push(Told { found, is_leaving }),
                    None => slice.unusable += 1,
                }
            }
        }
    }
    Ok(slice)
}

/// What is to be done with an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing.
    Off,
    /// It gets requests only when nobody else can.
    Leaving,
    /// It gets requests.
    Ready,
}

/// By the API's rules: what is not said of `ready` counts as yes, of `serving` as `ready`, of
/// `terminating` as no.
fn state(endpoint: &Value) -> State {
    let said = |name: &str| {
        let condition = endpoint.get("conditions").and_then(|all| all.get(name));
        condition.and_then(Value::as_bool)
    };
    let ready = said("ready").unwrap_or(true);
    match said("terminating").unwrap_or(false) {
        false if ready => State::Ready,
        true if said("serving").unwrap_or(ready) => State::Leaving,
        _ => State::Off,
    }
}

fn found(endpoint: &Value, family: Family, port: u16) -> Option<Found> {
    // Nothing is said of what addresses beyond the first mean, and nobody else looks at them.
    let address: IpAddr = text(endpoint, "/addresses/0")?.parse().ok()?;
    if address.is_ipv4() != (family == Family::Ipv4) {
        return None;
    }
    Some(Found {
        zone: text(endpoint, "/zone").unwrap_or_default().to_owned(),
        ..Found::at(Address::tcp(address.to_string(), port))
    })
}

/// The port of a slice that is meant, or why there is none.
fn port(slice: &Value, wanted: Option<&Port>) -> Result<u16, String> {
    let ports = slice.get("ports").and_then(Value::as_array);
    let ports = ports.into_iter().flatten();
    let ports: Vec<&Value> = ports
        .filter(|port| matches!(text(port, "/protocol"), None | Some("TCP")))
        .collect();
    let number = |port: &Value| {
        let number = port.get("port").and_then(Value::as_u64)?;
        u16::try_from(number).ok().filter(|number| *number > 0)
    };
    let name = |port: &Value| text(port, "/name").unwrap_or_default().to_owned();
    // A slice without ports, or with one that has no number, leaves the number open.
    let is_open = ports.is_empty() || ports.iter().any(|port| is_unset(port.get("port")));
    let (found, missing) = match wanted {
        Some(Port::Number(wanted)) => {
            let has_it = is_open || ports.iter().any(|port| number(port) == Some(*wanted));
            (has_it.then_some(*wanted), format!("no port {wanted}"))
        }
        Some(Port::Name(wanted)) => {
            let found = ports.iter().find(|port| name(port) == *wanted);
            let missing = format!("no port with a number called {wanted:?}");
            (found.and_then(|port| number(port)), missing)
        }
        None if ports.len() > 1 => (None, "several ports: write `port`".to_owned()),
        None => {
            let found = ports.first().and_then(|port| number(port));
            (found, "no number of a port: write `port`".to_owned())
        }
    };
    found.ok_or_else(|| {
        let there = ports.iter().take(8).map(|port| match number(port) {
            Some(number) => format!("{:?} at {number}", name(port)),
            None => format!("{:?}", name(port)),
        });
        let there = match there.collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => "none".to_owned(),
            some => some,
        };
        format!("an EndpointSlice has {missing} (of TCP there is {there})")
    })
}

fn is_unset(value: Option<&Value>) -> bool {
    matches!(value, None | Some(Value::Null))
}
