//! Read-your-writes from one HTTP request to the next: what a user is known to have written travels
//! in a ticket, a signed cookie or field of ours, and counts for the reads of the instance that
//! serves its request, for as long as that is in flight.
//!
//! A response gets a ticket when the request's method is unsafe, or when something was written over
//! connections of the instance that may have begun since the request did. Its head then waits until
//! the primary has said how far it is ([`outgrow_core::serving::Positions`]): a user must not learn
//! of a write before its ticket holds it. What the instance writes for it later is covered for
//! [`AFTER_RESPONSE`], by naming the instance in the ticket.
//!
//! Deliberately not here: what becomes of the floors, which the database tier reads from the
//! instances ([`outgrow_core::serving`]).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use aws_lc_rs::hmac;
use outgrow_core::serving::{
    Floor, Floors, InFlight, Position, Positions, Route, Serving, Servings, Store,
};
use outgrow_core::{Ticks, WallTime};
use outgrow_message::{Fields, Known, RequestHead};
use outgrow_upstream::Endpoint;

use crate::metrics::FloorCells;
use crate::request_key;
use crate::sticky;

mod ticket;

use ticket::Ticket;

/// For how long after a response what its instance goes on to write counts for its user.
pub const AFTER_RESPONSE: Duration = Duration::from_secs(5);
/// For how long only the primary is read from when it did not say in time how far it is.
pub const UNKNOWN: Duration = Duration::from_secs(10);
/// Most endpoints that one request is remembered to have been sent to.
const MOST_ATTEMPTS: usize = 8;

/// A secret for tickets, made of one that is kept for something else.
pub fn secret_of(kept: &[u8]) -> [u8; 32] {
    sticky::derive(kept, b"outgrow tickets of floors")
}

/// What tickets are, and who is asked.
#[derive(Debug)]
pub struct FloorPlan {
    /// The cookie's name; empty: none.
    pub cookie: String,
    /// The field's name; empty: none.
    pub header: String,
    /// How long a ticket counts.
    pub lifetime: Duration,
    keys: Vec<hmac::Key>,
    servings: Arc<Servings>,
    positions: Arc<dyn Positions>,
}

impl FloorPlan {
    /// With the secrets of which the first one signs, and all are accepted.
    pub fn new(
        (cookie, header): (&str, &str),
        lifetime: Duration,
        secrets: &[&[u8]],
        servings: Arc<Servings>,
        positions: Arc<dyn Positions>,
    ) -> Self {
        let key = |secret: &&[u8]| hmac::Key::new(hmac::HMAC_SHA256, secret);
        Self {
            cookie: cookie.to_owned(),
            header: header.to_owned(),
            lifetime,
            keys: secrets.iter().take(sticky::SECRETS).map(key).collect(),
            servings,
            positions,
        }
    }

    /// What is known of the user of a request.
    fn read(&self, request: &RequestHead, wall: WallTime, cells: &FloorCells) -> Ticket {
        let mut known = Ticket::default();
        let cookie = match self.cookie.as_str() {
            "" => None,
            name => request_key::cookie(request, name.as_bytes()),
        };
        let header = match self.header.as_str() {
            "" => None,
            name => request.fields.get_named(name.as_bytes()),
        };
        for text in cookie.into_iter().chain(header) {
            match Ticket::read(text, &self.keys) {
                Some(ticket) if ticket.expires > wall.seconds() => known.add(&ticket),
                Some(_) => {}
                None => cells.refused.add(1),
            }
        }
        known
    }

    /// The floors of a ticket, for the tier that reads them.
    fn floors(&self, ticket: &Ticket, wall: WallTime, now: Ticks) -> Floors {
        let until = |seconds: u32| {
            let left = u64::from(seconds).saturating_sub(wall.seconds());
            now + Duration::from_secs(left)
        };
        let written = ticket.written.iter().map(|one| match one.unknown_until() {
            Some(seconds) => Floor::Unknown(one.store, until(seconds)),
            None => Floor::At(one.store, one.position),
        });
        let after = ticket.after.iter().filter_map(|one| {
            let serving = self.servings.find(one.identity)?;
            Some((serving, until(one.until)))
        });
        Floors {
            written: written.collect(),
            after: after.collect(),
        }
    }
}

/// Where the primaries of stores are, of some of which that is not known.
type Asked = Pin<Box<dyn Future<Output = Vec<(Store, Option<Position>)>> + Send>>;

/// What is known of one request, from its head to the end of its response.
pub(crate) struct Passage {
    plan: Arc<FloorPlan>,
    ticket: Ticket,
    since: Ticks,
    wall: WallTime,
    is_unsafe: bool,
    is_secure: bool,
    /// Where it is in flight.
    in_flight: Option<InFlight>,
    /// All to which it was sent.
    tried: Vec<Arc<Serving>>,
    asked: Option<Asked>,
    is_over: bool,
    /// The new ticket; empty: none.
    text: Vec<u8>,
}

impl std::fmt::Debug for Passage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Passage").finish_non_exhaustive()
    }
}

impl Passage {
    /// That of a request that began at `since`.
    pub(crate) fn new(
        plan: &Arc<FloorPlan>,
        request: &RequestHead,
        (since, wall): (Ticks, WallTime),
        is_secure: bool,
        cells: &FloorCells,
    ) -> Box<Self> {
        Box::new(Self {
            ticket: plan.read(request, wall, cells),
            plan: Arc::clone(plan),
            since,
            wall,
            is_unsafe: !request.method.is_safe(),
            is_secure,
            in_flight: None,
            tried: Vec::new(),
            asked: None,
            is_over: false,
            text: Vec::new(),
        })
    }

    /// The request is in flight at an endpoint from now on.
    pub(crate) fn enter(&mut self, endpoint: &Endpoint, route: Option<&Arc<Route>>, now: Ticks) {
        let route = route.unwrap_or(self.plan.servings.nameless());
        // Where it was before it is no more.
        self.in_flight = None;
        let serving = endpoint.serving(&self.plan.servings);
        let floors = self.plan.floors(&self.ticket, self.wall, now);
        self.in_flight = Some(serving.begin(route, now, floors));
        let is_new = self.tried.iter().all(|one| !Arc::ptr_eq(one, serving));
        if is_new && self.tried.len() < MOST_ATTEMPTS {
            self.tried.push(Arc::clone(serving));
        }
    }

    /// Before the head of the response goes out: waits until it is known what the user is to
    /// carry, and puts that into `fields`.
    pub(crate) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        fields: &mut Fields,
        cells: &FloorCells,
    ) -> Poll<()> {
        if self.is_over {
            return Poll::Ready(());
        }
        if self.asked.is_none() {
            if !self.is_unsafe && is_shared(fields) {
                self.is_over = true;
                return Poll::Ready(());
            }
            match self.begin_asking() {
                Some(asked) => self.asked = Some(asked),
                None => {
                    self.finish(fields, cells);
                    return Poll::Ready(());
                }
            }
        }
        let Some(asked) = &mut self.asked else {
            return Poll::Ready(());
        };
        let Poll::Ready(answers) = asked.as_mut().poll(cx) else {
            return Poll::Pending;
        };
        self.asked = None;
        for (store, position) in answers {
            match position {
                Some(position) => self.ticket.at(store, position),
                None => {
                    cells.unknown.add(1);
                    self.ticket.unknown(store, self.seconds_after(UNKNOWN));
                }
            }
        }
        self.finish(fields, cells);
        Poll::Ready(())
    }

    /// Takes over what is known of the writes that may be this request's; asks for the rest.
    fn begin_asking(&mut self) -> Option<Asked> {
        // Of a request that was sent to several nobody knows what the first ones made of it.
        let since = match self.tried.len() {
            0 => return None,
            1 => self.since,
            _ => Ticks::ZERO,
        };
        let unplaced = self.plan.servings.unplaced();
        let all = self.tried.iter().chain([unplaced]);
        let mut unknown: Vec<(Store, Ticks)> = Vec::new();
        let mut has_written = false;
        for written in all.flat_map(|serving| serving.written_since(since)) {
            has_written = true;
            if let Some(position) = written.position {
                self.ticket.at(written.store, position);
                continue;
            }
            match unknown
                .iter_mut()
                .find(|(store, _)| *store == written.store)
            {
                Some((_, ended)) => *ended = (*ended).max(written.ended),
                None => unknown.push((written.store, written.ended)),
            }
        }
        let has_database = self.tried.iter().any(|one| one.connections() > 0);
        if has_written || (self.is_unsafe && has_database) {
            let until = self.seconds_after(AFTER_RESPONSE);
            for serving in &self.tried {
                self.ticket.after(serving.identity(), until);
            }
            self.ticket.expires = u64::from(self.seconds_after(self.plan.lifetime));
            self.ticket.is_new = true;
        }
        if unknown.is_empty() {
            return None;
        }
        let positions = Arc::clone(&self.plan.positions);
        let tried = self.tried.clone();
        Some(Box::pin(async move {
            let mut answers = Vec::with_capacity(unknown.len());
            for (store, ended) in unknown {
                let position = positions.position(store, ended).await;
                if let Some(position) = position {
                    for serving in &tried {
                        serving.settle(store, ended, position);
                    }
                }
                answers.push((store, position));
            }
            answers
        }))
    }

    /// Whole seconds of the date, rounded up, at that time after the request began.
    fn seconds_after(&self, time: Duration) -> u32 {
        (self.wall.seconds() + time.as_secs() + 1) as u32
    }

    fn finish(&mut self, fields: &mut Fields, cells: &FloorCells) {
        self.is_over = true;
        if !self.ticket.is_new {
            return;
        }
        let Some(key) = self.plan.keys.first() else {
            return;
        };
        cells.given.add(1);
        let (cookie, header) = (&self.plan.cookie, &self.plan.header);
        self.text.clear();
        if !cookie.is_empty() {
            self.text.extend_from_slice(cookie.as_bytes());
            self.text.push(b'=');
        }
        let from = self.text.len();
        self.ticket.write(key, &mut self.text);
        if !header.is_empty() {
            fields.push(header.as_bytes(), &self.text[from..]);
        }
        if !cookie.is_empty() {
            let seconds = self.plan.lifetime.as_secs();
            let attributes = format!("; Path=/; HttpOnly; SameSite=Lax; Max-Age={seconds}");
            self.text.extend_from_slice(attributes.as_bytes());
            if self.is_secure {
                self.text.extend_from_slice(b"; Secure");
            }
            fields.push(b"Set-Cookie", &self.text);
        }
    }
}

/// Whether a response says that it is for everybody: then it is no word about one user's writes,
/// and caches that keep it must not find one user's cookie in it.
fn is_shared(fields: &Fields) -> bool {
    let values = fields.values(Known::CacheControl);
    outgrow_message::fields::list_members(values).any(|member| {
        let name = member.split(|&byte| byte == b'=').next().unwrap_or(member);
        name.eq_ignore_ascii_case(b"public") || name.eq_ignore_ascii_case(b"s-maxage")
    })
}

#[cfg(test)]
mod tests;
