//! Nothing that stands in a file, a URL or on the command line makes it panic.

use outgrow_core::Random;

use super::*;

/// Loads, prints in every look, and explains what could be loaded.
fn run(text: &str) -> bool {
    let source = Source { name: "f", text };
    match load_text(text) {
        Ok(loaded) => {
            print(Some(source), &loaded.warnings, Look::Plain);
            let _ = explain(
                &loaded.config,
                &asked("http://shop.example:8080/api/x", "GET"),
            );
            true
        }
        Err(problems) => {
            assert!(
                problems
                    .iter()
                    .any(|problem| problem.severity == Severity::Error)
            );
            for look in [Look::Plain, Look::Colour, Look::Json] {
                assert!(!print(Some(source), &problems, look).is_empty());
            }
            false
        }
    }
}

#[test]
fn random_texts_never_panic() {
    let pieces = [
        "[",
        "]",
        "[[",
        "]]",
        "=",
        "\"",
        "'",
        "\"\"\"",
        "\n",
        "\r\n",
        "\t",
        " ",
        ".",
        ",",
        "{",
        "}",
        "#",
        "listener",
        "public",
        "service",
        "route",
        "address",
        "timeouts",
        "\"0.0.0.0:80\"",
        "${",
        "${A:-",
        "}",
        "$${",
        "true",
        "1979-05-27T07:32:00Z",
        "0x",
        "1e",
        "inf",
        "-",
        "9",
        "_",
        "\u{0}",
        "\u{fe0f}",
        "ü",
        "\\u0000",
        "\\",
        "\u{1b}",
    ];
    for seed in 0..20_000 {
        let mut random = Random::from_seed(seed);
        let text: String = (0..random.below(40))
            .map(|_| pieces[random.below(pieces.len())])
            .collect();
        run(&text);
    }
}

#[test]
fn mutated_configurations_never_panic() {
    let originals = [
        SMALL,
        include_str!("language.toml"),
        include_str!("../../../../../examples/static-endpoints.toml"),
        include_str!("../../../../../examples/discover.toml"),
        include_str!("../../../../../examples/edge-pair.toml"),
        include_str!("../../../../../examples/tls.toml"),
    ];
    let (mut right, mut wrong) = (0, 0);
    for seed in 0..4_000 {
        let mut random = Random::from_seed(seed);
        let mut text: Vec<char> = originals[random.below(originals.len())].chars().collect();
        for _ in 0..=random.below(3) {
            let at = random.below(text.len());
            match random.below(4) {
                0 => drop(text.remove(at)),
                1 => text[at] = ['"', '\n', '[', '9', '-', '\u{0}', 'ü', '$'][random.below(8)],
                2 => text.insert(
                    at,
                    ['=', ' ', '.', '}', '0', 'x', '{', ','][random.below(8)],
                ),
                _ => {
                    let end = (at + random.below(60)).min(text.len());
                    let piece: Vec<char> = text[at..end].to_vec();
                    let to = random.below(text.len());
                    text.splice(to..to, piece);
                }
            }
        }
        let text: String = text.into_iter().collect();
        *(if run(&text) { &mut right } else { &mut wrong }) += 1;
    }
    // Neither side may be empty, or the mutations would show nothing.
    assert!(right > 100 && wrong > 100, "{right} right, {wrong} wrong");
}

#[test]
fn deep_nesting_never_panics() {
    for (open, close) in [("[", "]"), ("{ a = ", "}")] {
        for depth in [10, 79, 100, 10_000] {
            run(&format!(
                "process = {}1{}\n",
                open.repeat(depth),
                close.repeat(depth)
            ));
        }
    }
    run(&format!("{}a = 1\n", "a.".repeat(10_000)));
}

#[test]
fn random_urls_never_panic() {
    let config = load_text(SMALL).unwrap().config;
    let pieces = [
        "http", "s", "://", "/", ":", "@", "[", "]", "%", "2f", "?", "#", "a", ".", "80", "ü", "\0",
    ];
    for seed in 0..20_000 {
        let mut random = Random::from_seed(seed);
        let url: String = (0..random.below(12))
            .map(|_| pieces[random.below(pieces.len())])
            .collect();
        if let Ok(told) = explain(&config, &asked(&url, "GET")) {
            assert!(!told.to_string().is_empty() && told.to_json().is_object());
        }
    }
}
