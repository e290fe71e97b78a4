//! What follows a request's head: its body and trailers, or what a client says in a tunnel.

use std::task::{Context, Poll, ready};

use http::HeaderMap;
use outgrow_core::{Cause, Fault, Phase};
use outgrow_message::{BodySource, Fields, Known};

use super::super::code::Code;
use super::super::qpack::Broken;
use super::super::receive::{Next, Wrong};
use super::super::request;
use super::{CODING, H3Stream, Reading};
use crate::downstream::Downstream;
use crate::h1::Reject;
use crate::h1::chunk::is_forbidden_trailer;
use crate::h2::check_field;

impl H3Stream {
    pub(super) fn body_fault(&mut self, wrong: Wrong) -> Fault {
        let client = |cause| Fault::client(Phase::RequestBody, cause);
        let fault = match wrong {
            Wrong::Gone => {
                self.reset_early |= !self.has_responded();
                client(Cause::ClientGone)
            }
            Wrong::Memory => Fault::outgrow(Phase::RequestBody, Cause::MemoryLimit),
            Wrong::Reject(reject) => {
                self.detail = reject.detail;
                self.note(reject);
                client(reject.cause)
            }
            Wrong::Connection(code, reason) => {
                self.shared.break_off(code, reason);
                client(Cause::ClientGone)
            }
        };
        self.fail(fault)
    }

    fn take_trailers(&mut self, length: usize) -> Result<(), Fault> {
        let section = self.receive.section(length);
        let map = request::trailers(section, self.limits);
        self.receive.take_section(length);
        match map.and_then(|map| self.put_trailers(&map).map_err(Broken::Stopped)) {
            Ok(()) => Ok(()),
            Err(Broken::Stopped(reject)) => Err(self.body_fault(Wrong::Reject(reject))),
            Err(Broken::Coding) => {
                let wrong = Wrong::Connection(Code::DECOMPRESSION_FAILED, CODING);
                Err(self.body_fault(wrong))
            }
        }
    }

    fn put_trailers(&mut self, map: &HeaderMap) -> Result<(), Reject> {
        for (name, value) in map {
            check_field(name, value)?;
            let name = name.as_str().as_bytes();
            if !is_forbidden_trailer(Known::of(name), name) {
                self.trailers.push(name, value.as_bytes());
            }
        }
        self.has_trailers = !self.trailers.is_empty();
        Ok(())
    }

    /// Waits for data of the body, or of the tunnel.
    pub(super) fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Fault>> {
        loop {
            match self.reading {
                Reading::Done => return Poll::Ready(Ok(false)),
                Reading::Failed(fault) => return Poll::Ready(Err(fault)),
                Reading::Open => {}
            }
            match ready!(self.receive.poll_next(cx, &self.blocks)) {
                Ok(Next::Data) => return Poll::Ready(Ok(true)),
                Ok(Next::Section(_)) if self.is_tunnel => {
                    // RFC 9114 section 4.4.
                    let wrong = Wrong::Connection(Code::FRAME_UNEXPECTED, "HEADERS in a tunnel");
                    return Poll::Ready(Err(self.body_fault(wrong)));
                }
                Ok(Next::Section(length)) => self.take_trailers(length)?,
                Ok(Next::End) => {
                    self.reading = Reading::Done;
                    self.unfinished = None;
                }
                Err(wrong) => return Poll::Ready(Err(self.body_fault(wrong))),
            }
        }
    }
}

impl BodySource for H3Stream {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Fault>> {
        // What follows the head of a CONNECT is no body, and stays where it is until it is asked for as
        // what it is.
        match self.is_tunnel {
            true => Poll::Ready(Ok(false)),
            false => self.poll_more(cx),
        }
    }

    fn data(&self) -> &[u8] {
        self.receive.data()
    }

    fn consume(&mut self, count: usize) {
        self.receive.consume(count);
        if count > 0 {
            self.set_stalled(false);
        }
        self.shared.took(count);
    }

    fn trailers(&mut self) -> Option<&mut Fields> {
        self.has_trailers.then_some(&mut self.trailers)
    }
}
