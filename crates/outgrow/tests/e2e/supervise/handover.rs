//! What one data process knows and needs, and the next one must respect.

use std::io::ErrorKind;
use std::net::TcpStream;

use outgrow_testkit::{http, outgrow::Outgrow, processes::Signal, raw::Client};

use super::health::{answering, names, wait_state};
use super::{config, obedient, obedient_config, start, touch};
use crate::shop::{SOON, instances, wait_ready};

#[test]
fn an_instance_that_was_never_ready_gets_nothing_from_the_next_process_either() {
    let folder = obedient();
    touch(folder.path(), "app.2.not-ready");
    let outgrow = start(&obedient_config(&folder, 2, ""));
    wait_state(&outgrow, "app.1", "ready");
    wait_state(&outgrow, "app.2", "running");
    outgrow.upgrade(None).expect("an upgrade");
    assert_eq!(answering(&outgrow), names(&["app.1"]));
    let data = crate::shop::data_pid(&outgrow);
    outgrow.kill9(data).expect("killed");
    let another = |outgrow: &Outgrow| {
        let state = crate::shop::try_state(outgrow)?;
        (state["data"]["pid"] != data).then_some(())
    };
    outgrow.wait("another one", SOON, another).expect("another");
    assert_eq!(answering(&outgrow), names(&["app.1"]));
    wait_state(&outgrow, "app.2", "running");
}

/// The service goes while a request is in flight on one of its instances.
fn a_service_goes_under_a_request(with_upgrade: bool) {
    let folder = obedient();
    let mut outgrow = start(&obedient_config(&folder, 2, ""));
    wait_ready(&outgrow, 2);
    let public = outgrow.address("public").expect("an address");
    let mut client = Client::connect(public).expect("a connection");
    client
        .send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        .expect("sent");
    let began = folder.path().join("slow-began");
    outgrow
        .wait("the request is in flight", SOON, |_| {
            began.exists().then_some(())
        })
        .expect("there");
    if with_upgrade {
        outgrow.upgrade(None).expect("an upgrade");
    }
    let none = "[listener.public]\naddress = \"%public%\"\n[route.r]\nrespond = { status = 204 }\n";
    outgrow.reload(none).expect("a reload");
    let one_left = |outgrow: &Outgrow| (instances(outgrow).len() == 1).then_some(());
    outgrow
        .wait("the other instance is gone", SOON, one_left)
        .expect("gone");
    assert_eq!(client.received(), b"");
    touch(folder.path(), "go");
    let whole = client
        .receive_until(b"OUTGROW_INSTANCE", SOON)
        .expect("received");
    let answer = String::from_utf8_lossy(client.received()).into_owned();
    let stderr = outgrow.stderr();
    assert!(
        whole && answer.starts_with("HTTP/1.1 200 "),
        "{answer}\noutgrow wrote:\n{stderr}"
    );
    wait_ready(&outgrow, 0);
}

#[test]
fn instances_of_a_removed_service_finish_their_requests() {
    a_service_goes_under_a_request(false);
}

#[test]
fn instances_finish_the_requests_of_the_process_before() {
    a_service_goes_under_a_request(true);
}

/// Who connects to an address that an upgrade gave up is refused, and does not wait for nobody.
#[test]
fn an_upgrade_gives_up_the_address_of_a_removed_listener() {
    let config = |more: &str| {
        format!(
            "[listener.public]\naddress = \"%public%\"\n{more}[route.r]\nrespond = {{ status = 204 }}\n"
        )
    };
    let mut outgrow = start(&config("[listener.other]\naddress = \"%other%\"\n"));
    let other = outgrow.address("other").expect("an address");
    TcpStream::connect(other).expect("it listens");
    outgrow.write_config(&config("")).expect("written");
    outgrow.upgrade(None).expect("an upgrade");
    let refused = |_: &Outgrow| TcpStream::connect(other).err();
    let refused = outgrow.wait("nobody listens", SOON, refused);
    let refused = refused.expect("it is given up");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn in_a_crash_loop_nobody_waits() {
    let service = "command = 'exit 3'\ninstances = 1\nrestart_backoff = \"10ms\"\n\
                   restart_backoff_max = \"1h\"\ncrash_loop = 3\nstart_timeout = \"100ms\"\n\
                   timeouts = { queue = \"1h\" }";
    let outgrow = start(&format!(
        "{}\n[service.other]\nendpoints = [\"127.0.0.1:1\"]\n",
        config(service)
    ));
    wait_state(&outgrow, "app.1", "crash_loop");
    let answer = http::get(&outgrow.url("public", "/")).expect("an answer, and soon");
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.text().contains("no endpoint"), "{}", answer.text());
    // The node itself is ready: another service could answer.
    let ready = outgrow.admin_get("/readyz").expect("an answer");
    assert_eq!((ready.status, ready.text().contains("app")), (200, true));
}

#[test]
fn why_an_instance_is_not_ready_is_told_early() {
    let command = "python3 -m http.server --bind 127.0.0.1 0";
    let service = format!(
        "command = '{command}'\ninstances = 1\nstart_timeout = \"6s\"\ntimeouts = {{ queue = \"1h\" }}"
    );
    let mut outgrow = start(&format!(
        "{}\n[service.other]\nendpoints = [\"127.0.0.1:1\"]\n",
        config(&service)
    ));
    let told = |outgrow: &Outgrow| {
        let stderr = outgrow.stderr();
        stderr
            .contains("app.1 is not ready yet: app.1 listens on ")
            .then_some(())
    };
    outgrow.wait("the reason", SOON, told).expect("told");
    let answer = http::get(&outgrow.url("public", "/")).expect("an answer");
    assert_eq!(answer.status, 503, "nobody waits for it");
    outgrow.signal(Signal::TERM).expect("told to stop");
    outgrow.wait_exit(SOON).expect("it ends");
}
