//! Templates filled in from a request: the path and the host that a service sees instead of the
//! request's own, and where a redirect leads.
//!
//! What is captured comes from the normalised path: it has no empty and no dot segment, so that no
//! template makes one. A redirect's target is encoded besides: nothing in it ends a line or is
//! taken for a slash.

use outgrow_core::{Cause, Fault, Phase};
use outgrow_message::RequestHead;

use crate::router::{Captures, bare_host};
use crate::settings::{self, PathPattern, RedirectSettings, RouteSettings};

/// A template, compiled for the pattern whose captures fill it.
#[derive(Clone, Debug)]
struct Filling {
    pieces: Box<[Piece]>,
}

#[derive(Clone, Debug)]
enum Piece {
    Text(Box<[u8]>),
    Parameter(usize),
    /// What follows the prefix.
    Rest(Rest),
    Host,
    Path,
    /// The query, with a question mark before it when it is not empty, or without.
    Query {
        mark: bool,
    },
}

/// How what follows the prefix is joined to what stands before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// Without its first slash.
    Bare,
    /// With it, instead of the slash before it.
    Slash,
    /// The same at the beginning of a path, where a slash stands in any case.
    Root,
}

impl Filling {
    fn new(pieces: &[settings::Piece], path: &PathPattern) -> Self {
        let mut compiled: Vec<Piece> = Vec::new();
        for piece in pieces {
            let name = match piece {
                settings::Piece::Text(text) => {
                    compiled.push(Piece::Text(text.as_bytes().into()));
                    continue;
                }
                settings::Piece::Name(name) => name.as_str(),
            };
            let parameter = path.parameters().position(|known| known == name);
            let piece = match (parameter, name) {
                (Some(index), _) => Piece::Parameter(index),
                (None, "rest") => Piece::Rest(match takes_last(&mut compiled, b'/') {
                    false => Rest::Bare,
                    true if is_empty(&compiled) => Rest::Root,
                    true => Rest::Slash,
                }),
                (None, "query") => {
                    let mark = takes_last(&mut compiled, b'?');
                    Piece::Query { mark }
                }
                (None, "host") => Piece::Host,
                (None, "path") => Piece::Path,
                // The check of the configuration lets no other name through.
                (None, _) => continue,
            };
            compiled.push(piece);
        }
        let pieces = compiled.into();
        Self { pieces }
    }

    fn fill(&self, request: &RequestHead, captures: &Captures, mut put: impl FnMut(&[u8])) {
        let path = request.path();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => put(text),
                Piece::Parameter(index) => put(captures.segment(*index, path)),
                Piece::Rest(Rest::Root) if captures.rest(path).is_empty() => put(b"/"),
                Piece::Rest(Rest::Bare) => {
                    let rest = captures.rest(path);
                    put(rest.strip_prefix(b"/").unwrap_or(rest));
                }
                Piece::Rest(Rest::Slash | Rest::Root) => put(captures.rest(path)),
                Piece::Host => put(bare_host(request.text(request.authority))),
                Piece::Path if path.first() == Some(&b'/') => put(path),
                Piece::Path => put(b"/"),
                Piece::Query { mark } => put_query(request, *mark, &mut put),
            }
        }
    }

    fn uses_host(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Host))
    }
}

fn is_empty(pieces: &[Piece]) -> bool {
    let is_nothing = |piece: &Piece| matches!(piece, Piece::Text(text) if text.is_empty());
    pieces.iter().all(is_nothing)
}

/// Whether the last text ended in `byte`, which is taken off then.
fn takes_last(pieces: &mut [Piece], byte: u8) -> bool {
    let Some(Piece::Text(text)) = pieces.last_mut() else {
        return false;
    };
    let Some(rest) = text.strip_suffix(&[byte]) else {
        return false;
    };
    *text = rest.into();
    true
}

fn put_query(request: &RequestHead, mark: bool, put: &mut impl FnMut(&[u8])) {
    let query = request.query.map_or(&b""[..], |span| request.text(span));
    if mark && !query.is_empty() {
        put(b"?");
    }
    put(query);
}

/// The path and the host that a service sees instead of the request's own.
#[derive(Clone, Debug)]
pub struct Rewrite {
    path: Option<Filling>,
    host: Option<Filling>,
}

impl Rewrite {
    /// Compiles what a route says; none when it changes nothing.
    pub fn new(route: &RouteSettings) -> Option<Self> {
        let path = route.rewritten_path();
        let path = path.map(|path| Filling::new(path.pieces(), &route.path));
        let host = route
            .rewrite
            .as_ref()
            .and_then(|rewrite| rewrite.host.as_ref());
        let host = host.map(|host| Filling::new(host.pieces(), &route.path));
        (path.is_some() || host.is_some()).then_some(Self { path, host })
    }

    /// Changes the path and the host that are sent; `text` is room for making them.
    pub fn apply(
        &self,
        request: &mut RequestHead,
        captures: &Captures,
        text: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        // Of the path as it came: what follows does not change what was captured.
        if let Some(host) = &self.host {
            text.clear();
            host.fill(request, captures, |piece| text.extend_from_slice(piece));
            if !is_authority(text) {
                return Err(Fault::client(Phase::Route, Cause::BadTarget));
            }
            request.authority = request.fields.push_bytes(text);
        }
        // `OPTIONS *` has no path.
        if let Some(path) = &self.path
            && request.path().first() == Some(&b'/')
        {
            text.clear();
            path.fill(request, captures, |piece| text.extend_from_slice(piece));
            request.rewritten_path = Some(request.fields.push_bytes(text));
        }
        Ok(())
    }
}

/// Whether a host with or without a port can be sent. What a request says stands in it.
fn is_authority(host: &[u8]) -> bool {
    let is_right = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(byte);
    !host.is_empty() && host.iter().all(is_right)
}

/// Where a route sends the client.
#[derive(Clone, Debug)]
pub struct Redirect {
    /// The status.
    pub status: u16,
    to: Filling,
    /// Whether the query goes behind the target.
    keeps_query: bool,
}

impl Redirect {
    /// Compiles what a route with this path says.
    pub fn new(redirect: &RedirectSettings, path: &PathPattern) -> Self {
        Self {
            status: redirect.status,
            to: Filling::new(redirect.to.pieces(), path),
            keeps_query: !redirect.to.to_string().contains(['?', '#']),
        }
    }

    /// Writes the target into `text`, which is cleared first.
    pub fn location(
        &self,
        request: &RequestHead,
        captures: &Captures,
        text: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        text.clear();
        if self.to.uses_host() && !is_authority(bare_host(request.text(request.authority))) {
            return Err(Fault::client(Phase::Route, Cause::BadHost));
        }
        self.to
            .fill(request, captures, |piece| put_encoded(piece, text));
        // `{path}/` of the path `/`: two slashes would name a host.
        if text.starts_with(b"//") {
            text.remove(0);
        }
        if self.keeps_query {
            put_query(request, true, &mut |piece| put_encoded(piece, text));
        }
        Ok(())
    }
}

/// Writes the URL of a request with TLS at `port` into `text`, which is cleared first.
pub(crate) fn https(request: &RequestHead, port: u16, text: &mut Vec<u8>) -> Result<(), Fault> {
    text.clear();
    let host = bare_host(request.text(request.authority));
    if !is_authority(host) {
        return Err(Fault::client(Phase::Route, Cause::BadHost));
    }
    text.extend_from_slice(b"https://");
    text.extend_from_slice(host);
    if port != 443 {
        text.extend_from_slice(format!(":{port}").as_bytes());
    }
    // As it came, so that nothing is lost; `OPTIONS *` has no path.
    let path = request.text(request.raw_path);
    put_encoded(
        if path.first() == Some(&b'/') {
            path
        } else {
            b"/"
        },
        text,
    );
    put_query(request, true, &mut |piece| put_encoded(piece, text));
    Ok(())
}

/// Appends what may stand in a URL (RFC 3986 section 2) as it is, the rest percent-encoded.
fn put_encoded(piece: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in piece {
        if byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&byte) {
            out.push(byte);
        } else {
            let digits = [byte >> 4, byte & 15].map(|digit| DIGITS[usize::from(digit)]);
            out.extend_from_slice(&[b'%', digits[0], digits[1]]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::{Router, Rule};
    use crate::settings::RewriteSettings;

    fn request(host: &str, target: &str) -> RequestHead {
        let mut head = RequestHead::default();
        head.clear();
        head.authority = head.fields.push_bytes(host.as_bytes());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        head.raw_path = head.fields.push_bytes(path.as_bytes());
        if target.contains('?') {
            head.query = Some(head.fields.push_bytes(query.as_bytes()));
        }
        head.normalise_path().unwrap();
        head
    }

    #[test]
    fn the_same_with_tls() {
        let check = |host: &str, target: &str, port, expected: Option<&str>| {
            let mut text = Vec::new();
            let made = https(&request(host, target), port, &mut text);
            let made = made.ok().map(|()| String::from_utf8(text).unwrap());
            assert_eq!(made.as_deref(), expected, "{host} {target}");
        };
        let plain = Some("https://a.example/x/%41?q=1&r");
        check("a.example", "/x/%41?q=1&r", 443, plain);
        check("a.example:80", "/x/%41?q=1&r", 443, plain);
        check("a.example:8080", "/", 8443, Some("https://a.example:8443/"));
        check("[::1]:80", "/", 443, Some("https://[::1]/"));
        check("a", "//b.example/", 443, Some("https://a//b.example/"));
        check("", "/", 443, None);
        check("a/b", "/", 443, None);
        check("user@a", "/", 443, None);
    }

    fn captures(route: &RouteSettings, head: &RequestHead) -> Captures {
        let mut captures = Captures::default();
        let found = Router::compile([Rule::of(route)]).find(head, &mut captures);
        assert_eq!(found, Some(0), "the route matches");
        captures
    }

    #[test]
    fn paths_are_rewritten() {
        let table = [
            ("/api", "/v2/{rest}", "/api/a/b", "/v2/a/b"),
            ("/api", "/v2/{rest}", "/api", "/v2"),
            ("/api", "/v2/{rest}", "/api/", "/v2/"),
            ("/api", "/{rest}", "/api", "/"),
            ("/api", "/{rest}", "/api/x%2Fy", "/x%2Fy"),
            ("/api", "/v2-{rest}", "/api/x", "/v2-x"),
            ("/", "/v2/{rest}", "/x/../y", "/v2/y"),
            ("/u/{id}", "/x/{id}/{rest}", "/u/%41/c", "/x/A/c"),
            ("/u/{id}/{b}", "/{b}/{id}", "/u/1/2/3", "/2/1"),
            ("/u/{id}", "/fixed", "/u/1", "/fixed"),
        ];
        for (path, to, target, expected) in table {
            let rewrite = RewriteSettings {
                path: Some(to.parse().unwrap()),
                host: None,
            };
            let route = RouteSettings {
                path: path.parse().unwrap(),
                rewrite: Some(rewrite),
                ..RouteSettings::default()
            };
            let mut head = request("a", &format!("{target}?q=1"));
            let captures = captures(&route, &head);
            let rewrite = Rewrite::new(&route).unwrap();
            rewrite
                .apply(&mut head, &captures, &mut Vec::new())
                .unwrap();
            let sent = String::from_utf8_lossy(head.forward_path()).into_owned();
            assert_eq!(sent, expected, "{path} → {to}: {target}");
        }
    }

    #[test]
    fn hosts_are_rewritten_to_hosts_only() {
        let mut route = RouteSettings {
            path: "/t/{name}".parse().unwrap(),
            strip_prefix: true,
            ..RouteSettings::default()
        };
        route.rewrite = Some(RewriteSettings {
            path: None,
            host: Some("{name}.inner:80".parse().unwrap()),
        });
        let rewrite = Rewrite::new(&route).unwrap();
        let mut head = request("a", "/t/shop/x");
        let found = captures(&route, &head);
        rewrite.apply(&mut head, &found, &mut Vec::new()).unwrap();
        assert_eq!(head.text(head.authority), b"shop.inner:80");
        assert_eq!(head.forward_path(), b"/x");
        for name in ["a%2Fb", "a@b", "a,b"] {
            let mut head = request("a", &format!("/t/{name}"));
            let found = captures(&route, &head);
            assert!(
                rewrite.apply(&mut head, &found, &mut Vec::new()).is_err(),
                "{name}"
            );
        }
    }

    /// A client is sent to the host that the configuration says or that it asked for itself.
    #[test]
    fn redirects_stay_on_their_host() {
        let table = [
            (
                "/",
                "https://{host}{path}",
                "a:80",
                "/x//y?b=c",
                "https://a/x/y?b=c",
            ),
            ("/", "https://{host}{path}", "a.", "/", "https://a/"),
            ("/", "{path}/evil.example", "a", "/", "/evil.example"),
            ("/old", "/{rest}", "a", "/old", "/"),
            ("/old", "/{rest}", "a", "/old?x", "/?x"),
            ("/old", "/{rest}?a", "a", "/old?x", "/?a"),
            ("/old", "http://b/{rest}?a", "a", "/old?x", "http://b?a"),
            ("/", "/{rest}", "a", "//evil.example/x", "/evil.example/x"),
            ("/", "/{rest}", "a", "/%2Fevil.example", "/%2Fevil.example"),
            ("/", "/{rest}", "a", "/\\evil.example", "/%5Cevil.example"),
            (
                "/old",
                "/{rest}",
                "a",
                "/old//evil.example",
                "/evil.example",
            ),
            ("/u/{id}", "/{id}", "a", "/u/\\evil?x", "/%5Cevil?x"),
            ("/u/{id}", "/n?id={id}", "a", "/u/7?x", "/n?id=7"),
            (
                "/u/{id}",
                "/n?{query}",
                "a",
                "/u/7?x=\"<>",
                "/n?x=%22%3C%3E",
            ),
            ("/u/{id}", "/n?{query}", "a", "/u/7", "/n"),
            ("/u/{id}", "/n#{id}", "a", "/u/7?x", "/n#7"),
            (
                "/",
                "http://b/{rest}",
                "a",
                "/%0d%0aX:y",
                "http://b/%0D%0AX:y",
            ),
        ];
        for (path, to, host, target, expected) in table {
            let route = RouteSettings {
                path: path.parse().unwrap(),
                ..RouteSettings::default()
            };
            let settings = RedirectSettings {
                to: to.parse().unwrap(),
                status: 308,
            };
            let redirect = Redirect::new(&settings, &route.path);
            let head = request(host, target);
            let mut text = Vec::new();
            redirect
                .location(&head, &captures(&route, &head), &mut text)
                .unwrap();
            assert_eq!(String::from_utf8_lossy(&text), expected, "{to}: {target}");
        }
        let settings = RedirectSettings::default();
        let route = RouteSettings::default();
        let redirect = Redirect::new(&settings, &route.path);
        for host in ["", "a%2fb"] {
            let head = request(host, "/");
            let found = captures(&route, &head);
            assert!(
                redirect.location(&head, &found, &mut Vec::new()).is_err(),
                "{host}"
            );
        }
    }
}
