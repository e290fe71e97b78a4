//! What an instance is told, and what becomes of what it says.

use outgrow_testkit::{
    http,
    outgrow::{Launch, Outgrow},
    ports,
};

use super::{config, obedient, obedient_config, start};
use crate::shop::{self, SOON, wait_ready};

#[test]
fn the_environment_says_where_to_listen_and_who_one_is() {
    let folder = obedient();
    let outgrow = start(&obedient_config(
        &folder,
        1,
        "environment = { MODE = \"fast\" }",
    ));
    let answer = http::get(&outgrow.url("public", "/")).expect("an answer");
    let environment = answer.json().expect("JSON");
    let instance = &shop::instances(&outgrow)[0];
    let address = format!(
        "127.0.0.1:{}",
        environment["PORT"].as_str().expect("a port")
    );
    assert_eq!(instance["address"], address.as_str());
    for (name, value) in [
        ("HOST", "127.0.0.1"),
        ("MODE", "fast"),
        ("OUTGROW_INSTANCE", "app.1"),
        ("OUTGROW_SERVICE", "app"),
    ] {
        assert_eq!(environment[name], value, "{name}");
    }
    assert_eq!(
        instance["pid"].to_string(),
        environment["PID"].as_str().expect("a pid")
    );
}

#[test]
fn an_instance_may_listen_on_a_socket() {
    let outgrow = start(&shop::config(2, "listen = \"socket\""));
    wait_ready(&outgrow, 2);
    for instance in shop::instances(&outgrow) {
        let address = instance["address"].as_str().expect("an address").to_owned();
        assert!(address.starts_with("unix:/"), "{address}");
    }
    let answer = http::get(&outgrow.url("public", "/whoami")).expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn a_command_may_be_told_its_port() {
    let folder = outgrow_testkit::folder::Folder::new("static").expect("a folder");
    folder.write("index.html", "from a file").expect("written");
    let directory = folder.path().display();
    let array = format!(
        "command = [\"python3\", \"-m\", \"http.server\", \"--bind\", \"127.0.0.1\", \"{{port}}\"]\n\
         directory = \"{directory}\"\ninstances = 2"
    );
    let shell = format!(
        "command = \"exec python3 -m http.server --bind 127.0.0.1 {{port}}\"\n\
         directory = \"{directory}\"\ninstances = 2"
    );
    let mut outgrow = start(&config(&array));
    for text in [array, shell] {
        outgrow.reload(&config(&text)).expect("a reload");
        wait_ready(&outgrow, 2);
        let answer = http::get(&outgrow.url("public", "/")).expect("an answer");
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, "from a file")
        );
    }
}

#[test]
fn a_port_may_be_fixed() {
    let port = ports::free(1).expect("a port")[0].port();
    let folder = obedient();
    let outgrow = start(&obedient_config(&folder, 1, &format!("port = {port}")));
    let answer = http::get(&outgrow.url("public", "/")).expect("an answer");
    assert_eq!(answer.json().expect("JSON")["PORT"], port.to_string());
}

#[test]
fn output_carries_the_name_of_its_instance() {
    let binary = outgrow_testkit::outgrow::binary().expect("a binary");
    let command = format!(
        "echo to standard output; echo to standard error >&2; printf \"no end\"; exec {} shop",
        binary.display()
    );
    let outgrow = start(&config(&format!("command = '{command}'\ninstances = 2")));
    wait_ready(&outgrow, 2);
    let said = |outgrow: &Outgrow| {
        let (stdout, stderr) = (outgrow.stdout(), outgrow.stderr());
        let all = ["app.1", "app.2"].iter().all(|name| {
            let output = format!("{name} | to standard output\n");
            let error = format!("{name} | to standard error\n");
            stdout.contains(&output) && stderr.contains(&error)
        });
        all.then_some(stdout)
    };
    let stdout = outgrow.wait("the instances' output", SOON, said);
    let stdout =
        stdout.unwrap_or_else(|error| panic!("{error}\nstandard output:\n{}", outgrow.stdout()));
    assert!(
        stdout.contains(" | no end"),
        "a line that has no end comes too: {stdout}"
    );
}

#[test]
fn a_command_alone_is_enough() {
    let binary = outgrow_testkit::outgrow::binary()
        .expect("a binary")
        .display()
        .to_string();
    let arguments = [
        "run",
        "--listen",
        "%public%",
        "--admin",
        "%admin%",
        "--instances",
        "2",
        "--access",
        "stderr",
        "--check",
        "/readyz",
        "--",
        &binary,
        "shop",
    ];
    let outgrow = Launch::arguments(&arguments)
        .start()
        .expect("outgrow starts");
    wait_ready(&outgrow, 2);
    let answer = http::get(&outgrow.url("public", "/product/1")).expect("an answer");
    assert_eq!(answer.status, 200);
    let recorded = |outgrow: &Outgrow| {
        outgrow
            .stderr()
            .contains("/product/1 HTTP/1.1\" 200")
            .then_some(())
    };
    outgrow
        .wait("the access record", SOON, recorded)
        .expect("recorded");
    // It can be upgraded like any other.
    outgrow.upgrade(None).expect("an upgrade");
    outgrow.stop().expect("everything has ended");
}
