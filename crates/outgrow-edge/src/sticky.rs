//! Sticky sessions: the cookie that says at which endpoint a user is, and who believes it.
//!
//! No table of users is kept. The cookie holds a tag and a nonce. A tag is a MAC of the service and
//! the endpoint under the secret: it says nothing about the endpoint to anybody else, cannot be
//! made up, and is the same at every edge that has the secret. Tags are computed when endpoints
//! change; a request costs a look-up. The nonce spreads the users of an endpoint that drains over
//! time ([`outgrow_balance::sticky::leaves`]) and needs no protection: who forges it moves himself.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use outgrow_balance::algorithm::Bound;
use outgrow_core::{Random, base64};
use outgrow_message::RequestHead;
use outgrow_upstream::{Endpoint, EndpointId, EndpointSet, Stay};

use crate::request_key;
use crate::settings::{Gone, StickySettings};

/// Bytes of a tag: guessing one takes 2^96 tries.
const TAG_BYTES: usize = 12;
/// Characters of a tag (base64url) and of a nonce (hexadecimal).
const VALUE_BYTES: usize = TAG_BYTES / 3 * 4 + 4;
/// Secrets that are tried: the one that signs, and those before it.
pub const SECRETS: usize = 4;

type Tag = [u8; TAG_BYTES];

/// A secret for cookies, made of one that is kept for something else.
pub fn secret_of(kept: &str) -> [u8; 32] {
    derive(kept.as_bytes(), b"outgrow sticky cookies")
}

/// A secret for the keys of QUIC, made in the same way.
pub fn quic_secret_of(kept: &str) -> [u8; 32] {
    derive(kept.as_bytes(), b"outgrow quic")
}

/// A secret for one purpose, made of one that is kept for something else.
pub(crate) fn derive(kept: &[u8], purpose: &[u8]) -> [u8; 32] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, kept);
    let mut secret = [0; 32];
    let made = hmac::sign(&key, purpose);
    secret.copy_from_slice(made.as_ref());
    secret
}

/// What a service's sticky sessions are, compiled.
#[derive(Debug)]
pub struct StickyPlan {
    service: String,
    cookie: String,
    keys: Vec<hmac::Key>,
    /// What follows the value in `Set-Cookie`.
    attributes: String,
    bound: Option<Bound>,
    refuses: bool,
}

impl StickyPlan {
    /// The plan for a service; `fallback` is the secret when the settings have none.
    pub fn new(service: &str, settings: &StickySettings, fallback: &[u8; 32]) -> Self {
        let key = |secret: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, secret);
        let secrets = settings.secret.iter().take(SECRETS);
        let mut keys: Vec<hmac::Key> = secrets
            .map(|secret| key(secret.expose().as_bytes()))
            .collect();
        if keys.is_empty() {
            keys.push(key(fallback));
        }
        let mut attributes = "; Path=/; HttpOnly; SameSite=Lax".to_owned();
        if settings.lifetime > Duration::ZERO {
            attributes.push_str(&format!("; Max-Age={}", settings.lifetime.as_secs()));
        }
        Self {
            service: service.to_owned(),
            cookie: match settings.cookie.as_str() {
                "" => format!("outgrow_{service}"),
                name => name.to_owned(),
            },
            keys,
            attributes,
            bound: (settings.overload > 0).then(|| Bound::new(settings.overload)),
            refuses: settings.gone == Gone::Refuse,
        }
    }

    fn tag(&self, key: &hmac::Key, endpoint: &Endpoint) -> Tag {
        let mut context = hmac::Context::with_key(key);
        context.update(b"outgrow sticky\0");
        context.update(self.service.as_bytes());
        context.update(b"\0");
        context.update(endpoint.known_as().as_bytes());
        let mut tag = [0; TAG_BYTES];
        for (to, from) in tag.iter_mut().zip(context.sign().as_ref()) {
            *to = *from;
        }
        tag
    }

    /// The cookie of a request, when it has one of the right form.
    pub(crate) fn read(&self, request: &RequestHead) -> Option<Ticket> {
        Ticket::parse(request_key::cookie(request, self.cookie.as_bytes())?)
    }

    /// Writes the value of a `Set-Cookie` field that keeps a user at the endpoint with this tag.
    pub(crate) fn write(&self, tag: Tag, random: &mut Random, secure: bool, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(self.cookie.as_bytes());
        out.push(b'=');
        base64::put_url(&tag, out);
        let nonce = random.next_u64() as u16;
        for shift in [12, 8, 4, 0] {
            out.push(b"0123456789abcdef"[usize::from(nonce >> shift & 15)]);
        }
        out.extend_from_slice(self.attributes.as_bytes());
        if secure {
            out.extend_from_slice(b"; Secure");
        }
    }
}

/// What a cookie holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    tag: Tag,
    nonce: u16,
}

impl Ticket {
    fn parse(value: &[u8]) -> Option<Self> {
        if value.len() != VALUE_BYTES {
            return None;
        }
        let (tag, nonce) = value.split_at(VALUE_BYTES - 4);
        let nonce = nonce.iter().try_fold(0, |nonce, &digit| {
            let digit = (digit as char).to_digit(16)?;
            Some(nonce << 4 | digit as u16)
        })?;
        Some(Self {
            tag: base64::take_url_exactly(tag)?,
            nonce,
        })
    }
}

/// The tags of one set of endpoints; a worker's own.
#[derive(Debug, Default)]
pub(crate) struct Tags {
    set: Option<Arc<EndpointSet>>,
    /// Of all secrets, sorted by tag.
    known: Vec<(Tag, EndpointId)>,
    /// Of the secret that signs, sorted by endpoint.
    signed: Vec<(EndpointId, Tag)>,
}

impl Tags {
    /// Brings the tags up to the set, which costs a MAC for each endpoint when it is a new one.
    pub(crate) fn refresh(&mut self, plan: &StickyPlan, set: &Arc<EndpointSet>) {
        if self
            .set
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, set))
        {
            return;
        }
        self.known.clear();
        self.signed.clear();
        for endpoint in &set.all {
            for (index, key) in plan.keys.iter().enumerate() {
                let tag = plan.tag(key, endpoint);
                self.known.push((tag, endpoint.id()));
                if index == 0 {
                    self.signed.push((endpoint.id(), tag));
                }
            }
        }
        self.known.sort_unstable();
        self.signed.sort_unstable();
        self.set = Some(Arc::clone(set));
    }

    /// Where the ticket's user is; none when no endpoint has its tag.
    pub(crate) fn find(&self, ticket: Ticket, plan: &StickyPlan) -> Option<Stay> {
        // An endpoint that left and came back is there twice: the newer one counts.
        let end = self.known.partition_point(|(tag, _)| *tag <= ticket.tag);
        let (tag, endpoint) = self.known.get(end.checked_sub(1)?)?;
        (*tag == ticket.tag).then_some(Stay {
            endpoint: *endpoint,
            nonce: ticket.nonce,
            bound: plan.bound,
            only: plan.refuses,
        })
    }

    /// The tag of an endpoint of the set.
    pub(crate) fn tag_of(&self, endpoint: EndpointId) -> Option<Tag> {
        let place = self.signed.binary_search_by_key(&endpoint, |(id, _)| *id);
        place.ok().map(|place| self.signed[place].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_read_as_it_is_written() {
        let plan = StickyPlan::new("shop", &StickySettings::default(), &[7; 32]);
        for seed in 0..100 {
            let mut random = Random::from_seed(seed);
            let mut tag = [0; TAG_BYTES];
            tag.fill_with(|| random.next_u64() as u8);
            let mut line = Vec::new();
            plan.write(tag, &mut random, seed % 2 == 0, &mut line);
            let text = String::from_utf8(line).expect("ASCII");
            let (pair, rest) = text.split_once("; ").expect("attributes");
            let mut head = RequestHead::default();
            head.fields
                .push(b"Cookie", format!("a=b; {pair}").as_bytes());
            assert_eq!(plan.read(&head).expect("a ticket").tag, tag, "seed {seed}");
            assert_eq!(rest.ends_with("; Secure"), seed % 2 == 0);
            assert!(rest.starts_with("Path=/; HttpOnly; SameSite=Lax"), "{rest}");
        }
    }

    #[test]
    fn what_is_no_ticket_is_none() {
        for value in [
            "",
            "x",
            "AAAAAAAAAAAAAAAA000",
            "AAAAAAAAAAAAAAAA000g",
            "AAAAAAAAAAAAAAA=0000",
            "AAAAAAAAAAAAAAAA00000",
            "+AAAAAAAAAAAAAAA0000",
        ] {
            assert_eq!(Ticket::parse(value.as_bytes()), None, "{value}");
        }
        let ticket = Ticket::parse(b"AAAAAAAAAAAAAAAAfFff").expect("a ticket");
        assert_eq!((ticket.tag, ticket.nonce), ([0; TAG_BYTES], 0xffff));
    }
}
