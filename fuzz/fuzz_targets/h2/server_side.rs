//! A client's bytes into the server's side.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use outgrow_http::Downstream;
use outgrow_http::h1::Limits;
use outgrow_http::h2::{Connection, H2Stream, PREFACE, Settings, serve};
use outgrow_message::{Blocks, BodyLength, BodySource, Ledger, Method, RequestHead, ResponseHead};

use crate::steps::{self, Step};
use crate::wire::Memory;

/// Steps of one input; more are not looked at.
const MOST_STEPS: usize = 400;
/// Polls until a connection whose client is gone has to have ended.
const MOST_POLLS: usize = 1_000;

struct House<'a> {
    memory: Memory,
    settings: Settings,
    connection: Option<Connection<Memory>>,
    streams: Vec<Answering>,
    blocks: &'a Arc<Blocks>,
    ledger: &'a Arc<Ledger>,
}

/// A stream, and what is left of an answer whose length was said.
struct Answering {
    stream: H2Stream,
    left: Option<usize>,
}

fn settings(first: u8) -> Settings {
    let usual = Settings::default();
    if first & 2 == 0 {
        return usual;
    }
    Settings {
        streams: 3,
        stream_window_bytes: 1_000,
        connection_window_bytes: 65_535,
        send_buffer_bytes: 2_000,
        held_bytes: 4_000,
        premature_resets: 3,
    }
}

pub(crate) fn run(first: u8, input: &[u8], ledger: &Arc<Ledger>, blocks: &Arc<Blocks>) {
    let memory = Memory::default();
    memory.line().room = 64 * 1024;
    let settings = settings(first);
    let mut house = House {
        memory,
        settings,
        connection: None,
        streams: Vec::new(),
        blocks,
        ledger,
    };
    let mut rest = match first & 4 {
        // All of it as it is: no preface of ours, no frames.
        4 => {
            house.memory.line().said.extend_from_slice(input);
            &[][..]
        }
        _ => {
            let greeting = [PREFACE, &steps::frame(4, 0, 0, &[])].concat();
            house.memory.line().said.extend(greeting);
            input
        }
    };
    house.open();
    if first & 8 != 0 {
        house.memory.line().room = 0;
    }
    for _ in 0..MOST_STEPS {
        let Some((step, behind)) = steps::next(rest) else {
            break;
        };
        rest = behind;
        house.step(&step);
        house.poll();
    }
    house.end();
}

impl House<'_> {
    /// The handshake, for which everything is there that it needs, or nothing more will come.
    fn open(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        let blocks = Arc::clone(self.blocks);
        let io = self.memory.clone();
        let mut served = pin!(serve(
            io,
            Vec::new(),
            blocks,
            Limits::default(),
            self.settings
        ));
        for is_over in [false, true] {
            self.memory.line().is_over |= is_over;
            if let Poll::Ready(served) = served.as_mut().poll(&mut cx) {
                self.connection = served.ok();
                return;
            }
        }
        panic!("the handshake waits for a client that is gone");
    }

    fn say(&self, bytes: &[u8]) {
        let mut line = self.memory.line();
        if !line.is_over {
            line.said.extend_from_slice(bytes);
        }
    }

    fn step(&mut self, step: &Step<'_>) {
        match *step {
            Step::Frame {
                kind,
                flags,
                stream,
                payload,
            } => self.say(&steps::frame(kind, flags, stream, payload)),
            Step::Head {
                stream,
                ends,
                is_post,
            } => self.say(&steps::request(stream, ends, is_post)),
            Step::Data {
                stream,
                bytes,
                ends,
            } => self.say(&steps::frame(0, u8::from(ends), stream, &vec![0; bytes])),
            Step::Bytes(bytes) => self.say(bytes),
            Step::Room(bytes) => self.memory.line().room += bytes,
            Step::Act { stream, act } => {
                if !self.streams.is_empty() {
                    let at = stream % self.streams.len();
                    if act_on(&mut self.streams[at], act) {
                        self.streams.swap_remove(at);
                    }
                }
            }
            Step::Connection(what) => match what % 8 {
                0 => self.memory.line().is_over = true,
                1 => self.memory.line().is_broken = true,
                2 => self.connection.iter_mut().for_each(Connection::drain),
                3 => self.connection.iter_mut().for_each(Connection::close),
                _ => {}
            },
        }
    }

    /// Polls the connection until it has to wait; takes the streams that come.
    fn poll(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        let Some(connection) = &mut self.connection else {
            return;
        };
        loop {
            match connection.poll_accept(&mut cx) {
                Poll::Pending => break,
                Poll::Ready(None) => {
                    let _ = connection.fault();
                    self.connection = None;
                    return;
                }
                Poll::Ready(Some((parts, stream))) => {
                    let mut head = RequestHead::default();
                    let _ = parts.fill(&mut head);
                    let left = Some(0);
                    self.streams.push(Answering { stream, left });
                }
            }
            assert!(
                self.streams.len() <= self.settings.streams as usize * 2 + MOST_STEPS,
                "more streams than anybody opened"
            );
        }
        assert_eq!(connection.open_streams(), self.streams.len());
        self.check_memory();
    }

    /// What is held of answers, in blocks: the settings' bound and a piece of each stream (also of those
    /// that were finished and whose client does not take the end), and what the connection gathers.
    fn check_memory(&self) {
        const BLOCK: u64 = 16 * 1024;
        let streams = u64::from(self.settings.streams);
        let held = self.settings.held_bytes as u64 + BLOCK * (streams + 1);
        let rest = 64 * 1024 + 4 * BLOCK;
        let used = self.ledger.used_bytes();
        assert!(used <= held + rest, "{used} bytes are held");
    }

    /// The client goes; nothing may be left waiting.
    fn end(mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        {
            let mut line = self.memory.line();
            line.is_over = true;
            line.room = usize::MAX / 2;
        }
        self.poll();
        for Answering { stream, .. } in &mut self.streams {
            // A client that is gone is no secret to anybody who waits for it.
            if self.connection.is_none() {
                while let Poll::Ready(Ok(true)) = stream.poll_data(&mut cx) {
                    let count = stream.data().len();
                    stream.consume(count);
                }
                assert!(stream.poll_flush(&mut cx).is_ready(), "it waits for nobody");
            }
        }
        self.streams.clear();
        for _ in 0..MOST_POLLS {
            if self.connection.is_none() {
                return;
            }
            self.poll();
        }
        panic!("the connection does not end");
    }
}

/// Does one thing; whether the stream is to be dropped.
fn act_on(Answering { stream, left }: &mut Answering, act: u8) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    match act & 0x0f {
        0 => return true,
        1 | 2 => {
            if let Poll::Ready(Ok(true)) = stream.poll_data(&mut cx) {
                let whole = stream.data().len();
                assert!(whole > 0, "data without data");
                stream.consume(if act & 0x10 == 0 {
                    whole
                } else {
                    whole.div_ceil(2)
                });
            }
        }
        3 | 4 if !stream.has_responded() => {
            let mut head = ResponseHead::default();
            head.clear();
            head.status = if act & 0x10 == 0 { 200 } else { 204 };
            let length = match act >> 5 {
                _ if head.status == 204 => BodyLength::Empty,
                0 => BodyLength::Known(100),
                1 => BodyLength::Empty,
                2 => BodyLength::Known(50_000),
                _ => BodyLength::Unknown,
            };
            *left = match length {
                BodyLength::Known(bytes) => Some(bytes as usize),
                BodyLength::Empty => Some(0),
                BodyLength::Unknown => None,
            };
            let _ = stream.respond(&head, length, Method::Get);
        }
        // What is pushed is never more than was said.
        5..=7 => {
            let length = 1 + (usize::from(act) << 7);
            let data = vec![b'x'; left.map_or(length, |left| left.min(length))];
            if !data.is_empty()
                && let Poll::Ready(Ok(count)) = stream.poll_push(&mut cx, &data)
            {
                assert!(
                    0 < count && count <= data.len(),
                    "{count} of {}",
                    data.len()
                );
                *left = left.map(|left| left - count);
            }
        }
        8 if matches!(left, None | Some(0)) => {
            let _ = stream.finish(None);
        }
        8 | 9 => stream.abort(),
        10 => {
            let _ = stream.poll_gone(&mut cx);
        }
        11 => {
            let mut head = ResponseHead::default();
            head.clear();
            head.status = 103;
            let _ = stream.interim(&head);
        }
        12 => {
            let _ = stream.poll_flush(&mut cx);
        }
        _ => {
            let _ = stream.trailers().map(|trailers| trailers.len());
        }
    }
    false
}
