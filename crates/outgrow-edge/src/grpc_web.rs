//! gRPC-Web (PROTOCOL-WEB.md of the gRPC project): a client that sees no trailers, a browser, is shown
//! them as a last frame of the body; to the endpoint the call is gRPC. In its text form the bodies are
//! base64 both ways. Messages pass as they are. Not here: CORS, which is `response_headers`' to say.

use std::task::{Context, Poll, ready};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use outgrow_core::{Cause, Fault, Phase};
use outgrow_http::Downstream;
use outgrow_http::grpc::{self, Kind};
use outgrow_message::{BodyLength, BodySource, Fields, Known, Method, RequestHead, ResponseHead};

/// Bytes of a body that are decoded or encoded at a time: of both forms a whole number of groups.
const PIECE: usize = 12 * 1024;
/// The flag of a frame with trailers.
const TRAILERS: u8 = 0x80;

/// Makes gRPC of the head of a request of gRPC-Web; its kind, or none when it is none.
pub(crate) fn take(request: &mut RequestHead) -> Option<Kind> {
    if request.method != Method::Post {
        return None;
    }
    let (kind, encoding) = grpc::kind(&request.fields)?;
    if kind == Kind::Grpc {
        return None;
    }
    let content_type = [Kind::Grpc.content_type(), encoding].concat();
    request.fields.remove(Known::ContentType);
    request.fields.push(b"Content-Type", &content_type);
    request.takes_trailers = true;
    if kind == Kind::WebText && !request.length.is_empty() {
        // Its length is not known before it is decoded.
        request.fields.remove(Known::ContentLength);
        request.length = BodyLength::Unknown;
    }
    Some(kind)
}

/// How far a request's body is decoded. It outlives an attempt: what was taken from the client and not
/// sent yet belongs to the next one.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// Decoded bytes, and how many of them were taken.
    decoded: Vec<u8>,
    taken: usize,
    /// Characters of a group that is not whole yet.
    group: Vec<u8>,
}

impl Decoder {
    fn is_empty(&self) -> bool {
        self.taken == self.decoded.len()
    }

    /// Decodes `data`, all decoded bytes having been taken; a group that is not whole waits.
    fn decode(&mut self, data: &[u8]) -> Result<(), Fault> {
        self.decoded.clear();
        self.taken = 0;
        self.group.extend_from_slice(data);
        let whole = self.group.len() / 4 * 4;
        let mut rest = &self.group[..whole];
        while !rest.is_empty() {
            // Each segment may end with its own padding.
            let padding = rest.iter().position(|&byte| byte == b'=');
            let length = padding.map_or(rest.len(), |at| (at / 4 + 1) * 4);
            let (segment, more) = rest.split_at(length);
            STANDARD
                .decode_vec(segment, &mut self.decoded)
                .map_err(|_| Fault::client(Phase::RequestBody, Cause::BadFraming))?;
            rest = more;
        }
        self.group.drain(..whole);
        Ok(())
    }
}

/// The client's side of a call of gRPC-Web, seen from a gRPC endpoint.
#[derive(Debug)]
pub(crate) struct Web<'a, D> {
    down: &'a mut D,
    is_text: bool,
    kind: Kind,
    /// The response is no gRPC and passes as it is.
    passes: bool,
    decoder: &'a mut Decoder,
    /// Bytes that wait for a group of three.
    odd: Vec<u8>,
    /// What the client is to get, and how much of it was pushed.
    ready: Vec<u8>,
    pushed: usize,
    /// All of the response is in `ready`.
    ending: bool,
    ended: bool,
}

impl<'a, D: Downstream> Web<'a, D> {
    pub(crate) fn new(down: &'a mut D, kind: Kind, decoder: &'a mut Decoder) -> Self {
        Self {
            down,
            is_text: kind == Kind::WebText,
            kind,
            passes: false,
            decoder,
            odd: Vec::new(),
            ready: Vec::new(),
            pushed: 0,
            ending: false,
            ended: false,
        }
    }

    /// Puts bytes of the response, as they are or in base64, into what the client is to get.
    fn encode(&mut self, mut data: &[u8]) {
        if !self.is_text {
            self.ready.extend_from_slice(data);
            return;
        }
        if !self.odd.is_empty() {
            let missing = (3 - self.odd.len()).min(data.len());
            self.odd.extend_from_slice(&data[..missing]);
            data = &data[missing..];
            if self.odd.len() < 3 {
                return;
            }
            let group = std::mem::take(&mut self.odd);
            self.put_base64(&group);
        }
        let whole = data.len() / 3 * 3;
        self.put_base64(&data[..whole]);
        self.odd.extend_from_slice(&data[whole..]);
    }

    fn put_base64(&mut self, bytes: &[u8]) {
        self.ready
            .extend_from_slice(STANDARD.encode(bytes).as_bytes());
    }

    /// Ends a segment: what follows begins another one.
    fn pad(&mut self) {
        if !self.odd.is_empty() {
            let odd = std::mem::take(&mut self.odd);
            self.put_base64(&odd);
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        while self.pushed < self.ready.len() {
            self.pushed += ready!(self.down.poll_push(cx, &self.ready[self.pushed..]))?;
        }
        self.ready.clear();
        self.pushed = 0;
        Poll::Ready(Ok(()))
    }
}

impl<D: Downstream> BodySource for Web<'_, D> {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Fault>> {
        if !self.is_text {
            return self.down.poll_data(cx);
        }
        while self.decoder.is_empty() {
            match ready!(self.down.poll_data(cx))? {
                true => {
                    let data = self.down.data();
                    let count = data.len().min(PIECE);
                    self.decoder.decode(&data[..count])?;
                    self.down.consume(count);
                }
                false if self.decoder.group.is_empty() => return Poll::Ready(Ok(false)),
                false => {
                    let fault = Fault::client(Phase::RequestBody, Cause::BadFraming);
                    return Poll::Ready(Err(fault));
                }
            }
        }
        Poll::Ready(Ok(true))
    }

    fn data(&self) -> &[u8] {
        match self.is_text {
            true => &self.decoder.decoded[self.decoder.taken..],
            false => self.down.data(),
        }
    }

    fn consume(&mut self, count: usize) {
        match self.is_text {
            true => {
                let decoder = &mut *self.decoder;
                decoder.taken = (decoder.taken + count).min(decoder.decoded.len());
            }
            false => self.down.consume(count),
        }
    }

    fn trailers(&mut self) -> Option<&mut Fields> {
        self.down.trailers()
    }
}

impl<D: Downstream> Downstream for Web<'_, D> {
    fn interim(&mut self, head: &ResponseHead) -> Result<(), Fault> {
        self.down.interim(head)
    }

    fn respond(
        &mut self,
        head: &ResponseHead,
        length: BodyLength,
        method: Method,
    ) -> Result<(), Fault> {
        let Some((Kind::Grpc, encoding)) = grpc::kind(&head.fields) else {
            self.passes = true;
            return self.down.respond(head, length, method);
        };
        let mut head = head.clone();
        let content_type = [self.kind.content_type(), encoding].concat();
        head.fields.remove(Known::ContentType);
        head.fields.remove(Known::ContentLength);
        head.fields.push(b"Content-Type", &content_type);
        // One that ends with its head has the status there, where the client sees it.
        self.passes = length == BodyLength::Empty;
        let length = match self.passes {
            true => BodyLength::Empty,
            false => BodyLength::Unknown,
        };
        self.down.respond(&head, length, method)
    }

    fn poll_push(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Fault>> {
        if self.passes {
            return self.down.poll_push(cx, data);
        }
        ready!(self.poll_ready(cx))?;
        let count = data.len().min(PIECE);
        self.encode(&data[..count]);
        Poll::Ready(Ok(count))
    }

    fn finish(&mut self, trailers: Option<&Fields>) -> Result<(), Fault> {
        if self.passes {
            return self.down.finish(trailers);
        }
        let mut text = Vec::new();
        for (_, name, value) in trailers.into_iter().flat_map(Fields::iter) {
            text.extend(name.iter().map(u8::to_ascii_lowercase));
            text.extend_from_slice(b": ");
            text.extend_from_slice(value);
            text.extend_from_slice(b"\r\n");
        }
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        self.encode(&[TRAILERS]);
        self.encode(&length.to_be_bytes());
        self.encode(&text);
        self.ending = true;
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        if !self.passes {
            // Whoever waits for more of it has to see what there is.
            self.pad();
            ready!(self.poll_ready(cx))?;
            if self.ending && !self.ended {
                self.ended = true;
                self.down.finish(None)?;
            }
        }
        self.down.poll_flush(cx)
    }

    fn has_end(&self) -> bool {
        self.passes || self.ended
    }

    fn written(&self) -> u64 {
        self.down.written()
    }

    fn abort(&mut self) {
        self.down.abort();
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Fault> {
        self.down.poll_gone(cx)
    }

    fn is_half_closed(&self) -> bool {
        self.down.is_half_closed()
    }

    fn has_responded(&self) -> bool {
        self.down.has_responded()
    }

    fn close_after(&mut self) {
        self.down.close_after();
    }

    fn respond_without_memory(&mut self) -> bool {
        self.down.respond_without_memory()
    }

    fn settle(&mut self, cx: &mut Context<'_>) {
        self.down.settle(cx);
    }

    fn detail(&self) -> &'static str {
        self.down.detail()
    }
}

#[cfg(test)]
mod tests {
    use outgrow_core::Random;

    use super::*;

    /// A client whose connection takes nothing for now.
    #[derive(Default)]
    struct Slow {
        takes: bool,
        came: Vec<u8>,
        finished: bool,
    }

    impl BodySource for Slow {
        fn poll_data(&mut self, _: &mut Context<'_>) -> Poll<Result<bool, Fault>> {
            Poll::Ready(Ok(false))
        }

        fn data(&self) -> &[u8] {
            &[]
        }

        fn consume(&mut self, _: usize) {}

        fn trailers(&mut self) -> Option<&mut Fields> {
            None
        }
    }

    impl Downstream for Slow {
        fn interim(&mut self, _: &ResponseHead) -> Result<(), Fault> {
            Ok(())
        }

        fn respond(&mut self, _: &ResponseHead, _: BodyLength, _: Method) -> Result<(), Fault> {
            Ok(())
        }

        fn poll_push(&mut self, _: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Fault>> {
            if !self.takes {
                return Poll::Pending;
            }
            self.came.extend_from_slice(data);
            Poll::Ready(Ok(data.len()))
        }

        fn finish(&mut self, _: Option<&Fields>) -> Result<(), Fault> {
            self.finished = true;
            Ok(())
        }

        fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
            match self.takes {
                true => Poll::Ready(Ok(())),
                false => Poll::Pending,
            }
        }

        fn written(&self) -> u64 {
            self.came.len() as u64
        }

        fn abort(&mut self) {}

        fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<Fault> {
            Poll::Pending
        }

        fn has_responded(&self) -> bool {
            true
        }
    }

    /// Whoever drops it before loses the trailers.
    #[test]
    fn the_end_is_with_the_client_only_when_its_trailers_are() {
        let mut decoder = Decoder::default();
        let mut down = Slow::default();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut web = Web::new(&mut down, Kind::Web, &mut decoder);
        let mut head = ResponseHead::default();
        head.fields.push(b"Content-Type", b"application/grpc");
        web.respond(&head, BodyLength::Unknown, Method::Post)
            .expect("begun");
        assert!(web.poll_push(&mut cx, b"message").is_ready());
        let mut trailers = Fields::default();
        trailers.push(b"grpc-status", b"0");
        web.finish(Some(&trailers)).expect("finished");
        assert!(web.poll_flush(&mut cx).is_pending());
        assert!(!web.has_end(), "it is still here");
        web.down.takes = true;
        assert!(web.poll_flush(&mut cx).is_ready());
        assert!(web.has_end());
        assert!(down.finished);
        assert!(down.came.starts_with(b"message"), "{:?}", down.came);
        assert!(down.came.ends_with(b"grpc-status: 0\r\n"));
    }

    /// Segments with paddings of their own, in pieces of any size.
    #[test]
    fn text_is_decoded_wherever_it_is_cut() {
        for seed in 0..500 {
            let mut random = Random::from_seed(seed);
            let mut below = |limit: usize| (random.unit() * limit as f64) as usize;
            let (mut plain, mut text) = (Vec::new(), String::new());
            for number in 0..below(6) {
                let segment = vec![number as u8; below(40)];
                text.push_str(&STANDARD.encode(&segment));
                plain.extend(segment);
            }
            let (mut decoder, mut got, mut rest) =
                (Decoder::default(), Vec::new(), text.as_bytes());
            while !rest.is_empty() {
                let (piece, more) = rest.split_at((1 + below(9)).min(rest.len()));
                decoder.decode(piece).expect("base64");
                got.extend_from_slice(&decoder.decoded);
                rest = more;
            }
            assert!(decoder.group.is_empty(), "{seed}");
            assert_eq!(got, plain, "{seed}: {text}");
        }
        for wrong in ["A===", "=AAA", "AA=A", "A\n==", "AAA!"] {
            assert!(
                Decoder::default().decode(wrong.as_bytes()).is_err(),
                "{wrong}"
            );
        }
    }
}
