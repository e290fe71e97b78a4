//! What is said to the server, whom it is told to, and for how many channels there is room.

use super::*;

const MOST: usize = 4;

/// Steps: `+c1` client 1 asks for c, `-c1` leaves it, `>` a batch is said, `!` it is answered, `x`
/// it fails, `?c` who listens. What each says is joined.
fn check(steps: &[(&str, &str)]) {
    let mut board: Board<char> = Board::default();
    let mut said = None;
    for (step, expected) in steps {
        let mut letters = step.chars();
        let verb = letters.next().expect("a verb");
        let letters: Vec<char> = letters.collect();
        let name: Name = letters.first().map_or_else(
            || Name::from(&b""[..]),
            |name| name.to_string().into_bytes().into(),
        );
        let client = letters.get(1).copied().unwrap_or('0');
        let number = u64::from(client);
        let result = match verb {
            '+' => format!("{:?}", board.ask(&name, number, &client, MOST)),
            '-' => {
                board.leave(&name, number);
                String::new()
            }
            '>' => {
                let batch = board.next_batch();
                let sql = String::from_utf8_lossy(&batch.sql).into_owned();
                said = Some(batch);
                sql
            }
            '!' | 'x' => {
                let batch = said.take().expect("a batch");
                let told = board.answered(batch, verb == '!');
                let told = told.iter().map(|(name, ear)| {
                    let name = String::from_utf8_lossy(name).into_owned();
                    format!("{name}{ear}")
                });
                told.collect::<Vec<_>>().join(" ")
            }
            _ => board.ears(&name).collect(),
        };
        assert_eq!(result, *expected, "{step} of {steps:?}");
    }
}

#[test]
fn a_channel_is_said_once() {
    check(&[
        ("+a1", "Later"),
        ("+a2", "Later"),
        ("+b2", "Later"),
        (">", "LISTEN \"a\";LISTEN \"b\";"),
        ("+a3", "Later"),
        ("!", "a1 a2 a3 b2"),
        ("+a4", "Heard"),
        ("+a4", "Heard"),
        ("?a", "1234"),
        ("?c", ""),
        (">", ""),
    ]);
}

#[test]
fn nobody_is_nobody() {
    check(&[
        ("+a1", "Later"),
        ("-a1", ""),
        (">", ""),
        ("!", ""),
        ("+a1", "Later"),
        (">", "LISTEN \"a\";"),
        ("-a1", ""),
        ("!", ""),
        (">", "UNLISTEN \"a\";"),
        // Behind the one that is under way.
        ("+a2", "Later"),
        ("!", ""),
        (">", "LISTEN \"a\";"),
        ("!", "a2"),
        ("-a2", ""),
        ("+a3", "Heard"),
        (">", ""),
        ("?a", "3"),
    ]);
}

#[test]
fn what_fails_is_forgotten() {
    check(&[
        ("+a1", "Later"),
        (">", "LISTEN \"a\";"),
        ("x", "a1"),
        ("?a", ""),
        ("+a1", "Later"),
        (">", "LISTEN \"a\";"),
        ("!", "a1"),
    ]);
}

#[test]
fn names_are_quoted_and_counted() {
    check(&[
        ("+\"1", "Later"),
        ("+b1", "Later"),
        ("+c1", "Later"),
        ("+d1", "Later"),
        ("+e1", "Full"),
        (
            ">",
            "LISTEN \"\"\"\";LISTEN \"b\";LISTEN \"c\";LISTEN \"d\";",
        ),
        ("!", "\"1 b1 c1 d1"),
        ("-b1", ""),
        (">", "UNLISTEN \"b\";"),
        ("+e1", "Later"),
    ]);
}

#[test]
fn markers_take_no_room_of_clients() {
    let mut board: Board<char> = Board::default();
    let name = |text: &str| Name::from(text.as_bytes());
    for one in ["m1", "m2"] {
        let asked = board.ask_marker(&name(one), 1, &'x', 2);
        assert_eq!(asked, Asked::Later);
    }
    assert_eq!(board.ask_marker(&name("m3"), 1, &'x', 2), Asked::Full);
    for one in ["a", "b"] {
        assert_eq!(board.ask(&name(one), 1, &'x', 2), Asked::Later);
    }
    assert_eq!(board.ask(&name("c"), 1, &'x', 2), Asked::Full);
    let batch = board.next_batch();
    board.answered(batch, true);
    board.leave(&name("m1"), 1);
    board.next_batch();
    assert_eq!(board.ask(&name("c"), 1, &'x', 2), Asked::Full);
    assert_eq!(board.ask_marker(&name("m3"), 1, &'x', 2), Asked::Later);
    let batch = board.next_batch();
    board.answered(batch, false);
    assert_eq!(board.ask_marker(&name("m4"), 1, &'x', 2), Asked::Later);
    board.clear();
    assert_eq!(board.ask_marker(&name("m5"), 1, &'x', 1), Asked::Later);
}

#[test]
fn markers_are_a_transaction_that_waits_for_nobody() {
    let markers = [1, 2].map(|byte| Marker::new(&[byte; 32]));
    let batch = Batch::of_marks(markers.clone().into_iter());
    let notify = markers.each_ref().map(|one| {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        format!("NOTIFY \"{}\",'{}';", text(one.channel()), text(one.word()))
    });
    let expected = format!(
        "SET LOCAL synchronous_commit=off;SET LOCAL lock_timeout='2s';{}",
        notify.concat()
    );
    assert_eq!(String::from_utf8_lossy(&batch.sql), expected);
    assert_eq!(batch.marks(), markers.map(|one| Arc::clone(one.channel())));
}

#[test]
fn everybody_is_told_once() {
    let mut board: Board<char> = Board::default();
    for (name, number) in [("a", 1), ("a", 2), ("b", 1)] {
        let ear = if number == 1 { 'x' } else { 'y' };
        board.ask(&name.as_bytes().into(), number, &ear, MOST);
    }
    assert_eq!((board.channels(), board.listeners()), (2, 2));
    let mut told = board.clear();
    told.sort_unstable();
    assert_eq!(told, ['x', 'y']);
    assert!(!board.has_more() && board.channels() == 0);
}
