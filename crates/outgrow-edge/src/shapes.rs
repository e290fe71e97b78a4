//! The shape of a request: its method and its path without what differs from one visitor or thing to
//! the next (`GET /orders/{id}`). It is what the database tier calls the route of a statement: the
//! name of a route of ours often stands for a whole application.
//!
//! Segments that look like an id, and those that the route's own pattern has as parameters, are
//! `{id}`. What does not look like one (names of articles) is told by its number: where a place in the
//! paths has had too many different segments, only those that come again and again keep their name.
//! Each worker learns for itself, within [`MOST_PLACES`]. Deliberately not here: hosts, queries.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use outgrow_core::serving::{Route, Servings};
use outgrow_message::{Method, RequestHead};

use crate::router::Captures;

/// Segments that are told apart at one place in the paths.
const MOST_CHILDREN: usize = 64;
/// Places in the paths that a worker knows.
const MOST_PLACES: usize = 1024;
/// Segments of a path; what follows is left out.
const MOST_SEGMENTS: usize = 8;
/// Bytes of a segment.
const MOST_SEGMENT: usize = 48;
/// From so many requests on a segment has a name of its own where there are many others.
const ESTABLISHED: u32 = 32;
/// What stands for a segment that differs.
const ID: &[u8] = b"{id}";

/// The shapes that the workers know.
#[derive(Debug)]
pub struct Shapes {
    servings: Arc<Servings>,
    workers: Box<[Mutex<Known>]>,
}

impl Shapes {
    /// None are known yet.
    pub fn new(servings: Arc<Servings>, workers: usize) -> Arc<Self> {
        let known = |_| Mutex::default();
        Arc::new(Self {
            servings,
            workers: (0..workers.max(1)).map(known).collect(),
        })
    }

    /// Who knows what instances serve.
    pub(crate) fn servings(&self) -> &Servings {
        &self.servings
    }

    /// The shape of a request.
    pub(crate) fn of(
        &self,
        worker: usize,
        request: &RequestHead,
        captures: &Captures,
    ) -> Arc<Route> {
        let known = &self.workers[worker % self.workers.len()];
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        let path = request.path();
        let is_parameter = |segment: &[u8]| {
            let mut all = (0..captures.count()).map(|index| captures.segment(index, path));
            all.any(|one| std::ptr::eq(one, segment))
        };
        known.of(request.method, path, is_parameter, &self.servings)
    }
}

/// What one worker knows.
#[derive(Debug, Default)]
struct Known {
    root: Place,
    places: usize,
    name: String,
}

/// A place in the paths.
#[derive(Debug, Default)]
struct Place {
    children: HashMap<Box<[u8]>, Child>,
    /// Whether there were too many to tell all of them apart.
    is_wide: bool,
    routes: Vec<(Method, Arc<Route>)>,
}

#[derive(Debug, Default)]
struct Child {
    requests: u32,
    place: Place,
}

impl Known {
    fn of(
        &mut self,
        method: Method,
        path: &[u8],
        is_parameter: impl Fn(&[u8]) -> bool,
        servings: &Servings,
    ) -> Arc<Route> {
        self.name.clear();
        self.name.push_str(word(method));
        self.name.push(' ');
        let (name, places) = (&mut self.name, &mut self.places);
        let mut place = &mut self.root;
        let segments = path.strip_prefix(b"/").unwrap_or(path);
        for (index, segment) in segments.split(|&byte| byte == b'/').enumerate() {
            let is_over = index >= MOST_SEGMENTS;
            let segment = match segment {
                _ if is_over => "…".as_bytes(),
                segment if is_parameter(segment) || is_id(segment) => ID,
                segment => segment,
            };
            let (shown, next) = place.enter(segment, places);
            name.push('/');
            name.push_str(&String::from_utf8_lossy(shown));
            place = next;
            if is_over {
                break;
            }
        }
        if let Some((_, route)) = place.routes.iter().find(|(of, _)| *of == method) {
            return Arc::clone(route);
        }
        let route = servings.route(name);
        place.routes.push((method, Arc::clone(&route)));
        route
    }
}

impl Place {
    /// The place behind a segment, and what the segment is called.
    fn enter<'p, 's>(
        &'p mut self,
        segment: &'s [u8],
        places: &mut usize,
    ) -> (&'s [u8], &'p mut Self) {
        let is_told = segment == ID || self.tells(segment, places);
        let shown = if is_told { segment } else { ID };
        // At most one for each place more than are admitted.
        let child = self.children.entry(shown.into()).or_default();
        (shown, &mut child.place)
    }

    /// Whether a segment has a name of its own here.
    fn tells(&mut self, segment: &[u8], places: &mut usize) -> bool {
        if let Some(child) = self.children.get_mut(segment) {
            child.requests = child.requests.saturating_add(1);
            return !self.is_wide || child.requests >= ESTABLISHED;
        }
        if !self.admits(places) {
            return false;
        }
        *places += 1;
        let child = Child {
            requests: 1,
            place: Self::default(),
        };
        self.children.insert(segment.into(), child);
        !self.is_wide
    }

    /// Whether there is room for one more; those that are rare make some.
    fn admits(&mut self, places: &mut usize) -> bool {
        let has_room = |place: &Self, places: usize| {
            place.children.len() < MOST_CHILDREN && places < MOST_PLACES
        };
        if has_room(self, *places) {
            return true;
        }
        self.is_wide = true;
        self.children.retain(|segment, child| {
            let stays = child.requests >= ESTABLISHED || **segment == *ID;
            if !stays {
                *places = places.saturating_sub(1 + child.place.size());
            }
            stays
        });
        has_room(self, *places)
    }

    /// The places behind it, without those of ids, of which each place has one at most.
    fn size(&self) -> usize {
        let mut size = 0;
        for (segment, child) in &self.children {
            size += usize::from(**segment != *ID) + child.place.size();
        }
        size
    }
}

/// Whether a segment looks like what stands for one of many things: a number, a date, a UUID, a token.
fn is_id(segment: &[u8]) -> bool {
    let digits = segment.iter().filter(|byte| byte.is_ascii_digit()).count();
    let hexadecimal = |byte: &u8| byte.is_ascii_hexdigit() || *byte == b'-';
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~{}".contains(byte);
    let length = segment.len();
    if !segment.iter().all(is_plain) || length > MOST_SEGMENT {
        return true;
    }
    digits > 0 && (digits * 2 >= length.max(3) || digits == length)
        || (digits > 0 && length >= 8 && segment.iter().all(hexadecimal))
        || (digits >= 2 && length >= 20)
}

fn word(method: Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Options => "OPTIONS",
        Method::Trace => "TRACE",
        Method::Patch => "PATCH",
        Method::Connect => "CONNECT",
        Method::Other => "OTHER",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(known: &mut Known, servings: &Servings, path: &str) -> String {
        let route = known.of(Method::Get, path.as_bytes(), |_| false, servings);
        route.name().to_string()
    }

    #[test]
    fn ids_are_left_out() {
        let check = |path: &str, expected: &str| {
            let told = shape(&mut Known::default(), &Servings::default(), path);
            assert_eq!(told, format!("GET {expected}"), "{path}");
        };
        check("/", "/");
        check("/orders", "/orders");
        check("/orders/17", "/orders/{id}");
        check("/orders/17/lines/3/", "/orders/{id}/lines/{id}/");
        check("/api/v1/users", "/api/v1/users");
        check(
            "/users/123e4567-e89b-12d3-a456-426614174000/x",
            "/users/{id}/x",
        );
        check("/files/3f9ab2cd", "/files/{id}");
        check("/facade/decade", "/facade/decade");
        check("/archive/2024-01-05", "/archive/{id}");
        check("/u/ann%40example.org", "/u/{id}");
        check("/t/01ARZ3NDEKTSV4RRFFQ69G5FAV", "/t/{id}");
        check("/page/authors_with_books", "/page/authors_with_books");
        check("/oauth2/token", "/oauth2/token");
        check("/a/b/c/d/e/f/g/h/i/j", "/a/b/c/d/e/f/g/h/…");
        check("*", "/{id}");
    }

    #[test]
    fn parameters_of_the_route_are_ids() {
        let path = b"/shops/vienna/orders";
        let mut known = Known::default();
        let is_parameter = |segment: &[u8]| segment == b"vienna";
        let route = known.of(Method::Post, path, is_parameter, &Servings::default());
        assert_eq!(&**route.name(), "POST /shops/{id}/orders");
    }

    #[test]
    fn the_same_shape_is_the_same_route() {
        let (mut known, servings) = (Known::default(), Servings::default());
        let route = |known: &mut Known, method, path: &str| {
            known.of(method, path.as_bytes(), |_| false, &servings)
        };
        let one = route(&mut known, Method::Get, "/a/1");
        assert_eq!(route(&mut known, Method::Get, "/a/2"), one);
        assert_ne!(route(&mut known, Method::Post, "/a/2"), one);
        let other = route(&mut Known::default(), Method::Get, "/a/3");
        assert_eq!(other, one, "another worker");
    }

    #[test]
    fn names_of_things_become_ids_once_there_are_many() {
        let (mut known, servings) = (Known::default(), Servings::default());
        let mut told = std::collections::BTreeSet::new();
        for number in 0..100_000_u32 {
            // Names of articles, of letters only.
            let slug: String = number
                .to_string()
                .bytes()
                .map(|byte| char::from(byte - b'0' + b'a'))
                .collect();
            told.insert(shape(&mut known, &servings, &format!("/posts/the-{slug}")));
            let popular = shape(&mut known, &servings, "/posts/latest");
            assert!(number < 200 || popular == "GET /posts/latest", "{popular}");
            assert_eq!(shape(&mut known, &servings, "/about"), "GET /about");
        }
        assert!(told.len() <= MOST_CHILDREN + 1, "{told:?}");
        let last = shape(&mut known, &servings, "/posts/the-last-of-all");
        assert_eq!(last, "GET /posts/{id}");
    }

    #[test]
    fn whatever_is_asked_for_it_stays_bounded() {
        let (mut known, servings) = (Known::default(), Servings::default());
        let mut random = outgrow_core::Random::from_seed(7);
        for _ in 0..200_000 {
            let mut path = String::new();
            for _ in 0..random.below(6) {
                let letter =
                    |random: &mut outgrow_core::Random| char::from(b'a' + random.below(26) as u8);
                path.extend(['/', letter(&mut random), letter(&mut random)]);
            }
            shape(&mut known, &servings, &path);
        }
        assert_eq!(known.root.size(), known.places);
        assert!(known.places <= MOST_PLACES, "{}", known.places);
    }
}
