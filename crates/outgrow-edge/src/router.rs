//! From a request to a route.
//!
//! A route matches when one of its hosts, its path and all of its conditions match. Among the
//! routes that match, the order is: the host (an exact one before a wildcard, a longer wildcard
//! before a shorter one, any of them before no host), then the path (segment by segment: a literal
//! before a parameter before the end of a prefix, and the end of an exact path before that of a
//! prefix), then `priority`, then whether there is a method, then the number of the other
//! conditions. So a route for any host still answers what the routes of an exact host leave over.
//! What is left equal is refused by the check of the configuration ([`same_rank`]).
//!
//! Lookups allocate nothing. What a route does is not known here, and neither are the other tables:
//! services are checked in the binary.

mod by_length;
mod by_listener;
mod captures;
mod conditions;
mod index;
mod pairs;
mod rank;
#[cfg(test)]
mod tests;
mod tree;

use std::cmp::Reverse;

use outgrow_message::RequestHead;

use crate::settings::{
    HostPattern, ListenerName, PathPattern, RouteConditions, RouteSettings, Segment,
};

use by_length::ByLength;
pub use by_listener::Routers;
pub use captures::Captures;
pub use conditions::Failed;
use conditions::{Conditions, Verdict};
pub use rank::same_rank;
use tree::Node;

/// Longest host that is looked at, in bytes; a longer one can only match routes for any host.
const HOST_LIMIT: usize = 255;

/// What one route matches.
#[derive(Clone, Copy, Debug)]
pub struct Rule<'r> {
    /// The hosts; empty: any.
    pub hosts: &'r [HostPattern],
    /// The path.
    pub path: &'r PathPattern,
    /// The listeners; empty: any. Known to [`same_rank`] and to [`Routers`] only.
    pub listeners: &'r [ListenerName],
    /// What else is asked of the request.
    pub conditions: RouteConditions<'r>,
    /// Its rank among those of the same host and path; higher first.
    pub priority: i64,
}

impl<'r> Rule<'r> {
    /// The rule of a route.
    pub fn of(route: &'r RouteSettings) -> Self {
        Self {
            hosts: &route.host,
            path: &route.path,
            listeners: &route.listener,
            conditions: route.conditions(),
            priority: route.priority,
        }
    }
}

/// The compiled routes. The index that it gives is the place of the rule in [`Router::compile`].
#[derive(Clone, Debug, Default)]
pub struct Router {
    exact: ByLength<Paths>,
    below: ByLength<Paths>,
    any: Paths,
    /// Whether any rule has a method.
    has_methods: bool,
}

type Paths = Node<Candidate>;

/// A route where its path ends.
#[derive(Clone, Debug)]
struct Candidate {
    index: usize,
    priority: i64,
    conditions: Option<Box<Conditions>>,
}

impl Candidate {
    #[inline]
    fn judge(&self, request: &RequestHead) -> Verdict {
        match &self.conditions {
            None => Verdict::Holds,
            Some(conditions) => conditions.judge(request),
        }
    }

    /// Smaller is looked at first.
    fn order(&self) -> (Reverse<i64>, Reverse<bool>, Reverse<usize>, usize) {
        let conditions = self.conditions.as_deref();
        let method = conditions.is_some_and(|conditions| !conditions.methods().is_empty());
        let count = conditions.map_or(0, Conditions::count);
        let priority = Reverse(self.priority);
        (priority, Reverse(method), Reverse(count), self.index)
    }
}

/// A route whose host and path match, for explaining.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Considered {
    /// The place of its rule.
    pub index: usize,
    /// The conditions that do not hold.
    pub failed: Vec<Failed>,
    /// What its parameters captured.
    pub captures: Captures,
}

impl Router {
    /// Compiles the rules. Of two that match the same the first one stays; that there are none is
    /// checked before.
    pub fn compile<'r>(rules: impl IntoIterator<Item = Rule<'r>>) -> Self {
        Self::compile_some(rules.into_iter().enumerate())
    }

    /// The same for some of many rules, each with the index that is given for it.
    pub fn compile_some<'r>(rules: impl IntoIterator<Item = (usize, Rule<'r>)>) -> Self {
        let mut router = Self::default();
        for (index, rule) in rules {
            let candidate = Candidate {
                index,
                priority: rule.priority,
                conditions: Conditions::new(&rule.conditions),
            };
            router.has_methods |= !rule.conditions.methods.is_empty();
            if rule.hosts.is_empty() {
                router.any.at(rule.path).push(candidate.clone());
            }
            for host in rule.hosts {
                let (hosts, text) = match host {
                    HostPattern::Exact(name) => (&mut router.exact, name),
                    HostPattern::Below(suffix) => (&mut router.below, suffix),
                };
                let paths = hosts.get_or_insert_with(text, Paths::default);
                paths.at(rule.path).push(candidate.clone());
            }
        }
        let sort = |found: &mut Vec<Candidate>| found.sort_by_key(Candidate::order);
        router.any.finish(&sort);
        router
            .exact
            .values_mut()
            .for_each(|paths| paths.finish(&sort));
        router
            .below
            .values_mut()
            .for_each(|paths| paths.finish(&sort));
        router
    }

    /// The route for a request, whose path was normalised; `captures` is told what its parameters
    /// stand for. A path that is not one (`*`) matches the prefix `/` only.
    #[inline]
    pub fn find(&self, request: &RequestHead, captures: &mut Captures) -> Option<usize> {
        let host = request.text(request.authority);
        self.walk(host, request.path(), captures, &mut |found, _| {
            (found.judge(request) == Verdict::Holds).then_some(found.index)
        })
    }

    /// The methods that would have a route, as a list for `Allow`, when nothing but the method
    /// keeps a request from having one.
    #[cold]
    pub fn allowed(&self, request: &RequestHead) -> Option<String> {
        if !self.has_methods {
            return None;
        }
        let mut methods: Vec<&str> = Vec::new();
        let host = request.text(request.authority);
        let mut captures = Captures::default();
        // The candidates cannot be kept beyond a visit, their indices can.
        self.walk(host, request.path(), &mut captures, &mut |found, _| {
            if let (Verdict::Method, Some(conditions)) = (found.judge(request), &found.conditions) {
                for method in conditions.methods() {
                    methods.push(method.as_str());
                    if method.as_str() == "GET" {
                        methods.push("HEAD");
                    }
                }
            }
            None::<()>
        });
        methods.sort_unstable();
        methods.dedup();
        (!methods.is_empty()).then(|| methods.join(", "))
    }

    /// Every route whose host and path match, in the order in which they are looked at.
    pub fn consider(&self, request: &RequestHead) -> Vec<Considered> {
        let mut considered: Vec<Considered> = Vec::new();
        let host = request.text(request.authority);
        let mut captures = Captures::default();
        self.walk(
            host,
            request.path(),
            &mut captures,
            &mut |found, captures| {
                // A route is reached again through its other hosts.
                if considered.iter().all(|known| known.index != found.index) {
                    let conditions = found.conditions.as_deref();
                    considered.push(Considered {
                        index: found.index,
                        failed: conditions.map_or(Vec::new(), |each| each.failed(request)),
                        captures: *captures,
                    });
                }
                None::<()>
            },
        );
        considered
    }

    /// Goes through the routes whose host and path match, the most specific first, until `visit`
    /// gives something. `host` as it stands in the request, with or without port and dot, in any
    /// case, empty when there is none; `path` normalised and without the query.
    #[inline]
    fn walk<'r, R>(
        &'r self,
        host: &[u8],
        path: &[u8],
        captures: &mut Captures,
        visit: &mut impl FnMut(&'r Candidate, &mut Captures) -> Option<R>,
    ) -> Option<R> {
        captures.clear();
        if !(self.exact.is_empty() && self.below.is_empty())
            && let Some(found) = self.walk_hosts(bare_host(host), path, captures, visit)
        {
            return Some(found);
        }
        self.any.walk(path, 0, captures, visit)
    }

    #[inline]
    fn walk_hosts<'r, R>(
        &'r self,
        host: &[u8],
        path: &[u8],
        captures: &mut Captures,
        visit: &mut impl FnMut(&'r Candidate, &mut Captures) -> Option<R>,
    ) -> Option<R> {
        if host.iter().any(u8::is_ascii_uppercase) {
            let mut buffer = [0; HOST_LIMIT];
            return self.walk_host(lower_host(host, &mut buffer)?, path, captures, visit);
        }
        self.walk_host(host, path, captures, visit)
    }

    /// `host` in lower case, without port and dot.
    fn walk_host<'r, R>(
        &'r self,
        host: &[u8],
        path: &[u8],
        captures: &mut Captures,
        visit: &mut impl FnMut(&'r Candidate, &mut Captures) -> Option<R>,
    ) -> Option<R> {
        if let Some(paths) = self.exact.get(host)
            && let Some(found) = paths.walk(path, 0, captures, visit)
        {
            return Some(found);
        }
        self.below.longest_first().find_map(|group| {
            let start = host.len().checked_sub(group.length)?;
            // A suffix starts with its dot, and something must stand before it.
            if start == 0 || host[start] != b'.' {
                return None;
            }
            let paths = group.get(&host[start..])?;
            paths.walk(path, 0, captures, visit)
        })
    }
}

/// The host in lower case; `None` when it is too long for one.
fn lower_host<'b>(host: &[u8], buffer: &'b mut [u8; HOST_LIMIT]) -> Option<&'b [u8]> {
    let lower = buffer.get_mut(..host.len())?;
    lower.copy_from_slice(host);
    lower.make_ascii_lowercase();
    Some(lower)
}

/// The host without port and trailing dot.
#[inline]
pub(crate) fn bare_host(host: &[u8]) -> &[u8] {
    let host = without_port(host);
    host.strip_suffix(b".").unwrap_or(host)
}

/// The host without `:port`; the colons inside of `[::1]` are not a port's.
#[inline]
fn without_port(host: &[u8]) -> &[u8] {
    let mut at = host.len();
    while at > 0 && host[at - 1].is_ascii_digit() {
        at -= 1;
    }
    match at.checked_sub(1) {
        Some(colon) if host[colon] == b':' => &host[..colon],
        _ => host,
    }
}

/// Whether a host, as it stands in a request, matches a pattern: for explaining, not for the hot
/// path.
pub fn host_matches(pattern: &HostPattern, host: &[u8]) -> bool {
    let mut buffer = [0; HOST_LIMIT];
    let Some(host) = lower_host(bare_host(host), &mut buffer) else {
        return false;
    };
    match pattern {
        HostPattern::Exact(name) => host == name.as_bytes(),
        HostPattern::Below(suffix) => {
            host.len() > suffix.len() && host.ends_with(suffix.as_bytes())
        }
    }
}

/// Whether a normalised path matches a pattern: for explaining, not for the hot path.
pub fn path_matches(pattern: &PathPattern, path: &[u8]) -> bool {
    let mut rest = path;
    for segment in pattern.segments() {
        let Some(behind) = rest.strip_prefix(b"/") else {
            return false;
        };
        let end = behind.iter().position(|byte| *byte == b'/');
        let (text, after) = behind.split_at(end.unwrap_or(behind.len()));
        let matches = match segment {
            Segment::Literal(literal) => text == literal.as_bytes(),
            Segment::Parameter(_) => !text.is_empty(),
        };
        if !matches {
            return false;
        }
        rest = after;
    }
    rest.is_empty() || !pattern.is_exact()
}
