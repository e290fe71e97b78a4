//! Tickets, and which responses get one.

use std::sync::Mutex;
use std::task::Waker;

use outgrow_core::Random;

use super::ticket::{After, Ticket, Written};
use super::*;

const DB: Store = Store(7);
const WALL: WallTime = WallTime(1_800_000_000 * 1_000_000_000);

fn key(secret: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret)
}

fn at(lsn: u64) -> Position {
    Position { timeline: 3, lsn }
}

fn text(ticket: &Ticket, key: &hmac::Key) -> Vec<u8> {
    let mut text = Vec::new();
    ticket.write(key, &mut text);
    text
}

#[test]
fn tickets_are_read_as_they_are_written() {
    let keys = [key(b"new"), key(b"old")];
    for seed in 0..200 {
        let mut random = Random::from_seed(seed);
        let mut ticket = Ticket {
            expires: u64::from(random.next_u64() as u32),
            ..Ticket::default()
        };
        for _ in 0..random.next_u64() % 20 {
            let store = Store(random.next_u64() as u32 % 9);
            match random.next_u64() % 3 {
                0 => ticket.unknown(store, random.next_u64() as u32),
                _ => ticket.at(store, at(random.next_u64() >> 1)),
            }
            ticket.after(random.next_u64() % 9, random.next_u64() as u32);
        }
        for key in &keys {
            assert_eq!(
                Ticket::read(&text(&ticket, key), &keys),
                Some(ticket.clone())
            );
        }
        assert_eq!(Ticket::read(&text(&ticket, &key(b"other")), &keys), None);
    }
}

#[test]
fn what_is_no_ticket_of_ours_is_none() {
    let keys = [key(b"secret")];
    let mut ticket = Ticket::default();
    ticket.at(DB, at(99));
    ticket.after(5, 6);
    let good = text(&ticket, &keys[0]);
    assert!(Ticket::read(&good, &keys).is_some());
    for index in 0..good.len() {
        for letter in [b'A', b'B', b'_', b'=', b' '] {
            let mut bad = good.clone();
            bad[index] = letter;
            let read = Ticket::read(&bad, &keys);
            // The last letter has bits that mean nothing.
            let is_last = index + 1 == good.len();
            assert!(bad == good || read.is_none() || is_last, "{index}");
            if let Some(read) = read {
                assert_eq!(read, ticket);
            }
        }
        assert_eq!(Ticket::read(&good[..index], &keys), None, "{index}");
    }
    for bad in ["", "A", "AAAA", "not a ticket", &"A".repeat(10_000)] {
        assert_eq!(Ticket::read(bad.as_bytes(), &keys), None, "{bad}");
    }
    // Signed, but of another version, or with more than there is.
    for head in [[2, 0, 0], [1, 1, 0], [1, 0, 1], [1, 255, 255]] {
        let mut odd = Ticket::default();
        odd.expires = 1;
        let mut bytes = [head.as_slice(), &[0; 4]].concat();
        bytes.extend_from_slice(&ticket::sign(&keys[0], &bytes));
        let mut out = Vec::new();
        outgrow_core::base64::put_url(&bytes, &mut out);
        assert_eq!(Ticket::read(&out, &keys), None, "{head:?}");
    }
}

#[test]
fn tickets_keep_what_is_furthest() {
    let mut ticket = Ticket::default();
    ticket.at(DB, at(10));
    ticket.at(DB, at(5));
    let newer = Position {
        timeline: 4,
        lsn: 7,
    };
    ticket.at(DB, newer);
    let position = Position {
        timeline: 4,
        lsn: 10,
    };
    assert_eq!(
        ticket.written,
        [Written {
            store: DB,
            position
        }]
    );
    for identity in 0..10 {
        ticket.after(identity, 100 - identity as u32);
        ticket.after(identity, 1);
    }
    let after = |identity, until| After { identity, until };
    assert_eq!(
        ticket.after,
        [after(0, 100), after(1, 99), after(2, 98), after(9, 91)]
    );
}

/// A primary that is where it is told, when it is told.
#[derive(Debug, Default)]
struct Primary(Mutex<Said>);

#[derive(Debug, Default)]
struct Said {
    asked: Vec<(Store, Ticks)>,
    has_answered: bool,
    answer: Option<Position>,
}

impl Positions for Primary {
    fn position(
        &self,
        store: Store,
        after: Ticks,
    ) -> Pin<Box<dyn Future<Output = Option<Position>> + Send + '_>> {
        self.0
            .lock()
            .expect("nobody panicked")
            .asked
            .push((store, after));
        Box::pin(std::future::poll_fn(move |_| {
            let said = self.0.lock().expect("nobody panicked");
            match said.has_answered {
                true => Poll::Ready(said.answer),
                false => Poll::Pending,
            }
        }))
    }
}

struct World {
    plan: Arc<FloorPlan>,
    primary: Arc<Primary>,
    servings: Arc<Servings>,
    cells: FloorCells,
}

impl World {
    fn new() -> Self {
        let (primary, servings) = (Arc::<Primary>::default(), Arc::<Servings>::default());
        let plan = FloorPlan::new(
            ("floor", "Floor"),
            Duration::from_secs(60),
            &[b"secret"],
            Arc::clone(&servings),
            Arc::clone(&primary) as Arc<dyn Positions>,
        );
        Self {
            plan: Arc::new(plan),
            primary,
            servings,
            cells: FloorCells::default(),
        }
    }

    fn answer(&self, position: Option<Position>) {
        let mut said = self.primary.0.lock().expect("nobody panicked");
        (said.has_answered, said.answer) = (true, position);
    }

    fn asked(&self) -> Vec<(Store, Ticks)> {
        self.primary
            .0
            .lock()
            .expect("nobody panicked")
            .asked
            .clone()
    }

    fn begin(&self, method: &[u8], fields: &[(&str, &str)], since: u64) -> Box<Passage> {
        let mut request = RequestHead::default();
        request.method = outgrow_message::Method::of(method);
        for (name, value) in fields {
            request.fields.push(name.as_bytes(), value.as_bytes());
        }
        let times = (Ticks(since), WALL);
        Passage::new(&self.plan, &request, times, false, &self.cells)
    }

    /// Sends it to an instance.
    fn enter(&self, passage: &mut Passage, identity: u64) -> Arc<Serving> {
        let serving = self.servings.of(identity);
        let floors = self.plan.floors(&passage.ticket, WALL, Ticks(1));
        passage.in_flight = Some(serving.begin(self.servings.nameless(), Ticks(1), floors));
        passage.tried.push(Arc::clone(&serving));
        serving
    }

    /// The fields of the response's head; none while it waits.
    fn head(&self, passage: &mut Passage, fields: &[(&str, &str)]) -> Option<Fields> {
        let mut head = Fields::default();
        for (name, value) in fields {
            head.push(name.as_bytes(), value.as_bytes());
        }
        let mut cx = Context::from_waker(Waker::noop());
        let polled = passage.poll_head(&mut cx, &mut head, &self.cells);
        polled.is_ready().then_some(head)
    }

    /// The ticket that a head gives.
    fn given(&self, head: &Fields) -> Option<Ticket> {
        let text = head.get_named(b"floor")?;
        let cookie = head.get_named(b"set-cookie").expect("a cookie as well");
        let cookie = String::from_utf8_lossy(cookie).into_owned();
        let attributes = "; Path=/; HttpOnly; SameSite=Lax; Max-Age=60";
        let expected = format!("floor={}{attributes}", String::from_utf8_lossy(text));
        assert_eq!(cookie, expected);
        Some(Ticket::read(text, &self.plan.keys).expect("a ticket of ours"))
    }
}

#[test]
fn only_what_may_have_written_gets_a_ticket() {
    let check = |method: &[u8], wrote_at: Option<u64>, has_database: bool, expected: bool| {
        let world = World::new();
        world.answer(Some(at(500)));
        let mut passage = world.begin(method, &[], 10);
        let serving = world.enter(&mut passage, 1);
        if has_database {
            serving.count_connection(true);
        }
        if let Some(began) = wrote_at {
            serving.note_write(DB, Ticks(began), Ticks(began + 1));
        }
        let head = world.head(&mut passage, &[]).expect("it is known");
        let given = world.given(&head);
        let case = format!("{method:?} {wrote_at:?}");
        assert_eq!(given.is_some(), expected, "{case}");
        let wrote = wrote_at.is_some_and(|began| began >= 10);
        assert_eq!(world.asked().len(), usize::from(wrote), "{case}");
        if let Some(given) = given {
            assert_eq!(given.written.len(), usize::from(wrote), "{case}");
            assert_eq!(given.after[0].identity, 1);
            assert_eq!(given.expires, WALL.seconds() + 61);
        }
    };
    check(b"GET", None, true, false);
    check(b"GET", Some(9), true, false);
    check(b"GET", Some(10), true, true);
    check(b"HEAD", Some(11), true, true);
    check(b"POST", None, false, false);
    check(b"POST", None, true, true);
    check(b"POST", Some(9), true, true);
    check(b"POST", Some(12), true, true);
    check(b"PURGE", None, true, true);
}

#[test]
fn a_head_waits_until_the_primary_has_said_where_it_is() {
    let world = World::new();
    let mut passage = world.begin(b"POST", &[], 10);
    let serving = world.enter(&mut passage, 1);
    serving.note_write(DB, Ticks(11), Ticks(12));
    assert!(world.head(&mut passage, &[]).is_none());
    assert_eq!(world.asked(), [(DB, Ticks(12))]);
    world.answer(Some(at(500)));
    let head = world.head(&mut passage, &[]).expect("it is known");
    let given = world.given(&head).expect("a ticket");
    assert_eq!(given.written[0].position, at(500));
    // Others are not asked again for the same write, and the next one is.
    let mut other = world.begin(b"GET", &[], 11);
    world.enter(&mut other, 1);
    assert!(world.head(&mut other, &[]).is_some());
    assert_eq!(world.asked().len(), 1);
    // What is not known in time is the primary's for a while.
    world.answer(None);
    let mut unknown = world.begin(b"POST", &[], 20);
    world.enter(&mut unknown, 1);
    serving.note_write(DB, Ticks(21), Ticks(22));
    let head = world.head(&mut unknown, &[]).expect("at once");
    let given = world.given(&head).expect("a ticket");
    let until = WALL.seconds() as u32 + UNKNOWN.as_secs() as u32 + 1;
    assert_eq!(given.written[0].unknown_until(), Some(until));
    assert_eq!(world.cells.unknown.get(), 1);
}

#[test]
fn a_ticket_counts_at_the_next_instance() {
    let world = World::new();
    world.answer(Some(at(500)));
    let mut first = world.begin(b"POST", &[], 10);
    let serving = world.enter(&mut first, 1);
    serving.note_write(DB, Ticks(11), Ticks(12));
    let head = world.head(&mut first, &[]).expect("it is known");
    let ticket = head.get_named(b"floor").expect("a ticket").to_vec();
    let ticket = String::from_utf8(ticket).expect("ASCII");
    drop(first);
    let demand = |fields: &[(&str, &str)]| {
        let mut next = world.begin(b"GET", fields, 30);
        let serving = world.enter(&mut next, 2);
        let mut demand = outgrow_core::serving::Demand::default();
        serving.demand(DB, Ticks(31), &mut demand);
        assert_eq!(serving.in_flight(), 1);
        drop(next);
        assert_eq!(serving.in_flight(), 0, "it is over, however it ended");
        demand.position.lsn
    };
    let cookie = format!("a=b; floor={ticket}; c=d");
    assert_eq!(demand(&[("Cookie", &cookie)]), 500);
    assert_eq!(demand(&[("Floor", &ticket)]), 500);
    assert_eq!(demand(&[]), 0);
    assert_eq!(world.cells.refused.get(), 0);
    let forged = cookie.replace("floor=A", "floor=B");
    assert_eq!(demand(&[("Cookie", &forged)]), 0);
    assert_eq!(world.cells.refused.get(), 1);
    // One that has expired is none.
    let later = WallTime(WALL.0 + 62_000_000_000);
    let mut request = RequestHead::default();
    request.fields.push(b"Floor", ticket.as_bytes());
    let read = world.plan.read(&request, later, &world.cells);
    assert_eq!(read, Ticket::default());
}

#[test]
fn a_new_ticket_keeps_what_the_old_one_stands_for() {
    let world = World::new();
    let mut old = Ticket::default();
    old.at(Store(8), at(77));
    old.expires = WALL.seconds() + 5;
    let mut ticket = Vec::new();
    old.write(&world.plan.keys[0], &mut ticket);
    let ticket = String::from_utf8(ticket).expect("ASCII");
    let mut passage = world.begin(b"POST", &[("Floor", &ticket)], 10);
    world.enter(&mut passage, 1).count_connection(true);
    let head = world.head(&mut passage, &[]).expect("nobody is asked");
    let given = world.given(&head).expect("a ticket");
    assert_eq!(given.written, old.written);
}

#[test]
fn what_is_for_all_gets_no_ticket() {
    let check = |method: &[u8], control: &str, expected: bool| {
        let world = World::new();
        world.answer(Some(at(500)));
        let mut passage = world.begin(method, &[], 10);
        world
            .enter(&mut passage, 1)
            .note_write(DB, Ticks(11), Ticks(12));
        let head = world.head(&mut passage, &[("Cache-Control", control)]);
        let head = head.expect("it is known");
        assert_eq!(world.given(&head).is_some(), expected, "{control}");
    };
    check(b"GET", "public, max-age=60", false);
    check(b"GET", "max-age=1, S-Maxage=60", false);
    check(b"GET", "max-age=60", true);
    check(b"GET", "private", true);
    check(b"POST", "public", true);
}

#[test]
fn what_was_sent_to_several_is_asked_for_all() {
    let world = World::new();
    world.answer(Some(at(500)));
    let mut passage = world.begin(b"PUT", &[], 10);
    let first = world.enter(&mut passage, 1);
    first.note_write(DB, Ticks(1), Ticks(2));
    world.enter(&mut passage, 2);
    let head = world.head(&mut passage, &[]).expect("it is known");
    let given = world.given(&head).expect("a ticket");
    assert_eq!(given.written.len(), 1);
    assert_eq!(given.after.len(), 2);
    // What nobody is known to have written counts for everybody.
    let mut other = world.begin(b"GET", &[], 20);
    world.enter(&mut other, 3);
    world
        .servings
        .unplaced()
        .note_write(Store(9), Ticks(21), Ticks(22));
    let head = world.head(&mut other, &[]).expect("it is known");
    assert_eq!(
        world.given(&head).expect("a ticket").written[0].store,
        Store(9)
    );
}
