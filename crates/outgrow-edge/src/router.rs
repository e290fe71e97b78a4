//! From a host and a path to a route.
//!
//! A route matches when one of its hosts and its path match. Among the routes that match, an exact
//! host wins over a wildcard, a longer wildcard over a shorter one, any of them over no host; then
//! the longest path wins. So a route for any host still answers what the routes of an exact host
//! leave over.
//!
//! Lookups allocate nothing and touch only what can match by its length. What a route does is not
//! known here, and neither are the other tables: services are checked in the binary.

use crate::settings::{HostPattern, PathPrefix};

#[cfg(test)]
mod tests;

/// Longest host that is looked at, in bytes; a longer one can only match routes for any host.
const HOST_LIMIT: usize = 255;

/// What one route matches.
#[derive(Clone, Copy, Debug)]
pub struct Rule<'r> {
    /// The hosts; empty: any.
    pub hosts: &'r [HostPattern],
    /// The path prefix.
    pub path: &'r PathPrefix,
}

/// The compiled routes. The index that it gives is the place of the rule in [`Router::compile`].
#[derive(Clone, Debug, Default)]
pub struct Router {
    exact: ByLength<Paths>,
    below: ByLength<Paths>,
    any: Paths,
}

/// The path prefixes of one host, without their last slash: the root is the empty text.
type Paths = ByLength<usize>;

impl Router {
    /// Compiles the rules. Of two that match the same the first one stays; that there are none is
    /// checked before.
    pub fn compile<'r>(rules: impl IntoIterator<Item = Rule<'r>>) -> Self {
        let mut router = Self::default();
        for (index, rule) in rules.into_iter().enumerate() {
            let path = rule.path.as_str();
            let path = path.strip_suffix('/').unwrap_or(path);
            if rule.hosts.is_empty() {
                router.any.get_or_insert_with(path, || index);
            }
            for host in rule.hosts {
                let (hosts, text) = match host {
                    HostPattern::Exact(name) => (&mut router.exact, name),
                    HostPattern::Below(suffix) => (&mut router.below, suffix),
                };
                let paths = hosts.get_or_insert_with(text, Paths::default);
                paths.get_or_insert_with(path, || index);
            }
        }
        router
    }

    /// The route for a request: `host` as it stands in the request, with or without port and dot,
    /// in any case, empty when there is none; `path` normalised and without the query. A `path`
    /// that is not one (`*`) matches the prefix `/` only.
    pub fn find(&self, host: &[u8], path: &[u8]) -> Option<usize> {
        self.find_by_any_host(host, path)
            .or_else(|| find_path(&self.any, path))
    }

    fn find_by_any_host(&self, host: &[u8], path: &[u8]) -> Option<usize> {
        if self.exact.is_empty() && self.below.is_empty() {
            return None;
        }
        let host = bare_host(host);
        if host.iter().any(u8::is_ascii_uppercase) {
            let mut buffer = [0; HOST_LIMIT];
            return self.find_by_host(lower_host(host, &mut buffer)?, path);
        }
        self.find_by_host(host, path)
    }

    fn find_by_host(&self, host: &[u8], path: &[u8]) -> Option<usize> {
        if let Some(paths) = self.exact.get(host)
            && let Some(index) = find_path(paths, path)
        {
            return Some(index);
        }
        self.below.longest_first().find_map(|group| {
            let start = host.len().checked_sub(group.length)?;
            // A suffix starts with its dot, and something must stand before it.
            if start == 0 || host[start] != b'.' {
                return None;
            }
            find_path(group.get(&host[start..])?, path)
        })
    }
}

fn find_path(paths: &Paths, path: &[u8]) -> Option<usize> {
    paths.longest_first().find_map(|group| {
        if group.length == 0 {
            return group.entries.first().map(|(_, index)| *index);
        }
        let ends_a_segment = match path.get(group.length) {
            None => path.len() == group.length,
            Some(next) => *next == b'/',
        };
        if !ends_a_segment {
            return None;
        }
        group.get(&path[..group.length]).copied()
    })
}

/// The host in lower case; `None` when it is too long for one.
fn lower_host<'b>(host: &[u8], buffer: &'b mut [u8; HOST_LIMIT]) -> Option<&'b [u8]> {
    let lower = buffer.get_mut(..host.len())?;
    lower.copy_from_slice(host);
    lower.make_ascii_lowercase();
    Some(lower)
}

/// The host without port and trailing dot.
fn bare_host(host: &[u8]) -> &[u8] {
    let host = without_port(host);
    host.strip_suffix(b".").unwrap_or(host)
}

/// The host without `:port`; the colons inside of `[::1]` are not a port's.
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

/// Whether a normalised path matches a prefix by segment: for explaining, not for the hot path.
pub fn path_matches(prefix: &PathPrefix, path: &[u8]) -> bool {
    if prefix.as_str() == "/" {
        return true;
    }
    path.strip_prefix(prefix.as_str().as_bytes())
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// Texts grouped by their length, the longest first: a lookup compares only texts that are as long
/// as what it looks for, and a lookup by prefix or suffix has one try a length.
#[derive(Clone, Debug)]
struct ByLength<T> {
    groups: Vec<Group<T>>,
}

/// The texts of one length, sorted by their [`key`]: a lookup compares numbers that lie side by side
/// and then one text.
#[derive(Clone, Debug)]
struct Group<T> {
    length: usize,
    keys: Vec<u64>,
    /// In the order of `keys`.
    entries: Vec<(Box<[u8]>, T)>,
}

/// A number for a text, to find it faster; different texts may have the same. The texts are from
/// the configuration, so nobody outside can make many collide.
fn key(text: &[u8]) -> u64 {
    let mix = |key: u64, word: u64| (key.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    let (words, rest) = text.as_chunks::<8>();
    let key = words
        .iter()
        .fold(0, |key, word| mix(key, u64::from_le_bytes(*word)));
    let rest = rest
        .iter()
        .fold(0, |word, byte| word << 8 | u64::from(*byte));
    mix(key, rest)
}

impl<T> Default for ByLength<T> {
    fn default() -> Self {
        Self { groups: Vec::new() }
    }
}

impl<T> Group<T> {
    fn get(&self, text: &[u8]) -> Option<&T> {
        if let [(only, value)] = self.entries.as_slice() {
            return (**only == *text).then_some(value);
        }
        self.place(key(text), text)
            .ok()
            .map(|at| &self.entries[at].1)
    }

    /// Where the text is, or else where it belongs.
    fn place(&self, key: u64, text: &[u8]) -> Result<usize, usize> {
        let mut at = self.keys.partition_point(|known| *known < key);
        while self.keys.get(at) == Some(&key) {
            if *self.entries[at].0 == *text {
                return Ok(at);
            }
            at += 1;
        }
        Err(at)
    }

    fn insert(&mut self, at: usize, key: u64, text: &[u8], value: T) {
        self.keys.insert(at, key);
        self.entries.insert(at, (text.into(), value));
    }
}

impl<T> ByLength<T> {
    fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    fn longest_first(&self) -> std::slice::Iter<'_, Group<T>> {
        self.groups.iter()
    }

    fn get(&self, text: &[u8]) -> Option<&T> {
        let by_length = |group: &Group<T>| text.len().cmp(&group.length);
        let at = self.groups.binary_search_by(by_length).ok()?;
        self.groups[at].get(text)
    }
}

impl<T> ByLength<T> {
    /// The value for a text, made when it is not there.
    fn get_or_insert_with(&mut self, text: &str, value: impl FnOnce() -> T) -> &mut T {
        let text = text.as_bytes();
        let by_length = |group: &Group<T>| text.len().cmp(&group.length);
        let at = self.groups.binary_search_by(by_length);
        let at = at.unwrap_or_else(|at| {
            let group = Group {
                length: text.len(),
                keys: Vec::new(),
                entries: Vec::new(),
            };
            self.groups.insert(at, group);
            at
        });
        let group = &mut self.groups[at];
        let key = key(text);
        let at = group.place(key, text).unwrap_or_else(|at| {
            group.insert(at, key, text, value());
            at
        });
        &mut group.entries[at].1
    }
}
