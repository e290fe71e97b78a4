//! Where a request's response goes.

use std::task::{Context, Poll, ready};

use outgrow_core::{Cause, Fault, Phase};
use outgrow_message::{BodyLength, Fields, Method, ResponseHead};

use super::super::response;
use super::super::send::NotSent;
use super::{H3Stream, PRIORITY, Reading, Sending, gone};
use crate::downstream::{Downstream, Tunnel, told_length};

fn not_sent(why: NotSent) -> Fault {
    match why {
        NotSent::Ended => gone(Phase::ResponseBody),
        NotSent::Memory => Fault::outgrow(Phase::ResponseBody, Cause::MemoryLimit),
    }
}

impl Downstream for H3Stream {
    fn interim(&mut self, head: &ResponseHead) -> Result<(), Fault> {
        if !self.has_responded() {
            let mut frames = Vec::new();
            response::put_head(head.status, head, None, &mut frames);
            self.out.put(frames);
        }
        Ok(())
    }

    fn respond(
        &mut self,
        head: &ResponseHead,
        length: BodyLength,
        method: Method,
    ) -> Result<(), Fault> {
        if self.is_tunnel && (200..300).contains(&head.status) {
            // To the client it would say that the tunnel is open. Nobody is to blame: who does not know
            // the protocol that a client asks for answers as to any other request.
            let cause = Cause::UpstreamBadResponse;
            return Err(Fault::outgrow(Phase::ResponseHead, cause));
        }
        let told = told_length(head, length, method);
        let own = head.fields.iter();
        let own = own.filter(|(_, name, _)| name.eq_ignore_ascii_case(PRIORITY.as_bytes()));
        let own = own.map(|(_, _, value)| value);
        self.out.prioritise(own);
        let mut frames = Vec::new();
        response::put_head(head.status, head, told, &mut frames);
        self.sending = Sending::Body;
        self.out.put(frames);
        if ResponseHead::never_has_body(head.status, method) || length.is_empty() {
            self.sending = Sending::Ended;
            self.out.end();
        }
        Ok(())
    }

    fn poll_push(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Fault>> {
        if self.sending != Sending::Body {
            return Poll::Ready(Err(gone(Phase::ResponseBody)));
        }
        let pushed = ready!(self.out.poll_push(cx, data, &self.blocks));
        Poll::Ready(pushed.map_err(not_sent))
    }

    fn finish(&mut self, trailers: Option<&Fields>) -> Result<(), Fault> {
        if self.sending != Sending::Body {
            return Ok(());
        }
        if let Some(trailers) = trailers {
            let mut frames = Vec::new();
            response::put_trailers(trailers, &mut frames);
            self.out.put(frames);
        }
        self.sending = Sending::Ended;
        self.out.end();
        Ok(())
    }

    /// What was pushed is with the connection, which holds a bounded part of it as a socket would.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let flushed = ready!(self.out.poll_flush(cx));
        if self.is_tunnel {
            // It is long only while its endpoint goes on without a pause: it may last for days.
            self.out.pause();
        }
        Poll::Ready(flushed.map_err(not_sent))
    }

    fn written(&self) -> u64 {
        self.out.written()
    }

    fn abort(&mut self) {
        if self.sending == Sending::Nothing {
            // A reset that nobody has asked for yet is noted before our own hides it.
            self.is_gone();
        }
        if !self.out.has_ended() {
            self.out.reset(self.abort_code());
        }
        self.sending = Sending::Ended;
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Fault> {
        if self.out.has_ended() {
            return Poll::Pending;
        }
        let stream = &self.out.stream;
        let stopped = self
            .stopped
            .get_or_insert_with(|| Box::pin(stream.stopped()));
        let stopped = ready!(stopped.as_mut().poll(cx));
        self.stopped = None;
        if matches!(stopped, Ok(None)) {
            return Poll::Pending;
        }
        self.reset_early |= !self.has_responded();
        Poll::Ready(gone(Phase::ResponseHead))
    }

    fn has_responded(&self) -> bool {
        self.sending != Sending::Nothing
    }

    fn settle(&mut self, _: &mut Context<'_>) {
        // A tunnel's bytes are not what others wait behind.
        if self.unfinished.is_some() && !self.is_tunnel && self.reading == Reading::Open {
            self.set_stalled(true);
            self.shared.fit_stalled();
        }
    }

    fn detail(&self) -> &'static str {
        self.detail
    }
}

/// Of an extended CONNECT (RFC 9220): the stream's data are the tunnel's, and 200 says what 101 says in
/// HTTP/1.1.
impl Tunnel for H3Stream {
    fn switch(&mut self, head: &ResponseHead, _: &[u8]) -> Result<(), Fault> {
        if !self.is_tunnel {
            return Err(Fault::outgrow(Phase::Tunnel, Cause::NotImplemented));
        }
        let mut frames = Vec::new();
        response::put_head(200, head, None, &mut frames);
        self.sending = Sending::Body;
        self.out.put(frames);
        if let Some(unfinished) = &mut self.unfinished {
            unfinished.be_tunnel();
        }
        Ok(())
    }

    fn poll_tunnel_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Fault>> {
        self.poll_more(cx)
    }

    fn poll_unwanted(&mut self, cx: &mut Context<'_>) -> Poll<Fault> {
        self.poll_gone(cx).map(|_| gone(Phase::Tunnel))
    }

    fn can_tunnel(&self) -> bool {
        self.is_tunnel
    }
}
