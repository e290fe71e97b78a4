//! Lists that are read, and what is said of those that are not.

use std::sync::Arc;

use super::*;

const KEY: &str = "RukL0Xo3Ql/2F9FsD7mcQ3GATG2fD3PA71qY1JagGDs=";

fn list(text: &str) -> UserList {
    UserList::parse(text.as_bytes(), "users.txt").unwrap()
}

#[test]
fn lists_are_read_as_pgbouncer_does() {
    let scram = format!("SCRAM-SHA-256$4096:D76gvGUVj9Z4DNiGoabOBg==${KEY}:{KEY}");
    let text = format!(
        "; comment\n\
         \"plain\" \"foo\"\n\
         \n\
         \t \"quoted \"\"user\"\"\"\t\t\"a \"\"b\"\" ; c\" and what is ignored\r\n\
         \"nobody\" \"\"\n\
         \"md5\" \"md545f2603610af569b6155c45067268c6b\" \"\"\n\
         ;\"off\" \"off\"\n\
         \"scram\"\"{scram}\"\n"
    );
    // PgBouncer wants no space between the two either, but then quotes are escapes.
    let text = text.replace("\"scram\"\"", "\"scram\" \"");
    let list = list(&text);
    let found: Vec<(&str, String, u32)> = list
        .iter()
        .map(|(name, user)| {
            let secret = user.secret.as_ref().map(Secret::text).unwrap_or_default();
            (name, String::from_utf8(secret).unwrap(), user.line)
        })
        .collect();
    let md5 = "md545f2603610af569b6155c45067268c6b".to_owned();
    assert_eq!(
        found,
        [
            ("md5", md5, 6),
            ("nobody", String::new(), 5),
            ("plain", "foo".to_owned(), 2),
            ("quoted \"user\"", "a \"b\" ; c".to_owned(), 4),
            ("scram", scram, 8),
        ]
    );
    assert_eq!(list.get("nobody").unwrap().secret, None);
    assert_eq!(list.get("off"), None);
    assert!(list.warnings().is_empty());
}

#[test]
fn all_that_is_wrong_is_told_with_its_line() {
    let check = |text: &str, expected: &[&str]| {
        let problems = UserList::parse(text.as_bytes(), "u").map_or_else(
            |problems| problems.iter().map(ToString::to_string).collect(),
            |_| Vec::new(),
        );
        assert_eq!(problems, expected, "{text}");
    };
    check(
        "# a\n\"a\" \"b\"\nb \"c\"\n\"c\" d\n\"d\"\n\"\" \"e\"",
        &[
            "u line 1: begins with `#`: comments begin with `;`",
            "u line 3: the user's name is missing: write `\"user\" \"password\"`, in quotes",
            "u line 4: the password is missing: write `\"user\" \"password\"`, in quotes",
            "u line 5: the password is missing: write `\"user\" \"password\"`, in quotes",
            "u line 6: the user's name is empty",
        ],
    );
    check(
        "\"a\" \"b\n\"c\" \"d\"",
        &["u line 1: the password has a quote (\") that is not closed"],
    );
    check(
        "\"a",
        &["u line 1: the user's name has a quote (\") that is not closed"],
    );
    check(
        "\"a\" \"SCRAM-SHA-256$4096\"",
        &["u line 1: user \"a\": not a SCRAM verifier: expected \
           `SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY`"],
    );
    let name = "n".repeat(LONGEST_NAME);
    check(&format!("\"{name}\" \"x\""), &[]);
    check(
        &format!("\"{name}n\" \"x\""),
        &["u line 1: the user's name has 128 bytes, more than 127"],
    );
    let password = "p".repeat(65_535);
    check(&format!("\"a\" \"{password}\""), &[]);
    check(
        &format!("\"a\" \"{password}p\""),
        &["u line 1: user \"a\": the password has 65536 bytes, more than 65535"],
    );
    check(
        "\"a\0\" \"x\"\n\"b\" \"\0\"",
        &[
            "u line 1: the user's name holds a NUL byte",
            "u line 2: user \"b\": the password holds a NUL byte, which cannot be sent",
        ],
    );
    let many = "x\n".repeat(1_000);
    assert_eq!(
        UserList::parse(many.as_bytes(), "u").unwrap_err().len(),
        100
    );
    let latin = UserList::parse(b"\"caf\xe9\" \"x\"", "u").unwrap_err();
    assert_eq!(latin[0].text, "the user's name is not UTF-8");
    assert!(UserList::parse(b"\"cafe\" \"\xe9\"", "u").is_ok());
}

#[test]
fn the_last_line_of_a_user_counts_with_a_warning() {
    let list = list("\"a\" \"x\"\n\"a\" \"y\"\n");
    let user = list.get("a").unwrap();
    assert_eq!(user.secret.as_ref().unwrap().text(), b"y");
    assert_eq!(
        list.warnings()[0].to_string(),
        "users.txt line 2: user \"a\" is in line 1 already: this line counts"
    );
}

#[test]
fn lists_are_written_so_that_they_are_read_again() {
    let before = list("\"b\"\"\" \"x \"\"\"\"y\"\n\"a;\" \"\"\n");
    let text = before.text().unwrap();
    assert_eq!(text, b"\"a;\" \"\"\n\"b\"\"\" \"x \"\"\"\"y\"\n");
    let again = UserList::parse(&text, "users.txt").unwrap();
    assert!(
        before
            .iter()
            .map(|(name, _)| name)
            .eq(again.iter().map(|(name, _)| name))
    );
    let mut out = Vec::new();
    let secret = Secret::read(b"a\nb").unwrap();
    assert_eq!(write_line("a", secret.as_ref(), &mut out), Err(Unwritable));
    assert_eq!(write_line("a\r", None, &mut out), Err(Unwritable));
    assert!(out.is_empty());
}

#[test]
fn what_was_derived_outlives_a_reload() {
    let older = list("\"a\" \"x\"\n\"b\" \"y\"\n");
    let mut newer = list("\"a\" \"x\"\n\"b\" \"z\"\n");
    newer.keep_derived(&older);
    let password = |list: &UserList, user: &str| match &list.get(user).unwrap().secret {
        Some(Secret::Plain(password)) => Arc::clone(password),
        other => panic!("{other:?}"),
    };
    assert!(Arc::ptr_eq(&password(&older, "a"), &password(&newer, "a")));
    assert_eq!(password(&newer, "b").expose(), b"z");
}

#[test]
fn every_cut_and_changed_byte_is_read_or_refused() {
    let text = b"; c\n\"user\" \"pass\"\"word\" x\n\"u\" \"md545f2603610af569b6155c45067268c6b\"\n";
    for end in 0..text.len() {
        let _ = UserList::parse(&text[..end], "u");
        for by in [1, 2, 32, 128, 255] {
            let mut changed = text.to_vec();
            changed[end] ^= by;
            if let Ok(list) = UserList::parse(&changed, "u") {
                // What is read can be written, but for carriage returns in the middle.
                if let Ok(text) = list.text() {
                    assert!(UserList::parse(&text, "u").is_ok(), "{text:?}");
                }
            }
        }
    }
}
