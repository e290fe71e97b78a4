//! The lexer against the server's: random texts of everything that is awkward, and where the server says
//! that tokens and statements begin and end and what strings stand for.

use outgrow_core::Random;
use outgrow_postgres::sql::facts::Statements;
use outgrow_postgres::sql::lexer::string_value;
use outgrow_postgres::sql::{Lexer, Lexing, Token, TokenKind};

use crate::client::{Client, Refusal, Reply};
use crate::server;

/// Texts of each sort.
const TEXTS: usize = 4000;

const PIECES: [&str; 62] = [
    "'", "''", "\"", "\"\"", "$$", "$a$", "$b$", "$1", "$", "/*", "*/", "/", "*", "--", "-", "+",
    "\n", "\r", " ", "\t", ";", ";", "\\", "\\'", "\\\\", "E'", "e'", "U&'", "u&\"", "N'", "B'",
    "x'", "X'0f'", "'a'", "E'\\n'", "a", "b", "_x", "select", "SELECT 1", "1", "1.5", ".5", "1e5",
    "1e", "2.", "..", ".", ":", "::", ":=", "=>", "=", "<", ">=", "!", "@", "(", ")", "[", ",",
    "é",
];

fn choose<'a>(random: &mut Random, from: &[&'a str]) -> &'a str {
    from[random.below(from.len())]
}

fn soup(random: &mut Random) -> String {
    let count = 1 + random.below(14);
    (0..count).map(|_| choose(random, &PIECES)).collect()
}

fn tokens(text: &str, lexing: Lexing) -> Vec<Token> {
    Lexer::new(text.as_bytes(), lexing).collect()
}

/// The byte that the server's position, in characters and from 1 on, is about.
fn byte(text: &str, position: usize) -> usize {
    let found = text.char_indices().nth(position - 1);
    found.map_or(text.len(), |(index, _)| index)
}

/// A place that the server complains of must be one where a token of ours begins.
fn check_place(text: &str, lexing: Lexing, refusal: &Refusal) {
    let Some(position) = refusal.position else {
        return;
    };
    let at = byte(text, position);
    let ours = tokens(text, lexing);
    let here = ours.iter().find(|token| token.range().contains(&at));
    let said = format!("{text:?} {lexing:?}: {refusal:?}, ours {ours:?}");
    if refusal.message.starts_with("unterminated") {
        let last = ours.last().unwrap_or_else(|| panic!("{said}"));
        assert_eq!(last.kind, TokenKind::Wrong, "{said}");
        // Of comments, where the innermost begins.
        let is_comment = refusal.message.contains("comment");
        assert!(begins(text, last, at) || is_comment, "{said}");
        return;
    }
    if at >= text.trim_end().len() && refusal.message.ends_with("at end of input") {
        return;
    }
    let is_inside = refusal.message.contains("scape") || refusal.message.contains("Unicode");
    let here = here.unwrap_or_else(|| panic!("{said}"));
    assert!(begins(text, here, at) || is_inside, "{said}");
}

/// Whether a token begins there. To the server `N'text'` is a keyword and a string.
fn begins(text: &str, token: &Token, at: usize) -> bool {
    let start = token.start as usize;
    let is_national = text[start..].starts_with("N'") || text[start..].starts_with("n'");
    start == at || (is_national && start + 1 == at)
}

/// What was executed must be as many statements as ours, with the values of our strings.
fn check_results(text: &str, lexing: Lexing, reply: &Reply) {
    let said = format!("{text:?} {lexing:?}: {reply:?}");
    let ours = tokens(text, lexing);
    let is_wrong = |token: &Token| matches!(token.kind, TokenKind::Wrong | TokenKind::Unknown);
    assert!(!ours.iter().any(is_wrong), "{said}");
    let statements = Statements::new(text.as_bytes(), lexing).count();
    // A text without any statement is answered as well.
    assert_eq!(reply.results.len(), statements.max(1), "{said}");
}

/// In both settings of `standard_conforming_strings`.
fn in_both_settings(mut check: impl FnMut(&mut Client, Lexing)) {
    let Some(server) = server::start() else {
        return;
    };
    for standard in [true, false] {
        let mut client = Client::connect(server.address());
        let setting = if standard { "on" } else { "off" };
        client.execute(&format!(
            "SET standard_conforming_strings = {setting}; SET escape_string_warning = off; SET backslash_quote = on"
        ));
        let lexing = Lexing {
            standard_conforming_strings: Some(standard),
            ..Lexing::default()
        };
        check(&mut client, lexing);
    }
}

#[test]
fn the_server_sees_the_same_tokens() {
    let seed = 20_260_101;
    in_both_settings(|client, lexing| {
        let mut random = Random::from_seed(seed);
        let mut executed = 0;
        for _ in 0..TEXTS {
            let text = format!("SELECT 1 {}", soup(&mut random));
            let reply = client.ask(&text);
            match &reply.refusal {
                Some(refusal) => check_place(&text, lexing, refusal),
                None => {
                    check_results(&text, lexing, &reply);
                    executed += 1;
                }
            }
            if reply.status != b'I' {
                client.execute("ROLLBACK");
            }
        }
        assert!(executed > TEXTS / 50, "{executed}");
    });
}

#[test]
fn strings_stand_for_the_same() {
    const INSIDE: [&str; 24] = [
        "a",
        "'",
        "''",
        "''",
        "\\",
        "\\'",
        "\\\\",
        "\\n",
        "\\x41",
        "\\101",
        "\\u0042",
        "\\U00000043",
        "\n",
        "\r",
        "-",
        "--",
        "/*",
        "*/",
        "$",
        "$$",
        "$x$",
        ";",
        "\"",
        "é",
    ];
    const OPENINGS: [(&str, &str); 6] = [
        ("'", "'"),
        ("E'", "'"),
        ("$$", "$$"),
        ("$x$", "$x$"),
        ("N'", "'"),
        ("e'", "' \n -- c'\n '')'"),
    ];
    const BETWEEN: [&str; 7] = [" ", "\n", " \n ", "--x\n", "/* ' */", "\t--'\r", ""];
    let seed = 20_260_102;
    in_both_settings(|client, lexing| {
        let mut random = Random::from_seed(seed);
        let mut compared = 0;
        for _ in 0..TEXTS {
            let mut text = "SELECT".to_owned();
            for column in 0..=random.below(3) {
                let (opening, closing) = OPENINGS[random.below(OPENINGS.len())];
                let inside: String = (0..random.below(6))
                    .map(|_| choose(&mut random, &INSIDE))
                    .collect();
                let comma = if column > 0 { "," } else { "" };
                let between = choose(&mut random, &BETWEEN);
                let behind = choose(&mut random, &BETWEEN);
                text.push_str(&format!(
                    "{comma}{between} {opening}{inside}{closing}{behind}"
                ));
                // On the next line it goes on.
                if random.below(4) == 0 {
                    text.push_str("\n'more'");
                }
            }
            let reply = client.ask(&text);
            if let Some(refusal) = &reply.refusal {
                check_place(&text, lexing, refusal);
                continue;
            }
            check_results(&text, lexing, &reply);
            let strings: Vec<Token> = tokens(&text, lexing)
                .into_iter()
                .filter(|token| token.kind.is_string())
                .collect();
            let row = &reply.results[0][0];
            assert_eq!(row.len(), strings.len(), "{text:?}: {row:?}");
            for (token, value) in strings.into_iter().zip(row) {
                let mut ours = Vec::new();
                if string_value(token, text.as_bytes(), &mut ours) {
                    assert_eq!(Some(&ours), value.as_ref(), "{text:?} {lexing:?}");
                    compared += 1;
                }
            }
        }
        assert!(compared > TEXTS / 2, "{compared}");
    });
}

#[test]
fn operators_end_where_the_server_ends_them() {
    const PARTS: [&str; 21] = [
        "+", "-", "*", "/", "<", ">", "=", "~", "!", "@", "#", "%", "^", "&", "|", "`", "?", "/*",
        "*/", "--", ":",
    ];
    let seed = 20_260_103;
    in_both_settings(|client, lexing| {
        let mut random = Random::from_seed(seed);
        let mut named = 0;
        for _ in 0..TEXTS {
            let operators: String = (0..=random.below(4))
                .map(|_| choose(&mut random, &PARTS))
                .collect();
            let text = format!("SELECT 1 {operators} 2 \n + 3 /* */ ");
            let reply = client.ask(&text);
            let Some(refusal) = &reply.refusal else {
                check_results(&text, lexing, &reply);
                continue;
            };
            check_place(&text, lexing, refusal);
            let Some(operator) = refusal.message.strip_prefix("operator does not exist: ") else {
                continue;
            };
            let operator = operator.trim_start_matches("integer ");
            let operator = operator.trim_end_matches(" integer");
            let at = byte(&text, refusal.position.expect("a place"));
            let ours = tokens(&text, lexing);
            let token = ours.iter().find(|token| token.start as usize == at);
            let token = token.map(|token| token.of(text.as_bytes()));
            assert_eq!(token, Some(operator.as_bytes()), "{text:?}");
            named += 1;
        }
        assert!(named > TEXTS / 10, "{named}");
    });
}

#[test]
fn numbers_end_where_the_server_ends_them() {
    const PARTS: [&str; 14] = [
        "0", "1", "12", ".", "..", "e", "E5", "e+", "-", "_", "x1F", "b1", "$1", " ",
    ];
    let seed = 20_260_104;
    in_both_settings(|client, lexing| {
        let mut random = Random::from_seed(seed);
        for _ in 0..TEXTS {
            let number: String = (0..=random.below(4))
                .map(|_| choose(&mut random, &PARTS))
                .collect();
            let text = format!("SELECT 1{number}");
            let reply = client.ask(&text);
            match &reply.refusal {
                Some(refusal) => check_place(&text, lexing, refusal),
                None => check_results(&text, lexing, &reply),
            }
        }
    });
}
