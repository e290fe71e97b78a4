//! Who may ask: the token or the user, and the two ways in which a web page could misuse a browser on this
//! machine (DNS rebinding, requests across sites).

use std::net::{IpAddr, Ipv6Addr};

use outgrow_message::{Known, RequestHead};

use crate::answer::Answer;
use crate::peer::{Peer, own_user};
use crate::plan::AdminPlan;

/// Refuses names that somebody else could have pointed to this machine: a page of theirs would
/// then be of the same origin as the listener and could read everything (DNS rebinding).
pub(crate) fn check_host(plan: &AdminPlan, head: &RequestHead) -> Result<(), Answer> {
    if !plan.is_loopback {
        return Ok(());
    }
    let host = head.host();
    let is_configured = plan
        .host
        .as_ref()
        .is_some_and(|own| host.eq_ignore_ascii_case(own.as_bytes()));
    let host = host.strip_suffix(b".").unwrap_or(host);
    // Browsers always send a Host; only simple old clients leave it out.
    let is_harmless = host.is_empty() || host.eq_ignore_ascii_case(b"localhost") || is_ip(host);
    if is_harmless || is_configured {
        return Ok(());
    }
    Err(Answer::problem(
        403,
        "the Host of the request is a name that is not this listener's; a web page could have \
         pointed it here (DNS rebinding)",
        "use 127.0.0.1, [::1] or localhost, or the host that [admin] listen says",
    ))
}

fn is_ip(host: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(host) else {
        return false;
    };
    match text.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix(']')
            .is_some_and(|inner| inner.parse::<Ipv6Addr>().is_ok()),
        None => text.parse::<IpAddr>().is_ok(),
    }
}

/// Asks for the token where one is set.
pub(crate) fn check_token(plan: &AdminPlan, head: &RequestHead) -> Result<(), Answer> {
    if plan.token.is_empty() {
        return Ok(());
    }
    let mut values = head.fields.values(Known::Authorization);
    let given = match (values.next(), values.next()) {
        (Some(value), None) => bearer(value),
        _ => None,
    };
    let expected = plan.token.expose().as_bytes();
    if given.is_some_and(|given| is_same(given, expected)) {
        return Ok(());
    }
    let (problem, challenge) = match given {
        None => (
            "this needs the token of the admin listener",
            "Bearer realm=\"outgrow\"",
        ),
        Some(_) => (
            "the token is wrong",
            "Bearer realm=\"outgrow\", error=\"invalid_token\"",
        ),
    };
    let hint = "send Authorization: Bearer TOKEN with the token that [admin] token says";
    Err(Answer::problem(401, problem, hint).with("WWW-Authenticate", challenge))
}

/// The credentials of `Bearer CREDENTIALS` (RFC 6750 section 2.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(7)?;
    let given = rest.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !given.is_empty()).then_some(given)
}

/// Compares in a time that depends on the lengths only, so that a secret cannot be found out byte
/// by byte.
fn is_same(given: &[u8], expected: &[u8]) -> bool {
    let mut difference = usize::from(given.len() != expected.len());
    for (index, byte) in given.iter().enumerate() {
        let other = expected.get(index).copied().unwrap_or(0);
        difference |= usize::from(byte ^ other);
        // Keeps the compiler from leaving the loop at the first difference.
        difference = std::hint::black_box(difference);
    }
    difference == 0
}

/// Where there is no token, lets act whoever could also send a signal: the user that runs outgrow,
/// and root. Every other user of the machine can connect to loopback, too.
pub(crate) async fn check_user(plan: &AdminPlan, peer: Peer) -> Result<(), Answer> {
    if !plan.token.is_empty() {
        return Ok(());
    }
    let (own, asking) = (own_user(), peer.user().await);
    if asking.is_some() && (asking == own || asking == Some(0)) {
        return Ok(());
    }
    let problem = match asking {
        Some(user) => format!("user {user} may not act here: only root and the user that runs outgrow may"),
        None => "it cannot be told which user asks, and only root and the user that runs outgrow may act here".to_owned(),
    };
    let hint = "run the command as that user, or set [admin] token and send it";
    Err(Answer::problem(403, &problem, hint))
}

/// Refuses actions that a browser sends for a web page: no page has business here, and a page
/// anywhere can make a browser send a POST to this machine.
pub(crate) fn check_not_from_page(head: &RequestHead) -> Result<(), Answer> {
    let has_origin = head.fields.get(Known::Origin).is_some();
    let site = head.fields.get_named(b"sec-fetch-site");
    let from_elsewhere = site.is_some_and(|site| !matches!(site, b"none" | b"same-origin"));
    if !has_origin && !from_elsewhere {
        return Ok(());
    }
    Err(Answer::problem(
        403,
        "the request was sent by a web page (it has an Origin, or Sec-Fetch-Site says so), and \
         pages may not act on this proxy",
        "use the outgrow command, or curl",
    ))
}
