//! The generated documents are the ones in `docs/`, and the examples are right.

use std::path::PathBuf;

use serde_json::Value as Json;

use super::schema_validator::misfit;
use super::*;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Compares with a file in `docs/`; with `OUTGROW_GOLDEN=write` writes it.
#[track_caller]
fn golden(name: &str, text: &str) {
    let path = root().join("docs").join(name);
    if std::env::var("OUTGROW_GOLDEN").is_ok_and(|word| word == "write") {
        std::fs::write(&path, text).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = known
        .lines()
        .zip(text.lines())
        .position(|(known, new)| known != new);
    let line = differs.unwrap_or_else(|| known.lines().count().min(text.lines().count()));
    assert!(
        known == text,
        "docs/{name} differs from what is generated, first at line {}: run `cargo xtask docs`",
        line + 1
    );
}

#[test]
fn golden_reference_is_in_docs() {
    golden("reference.md", &reference());
}

#[test]
fn golden_schema_is_in_docs() {
    golden("outgrow.schema.json", &schema());
}

#[test]
fn every_setting_is_documented() {
    let text = reference();
    assert!(!text.contains("\n\n\n"), "a setting has an empty text");
    for key in [
        "crash_loop_window",
        "trusted_proxies",
        "panic_threshold",
        "[route.NAME.respond]",
    ] {
        assert!(text.contains(key), "{key}");
    }
}

/// The examples and the language's sample.
fn files() -> Vec<(String, String)> {
    let mut files = vec![(
        "language.toml".to_owned(),
        include_str!("language.toml").to_owned(),
    )];
    for entry in std::fs::read_dir(root().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            files.push((
                path.display().to_string(),
                std::fs::read_to_string(&path).unwrap(),
            ));
        }
    }
    assert!(
        files.len() > 3,
        "the examples are not where they are looked for"
    );
    files
}

#[test]
fn the_examples_are_right() {
    for (name, text) in files() {
        match load_text(&text) {
            Ok(loaded) => assert_eq!(told(&text, &loaded.warnings), [""; 0], "{name}"),
            Err(problems) => panic!("{name}: {:#?}", told(&text, &problems)),
        }
    }
}

fn against_schema(schema: &Json, text: &str) -> Option<String> {
    let tree = tree::parse(text).unwrap();
    misfit(schema, &schema::json_of_node(&tree), schema, "")
}

#[test]
fn the_schema_takes_what_is_right_and_nothing_else() {
    let schema: Json = serde_json::from_str(&schema()).unwrap();
    for (name, text) in files() {
        assert_eq!(against_schema(&schema, &text), None, "{name}");
    }
    let wrong = [
        ("[acces]\n", ".acces: unknown"),
        ("[process]\nworkers = 0\n", "below 1"),
        ("[process]\nworkers = true\n", "not \"integer\""),
        ("[listener.a]\n", "\"address\" is missing"),
        ("[service.a]\nbalance = \"x\"\n", "not \"p2c\""),
        (
            "[service.a]\nendpoints = [{ address = \"a:1\", x = 1 }]\n",
            ".x: unknown",
        ),
        ("[route.a]\nhost = [1]\n", "not \"string\""),
        ("[route.a]\nrespond = { status = 600 }\n", "above 599"),
    ];
    for (text, reason) in wrong {
        let misfit = against_schema(&schema, text).unwrap_or_default();
        assert!(misfit.contains(reason), "{text}: {misfit}");
    }
}
