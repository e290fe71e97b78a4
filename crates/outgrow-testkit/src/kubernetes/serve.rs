//! One question to the fake: a page of a list, a watch, or something about a Lease.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    sync::{MutexGuard, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{Asked, Change, LOOK, Mood, SERVICE, Shared, State, leases, tls::Stream};

/// What is asked for.
struct Question {
    namespace: String,
    service: String,
    query: Vec<(String, String)>,
}

impl Question {
    fn parse(target: &str) -> Option<Self> {
        let (path, query) = target.split_once('?')?;
        let rest = path.strip_prefix("/apis/discovery.k8s.io/v1/namespaces/")?;
        let namespace = rest.strip_suffix("/endpointslices")?.to_owned();
        let query: Vec<_> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), decoded(value)))
            .collect();
        let selector = query.iter().find(|(name, _)| name == "labelSelector")?;
        let service = selector.1.strip_prefix(SERVICE)?.strip_prefix('=')?;
        Some(Self {
            namespace,
            service: service.to_owned(),
            query,
        })
    }

    fn value(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.value(name)?.parse().ok()
    }

    fn selects(&self, slice: Option<&Value>) -> bool {
        slice.is_some_and(|slice| slice["metadata"]["labels"][SERVICE] == self.service)
    }
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let byte = digits.and_then(|two| u8::from_str_radix(two, 16).ok());
        match (first, byte) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            (first, _) => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(super) fn serve(mut stream: Stream, shared: &Shared) -> io::Result<()> {
    let Head {
        method,
        target,
        token,
        body,
    } = head(&mut stream)?;
    let mut state = shared.lock();
    state.asked.push(Asked {
        method: method.clone(),
        target: target.clone(),
        token: token.clone(),
    });
    let lease = leases::Question::parse(&method, &target, &body);
    let question = Question::parse(&target);
    let refusal = match state.mood {
        _ if token != state.token => Some(status(401, "Unauthorized", "Unauthorized")),
        Mood::Forbidden => Some(forbidden(lease.is_some())),
        Mood::Failing => Some(status(
            500,
            "InternalError",
            "etcdserver: request timed out",
        )),
        _ => None,
    };
    if let Some(refusal) = refusal {
        drop(state);
        return answer(&mut stream, &refusal);
    }
    if let Some(question) = lease
        && state.mood != Mood::Unknown
    {
        if state.mood == Mood::Dead {
            drop(wait_other_mood(shared, state));
            return Ok(());
        }
        let (code, body) = state.answer_lease(&question);
        drop(state);
        return answer_with(&mut stream, code, &body);
    }
    let Some(question) = question.filter(|_| state.mood != Mood::Unknown) else {
        drop(state);
        let text = "404 page not found";
        return write!(
            stream,
            "HTTP/1.1 404 Not Found\r\nContent-Length: {}\r\n\r\n{text}",
            text.len()
        )
        .and_then(|()| stream.flush());
    };
    if matches!(question.value("watch"), Some("1" | "true")) {
        return watch(stream, &question, shared, state);
    }
    let page = page(&question, &state);
    drop(state);
    answer(&mut stream, &page)
}

/// Until it is not dead any more, or ends.
fn wait_other_mood<'s>(
    shared: &'s Shared,
    mut state: MutexGuard<'s, State>,
) -> MutexGuard<'s, State> {
    while state.mood == Mood::Dead && !shared.ended.load(Ordering::Relaxed) {
        let waited = shared.changed.wait_timeout(state, LOOK);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
    state
}

fn forbidden(is_lease: bool) -> Value {
    let (verb, resource, group) = match is_lease {
        true => ("get", "leases", "coordination.k8s.io"),
        false => ("list", "endpointslices", "discovery.k8s.io"),
    };
    let message = format!(
        "{resource}.{group} is forbidden: User \"system:serviceaccount:shop:outgrow\" cannot {verb} \
         resource \"{resource}\" in API group \"{group}\" in the namespace \"shop\""
    );
    status(403, "Forbidden", &message)
}

/// What of a question matters.
struct Head {
    method: String,
    target: String,
    token: String,
    body: Vec<u8>,
}

fn head(stream: &mut Stream) -> io::Result<Head> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut words = first.split(' ').map(str::to_owned);
    let (method, target) = (words.next(), words.next());
    let (mut token, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let Some((name, value)) = line.split_once(": ") else {
            continue;
        };
        match name.to_ascii_lowercase().as_str() {
            "authorization" => {
                let value = value.strip_prefix("Bearer ").unwrap_or_default();
                value.clone_into(&mut token);
            }
            "content-length" => length = value.parse().unwrap_or(0),
            _ => {}
        }
    }
    let mut body = Vec::new();
    reader.take(length).read_to_end(&mut body)?;
    Ok(Head {
        method: method.unwrap_or_default(),
        target: target.unwrap_or_default(),
        token,
        body,
    })
}

pub(super) fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    })
}

fn expired(version: u64, oldest: u64) -> Value {
    let message = format!("too old resource version: {version} ({oldest})");
    status(410, "Expired", &message)
}

fn answer(stream: &mut Stream, body: &Value) -> io::Result<()> {
    let code = body["code"].as_u64().and_then(|code| code.try_into().ok());
    answer_with(stream, code.unwrap_or(200), body)
}

fn answer_with(stream: &mut Stream, code: u16, body: &Value) -> io::Result<()> {
    let body = body.to_string();
    write!(
        stream,
        "HTTP/1.1 {code} Status\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    stream.flush()
}

/// A page of the list. A next page is of the version of the first one: the mark for it says
/// which, and what comes next.
fn page(question: &Question, state: &State) -> Value {
    let mark = question.value("continue").and_then(|mark| {
        let (version, from) = mark.split_once('/')?;
        Some((version.parse::<u64>().ok()?, from.to_owned()))
    });
    if let Some((version, _)) = &mark
        && *version < state.compacted
    {
        return expired(*version, state.compacted);
    }
    let version = mark.as_ref().map_or(state.version, |(version, _)| *version);
    let slices = at_version(state, version, question);
    let from = mark.map(|(_, from)| from).unwrap_or_default();
    let name = |slice: &Value| slice["metadata"]["name"].as_str().unwrap_or("").to_owned();
    let mut slices: Vec<Value> = slices
        .into_iter()
        .filter(|slice| name(slice) >= from)
        .collect();
    let limit = question.number("limit").filter(|limit| *limit > 0);
    let limit = limit.map_or(usize::MAX, |limit| limit as usize);
    let mut metadata = json!({ "resourceVersion": version.to_string() });
    if slices.len() > limit {
        // With a selector a real one does not tell how many remain.
        metadata["continue"] = json!(format!("{version}/{}", name(&slices[limit])));
        slices.truncate(limit);
    }
    json!({
        "kind": "EndpointSliceList",
        "apiVersion": "discovery.k8s.io/v1",
        "metadata": metadata,
        "items": slices,
    })
}

/// The slices that a question selects, as they were.
fn at_version(state: &State, version: u64, question: &Question) -> Vec<Value> {
    let mut slices = state.slices.clone();
    for change in state.history.iter().rev() {
        if change.version <= version {
            break;
        }
        let one = change.before.as_ref().or(change.after.as_ref());
        let name = one.map(|one| one["metadata"]["name"].as_str().unwrap_or("").to_owned());
        let key = (change.namespace.clone(), name.unwrap_or_default());
        match &change.before {
            Some(before) => slices.insert(key, before.clone()),
            None => slices.remove(&key),
        };
    }
    let mut selected = Vec::new();
    for ((namespace, _), slice) in slices {
        if namespace == question.namespace && question.selects(Some(&slice)) {
            selected.push(slice);
        }
    }
    selected
}

fn watch<'s>(
    mut stream: Stream,
    question: &Question,
    shared: &'s Shared,
    mut state: MutexGuard<'s, State>,
) -> io::Result<()> {
    let mut version = question.number("resourceVersion").unwrap_or(0);
    let (mood, cuts, mut marks) = (state.mood, state.cuts, state.marks);
    let has_marks = question.value("allowWatchBookmarks") == Some("true");
    let limit = question.number("timeoutSeconds").unwrap_or(1_800);
    let until = Instant::now() + Duration::from_secs(limit);
    if mood == Mood::Gone {
        let body = expired(version, state.version);
        drop(state);
        return answer(&mut stream, &body);
    }
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )?;
    stream.flush()?;
    // As a real one: the watch is taken, and then told that its version is too old.
    if version < state.compacted {
        let event = json!({ "type": "ERROR", "object": expired(version, state.compacted) });
        drop(state);
        send(&mut stream, &event)?;
        return end(&mut stream);
    }
    loop {
        let events: Vec<Value> = match mood {
            Mood::Dead => Vec::new(),
            _ => events(&state.history, version, question),
        };
        let is_over = Instant::now() >= until && mood != Mood::Dead;
        let mark = has_marks && (state.marks > marks || is_over) && mood == Mood::Good;
        marks = state.marks;
        let is_cut = state.cuts > cuts;
        version = state.version;
        drop(state);
        for event in events {
            send(&mut stream, &event)?;
        }
        if mood == Mood::Nonsense {
            send(&mut stream, &json!({ "type": "SURPRISE", "object": {} }))?;
        }
        if mark {
            let metadata = json!({ "resourceVersion": version.to_string() });
            let object = json!({ "kind": "EndpointSlice", "metadata": metadata });
            send(
                &mut stream,
                &json!({ "type": "BOOKMARK", "object": object }),
            )?;
        }
        if is_cut || shared.ended.load(Ordering::Relaxed) {
            // Without an end of the chunks, nor of TLS.
            return Ok(());
        }
        if is_over || mood == Mood::Hasty {
            return end(&mut stream);
        }
        let waited = shared.changed.wait_timeout(shared.lock(), LOOK);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// What happened since a version, as this question sees it: a slice that is of another service
/// from now on is gone.
fn events(history: &[Change], since: u64, question: &Question) -> Vec<Value> {
    let mut events = Vec::new();
    for change in history.iter().filter(|change| change.version > since) {
        if change.namespace != question.namespace {
            continue;
        }
        let (before, after) = (change.before.as_ref(), change.after.as_ref());
        let (kind, object) = match (question.selects(before), question.selects(after)) {
            (false, true) => ("ADDED", after),
            (true, true) => ("MODIFIED", after),
            (true, false) => ("DELETED", before),
            (false, false) => continue,
        };
        let mut object = object.cloned().unwrap_or_default();
        object["metadata"]["resourceVersion"] = json!(change.version.to_string());
        events.push(json!({ "type": kind, "object": object }));
    }
    events
}

fn send(stream: &mut Stream, event: &Value) -> io::Result<()> {
    let text = format!("{event}\n");
    write!(stream, "{:x}\r\n{text}\r\n", text.len())?;
    stream.flush()
}

fn end(stream: &mut Stream) -> io::Result<()> {
    stream.write_all(b"0\r\n\r\n")?;
    stream.conn.send_close_notify();
    stream.flush()
}
