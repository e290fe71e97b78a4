//! Runs a script on one connection and records.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    thread,
    time::Duration,
};

use socket2::SockRef;

use super::{End, Record, Step};

/// How long a script waits for a gate.
const GATE_TIME: Duration = Duration::from_secs(60);

/// How long a pause goes on without looking whether the recorder stops.
const PAUSE_PIECE: Duration = Duration::from_millis(20);

/// Most bytes that are recorded of one connection.
const MOST_BYTES: usize = 256 * 1024 * 1024;

struct Session<'a> {
    record: &'a Record,
    place: usize,
    stream: TcpStream,
    /// Received bytes that no step has used yet.
    unused: Vec<u8>,
    /// The last whole request.
    request: Vec<u8>,
}

/// Why a step ends the script.
struct Over;

pub(super) fn serve(record: &Record, place: usize, stream: TcpStream, steps: &[Step]) {
    // Without this the answer still goes out, later.
    let _slow = stream.set_nodelay(true);
    let mut session = Session {
        record,
        place,
        stream,
        unused: Vec::new(),
        request: Vec::new(),
    };
    let mut next = 0;
    while let Some(step) = steps.get(next) {
        next = if matches!(step, Step::Again) {
            0
        } else {
            next + 1
        };
        if record.stopping() || session.run(step).is_err() {
            break;
        }
    }
    let Session { stream, .. } = session;
    record.change(|state| {
        // The kept copy would hold the connection open.
        state.streams[place] = None;
        drop(stream);
        state.connections[place].finished = true;
    });
}

impl Session<'_> {
    fn run(&mut self, step: &Step) -> Result<(), Over> {
        match step {
            Step::ReadRequest => self.read_request(),
            Step::ReadBytes(count) => {
                self.read_until(|unused| (unused.len() >= *count).then_some(*count))?;
                Ok(())
            }
            Step::ReadToEnd | Step::Silence => loop {
                self.unused.clear();
                self.more()?;
            },
            Step::Send(bytes) => self.send(bytes),
            Step::SendSlowly {
                bytes,
                piece,
                pause,
            } => {
                for part in bytes.chunks((*piece).max(1)) {
                    self.send(part)?;
                    self.pause(*pause)?;
                }
                Ok(())
            }
            Step::Reply(reply) => {
                let bytes = reply(&self.request);
                self.send(&bytes)
            }
            Step::Pause(time) => self.pause(*time),
            Step::Wait(gate) => {
                let mut left = GATE_TIME;
                while !gate.wait(PAUSE_PIECE) {
                    left = left.saturating_sub(PAUSE_PIECE);
                    if left.is_zero() || self.record.stopping() {
                        return Err(Over);
                    }
                }
                Ok(())
            }
            Step::Close => {
                let _gone = self.stream.shutdown(Shutdown::Write);
                // What the client still sends is read, so that no reset follows
                // the close; recorded too, since it was received.
                loop {
                    self.more()?;
                }
            }
            Step::Reset => {
                let _gone = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
                Err(Over)
            }
            Step::CloseAfter(count) => {
                self.read_until(|unused| (unused.len() >= *count).then_some(*count))?;
                Err(Over)
            }
            Step::Again => Ok(()),
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Over> {
        self.stream.write_all(bytes).map_err(|_| Over)
    }

    fn pause(&mut self, time: Duration) -> Result<(), Over> {
        let mut left = time;
        while !left.is_zero() {
            if self.record.stopping() {
                return Err(Over);
            }
            let piece = left.min(PAUSE_PIECE);
            thread::sleep(piece);
            left -= piece;
        }
        Ok(())
    }

    fn read_request(&mut self) -> Result<(), Over> {
        let request = self.read_until(request_length)?;
        self.request.clone_from(&request);
        let place = self.place;
        self.record
            .change(|state| state.connections[place].requests.push(request));
        Ok(())
    }

    /// Reads until `enough` says how many of the unused bytes are used up now.
    fn read_until(
        &mut self,
        mut enough: impl FnMut(&[u8]) -> Option<usize>,
    ) -> Result<Vec<u8>, Over> {
        loop {
            if let Some(count) = enough(&self.unused) {
                let rest = self.unused.split_off(count);
                return Ok(std::mem::replace(&mut self.unused, rest));
            }
            self.more()?;
        }
    }

    fn more(&mut self) -> Result<(), Over> {
        let mut block = [0_u8; 16 * 1024];
        let read = loop {
            match self.stream.read(&mut block) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        let place = self.place;
        let stopping = self.record.stopping();
        self.record.change(|state| {
            let connection = &mut state.connections[place];
            match read {
                Ok(0) if stopping => Err(Over),
                Ok(0) => {
                    connection.end = End::Closed;
                    Err(Over)
                }
                Ok(count) if connection.received.len() + count <= MOST_BYTES => {
                    connection.received.extend_from_slice(&block[..count]);
                    self.unused.extend_from_slice(&block[..count]);
                    Ok(())
                }
                Ok(_) => Err(Over),
                Err(_) => {
                    connection.end = End::Reset;
                    Err(Over)
                }
            }
        })
    }
}

/// Length of the whole request at the beginning of `bytes`, if it is there.
fn request_length(bytes: &[u8]) -> Option<usize> {
    let head_end = find(bytes, b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..head_end]).to_ascii_lowercase();
    let value = |name: &str| {
        let lines = head.split("\r\n");
        let mut values = lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        values.next().map(str::trim)
    };
    if value("transfer-encoding") == Some("chunked") {
        return chunked_length(&bytes[head_end..]).map(|length| head_end + length);
    }
    let length: usize = value("content-length")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let whole = head_end.checked_add(length)?;
    (bytes.len() >= whole).then_some(whole)
}

fn chunked_length(bytes: &[u8]) -> Option<usize> {
    let mut place = 0;
    loop {
        let line_end = place + find(&bytes[place..], b"\r\n")?;
        let line = std::str::from_utf8(&bytes[place..line_end]).ok()?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(digits, 16).ok()?;
        if size == 0 {
            // The trailer's end is an empty line, which may follow at once.
            return find(&bytes[line_end..], b"\r\n\r\n").map(|end| line_end + end + 4);
        }
        place = line_end.checked_add(size)?.checked_add(4)?;
        if place > bytes.len() {
            return None;
        }
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|at| at == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_end_where_they_end() {
        for request in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nT: 1\r\n\r\n",
        ] {
            let more = format!("{request}GET");
            assert_eq!(
                request_length(more.as_bytes()),
                Some(request.len()),
                "{request:?}"
            );
            for cut in 0..request.len() {
                assert_eq!(
                    request_length(&request.as_bytes()[..cut]),
                    None,
                    "{cut} {request:?}"
                );
            }
        }
    }
}
