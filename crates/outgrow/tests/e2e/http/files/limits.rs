//! How many files are open at a time, and whose threads read them.

use super::*;

/// More than what lies between a file and a client that takes nothing.
const SIZE: u64 = 64 * 1024 * 1024;

fn begin(outgrow: &Outgrow) -> outgrow_testkit::raw::Client {
    let mut client = connect(outgrow);
    let ask = b"GET /huge.bin HTTP/1.1\r\nHost: a\r\n\r\n";
    client.send(ask).expect("sent");
    client
}

/// Those that are sent have their descriptors; one more is refused, with its reason, and what is small needs none.
#[test]
fn large_files_beyond_the_limit_are_refused() {
    let site = site();
    let file = fs::File::create(site.path().join("huge.bin")).expect("a file");
    file.set_len(SIZE).expect("a sparse file");
    let config = |most: u32| {
        format!(
            "[process]\nmax_open_files = {most}\n[access]\nto = \"access.log\"\n[listener.public]\n\
             address = \"%public%\"\n[route.site]\n[route.site.files]\ndir = \"{}\"\n",
            site.path().display()
        )
    };
    let mut outgrow = Outgrow::start(&config(2)).expect("outgrow starts");
    let mut held: Vec<_> = (0..2).map(|_| begin(&outgrow)).collect();
    for client in &mut held {
        assert!(client.receive_bytes(1_000, SOON).expect("received"));
        let text = String::from_utf8_lossy(client.received()).into_owned();
        assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    }
    let refused = curl(&outgrow, "/huge.bin", &[]);
    assert_eq!(refused.status(), 503);
    assert!(text(&refused).contains("reason: file_limit\n"));
    assert_eq!(curl(&outgrow, "/app.js", &[]).status(), 200);
    let metrics = outgrow.admin_get("/metrics").expect("metrics").text();
    for told in [
        "outgrow_files_open 2\n",
        "outgrow_files_open_limit 2\n",
        "outgrow_files_refused_total 1\n",
        "outgrow_faults_total{reason=\"file_limit\"} 1\n",
    ] {
        assert!(metrics.contains(told), "{told}{metrics}");
    }
    // A reload gives more room, and who leaves does.
    outgrow.reload(&config(3)).expect("a reload");
    held.push(begin(&outgrow));
    let third = held.last_mut().expect("one");
    assert!(third.receive_bytes(1_000, SOON).expect("received"));
    assert!(third.received().starts_with(b"HTTP/1.1 200 "));
    drop(held);
    let closed = outgrow.wait("no file is open", SOON, |outgrow| {
        let metrics = outgrow.admin_get("/metrics").ok()?.text();
        metrics.contains("outgrow_files_open 0\n").then_some(())
    });
    closed.expect("descriptors are closed");
    assert_eq!(curl(&outgrow, "/huge.bin", &["-r", "0-9"]).status(), 206);
}
