//! Texts and their tokens. What the server itself makes of texts is asked in `tests/sql/lexing.rs`.

use outgrow_core::Random;

use super::*;

const OFF: Lexing = Lexing {
    standard_conforming_strings: Some(false),
    safe_encoding: true,
};
const NOT_KNOWN: Lexing = Lexing {
    standard_conforming_strings: None,
    safe_encoding: true,
};

/// Tokens as `kind:text`, by the first letters of the kind.
fn show(text: &[u8], lexing: Lexing) -> String {
    let tokens = Lexer::new(text, lexing).map(|token| {
        let kind = match token.kind {
            TokenKind::Word => "word:",
            TokenKind::Quoted => "quoted:",
            TokenKind::UnicodeQuoted => "uquoted:",
            TokenKind::Number => "number:",
            TokenKind::Parameter => "parameter:",
            TokenKind::String => "string:",
            TokenKind::EscapeString => "escaped:",
            TokenKind::DollarString => "dollar:",
            TokenKind::BitString => "bits:",
            TokenKind::UnicodeString => "ustring:",
            TokenKind::Operator => "op:",
            TokenKind::Wrong => "wrong:",
            TokenKind::Unknown => "unknown:",
            _ => "",
        };
        format!("{kind}{}", String::from_utf8_lossy(token.of(text)))
    });
    tokens.collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn check(text: &str, expected: &str) {
    assert_eq!(
        show(text.as_bytes(), Lexing::default()),
        expected,
        "{text:?}"
    );
}

#[test]
fn words_and_names() {
    check("", "");
    check(" \t\r\n\x0b\x0c", "");
    check(
        "SELECT a_1$ FROM T",
        "word:SELECT word:a_1$ word:FROM word:T",
    );
    check("größe", "word:größe");
    check("\"a b\"\"c\" \"\"", "quoted:\"a b\"\"c\" quoted:\"\"");
    check(
        "\"0123456789abcdef0123456789\"\"x\"",
        "quoted:\"0123456789abcdef0123456789\"\"x\"",
    );
    check("U&\"d\\0061\" u&", "uquoted:U&\"d\\0061\" word:u op:&");
    check("\"open", "wrong:\"open");
    check("\"open\"\"", "wrong:\"open\"\"");
    check("ab'c'", "word:ab string:'c'");
    check("e &'x'", "word:e op:& string:'x'");
}

#[test]
fn strings() {
    check("'' 'it''s' '\\'", "string:'' string:'it''s' string:'\\'");
    check("E'\\'' e'a\\\\'", "escaped:E'\\'' escaped:e'a\\\\'");
    check("N'n' B'01' x'0F'", "string:N'n' bits:B'01' bits:x'0F'");
    check("B'1''0'", "bits:B'1' string:'0'");
    check(
        "U&'a''b' UESCAPE '!'",
        "ustring:U&'a''b' word:UESCAPE string:'!'",
    );
    check("'open", "wrong:'open");
    check("E'open\\'", "wrong:E'open\\'");
    // On further lines they go on, but not behind a comment of the other sort.
    check("'a'\n'b'", "string:'a'\n'b'");
    check("'a' -- x'\n  'b'", "string:'a' -- x'\n  'b'");
    check("E'a'\n'\\''", "escaped:E'a'\n'\\''");
    check("'a' 'b'", "string:'a' string:'b'");
    check("'a' /* */\n'b'", "string:'a' string:'b'");
    check("'a'-- x", "string:'a'");
    check("'a'\n-'b'", "string:'a' op:- string:'b'");
}

#[test]
fn settings_change_what_strings_are() {
    let check = |text: &str, lexing: Lexing, expected: &str| {
        assert_eq!(show(text.as_bytes(), lexing), expected, "{text:?}");
    };
    check("'a\\'b' c", OFF, "escaped:'a\\'b' word:c");
    check("N'a\\'b'", OFF, "escaped:N'a\\'b'");
    check(
        "'a' $$\\$$ E'\\''",
        NOT_KNOWN,
        "string:'a' dollar:$$\\$$ escaped:E'\\''",
    );
    check("x 'a\\' y", NOT_KNOWN, "word:x unknown:'a\\' y");
    let unsafe_encoding = Lexing {
        safe_encoding: false,
        ..Lexing::default()
    };
    check("SELECT 'a'", unsafe_encoding, "word:SELECT string:'a'");
    check("SELECT 'é'", unsafe_encoding, "unknown:SELECT 'é'");
}

#[test]
fn dollar_quotes_and_parameters() {
    check(
        "$$a'b$$ $x$ $$ $y$ $x$",
        "dollar:$$a'b$$ dollar:$x$ $$ $y$ $x$",
    );
    check("$a$b$a$a$", "dollar:$a$b$a$ word:a$");
    check("$ab$x$a$ab$", "dollar:$ab$x$a$ab$");
    check("$1 $23a $", "parameter:$1 parameter:$23 word:a wrong:$");
    check(
        "$1$ $2$ a",
        "parameter:$1 wrong:$ parameter:$2 wrong:$ word:a",
    );
    check("a$$b$$", "word:a$$b$$");
    check("$é$ ' $é$", "dollar:$é$ ' $é$");
    check("$x$ open", "wrong:$x$ open");
    check("$x open", "wrong:$ word:x word:open");
}

#[test]
fn numbers() {
    check(
        "1 1.5 .5 5. 1e5 1.5E-3",
        "number:1 number:1.5 number:.5 number:5. number:1e5 number:1.5E-3",
    );
    check("1..10 1...5", "number:1 .. number:10 number:1 .. number:.5");
    check(
        "0x1F 0o17 0b11 1_000_000 1_0.5_0e1_0",
        "number:0x1F number:0o17 number:0b11 number:1_000_000 number:1_0.5_0e1_0",
    );
    // As versions up to 14 read it.
    check(
        "1and 2 0xyz 1_ 1__0 1e 1e+",
        "number:1 word:and number:2 number:0 word:xyz number:1 word:_ number:1 word:__0 number:1 word:e number:1 word:e op:+",
    );
    check("1for update", "number:1 word:for word:update");
    check("0x1Fgh", "number:0 word:x1Fgh");
    check("-1", "op:- number:1");
}

#[test]
fn operators_and_symbols() {
    check(
        "a::b:=c=>d..e:f",
        "word:a :: word:b := word:c => word:d .. word:e : word:f",
    );
    check("([1,2]);", "( [ number:1 , number:2 ] ) ;");
    check(
        "= <> <= != ->> @> ?|",
        "op:= op:<> op:<= op:!= op:->> op:@> op:?|",
    );
    check(
        "*- *+ =- @- ?-+ +-",
        "op:* op:- op:* op:+ op:= op:- op:@- op:?-+ op:+ op:-",
    );
    check(
        "+/*x*/1 @/* - */- 2 *-- x",
        "op:+ number:1 op:@ op:- number:2 op:*",
    );
    check("<--\n>", "op:< op:>");
    check("\\ { } \u{7f}", "wrong:\\ wrong:{ wrong:} wrong:\u{7f}");
    check("a\0b", "word:a wrong:\0 word:b");
}

#[test]
fn comments() {
    check("a/* x */b -- c\nd", "word:a word:b word:d");
    check("/* a /* b */ c */ d", "word:d");
    check("/*/ */ a /**/ b /***/ c", "word:a word:b word:c");
    check("/* ' \" $$ -- */ a", "word:a");
    check("-- /*\n a", "word:a");
    check("--", "");
    check("a /* /* */", "word:a wrong:/* /* */");
}

#[test]
fn hints_are_gathered_on_the_way() {
    let mut lexer = Lexer::new(
        b"/*outgrow: replica*/ SELECT 1 /*NO LOAD BALANCE*/",
        Lexing::default(),
    );
    lexer.next();
    assert!(lexer.hints().replica && !lexer.hints().primary);
    assert_eq!(lexer.by_ref().count(), 1);
    assert!(lexer.hints().primary);
    let mut lexer = Lexer::new(
        b"SELECT '/*outgrow: primary*/' -- /*outgrow: primary*/",
        Lexing::default(),
    );
    assert_eq!(lexer.by_ref().count(), 2);
    assert!(lexer.hints().is_empty());
}

#[test]
fn encodings() {
    for name in [
        "UTF8",
        "SQL_ASCII",
        "LATIN1",
        "WIN1252",
        "EUC_JP",
        "ISO_8859_5",
        "KOI8R",
    ] {
        assert!(is_safe_encoding(name.as_bytes()), "{name}");
    }
    for name in [
        "SJIS",
        "SHIFT_JIS_2004",
        "BIG5",
        "GBK",
        "UHC",
        "JOHAB",
        "GB18030",
        "utf8",
        "",
    ] {
        assert!(!is_safe_encoding(name.as_bytes()), "{name}");
    }
}

#[test]
fn values_of_strings() {
    let check = |text: &str, lexing: Lexing, expected: Option<&str>| {
        let token = Lexer::new(text.as_bytes(), lexing).next().expect("a token");
        let mut value = Vec::new();
        let is_told = string_value(token, text.as_bytes(), &mut value);
        let value = is_told.then(|| String::from_utf8_lossy(&value).into_owned());
        assert_eq!(value.as_deref(), expected, "{text:?}");
    };
    let default = Lexing::default();
    check("'it''s \\n'", default, Some("it's \\n"));
    check("'it''s \\n'", OFF, Some("it's \n"));
    check("E'a\\tb\\x41\\101\\u0042\\q'", default, Some("a\tbAABq"));
    check("'a'\n-- c\n 'b'", default, Some("ab"));
    check("$x$a'$x$", default, Some("a'"));
    check("N'x'", default, Some("x"));
    // Of these the server's encoding decides, or they are wrong.
    check("E'\\u00e9'", default, None);
    check("E'\\xe9'", default, None);
    check("E'\\u12'", default, None);
    check("E'\\0'", default, None);
    check("U&'a'", default, None);
    check("B'1'", default, None);
    check("a", default, None);
}

/// Bytes that mean something, more often than by chance.
fn soup(random: &mut Random, length: usize) -> Vec<u8> {
    const AWKWARD: &[u8] = b"''\"\"$$--/**/\\eEuU&nNbBxX_19.:;=+@ \n\r\t()[]\0\x0b\x80\xff";
    let mut byte = || match random.below(4) {
        0 => random.next_u64() as u8,
        _ => AWKWARD[random.below(AWKWARD.len())],
    };
    (0..length).map(|_| byte()).collect()
}

/// Every byte is in one token, or between two in blanks and comments.
fn check_cover(text: &[u8], lexing: Lexing) {
    let mut end = 0;
    for token in Lexer::new(text, lexing) {
        assert!(
            token.start as usize >= end && token.end > token.start,
            "{text:?}"
        );
        let between = &text[end..token.start as usize];
        assert_eq!(Lexer::new(between, lexing).next(), None, "{text:?}");
        end = token.end as usize;
        assert!(end <= text.len());
    }
    assert_eq!(Lexer::new(&text[end..], lexing).next(), None, "{text:?}");
}

#[test]
fn tokens_cover_any_bytes() {
    let mut random = Random::from_seed(11);
    for _ in 0..20_000 {
        let length = random.below(60);
        let text = soup(&mut random, length);
        for lexing in [Lexing::default(), OFF, NOT_KNOWN] {
            check_cover(&text, lexing);
        }
    }
}

#[test]
fn tokens_of_a_joined_text_are_those_of_its_parts() {
    let mut random = Random::from_seed(12);
    for _ in 0..5_000 {
        let parts = [(); 2].map(|()| {
            let length = random.below(30);
            soup(&mut random, length)
        });
        let [first, second] = parts.each_ref().map(|part| show(part, Lexing::default()));
        if first.contains("wrong:") || second.contains("wrong:") {
            continue;
        }
        // A line's end ends comments, and a comma keeps strings apart.
        let joined = [&parts[0][..], b"\n,", &parts[1]].concat();
        let expected = [&first, ",", &second].map(str::trim).join(" ");
        assert_eq!(
            show(&joined, Lexing::default()),
            expected.trim(),
            "{parts:?}"
        );
    }
}
