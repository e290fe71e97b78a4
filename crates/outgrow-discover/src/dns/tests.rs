//! Messages of honest servers, of liars, and of nobody at all.

use std::net::IpAddr;

use outgrow_core::Random;

use super::answer::{addresses, services};
use super::message::{Code, Kind, Refusal, question, reply};

/// Builds messages byte by byte.
struct Message(Vec<u8>);

impl Message {
    fn new(flags: u16, counts: [u16; 4]) -> Self {
        let mut bytes = 7_u16.to_be_bytes().to_vec();
        bytes.extend(flags.to_be_bytes());
        for count in counts {
            bytes.extend(count.to_be_bytes());
        }
        Self(bytes)
    }

    /// Asked for `app.test`; the name is at 12, `test` alone at 16.
    fn answer(flags: u16, counts: [u16; 3], kind: u16) -> Self {
        let [answers, authorities, additions] = counts;
        Self::new(0x8180 | flags, [1, answers, authorities, additions])
            .raw(b"\x03app\x04test\0")
            .raw(&kind.to_be_bytes())
            .raw(&[0, 1])
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    fn record(self, name: &[u8], kind: u16, ttl: u32, data: &[u8]) -> Self {
        self.raw(name)
            .raw(&kind.to_be_bytes())
            .raw(&[0, 1])
            .raw(&ttl.to_be_bytes())
            .raw(&(data.len() as u16).to_be_bytes())
            .raw(data)
    }

    fn read(&self, kind: Kind) -> Result<super::message::Reply, Refusal> {
        reply(&self.0, 7, "app.test", kind)
    }
}

const NAME: &[u8] = &[0xc0, 12];

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn a_question_is_what_the_standard_says() {
    let asked = question(0x1234, "app.test", Kind::Aaaa, true).expect("a question");
    let expected = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\x01\x03app\x04test\0\0\x1c\0\x01\
                     \0\0\x29\x04\xd0\0\0\0\0\0\0";
    assert_eq!(asked, expected);
    let plain = question(0x1234, "app.test", Kind::Aaaa, false).expect("a question");
    assert_eq!(plain.len(), expected.len() - 11);
    for wrong in ["", ".", "a..b", "a.", &"x".repeat(64), &"ab.".repeat(90)] {
        assert_eq!(question(1, wrong, Kind::A, true), None, "{wrong:?}");
    }
}

#[test]
fn addresses_come_through_aliases_with_the_shortest_ttl() {
    let message = Message::answer(0, [4, 0, 0], 1)
        .record(NAME, 5, 60, b"\x01b\xc0\x10")
        .record(b"\x01B\xc0\x10", 5, 20, b"\x01c\xc0\x10")
        .record(b"\x01c\xc0\x10", 1, 40, &[10, 0, 0, 1])
        .record(b"\x05other\xc0\x10", 1, 1, &[6, 6, 6, 6]);
    let reply = message.read(Kind::A).expect("a reply");
    let answer = addresses(&reply, "app.test");
    assert_eq!(answer.found, [ip("10.0.0.1")], "nobody else's");
    assert_eq!(answer.ttl, Some(20));
}

#[test]
fn aliases_in_a_circle_lead_nowhere() {
    let message = Message::answer(0, [2, 0, 0], 1)
        .record(NAME, 5, 60, b"\x01b\xc0\x10")
        .record(b"\x01b\xc0\x10", 5, 60, NAME);
    let reply = message.read(Kind::A).expect("a reply");
    assert!(addresses(&reply, "app.test").found.is_empty());
}

#[test]
fn nothing_has_a_time_to_live_too() {
    let authority = [b"\0\0".as_slice(), &[0; 16], &30_u32.to_be_bytes()].concat();
    for (flags, code) in [(0, Code::Success), (3, Code::NoName)] {
        let message = Message::answer(flags, [0, 1, 0], 1).record(b"\0", 6, 3_600, &authority);
        let reply = message.read(Kind::A).expect("a reply");
        assert_eq!(reply.code, code);
        let answer = addresses(&reply, "app.test");
        assert_eq!((answer.found.len(), answer.ttl), (0, Some(30)));
    }
}

#[test]
fn services_have_priority_weight_and_port() {
    let message = Message::answer(0, [2, 0, 2], 33)
        .record(NAME, 33, 9, b"\0\x01\0\x02\x1f\x90\x01h\xc0\x10")
        .record(NAME, 33, 9, b"\0\x01\0\x02\0\0\0")
        .record(b"\x01h\xc0\x10", 28, 5, &[0xfd; 16])
        .record(b"\0", 41, 0, b"");
    let reply = message.read(Kind::Srv).expect("a reply");
    let answer = services(&reply, "app.test");
    assert_eq!(answer.found.len(), 1, "a dot is nobody");
    let srv = &answer.found[0];
    assert_eq!((srv.priority, srv.weight, srv.port), (1, 2, 8080));
    assert_eq!(srv.target, "h.test");
    assert_eq!(super::answer::added(&reply, "h.test").len(), 1);
    assert_eq!(super::answer::added(&reply, "i.test").len(), 0);
}

#[test]
fn what_is_not_to_the_letter_is_refused() {
    let good = || Message::answer(0, [1, 0, 0], 1).record(NAME, 1, 5, &[10, 0, 0, 1]);
    assert!(good().read(Kind::A).is_ok());
    let not_ours = |message: Message| {
        assert_eq!(
            message.read(Kind::A),
            Err(Refusal::NotOurs),
            "{:?}",
            message.0
        );
    };
    let mut other_id = good();
    other_id.0[1] = 8;
    not_ours(other_id);
    let mut a_question = good();
    a_question.0[2] = 1;
    not_ours(a_question);
    let mut other_name = good();
    other_name.0[13] = b'b';
    not_ours(other_name);
    not_ours(Message::answer(0, [0, 0, 0], 28));
    not_ours(Message::new(0x8180, [0, 0, 0, 0]));
    not_ours(Message::new(0x8180, [2, 0, 0, 0]));
    let malformed = |message: Message| {
        let read = message.read(Kind::A);
        assert!(matches!(read, Err(Refusal::Malformed(_))), "{read:?}");
    };
    malformed(good().raw(b"x"));
    malformed(Message::answer(0, [2, 0, 0], 1).record(NAME, 1, 5, &[10, 0, 0, 1]));
    malformed(Message::answer(0, [1, 0, 0], 1).record(NAME, 1, 5, &[10, 0, 0]));
    malformed(Message::answer(0, [1, 0, 0], 1).record(&[0xc0, 26], 1, 5, &[10, 0, 0, 1]));
    malformed(Message::answer(0, [1, 0, 0], 1).record(&[0x80, 1], 1, 5, &[10, 0, 0, 1]));
    malformed(Message::answer(0, [60_000, 0, 0], 1));
    malformed(Message::answer(0, [1, 0, 0], 1).record(NAME, 5, 5, b"\x01b\0\0"));
    let long = [&[63; 64][..], &[63; 64], &[63; 64], &[63; 64], &[0]].concat();
    malformed(Message::answer(0, [1, 0, 0], 1).record(&long, 1, 5, &[10, 0, 0, 1]));
    // A pointer to itself, and two that point at one another.
    malformed(Message::answer(0, [1, 0, 0], 1).raw(&[0xc0, 26, 0xc0, 26]));
    malformed(Message::answer(0, [1, 0, 0], 1).raw(&[0xc0, 28, 0xc0, 26]));
}

#[test]
fn a_truncated_answer_says_only_that() {
    let message = Message::answer(0x0200, [9, 0, 0], 1).raw(b"\x03ab");
    let reply = message.read(Kind::A).expect("a reply");
    assert!(reply.is_truncated && reply.answers.is_empty());
}

#[test]
fn nothing_that_is_sent_makes_it_fall_over() {
    let good = Message::answer(0, [2, 0, 1], 33)
        .record(NAME, 33, 9, b"\0\x01\0\x02\x1f\x90\x01h\xc0\x10")
        .record(NAME, 5, 60, b"\x01b\xc0\x10")
        .record(b"\x01h\xc0\x10", 1, 5, &[10, 0, 0, 1]);
    let mut random = Random::from_seed(11);
    for _ in 0..100_000 {
        let mut bytes = good.0.clone();
        for _ in 0..=random.below(4) {
            let at = 2 + random.below(bytes.len() - 2);
            bytes[at] = random.next_u64() as u8;
        }
        bytes.truncate(random.below(bytes.len() + 40));
        if let Ok(reply) = reply(&bytes, 7, "app.test", Kind::Srv) {
            let _ = services(&reply, "app.test");
            let _ = addresses(&reply, "app.test");
        }
    }
}
