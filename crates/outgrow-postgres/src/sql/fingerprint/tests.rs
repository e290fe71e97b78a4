//! Which texts are the same statement, and how they are shown.

use outgrow_core::Random;

use super::*;

fn secret(seed: u64) -> Secret {
    let mut random = Random::from_seed(seed);
    Secret::new(|| random.next_u64())
}

fn both(text: &str) -> (u64, Option<Identity>) {
    let (text, lexing) = (text.as_bytes(), Lexing::default());
    (
        fingerprint(text, lexing),
        Identity::of(text, lexing, &secret(3)),
    )
}

#[track_caller]
fn same(texts: &[&str]) {
    for text in texts {
        assert_eq!(both(text), both(texts[0]), "{text} and {}", texts[0]);
        assert!(both(text).1.is_some(), "{text}");
        assert_ne!(both(text).0, 0, "{text}");
    }
}

#[track_caller]
fn different(texts: &[&str]) {
    for (index, text) in texts.iter().enumerate() {
        for other in &texts[..index] {
            assert_ne!(both(text).0, both(other).0, "{text} and {other}");
            assert_ne!(both(text).1, both(other).1, "{text} and {other}");
        }
    }
}

#[test]
fn values_blanks_comments_and_case_do_not_count() {
    same(&[
        "SELECT a FROM t WHERE b = 1",
        "select A from T where B=2.5e3",
        "SELECT a FROM t WHERE b = 'x'",
        "SELECT a\n FROM t WHERE b = $$x$$ -- c",
        "/* app='x' */ SELECT a FROM t WHERE b = E'\\'' /* traceparent='00-1' */",
        "SELECT a FROM t WHERE b = $1",
        "SELECT a FROM t WHERE b = -1",
        "SELECT a FROM t WHERE b = B'1'",
        "SELECT a FROM t WHERE b = 'x'\n'y'",
    ]);
}

#[test]
fn names_and_operators_count() {
    different(&[
        "SELECT a FROM t",
        "SELECT b FROM t",
        "SELECT a FROM u",
        "SELECT \"a\" FROM t",
        "SELECT \"A\" FROM t",
        "SELECT a, 1 FROM t",
        "SELECT a FROM t WHERE b",
        "SELECT a FROM t WHERE b = 1",
        "SELECT a FROM t WHERE b <> 1",
        "SELECT a FROM t WHERE b IS NULL",
        "SELECT a FROM t WHERE b IS TRUE",
        "SELECT a FROM t; SELECT a FROM t",
        "SELECT a FROM t WHERE b = 1 - 1",
        "SELECT a FROM t WHERE b = a -1",
        "SELECT afromt",
        "SELECT a.fromt",
        "SELECT abcdefgh",
        "SELECT abcdefg h",
        "SELECT abcdefghi",
        "SELECT abcdefgh i",
        "SELECT \"abcdefgh\"",
        "SELECT \"abcdefgh i\"",
    ]);
}

#[test]
fn hints_count_and_other_comments_do_not() {
    different(&[
        "SELECT 1",
        "/*outgrow: primary*/ SELECT 1",
        "/*outgrow: replica*/ SELECT 1",
    ]);
    same(&[
        "/*outgrow: primary*/ SELECT 1",
        "SELECT 2 /* NO LOAD BALANCE */",
    ]);
}

#[test]
fn lists_of_values_are_one() {
    same(&[
        "SELECT a FROM t WHERE b IN (1)",
        "SELECT a FROM t WHERE b IN (1, 2, 3)",
        "SELECT a FROM t WHERE b IN ($1, $2, 'x', NULL, true, -5, - 5)",
    ]);
    same(&[
        "INSERT INTO t (a, b) VALUES (1, 2)",
        "INSERT INTO t (a, b) VALUES (1, 'x'), (2, DEFAULT), ($1, $2)",
    ]);
    same(&[
        "INSERT INTO t VALUES (1, 2) RETURNING a",
        "INSERT INTO t VALUES (1, 2), (3, 4) RETURNING a",
    ]);
    same(&["SELECT ARRAY[1, 2]", "SELECT array[1,2,3,4]"]);
    different(&[
        "SELECT a FROM t WHERE b IN (1, c)",
        "SELECT a FROM t WHERE b IN (1, 2, c)",
        "SELECT a FROM t WHERE b IN (f(1))",
        "SELECT a FROM t WHERE b IN (1, f(1))",
        "SELECT a FROM t WHERE b IN ((1), (2))",
        "SELECT a FROM t WHERE b IN (-c)",
        "SELECT a FROM t WHERE b IN (1 + 2)",
        "SELECT a FROM t WHERE b IN ()",
        "SELECT a FROM t WHERE b IN (1,)",
        "SELECT a FROM t WHERE b IN (1",
        "VALUES (1), (f(2))",
        "VALUES (f(1)), (2)",
        "VALUES (1), (2), (c)",
        "SELECT f(1)",
        "SELECT f(1, 2)",
        "SELECT f(NULL)",
    ]);
    different(&["VALUES (1), (2) LIMIT 1", "VALUES (1), (2) OFFSET 1"]);
}

#[test]
fn settings_keep_their_names() {
    different(&[
        "SELECT current_setting('a.b')",
        "SELECT current_setting('a.c')",
        "SELECT current_setting('a.b\tlonger than eight bytes')",
        "SELECT current_setting(a)",
        "SELECT current_setting(1)",
        "SELECT set_config('a.b', 'x', true)",
        "SELECT set_config('a.c', 'x', true)",
    ]);
    same(&[
        "SELECT set_config('a.b', 'x', true)",
        "SELECT set_config('a.b', 'y', true)",
    ]);
}

#[test]
fn what_cannot_be_read_has_neither() {
    for text in ["SELECT 'x", "SELECT $", "SELECT U&\"a\""] {
        assert_eq!(both(text), (0, None), "{text}");
    }
    // Its words might be those of something else.
    assert_eq!(both("SELECT \"a\tb\"").1, None);
    let long = |count: usize| format!("SELECT {}", vec!["a"; count].join(","));
    assert!(both(&long(MOST_WORDS / 2 - 1)).1.is_some());
    assert_eq!(both(&long(MOST_WORDS / 2 + 1)).1, None);
    assert_ne!(both(&long(MOST_WORDS)).0, 0);
}

#[test]
fn fingerprints_are_the_same_for_ever() {
    let check = |text: &str, expected: u64| {
        assert_eq!(
            fingerprint(text.as_bytes(), Lexing::default()),
            expected,
            "{text}"
        );
    };
    check("", 0x0);
    check("SELECT 1", 0xf7e0_122a_dbbe_288b);
    check(
        "SELECT \"a\" FROM longer_than_eight WHERE x IN (1, 2)",
        0xe8ec_2466_0d06_e078,
    );
}

#[test]
fn identities_differ_with_the_secret() {
    let of = |seed| Identity::of(b"SELECT 1", Lexing::default(), &secret(seed));
    assert_eq!(of(1), of(1));
    assert_ne!(of(1), of(2));
    assert_eq!(format!("{:?}", secret(1)), "Secret");
}

/// No two of many texts have the same, though they differ by a byte.
#[test]
fn texts_of_one_alphabet_are_all_different() {
    let secret = secret(9);
    let mut stable = std::collections::HashMap::new();
    let mut keyed = std::collections::HashMap::new();
    for number in 0..100_000_u32 {
        let letters: String = (0..5)
            .map(|digit| char::from(b'a' + (number / 10_u32.pow(digit) % 10) as u8))
            .collect();
        let text = format!("SELECT {letters} FROM t");
        let lexing = Lexing::default();
        let before = stable.insert(fingerprint(text.as_bytes(), lexing), text.clone());
        assert_eq!(before, None, "{text}");
        let identity = Identity::of(text.as_bytes(), lexing, &secret).expect("it is short");
        let before = keyed.insert((identity.hashes, identity.words), text.clone());
        assert_eq!(before, None, "{text}");
    }
}

#[test]
fn statements_are_shown_without_values() {
    let check = |text: &str, expected: &str| {
        assert_eq!(
            normalised(text.as_bytes(), Lexing::default(), 200),
            expected,
            "{text}"
        );
    };
    check(
        "SELECT  a\n FROM t -- c\nWHERE b=1 AND c = 'x'",
        "SELECT a FROM t WHERE b=$1 AND c = $2",
    );
    check("SELECT $2, 5", "SELECT $2, $3");
    check(
        "SELECT a FROM t WHERE b IN (1, -2, $1) LIMIT 5",
        "SELECT a FROM t WHERE b IN ($2 /*, ... */) LIMIT $3",
    );
    check(
        "SELECT a IN (1), ARRAY[1, 2]",
        "SELECT a IN ($1), ARRAY[$2 /*, ... */]",
    );
    check(
        "VALUES (1, 2), (3, f(4))",
        "VALUES ($1 /*, ... */), ($2, f($3))",
    );
    check("SELECT 'it''s", "SELECT 'it''s");
    check("", "");
    let long = format!("SELECT {}", vec!["column_name"; 100].join(", "));
    let shown = normalised(long.as_bytes(), Lexing::default(), 200);
    assert!(shown.len() < 220 && shown.ends_with(" …"), "{shown}");
    let name = format!("SELECT {}", "ä".repeat(300));
    let shown = normalised(name.as_bytes(), Lexing::default(), 200);
    assert!(shown.len() <= 204 && shown.ends_with("ä …"), "{shown}");
    assert_eq!(
        normalised(b"SELECT \xff", Lexing::default(), 200),
        "SELECT \u{fffd}"
    );
}
