//! SQL texts: nothing panics, every byte is in a token or between two, statements are told once and in
//! order, a statement that writes is never overlooked behind one that reads, and what is known of a text
//! from another one with other values is what reading it would say.
#![no_main]

use std::cell::RefCell;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use outgrow_postgres::sql::cache::Cache;
use outgrow_postgres::sql::catalogue::{Builder, Catalogue, Limits};
use outgrow_postgres::sql::facts::{Facts, Statements, setting_calls};
use outgrow_postgres::sql::fingerprint::{Identity, Secret, fingerprint, normalised};
use outgrow_postgres::sql::lexer::string_value;
use outgrow_postgres::sql::read_only::{Verdict, examine, prove, with_hints};
use outgrow_postgres::sql::{Lexer, Lexing, TokenKind};

/// Most bytes of a text that is shown.
const SHOWN: usize = 256;

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| {
    let mut builder = Builder::new(Limits::default());
    let rows = include_str!("../../crates/outgrow-postgres/src/sql/catalogue/stock_15.tsv");
    for (kind, name) in rows.lines().filter_map(|line| line.split_once('\t')) {
        builder.row(kind.as_bytes(), name.as_bytes());
    }
    builder.finish()
});

static SECRET: LazyLock<Secret> = LazyLock::new(|| {
    let mut state = 1_u64;
    Secret::new(|| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        state
    })
});

/// Whether the server could read it to its end, as far as tokens and parentheses go.
fn is_whole(text: &[u8], lexing: Lexing) -> bool {
    let mut depth = 0_i64;
    for token in Lexer::new(text, lexing) {
        match token.kind {
            TokenKind::Wrong | TokenKind::Unknown => return false,
            TokenKind::Open => depth += 1,
            TokenKind::Close => depth -= 1,
            _ => {}
        }
        if depth < 0 {
            return false;
        }
    }
    depth == 0
}

/// Two texts, of which the second is known after the first was asked for often enough to be kept: it must
/// be what it is.
fn known_by_another(text: &[u8], lexing: Lexing) {
    thread_local! {
        static CACHE: RefCell<Cache> = RefCell::new(Cache::new(64 * 1024, SECRET.clone()));
    }
    let marked = |mark: &u8| *mark == b'\x01';
    let Some(at) = text.iter().position(|byte| marked(byte)) else {
        return;
    };
    let (first, second) = (&text[..at], &text[at + 1..]);
    CACHE.with_borrow_mut(|cache| {
        cache.renew();
        for _ in 0..3 {
            cache.know(first, lexing, &CATALOGUE);
        }
        for text in [first, second] {
            let known = cache.know(text, lexing, &CATALOGUE);
            let (facts, verdict) = examine(text, lexing, &CATALOGUE);
            assert_eq!(known.facts, facts);
            // The token may be in capitals in one and not in the other.
            let told = |verdict: Verdict| {
                let cause = verdict.finding().map(|finding| finding.cause);
                (std::mem::discriminant(&verdict), cause)
            };
            assert_eq!(told(known.verdict), told(verdict));
            assert_eq!(known.fingerprint, fingerprint(text, lexing));
        }
    });
}

fuzz_target!(|input: &[u8]| {
    let Some((&choice, text)) = input.split_first() else {
        return;
    };
    let lexing = Lexing {
        standard_conforming_strings: [Some(true), Some(false), None][usize::from(choice % 3)],
        safe_encoding: choice & 0x40 == 0,
    };
    known_by_another(text, lexing);
    let mut end = 0;
    let mut value = Vec::new();
    for token in Lexer::new(text, lexing) {
        assert!(token.range().start >= end && token.range().end > token.range().start);
        assert_eq!(Lexer::new(&text[end..token.range().start], lexing).next(), None);
        end = token.range().end;
        value.clear();
        string_value(token, text, &mut value);
        assert!(value.len() <= token.of(text).len());
    }
    assert_eq!(Lexer::new(&text[end..], lexing).next(), None);

    let (facts, verdict) = examine(text, lexing, &CATALOGUE);
    assert_eq!(facts, Facts::of(text, lexing));
    assert_eq!(verdict, with_hints(prove(text, lexing, &CATALOGUE), facts.hints));
    let mut end = 0;
    let mut count = 0;
    for statement in Statements::new(text, lexing) {
        assert!(statement.range.start >= end && statement.range.end <= text.len());
        end = statement.range.end;
        count += 1;
        let _ = statement.name.map(|name| name.folded().len());
        setting_calls(text, lexing, statement.range);
    }
    assert_eq!(count, facts.statements);
    let _ = fingerprint(text, lexing);
    let identity = Identity::of(text, lexing, &SECRET);
    assert_eq!(identity, Identity::of(&[text, b" -- x"].concat(), lexing, &SECRET));
    // A byte that is not UTF-8 becomes three, and what was cut is said.
    assert!(normalised(text, lexing, SHOWN).len() <= SHOWN + 4);

    if verdict.allows_replica() && is_whole(text, lexing) {
        let with_write = [text, b"\n; INSERT INTO t VALUES (1)"].concat();
        let behind = prove(&with_write, lexing, &CATALOGUE);
        assert!(matches!(behind, Verdict::Writes(_)), "{behind:?}");
    }
});
