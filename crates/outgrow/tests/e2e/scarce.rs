//! A data process that may open no more files: what its clients took is missing to it, and what runs
//! goes on.

use std::{
    collections::BTreeSet,
    fs,
    net::TcpStream,
    process::{Command, Output},
    thread,
    time::{Duration, Instant},
};

use outgrow_testkit::{
    http,
    outgrow::{Launch, Outgrow, binary},
    raw::Client,
};
use rustix::process::{Pid, Resource, Rlimit, Signal};

use crate::{
    moments::{self, MORE},
    shop::{self, SOON},
};

fn fixed(body: &str, more: &str) -> String {
    let more = format!("timeouts = {{ head = \"1h\" }}\n{more}\n[process]\nworkers = 8");
    moments::fixed(body, &more)
}

/// The limit with which a process opens no more than `free` files besides those that it has.
fn limit_for(pid: u32, free: usize) -> Option<u64> {
    let path = format!("/proc/{pid}/fd");
    let open: BTreeSet<u64> = fs::read_dir(path)
        .expect("it runs")
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    (0..).filter(|number| !open.contains(number)).nth(free)
}

/// From now on it opens no more than `free` files besides those that it has, as soon as none comes
/// and goes any more: a connection that has just ended would leave one more.
fn leave(pid: u32, free: usize) {
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let until = Instant::now() + SOON;
    loop {
        let most = limit_for(pid, free);
        thread::sleep(Duration::from_millis(50));
        if most == limit_for(pid, free) {
            let limit = Rlimit {
                current: most,
                ..rustix::process::getrlimit(Resource::Nofile)
            };
            rustix::process::prlimit(raw, Resource::Nofile, limit).expect("its limit is set");
            thread::sleep(Duration::from_millis(50));
            if most == limit_for(pid, free) {
                return;
            }
        }
        assert!(Instant::now() < until, "its files come and go");
    }
}

fn ask(client: &mut Client) {
    let request = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n";
    client.take_received();
    client.send(request).expect("sent");
    assert!(client.receive_until(b"first", SOON).expect("an answer"));
}

#[test]
fn what_the_keeper_says_is_not_the_keepers_end() {
    let outgrow = Outgrow::start(&fixed("first", "")).expect("outgrow starts");
    let data = shop::data_pid(&outgrow);
    let address = outgrow.address("public").expect("an address");
    let mut client = Client::connect(address).expect("connected");
    ask(&mut client);
    leave(data, 0);
    outgrow.signal(Signal::USR2).expect("signalled");
    let told = outgrow.wait_told("the other data process is not met");
    assert!(told.expect("told").contains("ulimit -n"));
    // It drains in order.
    ask(&mut client);
}

#[test]
fn a_reload_that_gets_no_sockets_is_refused_and_the_next_one_is_not() {
    let mut outgrow = Outgrow::start(&fixed("first", "")).expect("outgrow starts");
    let data = shop::data_pid(&outgrow);
    // Enough to read the file, too few for eight sockets.
    leave(data, 3);
    outgrow
        .write_config(&fixed("other", MORE))
        .expect("written");
    let told = outgrow.wait_told("the running configuration stays");
    assert!(told.expect("told").contains("ulimit -n"));
    // Enough for these, too few for the copies that listeners get: nothing of it is in force.
    leave(data, 12);
    outgrow
        .write_config(&fixed("third", MORE))
        .expect("written");
    outgrow.wait_told("sockets cannot be copied").expect("told");
    let answer = http::get(&outgrow.url("public", "/")).expect("an answer");
    assert_eq!(answer.text(), "first");
    leave(data, 1000);
    outgrow.reload(&fixed("second", "")).expect("a reload");
    outgrow.reload(&fixed("third", MORE)).expect("a reload");
    let answer = http::get(&outgrow.url("more", "/")).expect("an answer");
    assert_eq!(answer.text(), "third");
    assert_eq!(shop::data_pid(&outgrow), data);
}

#[test]
fn clients_leave_descriptors_to_whoever_acts() {
    let binary = binary().expect("a binary");
    let binary = binary.to_str().expect("its path is text");
    let few = "ulimit -n 320; exec \"$0\" run --config outgrow.toml";
    let mut outgrow = Launch::config(&fixed("first", ""))
        .binary("/bin/sh")
        .words(&["-c", few, binary])
        .start()
        .expect("outgrow starts");
    let public = outgrow.address("public").expect("an address");
    let admin = outgrow.address("admin").expect("an address").to_string();
    let clients: Vec<TcpStream> = (0..400)
        .map(|_| TcpStream::connect(public).expect("connected, or it waits in the kernel"))
        .collect();
    let one_more = |limit| {
        let mut client = Client::connect(public).expect("it waits in the kernel");
        client
            .send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            .expect("sent");
        client.receive_until(b"200 OK", limit).expect("no error")
    };
    assert!(!one_more(Duration::from_millis(500)), "there is no room");
    let told = outgrow.wait_told("new connections wait in the kernel");
    told.expect("why they hang is told");
    outgrow.reload(&fixed("second", MORE)).expect("a reload");
    let output: Output = Command::new(binary)
        .args(["upgrade", "--admin", &admin])
        .output()
        .expect("started");
    assert!(output.status.success(), "{output:?}");
    drop(clients);
    assert!(one_more(SOON), "there is room again");
}
