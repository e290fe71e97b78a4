//! Known request smuggling and parsing tricks, as data: what is sent, and what must become of it.
//!
//! Read by the parser's own test (`main.rs`) and by the edge's end-to-end test, which sends the
//! same bytes through the proxy in both directions. The tables are in `heads`, `framing` and
//! `chunks`; here they become whole messages.

mod chunks;
mod framing;
mod heads;

/// What must become of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Its head is refused with this status, nothing of it is forwarded.
    Head(u16),
    /// Its head is good; its body is refused with this status, and what was forwarded before
    /// never looks complete.
    Body(u16),
    /// It is good, and is forwarded in our own form.
    Good,
}

/// One row of a table: a name, the bytes that differ, and what must become of the message.
type Row = (&'static str, &'static [u8], Fate);

/// A message with one oddity.
#[derive(Clone, Debug)]
pub(crate) struct Mutation {
    /// What is odd about it.
    pub(crate) name: String,
    /// All of it, with another request behind it where that makes sense.
    pub(crate) bytes: Vec<u8>,
    /// What must become of it.
    pub(crate) fate: Fate,
}

/// Follows every mutated request on its connection; must not come out of a body or a head.
pub(crate) const FOLLOWER: &[u8] = b"GET /follower HTTP/1.1\r\nHost: a.example\r\n\r\n";
/// A body for requests whose framing is in doubt: by one reading it ends at once and a request
/// follows, by another that request is a part of it.
const DOUBTFUL_BODY: &[u8] = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a.example\r\n\r\n";

fn mutation(kind: &str, row: &Row, parts: &[&[u8]]) -> Mutation {
    Mutation {
        name: format!("{kind}: {}", row.0),
        bytes: parts.concat(),
        fate: row.2,
    }
}

/// All mutated requests.
pub(crate) fn requests() -> Vec<Mutation> {
    let mut all = Vec::new();
    for row in heads::REQUEST_LINES {
        let parts = [row.1, b"\r\nHost: a.example\r\n\r\n", FOLLOWER];
        all.push(mutation("request line", row, &parts));
    }
    for row in heads::HOSTS {
        let parts = [b"GET /x HTTP/1.1\r\n", row.1, b"\r\n", FOLLOWER];
        all.push(mutation("host", row, &parts));
    }
    for row in heads::FIELDS {
        let start = b"GET /x HTTP/1.1\r\nHost: a.example\r\n";
        all.push(mutation(
            "field",
            row,
            &[start, row.1, b"\r\n\r\n", FOLLOWER],
        ));
    }
    for row in heads::WHOLE {
        all.push(mutation("whole", row, &[row.1]));
    }
    for row in framing::LINES {
        let start = b"POST /x HTTP/1.1\r\nHost: a.example\r\n";
        let parts = [start, row.1, b"\r\n\r\n", DOUBTFUL_BODY];
        all.push(mutation("framing", row, &parts));
    }
    for row in framing::REQUESTS {
        all.push(mutation("framing", row, &[row.1]));
    }
    for row in chunks::BODIES {
        let start = b"POST /x HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n";
        all.push(mutation("chunks", row, &[start, row.1, FOLLOWER]));
    }
    all.extend(too_large());
    all
}

/// Bytes behind every mutated response; must never reach a client.
pub(crate) const LEFTOVER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged";

/// All mutated responses, to a GET. The statuses are what the parser's causes would stand for in
/// a request; from an endpoint each means 502.
pub(crate) fn responses() -> Vec<Mutation> {
    let mut all = Vec::new();
    for row in heads::STATUS_LINES {
        let parts = [row.1, b"\r\nContent-Length: 2\r\n\r\nok", LEFTOVER];
        all.push(mutation("status line", row, &parts));
    }
    for row in heads::FIELDS
        .iter()
        .filter(|row| matches!(row.2, Fate::Head(400)))
    {
        let start = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n";
        all.push(mutation(
            "response field",
            row,
            &[start, row.1, b"\r\n\r\nok", LEFTOVER],
        ));
    }
    for row in framing::LINES.iter().filter(|row| row.2 != Fate::Good) {
        let parts = [
            b"HTTP/1.1 200 OK\r\n",
            row.1,
            b"\r\n\r\n0\r\n\r\n",
            LEFTOVER,
        ];
        all.push(mutation("response framing", row, &parts));
    }
    for row in chunks::BODIES.iter().filter(|row| row.2 != Fate::Good) {
        let start = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        all.push(mutation("response chunks", row, &[start, row.1, LEFTOVER]));
    }
    all
}

/// What is refused for its size.
fn too_large() -> Vec<Mutation> {
    let host = b"Host: a.example\r\n";
    let make = |name: &str, parts: &[&[u8]], fate| Mutation {
        name: format!("size: {name}"),
        bytes: parts.concat(),
        fate,
    };
    let long = vec![b'a'; 17 * 1024];
    let many = b"X: 1\r\n".repeat(100);
    let extensions = [&b";"[..], &b"a".repeat(2_000)].concat();
    let chunk = [b"1", &extensions[..], b"\r\nx\r\n"].concat();
    let chunked = b"POST /x HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n";
    vec![
        make(
            "method",
            &[&long[..33], b" /x HTTP/1.1\r\n", host, b"\r\n"],
            Fate::Head(400),
        ),
        make(
            "target",
            &[b"GET /", &long[..8 * 1024], b" HTTP/1.1\r\n", host, b"\r\n"],
            Fate::Head(414),
        ),
        make("target without an end", &[b"GET /", &long], Fate::Head(414)),
        make(
            "query",
            &[
                b"GET /?",
                &long[..8 * 1024],
                b" HTTP/1.1\r\n",
                host,
                b"\r\n",
            ],
            Fate::Head(414),
        ),
        make(
            "field value",
            &[b"GET /x HTTP/1.1\r\n", host, b"X: ", &long, b"\r\n\r\n"],
            Fate::Head(431),
        ),
        make(
            "field name",
            &[b"GET /x HTTP/1.1\r\n", host, &long, b": 1\r\n\r\n"],
            Fate::Head(431),
        ),
        make(
            "field lines",
            &[b"GET /x HTTP/1.1\r\n", host, &many, b"\r\n"],
            Fate::Head(431),
        ),
        make(
            "fields that go on for ever",
            &[b"GET /x HTTP/1.1\r\n", host, &many.repeat(40)],
            Fate::Head(431),
        ),
        make(
            "a target just within the limit",
            &[
                b"GET /",
                &long[..8 * 1024 - 1],
                b" HTTP/1.1\r\n",
                host,
                b"\r\n",
            ],
            Fate::Good,
        ),
        make(
            "chunk extensions",
            &[chunked, &chunk.repeat(3), b"0\r\n\r\n"],
            Fate::Body(400),
        ),
        make(
            "one chunk extension",
            &[chunked, b"1;", &long, b"\r\nx\r\n0\r\n\r\n"],
            Fate::Body(400),
        ),
        make(
            "trailer lines",
            &[chunked, b"0\r\n", &many, b"\r\n"],
            Fate::Body(431),
        ),
        make(
            "a trailer",
            &[chunked, b"0\r\nX: ", &long, b"\r\n\r\n"],
            Fate::Body(431),
        ),
    ]
}
