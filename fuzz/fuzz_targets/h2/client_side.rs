//! An endpoint's bytes into the client's side.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use outgrow_http::Upstream;
use outgrow_http::h2::{ClientStream, Driver, Session, SessionSettings, open};
use outgrow_message::{Blocks, BodyLength, BodySource, Ledger, Method, RequestHead, ResponseHead};

use crate::steps::{self, Step};
use crate::wire::Memory;

/// Steps of one input; more are not looked at.
const MOST_STEPS: usize = 400;
/// Exchanges of one input.
const MOST_EXCHANGES: usize = 64;
/// Polls until a connection whose endpoint is gone has to have ended.
const MOST_POLLS: usize = 1_000;

struct House<'a> {
    memory: Memory,
    settings: SessionSettings,
    session: Session,
    driver: Option<Driver<Memory>>,
    exchanges: Vec<Exchange>,
    begun: usize,
    blocks: &'a Arc<Blocks>,
    ledger: &'a Arc<Ledger>,
}

struct Exchange {
    request: RequestHead,
    stream: ClientStream,
    is_answered: bool,
}

fn settings(first: u8) -> SessionSettings {
    let usual = SessionSettings::default();
    if first & 2 == 0 {
        return usual;
    }
    SessionSettings {
        streams: 3,
        stream_window_bytes: 1_000,
        send_buffer_bytes: 2_000,
        held_bytes: 4_000,
    }
}

pub(crate) fn run(first: u8, input: &[u8], ledger: &Arc<Ledger>, blocks: &Arc<Blocks>) {
    let memory = Memory::default();
    memory.line().room = 64 * 1024;
    let mut rest = input;
    if first & 4 == 0 {
        // SETTINGS that allow some streams, and the acknowledgement of ours.
        let allowed = [0, 3, 0, 0, 0, 5];
        let greeting = [steps::frame(4, 0, 0, &allowed), steps::frame(4, 1, 0, &[])].concat();
        memory.line().said.extend(greeting);
    } else {
        memory.line().said.extend_from_slice(input);
        rest = &[];
    }
    let settings = settings(first);
    let Some((session, driver)) = opened(&memory, settings, blocks) else {
        return;
    };
    if first & 8 != 0 {
        memory.line().room = 0;
    }
    let mut house = House {
        memory,
        settings,
        session,
        driver: Some(driver),
        exchanges: Vec::new(),
        begun: 0,
        blocks,
        ledger,
    };
    house.begin(false);
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

fn opened(
    memory: &Memory,
    settings: SessionSettings,
    blocks: &Arc<Blocks>,
) -> Option<(Session, Driver<Memory>)> {
    let mut cx = Context::from_waker(Waker::noop());
    let mut opening = pin!(open(memory.clone(), Arc::clone(blocks), settings));
    for is_over in [false, true] {
        memory.line().is_over |= is_over;
        // The settings are looked for once more when they have come.
        for _ in 0..4 {
            if let Poll::Ready(opened) = opening.as_mut().poll(&mut cx) {
                return opened.ok();
            }
        }
    }
    panic!("it waits for an endpoint that is gone");
}

fn request(is_post: bool) -> RequestHead {
    let mut head = RequestHead::default();
    head.clear();
    (head.method, head.length) = match is_post {
        true => (Method::Post, BodyLength::Unknown),
        false => (Method::Get, BodyLength::Empty),
    };
    let text: &[u8] = if is_post { b"POST" } else { b"GET" };
    head.method_text = head.fields.push_bytes(text);
    head.raw_path = head.fields.push_bytes(b"/");
    head.normalise_path().expect("it is normal");
    head
}

impl House<'_> {
    fn begin(&mut self, is_post: bool) {
        if self.session.room() == 0 || self.begun == MOST_EXCHANGES {
            return;
        }
        let request = request(is_post);
        let begun = self.session.begin(&request, b"a", false, self.blocks);
        if let Ok(stream) = begun {
            self.begun += 1;
            self.exchanges.push(Exchange {
                request,
                stream,
                is_answered: false,
            });
        }
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
            Step::Head { stream, ends, .. } => self.say(&steps::response(stream, ends)),
            Step::Data {
                stream,
                bytes,
                ends,
            } => self.say(&steps::frame(0, u8::from(ends), stream, &vec![0; bytes])),
            Step::Bytes(bytes) => self.say(bytes),
            Step::Room(bytes) => self.memory.line().room += bytes,
            Step::Act { stream, act } => {
                if act & 0x0f == 1 {
                    self.begin(act & 0x10 != 0);
                } else if !self.exchanges.is_empty() {
                    let at = stream % self.exchanges.len();
                    if act_on(&mut self.exchanges[at], act) {
                        self.exchanges.swap_remove(at);
                    }
                }
            }
            Step::Connection(what) => match what % 8 {
                0 => self.memory.line().is_over = true,
                1 => self.memory.line().is_broken = true,
                _ => {
                    let _ = (self.session.is_over(), self.session.room());
                }
            },
        }
    }

    fn poll(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        if let Some(driver) = &mut self.driver
            && Pin::new(driver).poll(&mut cx).is_ready()
        {
            self.driver = None;
        }
        assert_eq!(self.session.open_streams(), self.exchanges.len());
        assert!(self.exchanges.len() <= self.settings.streams, "too many");
        const BLOCK: u64 = 16 * 1024;
        let streams = self.settings.streams as u64;
        let held = self.settings.held_bytes as u64 + BLOCK * (streams + 1);
        let rest = 64 * 1024 + 4 * BLOCK;
        let used = self.ledger.used_bytes();
        assert!(used <= held + rest, "{used} bytes are held");
    }

    /// The endpoint goes; nothing may be left waiting.
    fn end(mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        {
            let mut line = self.memory.line();
            line.is_over = true;
            line.room = usize::MAX / 2;
        }
        for _ in 0..MOST_POLLS {
            if self.driver.is_none() {
                break;
            }
            self.poll();
        }
        assert!(self.driver.is_none(), "the connection does not end");
        assert!(self.session.is_over());
        for exchange in &mut self.exchanges {
            let mut head = ResponseHead::default();
            while !exchange.is_answered {
                match exchange
                    .stream
                    .poll_head(&mut cx, &exchange.request, &mut head)
                {
                    Poll::Pending => panic!("it waits for an endpoint that is gone"),
                    Poll::Ready(Err(_)) => break,
                    Poll::Ready(Ok(())) => exchange.is_answered = head.status >= 200,
                }
            }
            if exchange.is_answered {
                loop {
                    match exchange.stream.poll_data(&mut cx) {
                        Poll::Pending => panic!("its body waits for an endpoint that is gone"),
                        Poll::Ready(Ok(true)) => {
                            let count = exchange.stream.data().len();
                            exchange.stream.consume(count);
                        }
                        Poll::Ready(_) => break,
                    }
                }
            }
        }
    }
}

/// Does one thing; whether the exchange is to be dropped.
fn act_on(exchange: &mut Exchange, act: u8) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    let stream = &mut exchange.stream;
    match act & 0x0f {
        0 => return true,
        2 | 3 if !exchange.is_answered => {
            let mut head = ResponseHead::default();
            let came = stream.poll_head(&mut cx, &exchange.request, &mut head);
            match came {
                Poll::Ready(Ok(())) => {
                    exchange.is_answered = head.status >= 200;
                    if exchange.is_answered {
                        stream.begin_body(&head);
                    }
                }
                // It is over: nobody asks again.
                Poll::Ready(Err(_)) => return true,
                Poll::Pending => {}
            }
        }
        2..=5 => {
            if exchange.is_answered
                && let Poll::Ready(Ok(true)) = stream.poll_data(&mut cx)
            {
                let whole = stream.data().len();
                assert!(whole > 0, "data without data");
                stream.consume(if act & 0x10 == 0 {
                    whole
                } else {
                    whole.div_ceil(2)
                });
            }
        }
        6 | 7 if exchange.request.method == Method::Post => {
            let data = vec![b'x'; 1 + (usize::from(act) << 7)];
            if let Poll::Ready(Ok(count)) = stream.poll_push(&mut cx, &data) {
                assert!(
                    0 < count && count <= data.len(),
                    "{count} of {}",
                    data.len()
                );
            }
        }
        8 => {
            let _ = stream.finish(None);
        }
        9 => {
            let _ = (stream.poll_flush(&mut cx), stream.is_flushed());
        }
        _ => {
            let _ = stream.trailers().map(|trailers| trailers.len());
        }
    }
    false
}
