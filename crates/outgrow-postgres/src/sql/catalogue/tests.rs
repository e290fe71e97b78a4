//! Rows and what they make of names.

use super::super::lexer::{Lexer, Lexing};
use super::super::name::KeyReader;
use super::*;

fn built(limits: Limits, rows: &[(&str, &str)]) -> Catalogue {
    let mut builder = Builder::new(limits);
    for (kind, name) in rows {
        builder.row(kind.as_bytes(), name.as_bytes());
    }
    builder.finish()
}

fn flags(catalogue: &Catalogue, written: &str) -> Flags {
    let text = written.as_bytes();
    let mut reading = KeyReader::new();
    let mut lexer = Lexer::new(text, Lexing::default());
    let token = lexer.advance(&mut reading).expect("a name");
    let key = reading.finish(text, token);
    let all = catalogue.flags(key, text, token);
    let anywhere = catalogue.flags_anywhere(key, text, token);
    assert!(!all.is_suspect_anywhere() || anywhere == all, "{written}");
    all
}

#[test]
fn names_are_found_as_they_are_written() {
    let catalogue = built(
        Limits::default(),
        &[
            ("V", "150018"),
            ("G", "1.2"),
            ("f", "lower"),
            ("f", "Mixed \"Name"),
            ("F", "bump"),
            ("A", "bump"),
            ("R", "stamped"),
            ("T", "nosy"),
            ("O", "<!>"),
            ("O", "<>?"),
        ],
    );
    assert_eq!(catalogue.useless(), None);
    assert_eq!(
        (catalogue.version(), catalogue.generation()),
        (150_018, "1.2")
    );
    let check = |written: &str, flag: Flags| {
        assert!(flags(&catalogue, written).has(flag), "{written}");
    };
    check("lower", Flags::FUNCTION);
    check("LOWER", Flags::FUNCTION);
    check("\"lower\"", Flags::FUNCTION);
    check("\"Mixed \"\"Name\"", Flags::FUNCTION);
    check("bump", Flags::SUSPECT_FUNCTION);
    check("bump", Flags::SUSPECT_ATTRIBUTE);
    check("Stamped", Flags::SUSPECT_RELATION);
    check("nosy", Flags::SUSPECT_TYPE);
    for written in [
        "\"LOWER\"",
        "lowe",
        "lowerr",
        "\"Mixed \"\"Nam\"",
        "\"Mixed \"\"Namee\"",
        "x",
    ] {
        assert_eq!(flags(&catalogue, written), Flags::default(), "{written}");
    }
    assert!(catalogue.is_suspect_operator(b"<!>"));
    assert!(!catalogue.is_suspect_operator(b"<!"));
    assert!(!catalogue.has_foreign_suspects());
    let counts = catalogue.counts();
    assert_eq!(
        (
            counts.functions,
            counts.suspect_functions,
            counts.suspect_operators
        ),
        (2, 1, 2)
    );
    assert!(catalogue.bytes() > 1000);
}

#[test]
fn some_catalogues_prove_nothing() {
    let useless = |rows: &[(&str, &str)]| built(Limits::default(), rows).useless().cloned();
    let version = ("V", "120001");
    assert_eq!(useless(&[version]), None);
    assert_eq!(useless(&[]), Some(Useless::Version(0)));
    assert_eq!(useless(&[("V", "110000")]), Some(Useless::Version(110_000)));
    assert_eq!(useless(&[("V", "190000")]), Some(Useless::Version(190_000)));
    assert_eq!(useless(&[version, ("?", "x")]), Some(Useless::Garbled));
    assert_eq!(useless(&[version, ("f", "")]), Some(Useless::Garbled));
    assert_eq!(
        useless(&[version, ("O", "<>")]),
        Some(Useless::Operator("<>".to_owned()))
    );
    assert_eq!(
        useless(&[version, ("X", "text")]),
        Some(Useless::Type("text".to_owned()))
    );
    assert_eq!(Catalogue::default().useless(), Some(&Useless::Absent));
    let few = Limits {
        names: 2,
        bytes: 1000,
    };
    let small = Limits {
        names: 100,
        bytes: 10,
    };
    for limits in [few, small] {
        let rows = [version, ("f", "abc"), ("f", "defg"), ("f", "hijkl")];
        let catalogue = built(limits, &rows);
        assert_eq!(catalogue.useless(), Some(&Useless::TooLarge));
        assert_eq!(flags(&catalogue, "abc"), Flags::default());
    }
    for useless in [
        Useless::Absent,
        Useless::TooLarge,
        Useless::Version(1),
        Useless::Garbled,
    ] {
        assert!(!useless.to_string().is_empty());
    }
    assert!(
        Useless::Operator("=".to_owned())
            .to_string()
            .contains("operator =")
    );
    assert!(
        Useless::Type("int4".to_owned())
            .to_string()
            .contains("type int4")
    );
}

#[test]
fn many_names_are_all_found() {
    let mut builder = Builder::new(Limits::default());
    builder.row(b"V", b"160000");
    for number in 0..50_000 {
        builder.row(b"f", format!("function_{number}").as_bytes());
    }
    let catalogue = builder.finish();
    assert_eq!(catalogue.useless(), None);
    for number in 0..50_000 {
        let name = format!("FUNCTION_{number}");
        assert!(flags(&catalogue, &name).has(Flags::FUNCTION), "{name}");
    }
    assert_eq!(flags(&catalogue, "function_50000"), Flags::default());
    // What newer versions have as a construct.
    assert!(flags(&catalogue, "json_array").has(Flags::FUNCTION));
    assert_eq!(flags(&catalogue, "json_table"), Flags::default());
}

#[test]
fn the_queries_are_whole() {
    assert!(LOAD.contains(GENERATION));
    assert!(
        !LOAD.contains('\\'),
        "it must not depend on standard_conforming_strings"
    );
    let open = LOAD.matches('(').count();
    assert_eq!(open, LOAD.matches(')').count());
}
