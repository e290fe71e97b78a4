//! What is read from files and from the command line.

use std::time::Duration;

use outgrow_core::settings::{Address, Setting};
use outgrow_edge::settings::{HeaderText, HostPattern};
use outgrow_fleet::settings::{Command, InstanceListen};
use outgrow_upstream::settings::{Balance, CheckKind};

use super::*;

#[test]
fn the_small_one_is_right() {
    let loaded = load_text(SMALL).unwrap();
    assert_eq!(loaded.warnings, []);
    let config = loaded.config;
    assert_eq!(config.process, ProcessSettings::default());
    assert_eq!(
        config.listener["public"].address,
        Address::tcp("0.0.0.0", 8080)
    );
    assert_eq!(config.listener["public"].max_connections, 100_000);
    let web = &config.service["web"];
    assert_eq!(web.instances, None);
    assert_eq!(web.upstream.endpoints.len(), 1);
    assert_eq!(web.upstream.balance, Balance::PowerOfTwo);
    assert_eq!(
        config.route["web"].service.as_ref().unwrap().as_str(),
        "web"
    );
}

#[test]
fn every_key_of_the_language_is_read_and_its_value_is_the_default() {
    let text = include_str!("language.toml");
    let loaded = load_text(text).unwrap_or_else(|problems| panic!("{:#?}", told(text, &problems)));
    assert_eq!(loaded.warnings, []);
    let config = loaded.config;
    assert_eq!(config.process.workers, Some(2));
    let default = Config::default();
    assert_eq!(config.admin, default.admin);
    assert_eq!(config.access, default.access);
    let listener = &config.listener["public"];
    assert_eq!(
        ListenerSettings {
            tls: None,
            ..listener.clone()
        },
        ListenerSettings::default()
    );
    assert_eq!(listener.tls.as_ref().unwrap().certificates.len(), 1);
    let upstream = &config.service["static"].upstream;
    let expected = Service::default().upstream;
    assert_eq!(upstream.endpoints[2].weight, 3);
    assert_eq!(upstream.timeouts, expected.timeouts);
    assert_eq!(upstream.outlier, expected.outlier);
    let check = upstream.check.as_ref().unwrap();
    assert_eq!((check.kind(), check.path()), (CheckKind::Http, "/readyz"));
    assert_eq!(check.fast_interval, Duration::from_millis(250));
    assert!(check.status.contains(200) && check.status.contains(399));
    assert!(!check.status.contains(400) && !check.status.contains(199));
    let app = config.service["app"].instances.as_ref().unwrap();
    assert_eq!(
        app.command,
        Some(Command::Shell("node server.js".to_owned()))
    );
    assert_eq!(app.listen, InstanceListen::Port);
    assert_eq!(app.live.as_ref().unwrap().fall, 3);
    let hosts: Vec<HostPattern> = config.route["static"].host.to_vec();
    assert_eq!(hosts[0], HostPattern::Below(".example".to_owned()));
    assert_eq!(config.route["alive"].respond.as_ref().unwrap().status, 200);
}

#[test]
fn no_key_of_a_service_belongs_to_two_rooms() {
    use outgrow_core::settings::Table;
    let mut names: Vec<&str> = Service::describe()
        .fields
        .iter()
        .map(|field| field.name)
        .collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn what_is_written_as_text_reads_back_the_same() {
    for text in [SMALL, include_str!("language.toml")] {
        let config = load_text(text).unwrap().config;
        let whole = config.text().unwrap();
        // A token is not written, and this one has none; an environment is never written.
        let written = format!("config = {whole}\n").replace("\"***\"", "\"production\"");
        let root = tree::parse(&written).unwrap();
        let mut reader = Reader::new();
        let again: Option<Config> = read_table(&root.entry("config").unwrap().node, &mut reader);
        assert_eq!(reader.into_problems(), []);
        assert_eq!(again.unwrap(), config, "{whole}");
    }
}

#[test]
fn secrets_are_not_shown() {
    let text = format!(
        "{SMALL}[admin]\ntoken = \"s3cret\"\n[service.x]\ncommand = \"a\"\nenvironment = {{ A = \"s3cret\" }}\n"
    );
    let loaded = load_text(&text).unwrap();
    assert!(!format!("{loaded:?}").contains("s3cret"));
    assert!(!loaded.config.text().unwrap().contains("s3cret"));
}

#[test]
fn header_values_keep_what_is_allowed() {
    for value in ["", "a b\tc", "\u{e9}", "!\"~"] {
        assert_eq!(value.parse::<HeaderText>().unwrap().as_str(), value);
    }
}

#[test]
fn the_command_line_makes_a_configuration() {
    let words = |words: &[&str]| {
        words
            .iter()
            .map(|word| (*word).to_owned())
            .collect::<Vec<_>>()
    };
    let config = CommandLine {
        command: words(&["node", "server.js"]),
        listen: Some("127.0.0.1:0".to_owned()),
        instances: Some(3),
        admin: Some("off".to_owned()),
        access: Some("/tmp/access".to_owned()),
        check: Some("/ready".to_owned()),
    };
    let config = with_surroundings(|around| config.configuration(around)).unwrap();
    let app = &config.service["app"];
    let instances = app.instances.as_ref().unwrap();
    assert_eq!(
        instances.command,
        Some(Command::Program(words(&["node", "server.js"])))
    );
    assert_eq!(instances.instances_on(8), 3);
    assert_eq!(app.upstream.check.as_ref().unwrap().kind(), CheckKind::Http);
    assert_eq!(
        config.listener["public"].address,
        Address::tcp("127.0.0.1", 0)
    );
    assert_eq!(config.admin.listen.address(), None);
    assert_eq!(
        config.route["app"].service.as_ref().unwrap().as_str(),
        "app"
    );

    let line = CommandLine {
        command: words(&["node server.js"]),
        ..CommandLine::default()
    };
    let config = with_surroundings(|around| line.configuration(around)).unwrap();
    let instances = config.service["app"].instances.as_ref().unwrap();
    assert_eq!(
        instances.command,
        Some(Command::Shell("node server.js".to_owned()))
    );
    assert_eq!(
        [1, 2, 8].map(|cores| instances.instances_on(cores)),
        [2, 2, 8]
    );
    assert_eq!(
        config.listener["public"].address,
        Address::tcp("0.0.0.0", 8080)
    );

    let line = CommandLine {
        listen: Some("8080".to_owned()),
        instances: Some(0),
        admin: Some("0.0.0.0:1".to_owned()),
        check: Some("ready".to_owned()),
        ..CommandLine::default()
    };
    let mut told: Vec<String> = with_surroundings(|around| line.configuration(around))
        .unwrap_err()
        .iter()
        .map(|problem| format!("{}: {}", problem.path, problem.message))
        .collect();
    told.sort();
    let expected = [
        "--admin: the admin listener",
        "--check: ",
        "--instances: 0 is",
        "--listen: \"8080\" is not an address",
        "COMMAND: the command is empty",
    ];
    let fits = told
        .iter()
        .zip(expected)
        .all(|(told, expected)| told.starts_with(expected));
    assert!(fits && told.len() == expected.len(), "{told:#?}");
}
