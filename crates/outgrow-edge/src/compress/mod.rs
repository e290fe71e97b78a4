//! Compression of responses: who gets which coding, what may be compressed, and the work itself.
//!
//! Deliberately not here: decompression (`decompress/`), and our
//! own short answers, which are smaller than what is worth it.

mod accept;
mod codec;
mod eligible;
mod encoder;
mod room;
mod shelf;
mod tags;
mod turns;

#[cfg(test)]
mod tests;

use std::task::{Context, Poll};

use outgrow_core::Fault;
use outgrow_http::Downstream;
use outgrow_message::{BodyLength, Fields, Known, Method, RequestHead, ResponseHead};

use self::codec::Manner;
use self::encoder::Encoder;
use crate::settings::{CompressSettings, ContentCoding};
use crate::worker::Worker;

pub(crate) use self::accept::negotiate;
pub(crate) use self::eligible::{is_grpc, remove_digests};
pub(crate) use self::room::Held;
pub(crate) use self::shelf::Shelf;
pub(crate) use self::turns::{Desk, Errand, Go, Turns};

/// What the compression of one response is about: from its request to its record.
#[derive(Debug, Default)]
pub(crate) struct Compressing {
    /// What the request asks for; none where nothing is compressed.
    ask: Option<Ask>,
    encoder: Option<Box<Encoder>>,
    /// Whether the response as a whole could be compressed, where that is known whatever its head says.
    whole: Option<bool>,
    /// What came of it.
    pub(crate) told: Told,
}

/// What a request says about compression.
#[derive(Debug)]
struct Ask {
    coding: Option<ContentCoding>,
    /// The tags of the endpoint's that it is asked about instead of ours.
    restored: Vec<tags::Restored>,
    /// Whether it names a tag that it has, ours or not.
    names_tags: bool,
}

/// What is told of a compressed response.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told {
    /// How it was compressed; none when it was not.
    pub(crate) coding: Option<ContentCoding>,
    /// Whether it was not for want of memory.
    pub(crate) lacked_memory: bool,
}

impl Compressing {
    /// Forgets the last exchange.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Reads what a request asks for, and gives the endpoint its own tags back. To be called before
    /// anything else is changed in it.
    pub(crate) fn ask(&mut self, settings: Option<&CompressSettings>, request: &mut RequestHead) {
        self.clear();
        let Some(settings) = settings else {
            return;
        };
        if is_grpc(&request.fields) {
            return;
        }
        let accepted = request.fields.values(Known::AcceptEncoding);
        let coding = negotiate(accepted, &settings.codings)
            .filter(|_| !eligible::says_no_transform(&request.fields));
        let takes = |fields: &Fields, coding: ContentCoding| {
            negotiate(fields.values(Known::AcceptEncoding), &[coding]).is_some()
                && !eligible::says_no_transform(fields)
        };
        let restored = tags::restore(request, takes);
        let names_tags = tags::names_any(&request.fields);
        self.ask = Some(Ask {
            coding,
            restored,
            names_tags,
        });
    }

    /// Takes a `Range` out of the request that could bring the client a part of something else than it has; to be
    /// called for endpoints, which cannot know.
    pub(crate) fn drop_range(&self, request: &mut RequestHead) {
        if let Some(ask) = &self.ask {
            tags::drop_range(request, ask.coding.is_some());
        }
    }

    /// Takes note of what the response would be as a whole, for a head that says less; whether it would be
    /// compressed for this client.
    pub(crate) fn foresee(
        &mut self,
        settings: Option<&CompressSettings>,
        whole: &ResponseHead,
        method: Method,
    ) -> bool {
        let (Some(settings), Some(ask)) = (settings, &self.ask) else {
            return false;
        };
        let is_eligible = eligible::is_eligible(settings, whole, method);
        self.whole = Some(is_eligible);
        is_eligible && ask.coding.is_some()
    }

    /// Looks at the head of a response that is about to be sent to a request of `method`, and
    /// changes it if the response is to be compressed; what its length is then.
    pub(crate) fn begin(
        &mut self,
        settings: Option<&CompressSettings>,
        head: &mut ResponseHead,
        method: Method,
        worker: &Worker,
    ) -> BodyLength {
        if let (Some(settings), Some(ask)) = (settings, self.ask.take()) {
            self.decide(settings, &ask, head, method, worker);
        }
        match self.encoder {
            Some(_) => BodyLength::Unknown,
            None => head.length,
        }
    }

    fn decide(
        &mut self,
        settings: &CompressSettings,
        ask: &Ask,
        head: &mut ResponseHead,
        method: Method,
        worker: &Worker,
    ) {
        if matches!(head.status, 206 | 304) {
            self.describe(settings, ask, head);
            return;
        }
        if !eligible::is_eligible(settings, head, method) {
            return;
        }
        eligible::put_vary(&mut head.fields);
        let Some(coding) = ask.coding else {
            return;
        };
        if method != Method::Head {
            let length = match head.length {
                BodyLength::Known(bytes) => Some(bytes),
                BodyLength::Empty | BodyLength::Unknown => None,
            };
            let manner = Manner::new(coding, settings);
            self.encoder = Encoder::new(&worker.desk, manner, length);
            if self.encoder.is_none() {
                self.told.lacked_memory = true;
                return;
            }
        }
        self.told.coding = Some(coding);
        eligible::rewrite(head, method, coding);
    }

    /// A part, or that nothing has changed: says what the whole response would (RFC 9110 sections 15.3.7 and
    /// 15.4.5).
    fn describe(&self, settings: &CompressSettings, ask: &Ask, head: &mut ResponseHead) {
        let fields = &mut head.fields;
        let may_be_coded = || eligible::may_be_of_eligible(settings, fields);
        let varies = self.whole.unwrap_or_else(may_be_coded);
        let mut confirmed = None;
        if head.status == 304 {
            confirmed = tags::confirm(fields, &ask.restored, ask.coding);
            if let (false, Some(true), Some(coding)) = (ask.names_tags, self.whole, ask.coding) {
                // It asks by a date, or about any: a cache takes this for what the 200 would say.
                tags::weaken(fields, (Method::Get, 200), coding);
            }
        }
        if varies || confirmed.is_some() {
            eligible::put_vary(fields);
        }
        if head.status == 304 && (confirmed.is_some() || varies && ask.coding.is_some()) {
            // The length of other bytes (RFC 9110 section 8.6).
            fields.remove(Known::ContentLength);
        }
    }

    /// Bytes that the compressor took and gave; none when nothing was compressed.
    pub(crate) fn bytes(&self) -> Option<(u64, u64)> {
        self.encoder.as_ref().map(|encoder| encoder.totals())
    }

    /// Takes some of `data`, which is not empty, for the client; how much.
    #[inline]
    pub(crate) fn poll_push<D: Downstream>(
        &mut self,
        cx: &mut Context<'_>,
        down: &mut D,
        data: &[u8],
    ) -> Poll<Result<usize, Fault>> {
        match &mut self.encoder {
            None => down.poll_push(cx, data),
            Some(encoder) => encoder.poll_push(cx, down, data),
        }
    }

    /// The source pauses: readies what it gave so far to be flushed to the client.
    #[inline]
    pub(crate) fn poll_pause<D: Downstream>(
        &mut self,
        cx: &mut Context<'_>,
        down: &mut D,
    ) -> Poll<Result<(), Fault>> {
        match &mut self.encoder {
            None => Poll::Ready(Ok(())),
            Some(encoder) => encoder.poll_pause(cx, down),
        }
    }

    /// The source has ended: gives the client what is left. Then the response can be finished.
    #[inline]
    pub(crate) fn poll_finish<D: Downstream>(
        &mut self,
        cx: &mut Context<'_>,
        down: &mut D,
    ) -> Poll<Result<(), Fault>> {
        match &mut self.encoder {
            None => Poll::Ready(Ok(())),
            Some(encoder) => encoder.poll_finish(cx, down),
        }
    }
}
