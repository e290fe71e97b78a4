//! What becomes of suspected pairs, by scripted clients.

use super::*;
use crate::diagnosis::statements::{Class, New, Run, Table};

const PARENT: &str = "SELECT id FROM orders";
const CHILD: &str = "SELECT name FROM items WHERE order_id = $1";

struct World {
    table: Table,
    suspects: Suspects,
    now: Ticks,
    found: Vec<Finding>,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            table: Table::new(200),
            suspects: Suspects::default(),
            now: Ticks(0) + Duration::from_secs(1),
            found: Vec::new(),
        };
        world.suspect(PARENT, CHILD);
        world
    }

    fn record(&mut self, text: &str) -> Arc<Record> {
        let scope = self.table.scope("shop", "web");
        let fingerprint = outgrow_balance::hash::hash(text.as_bytes());
        let new = || New {
            database: "shop".into(),
            user: "web".into(),
            text: text.as_bytes(),
            normalised: text.to_owned(),
            class: Class::Query,
        };
        self.table.of(scope, fingerprint, new).expect("kept")
    }

    fn suspect(&mut self, parent: &str, child: &str) {
        let (parent, child) = (self.record(parent), self.record(child));
        let first = [parent.number as u32, 0, 0];
        let find = |number| (number == parent.number as u32).then(|| Arc::clone(&parent));
        self.suspects.suspect(&child, first, find, self.now);
    }

    /// A page: the list with these values, then the statements with those. Whether it was sampled.
    fn page(&mut self, rows: &[&str], values: &[&str]) -> bool {
        let (parent, child) = (self.record(PARENT), self.record(CHILD));
        parent.note(Run::default(), self.now);
        assert!(parent.is_suspected());
        let Some(ticket) = self.suspects.begin(parent.number, self.now) else {
            return false;
        };
        for row in rows {
            let mut body = b"\0\x01\0\0\0".to_vec();
            body.push(row.len() as u8);
            body.extend_from_slice(row.as_bytes());
            let sample = self.suspects.sample(ticket).expect("it is ours");
            sample.row(&body);
        }
        for value in values {
            child.note(Run::default(), self.now);
            let mut hashes = [Hashes::default(); MOST_VALUES];
            hashes[0] = Hashes::of(value.as_bytes());
            let now = self.now;
            let found = self
                .suspects
                .execute(ticket, (child.number, hashes), 5, now, |_| None);
            self.found.extend(found.map(|found| found.finding));
        }
        self.suspects.end(ticket);
        true
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now + time;
    }
}

const ROWS: [&str; 6] = ["11", "12", "13", "14", "15", "16"];
const MIXED: [&str; 6] = ["15", "11", "14", "12", "16", "13"];

#[test]
fn it_is_told_when_it_was_seen_twice() {
    let mut world = World::new();
    assert!(world.page(&ROWS, &ROWS));
    assert_eq!(world.found.len(), 0);
    assert!(!world.page(&ROWS, &ROWS), "too soon");
    world.wait(SAMPLE_EVERY);
    assert!(world.page(&ROWS, &ROWS));
    let [found] = &world.found[..] else {
        panic!("{:?}", world.found);
    };
    assert_eq!(found.kind, Kind::NPlusOne);
    let named = found.statement.as_ref().map(|text| &*text.normalised);
    assert_eq!(named, Some(CHILD));
    assert!(
        found.remedy.contains("order_id = ANY($1)"),
        "{}",
        found.remedy
    );
    assert!(found.evidence[0].contains(PARENT), "{:?}", found.evidence);
    // It is looked at less often from now on, and told again.
    world.wait(SAMPLE_EVERY);
    assert!(!world.page(&ROWS, &ROWS));
    world.wait(AGAIN_EVERY);
    assert!(world.page(&ROWS, &ROWS));
    assert_eq!(world.found.len(), 2);
}

#[test]
fn what_is_refuted_is_left_alone() {
    let mut world = World::new();
    let mut sampled = 0;
    for _ in 0..50 {
        sampled += u32::from(world.page(&ROWS, &MIXED));
        world.wait(SAMPLE_EVERY);
    }
    assert_eq!(sampled, REFUTED);
    assert_eq!(world.found, []);
    // Met by chance now and then, it is none either.
    let mut world = World::new();
    for turn in 0..50 {
        let values = if turn % 3 == 0 { &ROWS } else { &MIXED };
        world.page(&ROWS, values);
        world.wait(SAMPLE_EVERY);
    }
    assert_eq!(world.found, []);
}

#[test]
fn samples_and_pairs_are_bounded() {
    let mut world = World::new();
    for number in 0..3 * MOST_PAIRS {
        let text = format!("SELECT {number} FROM t{number}");
        world.wait(Duration::from_millis(1));
        world.suspect(&text, CHILD);
        assert!(world.suspects.pairs.len() <= MOST_PAIRS);
    }
    assert!(
        !world.record(PARENT).is_suspected(),
        "its pair was forgotten"
    );
    let parents: Vec<u64> = world
        .suspects
        .pairs
        .iter()
        .map(|one| one.parent.number)
        .collect();
    let now = world.now;
    let begin = |suspects: &mut Suspects, now: Ticks| {
        let all = parents
            .iter()
            .filter_map(|&parent| suspects.begin(parent, now));
        all.collect::<Vec<_>>()
    };
    let tickets = begin(&mut world.suspects, now);
    assert_eq!(tickets.len(), MOST_SAMPLES);
    // Clients that say nothing more do not keep them.
    let later = begin(&mut world.suspects, now + SAMPLE_LASTS);
    assert_eq!(later.len(), MOST_SAMPLES);
    assert!(
        world.suspects.sample(tickets[0]).is_none(),
        "another one has its place"
    );
    world.suspects.end(tickets[0]);
    assert!(world.suspects.sample(later[0]).is_some());
}
