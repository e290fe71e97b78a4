//! How problems look.

use super::*;

fn printed(text: &str, look: Look) -> String {
    let problems = load_text(text).unwrap_err();
    let source = Source {
        name: "outgrow.toml",
        text,
    };
    print(Some(source), &problems, look)
}

#[test]
fn a_problem_shows_its_place() {
    let text = format!("{SMALL}[route.other]\npath = \"/x\"\n\tservice = \"wbe\"\r\n");
    let expected = "\
outgrow.toml:9:12: route.other.service: there is no service \"wbe\"
  \tservice = \"wbe\"
  \t          ^^^^^
  hint: did you mean \"web\"?
";
    assert_eq!(printed(&text, Look::Plain), expected);
    let coloured = printed(&text, Look::Colour);
    assert!(coloured.contains("^^^^^\x1b[0m"), "{coloured}");
}

#[test]
fn columns_count_characters() {
    let text = "[access]\nto = { \"ü\" = 1, x = 2 }\n";
    assert!(
        printed(text, Look::Plain)
            .starts_with("outgrow.toml:2:6: access.to: expected a destination")
    );
    let text = "[access]\n\"ü\" = 1; = \n";
    assert!(
        printed(text, Look::Plain).starts_with("outgrow.toml:2:7: string values must be quoted"),
        "{}",
        printed(text, Look::Plain)
    );
}

#[test]
fn json_is_one_object_a_line() {
    let text = format!("{SMALL}[process]\nworkers = 0\nmemory = 0\n");
    let lines: Vec<serde_json::Value> = printed(&text, Look::Json)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["file"], "outgrow.toml");
    assert_eq!(
        (&lines[0]["line"], &lines[0]["column"]),
        (&8.into(), &11.into())
    );
    assert_eq!(lines[0]["severity"], "error");
    assert_eq!(lines[0]["path"], "process.workers");
    assert_eq!(lines[1]["line"], 9);
    assert_eq!(lines[1]["hint"], "the nearest possible value is \"8MiB\"");
}

#[test]
fn a_line_with_a_secret_is_not_repeated() {
    let text = format!(
        "{SMALL}[admin]\ntoken = [\"s3cret\"]\n[service.web.environment]\nA = [\"s3cret\"]\n"
    );
    for look in [Look::Plain, Look::Json] {
        let printed = printed(&text, look);
        assert!(!printed.contains("s3cret"), "{printed}");
        assert!(
            printed.contains("expected a string, found a list"),
            "{printed}"
        );
    }
}

#[test]
fn a_secret_beside_a_mistake_is_not_repeated() {
    let check = |more: &str, expected: &str| {
        let text = format!("{SMALL}{more}");
        for look in [Look::Plain, Look::Colour, Look::Json] {
            let printed = printed(&text, look);
            assert!(!printed.contains("s3cret"), "{printed}");
        }
        let printed = printed(&text, Look::Plain);
        assert!(printed.contains(expected), "{printed}");
    };
    check(
        "[admin]\ntokne = \"s3cret\"\n",
        "\n  tokne = ***\n  ^^^^^\n",
    );
    check("[admin]\ntokne = s3cret\n", "\n  tokne = ***\n");
    check(
        "[service.web]\nenvironmnt = { PASSWORD = \"s3cret\" }\n",
        "outgrow.toml",
    );
    check("[admin]\ntoken = \"s3cret\n", "\n  token = ***\n");
    check(
        "[admin]\ntoken = \"\"\"\ns3cret\\q\n\"\"\"\n",
        "outgrow.toml:9:8",
    );
    // Another mistake in the same table in one line: the caret is where it was.
    check("admin = 1\n[process]\nworkers = 1\n", "unknown key");
    let line = "admin = { token = \"s3cret\", listen = \"nowhere\" }\n";
    let text = format!("{line}{SMALL}");
    let shown = printed(&text, Look::Plain);
    assert!(!shown.contains("s3cret"), "{shown}");
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(
        lines[1],
        "  admin = { token = \"***\", listen = \"nowhere\" }"
    );
    let caret = lines[2].find('^').unwrap();
    assert!(lines[1][caret..].starts_with("\"nowhere\""), "{shown}");
    let line = "admin = { tokne = \"s3cret\", listen = \"nowhere\" }\n";
    let shown = printed(&format!("{line}{SMALL}"), Look::Plain);
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[test]
fn long_lines_are_cut_around_the_place() {
    let padding = "x".repeat(5_000);
    let text = format!(
        "{SMALL}[route.a]\nrespond = {{ body = \"{padding}\", status = 7, headers = {{ A = \"{padding}\" }} }}\n"
    );
    let printed = printed(&text, Look::Plain);
    let lines: Vec<&str> = printed.lines().collect();
    assert!(
        lines.iter().all(|line| line.chars().count() < 150),
        "{printed}"
    );
    let caret = lines[2]
        .chars()
        .position(|character| character == '^')
        .unwrap();
    assert_eq!(lines[1].chars().nth(caret), Some('7'), "{printed}");
}

#[test]
fn what_would_move_the_cursor_is_not_printed() {
    let text = format!("{SMALL}[access]\nto = \"a\\u001b[2J\\u0000\"\n\"a\\u001b[2J\" = 1\n");
    for look in [Look::Plain, Look::Json] {
        let printed = printed(&text, look);
        assert!(!printed.contains('\u{1b}'), "{printed:?}");
    }
}

#[test]
fn without_a_file_the_option_is_the_place() {
    let line = CommandLine {
        command: vec!["a".to_owned()],
        listen: Some("8080".to_owned()),
        ..CommandLine::default()
    };
    let problems = with_surroundings(|around| line.configuration(around)).unwrap_err();
    let expected = "\
--listen: \"8080\" is not an address: the host is missing; 0.0.0.0 is every IPv4 address, [::] every address
  hint: write for example \"127.0.0.1:8080\" or \"unix:/run/app.sock\"
";
    assert_eq!(print(None, &problems, Look::Plain), expected);

    // The rules between tables hold as they do in a file.
    let line = CommandLine {
        listen: Some("127.0.0.1:9900".to_owned()),
        ..line
    };
    let problems = with_surroundings(|around| line.configuration(around)).unwrap_err();
    let expected = "\
--listen: 127.0.0.1:9900 is taken by the admin listener
  hint: each listener needs an address of its own
";
    assert_eq!(print(None, &problems, Look::Plain), expected);
}
