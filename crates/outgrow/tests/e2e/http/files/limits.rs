//! How many files are open at a time, whose they are, and how long they stay.

use outgrow_testkit::raw::Client;

use super::*;

/// More than what lies between a file and a client that takes nothing.
const SIZE: u64 = 64 * 1024 * 1024;

/// A site with a large file, and an outgrow that keeps so many open.
fn front(site: &Folder, most: u32) -> String {
    let file = fs::File::create(site.path().join("huge.bin")).expect("a file");
    file.set_len(SIZE).expect("a sparse file");
    config(site, most, "")
}

fn config(site: &Folder, most: u32, listener: &str) -> String {
    format!(
        "[process]\nmax_open_files = {most}\n[access]\nto = \"access.log\"\n[listener.public]\n\
         address = \"%public%\"\ntrusted_proxies = [\"127.0.0.0/8\"]\n{listener}\n[route.site]\n\
         [route.site.files]\ndir = \"{}\"\n",
        site.path().display()
    )
}

/// Somebody behind a proxy asks, and takes nothing yet.
fn begin(outgrow: &Outgrow, who: u8, more: &str) -> Client {
    let mut client = connect(outgrow);
    let ask = format!(
        "GET /huge.bin HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.{who}\r\n{more}\r\n"
    );
    client.send(ask.as_bytes()).expect("sent");
    client
}

/// The same, and the answer has begun.
fn held(outgrow: &Outgrow, who: u8, status: u16, more: &str) -> Client {
    let mut client = begin(outgrow, who, more);
    assert!(client.receive_bytes(1_000, SOON).expect("received"));
    let text = String::from_utf8_lossy(client.received()).into_owned();
    assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
    client
}

/// Waits until so many are open; `meanwhile` each time that it looks.
fn are_open(outgrow: &Outgrow, expected: u64, mut meanwhile: impl FnMut()) {
    let told = format!("outgrow_files_open {expected}\n");
    let is_so = outgrow.wait(&told, SOON, |outgrow| {
        meanwhile();
        let metrics = outgrow.admin_get("/metrics").ok()?.text();
        metrics.contains(&told).then_some(())
    });
    is_so.expect("so many are open");
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a length");
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// WINDOW_UPDATE.
fn more(stream: u32, bytes: u32) -> Vec<u8> {
    frame(8, 0, stream, &bytes.to_be_bytes())
}

/// Asks for a file over HTTP/2, of which so many bytes may come.
fn ask_http2(outgrow: &Outgrow, path: &str, window: u32) -> Client {
    let mut client = connect(outgrow);
    let settings = [&4_u16.to_be_bytes()[..], &window.to_be_bytes()].concat();
    let length = u8::try_from(path.len()).expect("a short path");
    let head = [
        &[0x82, 0x86, 0x04, length],
        path.as_bytes(),
        &[0x01, 1, b'a'],
    ]
    .concat();
    let bytes = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(4, 0, 0, &settings),
        more(0, 1 << 20),
        frame(1, 4 | 1, 1, &head),
    ];
    client.send(&bytes.concat()).expect("sent");
    client
}

/// Those that are sent have their descriptors; one more is refused, with its reason, and what needs none is not.
#[test]
fn large_files_beyond_the_limit_are_refused() {
    let site = site();
    let mut outgrow = Outgrow::start(&front(&site, 2)).expect("outgrow starts");
    let tag = curl(&outgrow, "/huge.bin", &["-I"]);
    let tag = tag.field("ETag").expect("a tag").to_owned();
    let mut clients: Vec<_> = (0..2).map(|who| held(&outgrow, who, 200, "")).collect();
    let refused = curl(&outgrow, "/huge.bin", &[]);
    assert_eq!(refused.status(), 503);
    assert!(text(&refused).contains("reason: file_limit\n"));
    assert_eq!(curl(&outgrow, "/huge.bin", &["-r", "0-9"]).status(), 503);
    assert_eq!(curl(&outgrow, "/app.js", &[]).status(), 200);
    let condition = format!("If-None-Match: {tag}");
    for (arguments, status) in [
        (&["-I"][..], 200),
        (&["-H", &condition], 304),
        (&["-H", "If-Match: \"other\""], 412),
        (&["-r", "99999999-"], 416),
    ] {
        let got = curl(&outgrow, "/huge.bin", arguments);
        assert_eq!(got.status(), status, "{arguments:?}");
    }
    let metrics = outgrow.admin_get("/metrics").expect("metrics").text();
    for told in [
        "outgrow_files_open 2\n",
        "outgrow_files_open_limit 2\n",
        "outgrow_files_refused_total 2\n",
        "outgrow_faults_total{reason=\"file_limit\"} 2\n",
    ] {
        assert!(metrics.contains(told), "{told}{metrics}");
    }
    // A reload gives more room, and who leaves does.
    outgrow.reload(&config(&site, 3, "")).expect("a reload");
    clients.push(held(&outgrow, 3, 200, ""));
    drop(clients);
    are_open(&outgrow, 0, || {});
    assert_eq!(curl(&outgrow, "/huge.bin", &["-r", "0-9"]).status(), 206);
}

/// Above half of all, one client has a fifth of them; another one has its own.
#[test]
fn one_client_leaves_others_theirs() {
    let site = site();
    let outgrow = Outgrow::start(&front(&site, 10)).expect("outgrow starts");
    let _clients: Vec<_> = (0..5).map(|_| held(&outgrow, 1, 200, "")).collect();
    let mut refused = begin(&outgrow, 1, "");
    assert!(
        refused
            .receive_until(b"file_limit", SOON)
            .expect("received")
    );
    let _others: Vec<_> = (0..2).map(|_| held(&outgrow, 2, 200, "")).collect();
    are_open(&outgrow, 7, || {});
}

/// However a download ends, another one can begin.
#[test]
fn what_is_broken_off_leaves_its_place() {
    let site = site();
    let outgrow = Outgrow::start(&front(&site, 10)).expect("outgrow starts");
    let part = held(&outgrow, 1, 206, "Range: bytes=5-60000000\r\n");
    are_open(&outgrow, 1, || {});
    part.reset().expect("reset");
    are_open(&outgrow, 0, || {});
    let mut stream = ask_http2(&outgrow, "/huge.bin", 10_000);
    assert!(stream.receive_bytes(10_000, SOON).expect("received"));
    are_open(&outgrow, 1, || {});
    // RST_STREAM: CANCEL.
    let reset = frame(3, 0, 1, &8_u32.to_be_bytes());
    stream.send(&reset).expect("sent");
    are_open(&outgrow, 0, || {});
    let mut changed = held(&outgrow, 1, 200, "");
    are_open(&outgrow, 1, || {});
    fs::write(site.path().join("huge.bin"), "short").expect("written");
    let cut = changed.receive_to_end(SOON).expect("received");
    assert!(cut.end != End::Open && cut.received.len() < SIZE as usize);
    are_open(&outgrow, 0, || {});
    let told = records(&outgrow, 3).join("\n");
    assert!(told.contains("reason=file_changed"), "{told}");
}

/// The last of a file is read, and its client takes its time: nothing is open for that.
#[test]
fn what_was_read_is_let_go() {
    // Of the pieces that files are read in, 16, 64 and 256 KiB, the third is the last.
    const LENGTH: usize = 280 * 1024;
    let site = site();
    site.write("some.bin", vec![b'a'; LENGTH]).expect("a file");
    let outgrow = Outgrow::start(&config(&site, 10, "")).expect("outgrow starts");
    let mut client = ask_http2(&outgrow, "/some.bin", 90_000);
    assert!(client.receive_bytes(90_000, SOON).expect("received"));
    are_open(&outgrow, 0, || {});
    let data = |received: &[u8]| received.iter().filter(|&&byte| byte == b'a').count();
    assert!(data(client.received()) < 100_000);
    client.send(&more(1, 1 << 20)).expect("sent");
    let is_whole = |received: &[u8]| data(received) >= LENGTH;
    client.receive_until_true(SOON, is_whole).expect("received");
    assert!(is_whole(client.received()));
}

/// A byte now and then is enough for `send_idle`, and keeps no file open.
#[test]
fn who_takes_a_byte_now_and_then_is_sent_no_file() {
    let site = site();
    let rate = "timeouts = { send_idle = \"1s\", send_rate = 1000 }";
    front(&site, 2);
    let outgrow = Outgrow::start(&config(&site, 2, rate)).expect("outgrow starts");
    let mut client = ask_http2(&outgrow, "/huge.bin", 10_000);
    assert!(client.receive_bytes(10_000, SOON).expect("received"));
    are_open(&outgrow, 1, || {});
    are_open(&outgrow, 0, || {
        // The connection may be over by then.
        let _over = client.send(&more(1, 1));
    });
    let record = records(&outgrow, 1).remove(0);
    assert!(record.contains("reason=send_timeout"), "{record}");
}
