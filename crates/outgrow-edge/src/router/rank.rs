//! Whether two routes would have the same rank for one request, so that nothing says which wins.

use std::collections::BTreeMap;

use crate::settings::{HostPattern, MethodName, ValuePattern};

use super::Rule;

/// The host pattern for which two rules have the same rank and could match one request, if there
/// is one; an inner none is any host.
///
/// Conditions on the same name that exclude each other count as a difference, although a request
/// that repeats the name with both values matches both: then the first rule wins.
pub fn same_rank<'r>(one: &Rule<'r>, other: &Rule<'r>) -> Option<Option<&'r HostPattern>> {
    let host = match (one.hosts, other.hosts) {
        ([], []) => None,
        (hosts, others) => Some(hosts.iter().find(|host| others.contains(host))?),
    };
    let rank = |rule: &Rule<'_>| {
        let conditions = &rule.conditions;
        (
            rule.priority,
            conditions.methods.is_empty(),
            conditions.count(),
        )
    };
    let equal = one.path.shape() == other.path.shape() && rank(one) == rank(other);
    let at_one_listener = one.listeners.is_empty()
        || other.listeners.is_empty()
        || one
            .listeners
            .iter()
            .any(|name| other.listeners.contains(name));
    (equal && at_one_listener && can_meet(one, other)).then_some(host)
}

/// Whether a request could fulfil the conditions of both.
fn can_meet(one: &Rule<'_>, other: &Rule<'_>) -> bool {
    let (one, other) = (&one.conditions, &other.conditions);
    methods_meet(one.methods, other.methods)
        && !exclude(one.header, other.header)
        && !exclude(one.query, other.query)
        && !exclude(one.cookie, other.cookie)
}

fn methods_meet(one: &[MethodName], other: &[MethodName]) -> bool {
    let both = |a: &[MethodName], b: &[MethodName]| {
        a.iter().any(|method| {
            let head = method.as_str() == "HEAD";
            b.contains(method) || (head && b.iter().any(|method| method.as_str() == "GET"))
        })
    };
    one.is_empty() || other.is_empty() || both(one, other) || both(other, one)
}

fn exclude<K: Ord>(
    one: Option<&BTreeMap<K, ValuePattern>>,
    other: Option<&BTreeMap<K, ValuePattern>>,
) -> bool {
    let (Some(one), Some(other)) = (one, other) else {
        return false;
    };
    let mut pairs = one
        .iter()
        .filter_map(|(key, pattern)| Some((pattern, other.get(key)?)));
    pairs.any(|(pattern, other)| pattern.excludes(other))
}
