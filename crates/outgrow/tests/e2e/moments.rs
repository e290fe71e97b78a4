//! The wrong moment: the file is broken, or cannot be put in force, just when a process has to
//! start again. What ran goes on.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use outgrow_testkit::{
    http,
    outgrow::{Launch, Outgrow, binary},
    raw::Client,
};
use rustix::process::Signal;

use crate::shop::{self, SOON};

/// A configuration with one fixed response and what `more` says.
pub(crate) fn fixed(body: &str, more: &str) -> String {
    format!(
        r#"
[access]
to = "off"
[listener.public]
address = "%public%"
{more}
[route.all]
respond = {{ status = 200, body = "{body}" }}
"#
    )
}

fn serves(outgrow: &Outgrow, body: &str) {
    let answer = http::get(&outgrow.url("public", "/")).expect("an answer");
    assert_eq!((answer.status, answer.text().as_str()), (200, body));
}

/// A binary that does `before` each time that it is started, and is outgrow then.
pub(crate) fn wrapper(folder: &Path, before: &str) -> std::path::PathBuf {
    let path = folder.join("wrapper");
    let binary = binary().expect("a binary");
    let script = format!("#!/bin/sh\n{before}\nexec {} \"$@\"\n", binary.display());
    fs::write(&path, script).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
    path
}

/// Kills the data process; gives the pid of the one that serves then.
fn kill_data(outgrow: &Outgrow) -> u32 {
    let data = shop::data_pid(outgrow);
    outgrow.kill9(data).expect("killed");
    let another = |outgrow: &Outgrow| {
        let pids = outgrow.pids().data;
        pids.into_iter()
            .find(|pid| *pid != data)
            .filter(|_| outgrow.is_ready())
    };
    outgrow
        .wait("another data process", SOON, another)
        .expect("it comes back")
}

#[test]
fn the_file_is_broken_just_before_the_keeper_becomes_the_new_binary() {
    let outgrow = Outgrow::start(&fixed("stays", "")).expect("outgrow starts");
    let keeper = outgrow.pids().keeper;
    // Only the keeper's own exec has this variable.
    let folder = outgrow.folder();
    let breaks = format!(
        "test -z \"$OUTGROW_KEEPER_RESUME\" || echo '[nonsense' > {}",
        folder.join("outgrow.toml").display()
    );
    let binary = wrapper(folder, &breaks);
    outgrow.upgrade(Some(&binary)).expect("an upgrade");
    outgrow
        .wait_told("the keeper is of")
        .expect("it has become the new one");
    assert_eq!(outgrow.pids().keeper, keeper);
    serves(&outgrow, "stays");
    kill_data(&outgrow);
    serves(&outgrow, "stays");
    outgrow.stop().expect("everything has ended");
}

#[test]
fn a_data_process_comes_back_though_the_file_cannot_be_put_in_force() {
    let holder = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = holder.local_addr().expect("an address");
    let key = "[[listener.public.tls.certificates]]\ncertificate = \"c.pem\"\nkey = \"k.pem\"";
    let broken = [
        (
            "a port that is taken",
            format!(
                "[listener.free]\naddress = \"%free%\"\n[listener.taken]\naddress = \"{taken}\""
            ),
            "is taken",
        ),
        ("certificates that are none", key.to_owned(), "c.pem"),
    ];
    for (what, more, told) in broken {
        let mut outgrow = Outgrow::start(&fixed("stays", "")).expect("outgrow starts");
        for file in ["c.pem", "k.pem"] {
            fs::write(outgrow.folder().join(file), "nonsense").expect("written");
        }
        let refused = outgrow.reload(&fixed("other", &more));
        assert!(refused.is_err(), "{what} was taken");
        kill_data(&outgrow);
        serves(&outgrow, "stays");
        let all = outgrow.wait_told(told);
        all.unwrap_or_else(|error| panic!("{what}: {error}"));
        // Not even the addresses that could be bound are held any longer.
        if let Some(free) = outgrow.address("free") {
            let given_back = |_: &Outgrow| Client::connect(free).is_err().then_some(());
            outgrow
                .wait("all or none is bound", SOON, given_back)
                .expect("given back");
        }
        // A second death finds the same.
        kill_data(&outgrow);
        serves(&outgrow, "stays");
    }
}

#[test]
fn certificates_that_are_broken_later_do_not_keep_a_data_process_from_coming_back() {
    let folder = outgrow_testkit::folder::Folder::new("certificates").expect("a folder");
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("made");
    let path = |name: &str| folder.path().join(name).display().to_string();
    folder.write("c.pem", made.cert.pem()).expect("written");
    folder
        .write("k.pem", made.signing_key.serialize_pem())
        .expect("written");
    let tls = format!(
        "[listener.secure]\naddress = \"%secure%\"\n[[listener.secure.tls.certificates]]\n\
         certificate = \"{}\"\nkey = \"{}\"",
        path("c.pem"),
        path("k.pem")
    );
    let outgrow = Outgrow::start(&fixed("stays", &tls)).expect("outgrow starts");
    folder.write("k.pem", "nonsense").expect("written");
    kill_data(&outgrow);
    serves(&outgrow, "stays");
    let secure = outgrow.address("secure").expect("an address");
    // It speaks TLS still: an alert or a greeting, not the silence of a queue.
    let mut client = Client::connect(secure).expect("a connection");
    client.send(b"GET / HTTP/1.1\r\n\r\n").expect("sent");
    assert!(
        client.receive_to_end(SOON).is_ok(),
        "nobody accepts at the encrypted listener"
    );
}

#[test]
fn a_listener_may_get_a_wider_or_narrower_address() {
    let mut outgrow = Outgrow::start(&fixed("first", "")).expect("outgrow starts");
    let port = outgrow.address("public").expect("an address").port();
    let at = |address: &str, body: &str| fixed(body, "").replace("%public%", address);
    let addresses = [
        format!("0.0.0.0:{port}"),
        format!("[::]:{port}"),
        format!("127.0.0.1:{port}"),
        format!("localhost:{port}"),
    ];
    for (number, address) in addresses.iter().enumerate() {
        let body = format!("body {number}");
        outgrow
            .reload(&at(address, &body))
            .unwrap_or_else(|error| panic!("{address}: {error}"));
        serves(&outgrow, &body);
    }
}

#[test]
fn instances_have_the_open_files_that_the_user_set() {
    let folder = outgrow_testkit::folder::Folder::new("ulimit").expect("a folder");
    let wrapper = wrapper(folder.path(), "ulimit -Sn 512");
    let text = format!(
        "[access]\nto = \"off\"\n[listener.public]\naddress = \"%public%\"\n\
         [route.app]\nservice = \"app\"\n[service.app]\ninstances = 1\n\
         command = \"ulimit -Sn; exec {} shop\"\n",
        binary().expect("a binary").display()
    );
    let outgrow = Launch::config(&text)
        .binary(&wrapper)
        .start()
        .expect("outgrow starts");
    let told = |outgrow: &Outgrow| outgrow.stdout().contains("app.1 | 512\n").then_some(());
    let told = outgrow.wait("the limit", SOON, told);
    told.unwrap_or_else(|error| panic!("{error}\n{}", outgrow.stdout()));
}

/// A connection that keeps a draining process alive.
fn in_use(outgrow: &Outgrow) -> Client {
    let public = outgrow.address("public").expect("an address");
    let mut client = Client::connect(public).expect("a connection");
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n").expect("sent");
    client
}

fn wait_refused(outgrow: &Outgrow, name: &str) {
    let address = outgrow.address(name).expect("an address");
    let refused = |_: &Outgrow| Client::connect(address).is_err().then_some(());
    outgrow
        .wait("nobody listens there", SOON, refused)
        .expect("refused");
}

/// One more listener.
pub(crate) const MORE: &str = "[listener.more]\naddress = \"%more%\"";

#[test]
fn a_listener_that_goes_after_an_upgrade_is_closed_though_the_old_process_drains() {
    let mut outgrow = Outgrow::start(&fixed("stays", MORE)).expect("outgrow starts");
    let old = shop::data_pid(&outgrow);
    let _in_use = in_use(&outgrow);
    outgrow.upgrade(None).expect("an upgrade");
    outgrow.reload(&fixed("stays", "")).expect("a reload");
    wait_refused(&outgrow, "more");
    assert!(outgrow_testkit::processes::is_running(old), "it drains");
    // And it can come back.
    outgrow.reload(&fixed("stays", MORE)).expect("a reload");
    serves(&outgrow, "stays");
}

#[test]
fn a_listener_that_goes_with_an_upgrade_is_closed() {
    let mut outgrow = Outgrow::start(&fixed("stays", MORE)).expect("outgrow starts");
    outgrow.write_config(&fixed("other", "")).expect("written");
    outgrow.upgrade(None).expect("an upgrade");
    wait_refused(&outgrow, "more");
    serves(&outgrow, "other");
}

#[test]
fn who_asks_during_an_upgrade_is_refused_and_the_first_one_is_not() {
    let outgrow = Outgrow::start(&fixed("stays", "")).expect("outgrow starts");
    let admin = outgrow.address("admin").expect("an address").to_string();
    let (go, slow) = (outgrow.folder().join("go"), outgrow.folder().join("slow"));
    let binary = binary().expect("a binary");
    let script = format!(
        "#!/bin/sh\nwhile [ ! -e {} ]; do sleep 0.05; done\nexec {} \"$@\"\n",
        go.display(),
        binary.display()
    );
    fs::write(&slow, script).expect("written");
    fs::set_permissions(&slow, fs::Permissions::from_mode(0o755)).expect("executable");
    let mut upgrade = Command::new(&binary);
    upgrade.args(["upgrade", "--admin", &admin, "--binary"]);
    let first = upgrade.arg(&slow).stderr(Stdio::piped()).spawn();
    let first = first.expect("started");
    outgrow.wait_told("upgrading to").expect("under way");
    let second = upgrade.output().expect("started");
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success());
    assert!(said.contains("another upgrade is under way"), "{said}");
    outgrow.signal(Signal::USR2).expect("signalled");
    let refused = outgrow.wait_told("SIGUSR2: another upgrade is under way");
    refused.expect("told");
    fs::write(go, "").expect("written");
    let first = first.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&first.stderr).into_owned();
    assert!(first.status.success(), "{said}");
    serves(&outgrow, "stays");
}

#[test]
fn a_reload_that_is_refused_leaves_no_listener() {
    let mut outgrow = Outgrow::start(&fixed("stays", "")).expect("outgrow starts");
    let text = fixed("other", MORE).replace("\"off\"", "\"/nowhere/access.log\"");
    assert!(outgrow.reload(&text).is_err());
    wait_refused(&outgrow, "more");
    serves(&outgrow, "stays");
}
