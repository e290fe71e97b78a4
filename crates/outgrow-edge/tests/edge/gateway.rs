//! What a gateway does itself, and what it says about who asked.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use outgrow_core::settings::Address;
use outgrow_testkit::backend::{Step, response};
use outgrow_testkit::raw;

use crate::house::{House, Options};
use crate::{LIMIT, backend, client, get, last, talk};

/// What HTTP asks of a gateway beside passing on.
#[test]
fn a_gateway_does_its_own_part() {
    let upgrade = "Connection: upgrade\r\nUpgrade: tcp, other/1\r\n";
    let plain = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let dated = "HTTP/1.1 200 OK\r\nDate: then\r\nContent-Length: 2\r\n\r\nok";
    for (name, request, fields, answer, wanted, unwanted) in [
        ("a date", "GET", "", plain, "\r\nDate: ", "Date: then"),
        (
            "a date of its own",
            "GET",
            "",
            dated,
            "\r\nDate: then\r\n",
            "GMT",
        ),
        (
            "another protocol",
            "GET",
            upgrade,
            "HTTP/1.1 101 x\r\nUpgrade: evil\r\n\r\n",
            "HTTP/1.1 502 ",
            "HTTP/1.1 101",
        ),
        (
            "no protocol",
            "GET",
            upgrade,
            "HTTP/1.1 101 x\r\n\r\n",
            "HTTP/1.1 502 ",
            "HTTP/1.1 101",
        ),
        (
            "one of those that were asked for",
            "GET",
            upgrade,
            "HTTP/1.1 101 x\r\nUpgrade: OTHER/1\r\n\r\n",
            "HTTP/1.1 101 ",
            "HTTP/1.1 502",
        ),
        (
            "the last hop",
            "OPTIONS",
            "Max-Forwards: 0\r\n",
            "",
            "HTTP/1.1 200 OK\r\nDate: ",
            "ok",
        ),
        (
            "the last hop of a trace",
            "TRACE",
            "Max-Forwards: 0\r\n",
            "",
            "HTTP/1.1 501 ",
            "ok",
        ),
        (
            "a hop",
            "OPTIONS",
            "Max-Forwards: 1\r\n",
            plain,
            "ok",
            "HTTP/1.1 501",
        ),
    ] {
        let steps = vec![Step::ReadRequest, Step::Send(answer.into()), Step::Close];
        let backend = backend(steps);
        let house = House::start(&[backend.address()], &Options::default()).expect("an edge");
        let close = if fields == upgrade {
            ""
        } else {
            "Connection: close\r\n"
        };
        let request = format!("{request} /x HTTP/1.1\r\nHost: a.example\r\n{fields}{close}\r\n");
        let mut client = client(house.address, request.as_bytes());
        assert!(
            client
                .receive_until(wanted.as_bytes(), LIMIT)
                .expect("open"),
            "{name}: {}",
            String::from_utf8_lossy(client.received())
        );
        client.finish_sending().expect("open");
        let rest = client.receive_to_end(LIMIT).expect("an end").text();
        assert!(!rest.contains(unwanted), "{name}: {rest}");
        for seen in backend.requests() {
            let seen = String::from_utf8_lossy(&seen).into_owned();
            assert_eq!(seen.contains("Max-Forwards: 0"), name == "a hop", "{seen}");
        }
        assert_eq!(backend.requests().is_empty(), answer.is_empty(), "{name}");
    }
}

/// It begins no request: no timeout of a head, no answer to nobody.
#[test]
fn an_empty_line_between_requests_is_passed_over() {
    let backend = backend([Step::ReadRequest, Step::Send(response("ok")), Step::Again]);
    let mut options = Options::default();
    options.timeouts.head = Duration::from_millis(100);
    options.timeouts.keep_alive = Duration::from_millis(400);
    let house = House::start(&[backend.address()], &options).expect("an edge");
    let mut idle = client(house.address, &get("/1"));
    assert!(idle.receive_until(b"\r\n\r\nok", LIMIT).expect("open"));
    idle.take_received();
    idle.send(b"\r\n").expect("open");
    let rest = idle.receive_to_end(LIMIT).expect("an end");
    assert_eq!(rest.text(), "");
    assert!(house.faults().is_empty(), "{:?}", house.faults());
    // One is passed over, in one piece with the request or before it.
    for pieces in [
        &[&b"\r\n"[..], &last("/2")][..],
        &[&[b"\r\n", &last("/2")[..]].concat()],
    ] {
        let pause = Duration::from_millis(20);
        let answer = raw::exchange(house.address, pieces, pause, LIMIT).expect("open");
        assert!(answer.text().ends_with("ok"), "{}", answer.text());
    }
    for pieces in [
        &[&b"\r\n"[..], b"\r\n", &last("/3")][..],
        &[&[b"\r\n\r\n", &last("/3")[..]].concat()],
    ] {
        let pause = Duration::from_millis(20);
        let answer = raw::exchange(house.address, pieces, pause, LIMIT).expect("open");
        assert!(
            answer.text().starts_with("HTTP/1.1 400 "),
            "{}",
            answer.text()
        );
    }
}

/// Behind proxies that are believed the client of the record is theirs.
#[test]
fn the_record_names_the_client_and_the_host_that_it_asked_for() {
    let backend = backend([Step::ReadRequest, Step::Send(response("ok")), Step::Again]);
    for (trusted, client) in [
        (
            vec!["127.0.0.0/8".parse().expect("a network")],
            "\"client\":\"192.0.2.9\",\"peer\":\"127.0.0.1\"",
        ),
        (Vec::new(), "\"client\":\"127.0.0.1\",\"method\""),
    ] {
        let options = Options {
            trusted,
            set_host: Some("inside.example"),
            ..Options::default()
        };
        let house = House::start(&[backend.address()], &options).expect("an edge");
        let request = b"GET /x HTTP/1.1\r\nHost: shop.example\r\n\
            X-Forwarded-For: 6.6.6.6, 192.0.2.9\r\nConnection: close\r\n\r\n";
        assert!(talk(house.address, request).text().ends_with("ok"));
        let record = house.records(1).remove(0);
        assert!(record.contains(client), "{record}");
        assert!(record.contains("\"host\":\"shop.example\""), "{record}");
    }
    let seen = String::from_utf8_lossy(&backend.received()).into_owned();
    assert!(seen.contains("\r\nHost: inside.example\r\n"), "{seen}");
}

/// The path of a socket is no host.
#[test]
fn an_endpoint_behind_a_socket_is_asked_as_localhost() {
    let path = std::env::temp_dir().join(format!("outgrow-edge-{}.socket", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).expect("a socket");
    let backend = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept()?;
        let mut buffer = vec![0; 4096];
        let count = stream.read(&mut buffer)?;
        stream.write_all(&response("ok"))?;
        buffer.truncate(count);
        Ok::<_, std::io::Error>(buffer)
    });
    let house = House::start_at(vec![Address::Unix(path.clone())], &Options::default());
    let answer = talk(
        house.expect("an edge").address,
        b"OPTIONS / HTTP/1.0\r\n\r\n",
    );
    assert!(answer.text().ends_with("ok"), "{}", answer.text());
    let seen = backend.join().expect("no panic").expect("a request");
    let seen = String::from_utf8_lossy(&seen).into_owned();
    assert!(
        seen.starts_with("OPTIONS / HTTP/1.1\r\nHost: localhost\r\n"),
        "{seen}"
    );
    let _ = std::fs::remove_file(&path);
}

/// RFC 9110 section 8.6: a 204 has no length, whatever was asked; a HEAD is told that of a GET.
#[test]
fn fixed_answers_without_a_body_say_no_length_that_they_do_not_have() {
    for (status, method, length) in [
        (204, "HEAD", false),
        (204, "GET", false),
        (304, "HEAD", false),
        (200, "HEAD", true),
        (200, "GET", true),
    ] {
        let options = Options {
            status: Some(status),
            ..Options::default()
        };
        let house = House::start(&[], &options).expect("an edge");
        let request =
            format!("{method} / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n");
        let text = talk(house.address, request.as_bytes()).text();
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
        assert_eq!(
            text.contains("Content-Length: 0"),
            length,
            "{method}: {text}"
        );
        assert!(text.contains("\r\nDate: "), "{text}");
    }
}
