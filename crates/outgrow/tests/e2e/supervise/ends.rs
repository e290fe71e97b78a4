//! How instances and outgrow itself end.

use std::{fs, net::TcpStream};

use outgrow_shop::shoppers::{Kind, Pace, Plan, Shoppers};
use outgrow_testkit::{
    http,
    outgrow::Outgrow,
    processes::{self, Signal},
    raw::Client,
    wait,
};

use super::{config, obedient, obedient_config, start, touch};
use crate::shop::{self, SOON, wait_ready};

#[test]
fn a_stop_finishes_what_is_in_flight() {
    let folder = obedient();
    let mut outgrow = start(&obedient_config(&folder, 2, ""));
    wait_ready(&outgrow, 2);
    let public = outgrow.address("public").expect("an address");
    let mut idle = Client::connect(public).expect("a connection");
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
    outgrow.signal(Signal::TERM).expect("told to stop");
    let refused = || TcpStream::connect(public).is_err().then_some(());
    wait::until("nobody new is let in", SOON, refused).expect("refused");
    let ended = idle.receive_to_end(SOON).expect("an end");
    assert!(
        ended.received.is_empty(),
        "an idle connection just ends: {}",
        ended.text()
    );
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
    let status = outgrow.wait_exit(SOON).expect("everything has ended");
    assert_eq!(status.code(), Some(0), "{}", outgrow.stderr());
}

#[test]
fn the_admin_listener_says_so_before_it_stops() {
    let folder = obedient();
    let text =
        obedient_config(&folder, 1, "").replace("[process]", "[process]\ndrain_delay = \"2s\"");
    let mut outgrow = start(&text);
    wait_ready(&outgrow, 1);
    outgrow.signal(Signal::TERM).expect("told to stop");
    let failing = |outgrow: &Outgrow| {
        let answer = outgrow.admin_get("/readyz").ok()?;
        (answer.status == 503).then(|| answer.text())
    };
    let text = outgrow
        .wait("/readyz fails", SOON, failing)
        .expect("it fails");
    assert!(text.contains("draining"), "{text}");
    assert_eq!(outgrow.admin_get("/livez").expect("an answer").status, 200);
    let served = http::get(&outgrow.url("public", "/")).expect("served in the delay");
    assert_eq!(served.status, 200);
    outgrow.wait_exit(SOON).expect("everything has ended");
}

#[test]
fn the_whole_group_of_an_instance_ends() {
    let binary = outgrow_testkit::outgrow::binary().expect("a binary");
    let command = format!(
        "sleep 1000 & sh -c \"trap : TERM; while :; do sleep 1000; done\" & exec {} shop",
        binary.display()
    );
    let service = format!("command = '{command}'\ninstances = 1\nstop_grace = \"1s\"");
    let outgrow = start(&config(&service));
    wait_ready(&outgrow, 1);
    assert!(outgrow.pids().others.len() >= 2, "{:?}", outgrow.pids());
    // Fails when a process is left.
    outgrow.stop().expect("everything has ended");
}

#[test]
fn one_that_ignores_sigterm_is_killed() {
    let folder = obedient();
    let deaf = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n";
    let app = fs::read_to_string(folder.path().join("app.py")).expect("a file");
    folder
        .write("app.py", format!("{deaf}{app}"))
        .expect("written");
    let outgrow = start(&obedient_config(&folder, 2, "stop_grace = \"300ms\""));
    wait_ready(&outgrow, 2);
    outgrow.stop().expect("everything has ended");
}

#[test]
fn a_killed_keeper_leaves_nobody() {
    let mut outgrow = start(&shop::config(2, ""));
    wait_ready(&outgrow, 2);
    assert!(
        outgrow.all_processes().len() >= 6,
        "{:?}",
        outgrow.all_processes()
    );
    outgrow.kill9(outgrow.pids().keeper).expect("killed");
    let code = outgrow.wait_exit(SOON).expect("nobody is left").code();
    assert_eq!(code, None, "killed by a signal");
}

#[test]
fn a_killed_shim_takes_its_instance_along_and_is_replaced() {
    let outgrow = start(&shop::config(2, ""));
    let before = wait_ready(&outgrow, 2);
    let shim = outgrow.pids().shims[0];
    let below = processes::under(shim);
    assert_eq!(below.len(), 1, "{below:?}");
    outgrow.kill9(shim).expect("killed");
    let instance = below[0].pid;
    let gone = |_: &Outgrow| (!processes::is_running(instance)).then_some(());
    outgrow
        .wait("its instance has ended", SOON, gone)
        .expect("ended");
    let after = wait_ready(&outgrow, 2);
    assert!(
        before.contains(&instance) && !after.contains(&instance),
        "{before:?} {after:?}"
    );
    assert_eq!(outgrow.pids().shims.len(), 2);
    outgrow.stop().expect("everything has ended");
}

#[test]
fn a_killed_data_process_is_replaced_and_instances_stay() {
    let outgrow = start(&shop::config(2, ""));
    let before = wait_ready(&outgrow, 2);
    let data = shop::data_pid(&outgrow);
    outgrow.kill9(data).expect("killed");
    let answer = http::get(&outgrow.url("public", "/product/7")).expect("an answer");
    assert_eq!(
        answer.status, 200,
        "whoever came meanwhile waited in the socket's queue"
    );
    let mut after = wait_ready(&outgrow, 2);
    after.sort_unstable();
    let mut expected = before;
    expected.sort_unstable();
    assert_eq!(after, expected);
    let state = shop::state(&outgrow);
    assert_ne!(state["data"]["pid"], data);
    assert_eq!(state["keeper"]["data_restarts"], 1, "{state:#}");
    outgrow.stop().expect("everything has ended");
}

#[test]
fn a_changed_command_replaces_instances_one_by_one() {
    let mut outgrow = start(&shop::config(3, ""));
    let before = wait_ready(&outgrow, 3);
    let plan = Plan {
        shoppers: 6,
        pace: Pace::Think(std::time::Duration::from_millis(5)),
        mix: vec![
            (Kind::Home, 1),
            (Kind::Product, 4),
            (Kind::Report, 1),
            (Kind::Checkout, 2),
            (Kind::Echo(5_000), 1),
        ],
        ..Plan::new(outgrow.address("public").expect("an address"))
    };
    let shoppers = Shoppers::start(plan).expect("shoppers");
    let changed = shop::config(3, "").replace("SHOP_FAULTS = \"1\"", "SHOP_FAULTS = \"0\"");
    outgrow.reload(&changed).expect("a reload");
    let replaced = |outgrow: &Outgrow| {
        let ready = shop::ready_pids(outgrow);
        assert!(ready.len() >= 2, "never fewer than all but one: {ready:?}");
        let new = ready.len() == 3 && !ready.iter().any(|pid| before.contains(pid));
        (new && shop::instances(outgrow).len() == 3).then_some(())
    };
    outgrow
        .wait("all instances are replaced", SOON, replaced)
        .expect("replaced");
    let totals = shoppers.stop();
    let all = totals.all();
    assert!(all.requests > 50, "{} requests", all.requests);
    assert_eq!(
        (all.failed, all.truncated),
        (0, 0),
        "{}",
        totals.complaints(20)
    );
    let crash = http::get(&outgrow.url("public", "/crash")).expect("an answer");
    assert_eq!(crash.status, 404, "the new environment holds");
}

#[test]
fn the_number_of_instances_can_be_changed() {
    let mut outgrow = start(&shop::config(1, ""));
    let first = wait_ready(&outgrow, 1);
    outgrow.reload(&shop::config(3, "")).expect("a reload");
    let three = wait_ready(&outgrow, 3);
    assert!(three.contains(&first[0]), "the first one stays");
    outgrow.reload(&shop::config(2, "")).expect("a reload");
    let two = wait_ready(&outgrow, 2);
    assert!(
        two.iter().all(|pid| three.contains(pid)),
        "{three:?} {two:?}"
    );
    // The service goes, and with it its instances.
    let none = "[listener.public]\naddress = \"%public%\"\n[route.r]\nrespond = { status = 204 }\n";
    outgrow.reload(none).expect("a reload");
    wait_ready(&outgrow, 0);
    assert_eq!(
        http::get(&outgrow.url("public", "/"))
            .expect("an answer")
            .status,
        204
    );
}

#[test]
fn a_command_that_is_not_there_is_named() {
    let check = |command: &str, words: &[&str]| {
        let config = format!(
            "{}\n[service.no]\ncommand = {command}\ninstances = 1\n\n[route.no]\npath = \"/no\"\n\
             service = \"no\"\n",
            shop::config(1, "")
        );
        let mut outgrow = start(&shop::config(1, ""));
        outgrow.reload(&config).expect("a reload");
        for words in words {
            outgrow.wait_told(words).expect("told");
        }
        outgrow.stop().expect("everything has ended");
    };
    check(
        "[\"outgrow-no-such-command\"]",
        &["no.1 cannot run: command not found: outgrow-no-such-command is in no directory of PATH"],
    );
    check(
        "\"outgrow-no-such-command --port {port}\"",
        &[
            "no.1 cannot run: exit code 127",
            "outgrow-no-such-command: not found",
        ],
    );
}
