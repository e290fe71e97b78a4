//! Each rule finds what it is for and nothing else.

use super::{Problem, documents, map, sources};
use crate::workspace::{Crate, Dependency};

const MAP: &str = "\
# Map

## The rooms

| crate | what it is for | depends on (ours) |
|---|---|---|
| outgrow-core | base | |
| outgrow-http | protocol | core |
| examples/shop | a shop | |
| outgrow | main | all |

## Dependencies

Some words.

| crate | enters through | why |
|---|---|---|
| memchr | http | search |
| tokio | http (driver), outgrow, shop (tests) | runtime |
";

fn member(name: &str, folder: &str, dependencies: &[&str]) -> Crate {
    let dependency = |word: &&str| {
        let name = word.trim_end_matches("+dev");
        Dependency {
            name: name.to_owned(),
            is_ours: name.starts_with("outgrow"),
            is_development: word.ends_with("+dev"),
        }
    };
    Crate {
        name: name.to_owned(),
        folder: folder.to_owned(),
        takes_lints: true,
        dependencies: dependencies.iter().map(dependency).collect(),
    }
}

fn house() -> Vec<Crate> {
    vec![
        member("outgrow-core", "crates/outgrow-core", &["outgrow-http+dev"]),
        member(
            "outgrow-http",
            "crates/outgrow-http",
            &["outgrow-core", "memchr", "tokio"],
        ),
        member("outgrow-shop", "examples/shop", &["tokio+dev"]),
        member(
            "outgrow",
            "crates/outgrow",
            &["outgrow-http", "outgrow-shop", "tokio"],
        ),
    ]
}

fn found(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    lines.join("\n")
}

#[track_caller]
fn check(problems: &[Problem], expected: &[&str]) {
    let found = found(problems);
    assert_eq!(problems.len(), expected.len(), "{found}");
    for part in expected {
        assert!(found.contains(part), "no {part:?} in: {found}");
    }
}

#[test]
fn a_house_in_order_has_no_problems() {
    check(&map::rooms(MAP, &house()), &[]);
    check(&map::dependencies(MAP, &house()), &[]);
    check(&map::lints(&house()), &[]);
}

#[test]
fn rooms_are_checked_both_ways() {
    let mut crates = house();
    crates.remove(2);
    crates[0] = member("outgrow-core", "crates/outgrow-core", &["outgrow-http"]);
    crates.push(member("bench-load", "bench/load", &[]));
    check(
        &map::rooms(MAP, &crates),
        &[
            "ARCHITECTURE.md: room `examples/shop` is no crate",
            "crates/outgrow-core/Cargo.toml: depends on `outgrow-http`",
            "crate `bench-load` (bench/load) has no row",
        ],
    );
}

#[test]
fn dependencies_are_checked_both_ways() {
    let mut crates = house();
    crates[0] = member("outgrow-core", "crates/outgrow-core", &["tokio", "serde"]);
    crates[1] = member("outgrow-http", "crates/outgrow-http", &["outgrow-core"]);
    crates[3] = member("outgrow", "crates/outgrow", &["serde"]);
    check(
        &map::dependencies(MAP, &crates),
        &[
            "no crate depends on `memchr`",
            "`tokio` does not enter through `http`",
            "`tokio` does not enter through `outgrow`",
            "crates/outgrow-core/Cargo.toml: depends on `tokio`",
            "add `| serde | core, outgrow | why |`",
        ],
    );
}

#[test]
fn a_row_needs_its_reason_and_is_there_once() {
    let text = MAP.replace("| search |", "| |") + "| memchr | http | again |\n";
    check(
        &map::dependencies(&text, &house()),
        &["`memchr` has no reason", "`memchr` has two rows"],
    );
}

#[test]
fn a_missing_table_is_an_error() {
    check(
        &map::rooms("# Map\n", &house()),
        &["no table under \"## The rooms\""],
    );
    check(
        &map::dependencies("## Dependencies\n\ntext\n", &house()),
        &["no table under \"## Dependencies\""],
    );
}

#[test]
fn lints_must_be_taken() {
    let mut crates = house();
    crates[1].takes_lints = false;
    check(
        &map::lints(&crates),
        &["crates/outgrow-http/Cargo.toml: does not take"],
    );
}

#[test]
fn sources_open_with_their_purpose_and_are_finished() {
    check(&sources::check("a.rs", "//! For a.\nfn a() {}\n"), &[]);
    check(
        &sources::check("a.rs", "use std::fs;\n"),
        &["a.rs: does not open with"],
    );
    let unfinished = format!("//! For a.\nfn a() {{ {}) }}\n", concat!("todo", "!("));
    check(&sources::check("a.rs", &unfinished), &["finish it"]);
}

#[test]
fn length_counts_without_tests() {
    let long = |lines: usize| format!("//! For a.\n{}", "fn a() {}\n".repeat(lines - 1));
    check(&sources::check("a.rs", &long(400)), &[]);
    check(
        &sources::check("a.rs", &long(401)),
        &["warning: a.rs: 401 lines"],
    );
    check(
        &sources::check("a.rs", &long(601)),
        &["error: a.rs: 601 lines"],
    );
    check(&sources::check("a/tests.rs", &long(601)), &[]);
    check(&sources::check("crates/x/tests/y.rs", &long(601)), &[]);
    let with_tests = long(300) + "#[cfg(test)]\nmod tests {\n" + &long(400) + "}\n";
    check(&sources::check("a.rs", &with_tests), &[]);
}

#[test]
fn documents_cite_no_line_numbers() {
    check(
        &documents::check("a.md", "see way.rs: it reads well, `way.rs`\n"),
        &[],
    );
    let cited = format!("first\nsee way{}12 there\n", ".rs:");
    check(
        &documents::check("a.md", &cited),
        &["a.md: line 2: cites a line number"],
    );
}
