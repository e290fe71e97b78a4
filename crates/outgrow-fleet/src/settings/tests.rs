//! Tests of the fleet's part of `[service.NAME]`. The rules of the table are tested with whole
//! files in the binary.

use super::*;

#[test]
fn commands_get_their_port_and_socket() {
    let shell = Command::Shell("serve --port {port} {port} {sock}".to_owned());
    assert_eq!(
        shell.arguments("80", "/s"),
        ["/bin/sh", "-c", "serve --port 80 80 {sock}"]
    );
    let words = ["{socket}", "a{port}", "$HOME"].map(str::to_owned).to_vec();
    assert_eq!(
        Command::Program(words).arguments("80", "/s"),
        ["/s", "a80", "$HOME"]
    );
}

#[test]
fn there_are_two_instances_at_least_unless_said_otherwise() {
    let mut settings = InstanceSettings::default();
    assert_eq!(
        [0, 1, 2, 7, 100_000].map(|cores| settings.instances_on(cores)),
        [2, 2, 2, 7, 1_024]
    );
    settings.instances = Some(1);
    assert_eq!(settings.instances_on(8), 1);
}

#[test]
fn names_of_variables_are_checked() {
    assert_eq!(
        EnvironmentName::from_key("NODE_ENV").unwrap().as_str(),
        "NODE_ENV"
    );
    for text in ["", "A=B", "A\0"] {
        assert!(EnvironmentName::from_key(text).is_err(), "{text:?}");
    }
}

#[test]
fn every_field_but_the_command_means_nothing_without_it() {
    use outgrow_core::settings::Table;
    let mut named: Vec<&str> = INSTANCE_FIELDS.to_vec();
    named.push("command");
    named.sort_unstable();
    let mut declared: Vec<&str> = InstanceSettings::describe()
        .fields
        .iter()
        .map(|field| field.name)
        .collect();
    declared.sort_unstable();
    assert_eq!(named, declared);
}
