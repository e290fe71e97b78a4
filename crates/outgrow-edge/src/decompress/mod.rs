//! Decompression of requests' bodies, for endpoints that take plain ones: what is said in the head, and
//! the body itself, within bounds.
//!
//! Deliberately not here: responses that endpoints have compressed. They go to who asked for them so.

mod codec;
mod hold;
mod inflater;
pub mod inspect;

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::task::{Context, Poll};

use outgrow_core::{Cause, Fault, Phase, Ticks};
use outgrow_message::fields::list_members;
use outgrow_message::{BodyLength, BodySource, Fields, Known, RequestHead};

use self::inflater::{Bounds, Inflater};
use crate::compress::remove_digests;
use crate::settings::{DecompressSettings, RequestCoding};
use crate::worker::Worker;

/// What the decompression of one request's body is about. It outlives an attempt: what was taken from
/// the client and not sent yet belongs to the next one.
#[derive(Debug, Default)]
pub(crate) struct Decompressing {
    coding: Option<RequestCoding>,
    inflater: Option<Box<Inflater>>,
}

/// Why a body is not taken, with the words for who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) fault: Fault,
    pub(crate) detail: &'static str,
}

impl Decompressing {
    /// Forgets the last exchange.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Looks at the head of a request, and changes it if its body is to be decompressed; `body_limit`
    /// is the largest one that may be sent, and `client` says by whom: all whom it cannot tell apart are one.
    ///
    /// # Errors
    /// Its coding is not taken.
    pub(crate) fn begin(
        &mut self,
        settings: &DecompressSettings,
        request: &mut RequestHead,
        body_limit: Option<u64>,
        worker: &Worker,
        client: impl FnOnce(&RequestHead) -> IpAddr,
    ) -> Result<(), Refused> {
        let coding = coding_of(settings, request)?;
        let Some(coding) = coding else {
            return Ok(());
        };
        let bounds = Bounds {
            coded: body_limit,
            plain: settings.max_size.bytes(),
            ratio: settings.max_ratio.into(),
            window: settings.max_window.bytes(),
        };
        let inflater = Inflater::new(&worker.desk, (coding, bounds), client(request));
        self.coding = Some(coding);
        self.inflater = Some(inflater);
        rewrite(request);
        Ok(())
    }

    /// How the body was compressed, and its bytes as they were sent and as they became; none where it is
    /// not decompressed.
    pub(crate) fn told(&self) -> Option<(RequestCoding, u64, u64)> {
        let (coded, plain) = self.inflater.as_ref()?.totals();
        Some((self.coding?, coded, plain))
    }

    /// What was wrong with the body; empty when nothing was.
    pub(crate) fn detail(&self) -> &'static str {
        self.inflater
            .as_ref()
            .map_or("", |inflater| inflater.detail())
    }

    /// What of ours the body waits for, as the cause that it is when that takes too long; none where it is the
    /// client that is waited for.
    pub(crate) fn waits_for(&self) -> Option<Cause> {
        self.inflater.as_ref()?.waits_for()
    }

    /// Until when it waits for room at most; none where it does not. Neither what the client has sent meanwhile nor
    /// what the endpoint says is a reason to wait for longer.
    pub(crate) fn room_until(&self) -> Option<Ticks> {
        self.inflater.as_ref()?.room_until()
    }

    /// Whether nothing of the body is read until others let go of something.
    pub(crate) fn is_stalled(&self) -> bool {
        let inflater = self.inflater.as_ref();
        inflater.is_some_and(|inflater| inflater.is_stalled())
    }

    /// An attempt has ended, and nobody asks for more of the body until there is another one: nobody waits for it,
    /// and it waits for nothing.
    pub(crate) fn rest(&mut self) {
        if let Some(inflater) = &mut self.inflater {
            inflater.rest();
        }
    }

    /// Nobody asks for more of the body: gives back what is held for it. What is known of it stays.
    pub(crate) fn close(&mut self) {
        if let Some(inflater) = &mut self.inflater {
            inflater.close();
        }
    }

    /// Waits for bytes of the body (true) or its end (false).
    #[inline]
    pub(crate) fn poll_data<D: BodySource>(
        &mut self,
        cx: &mut Context<'_>,
        down: &mut D,
    ) -> Poll<Result<bool, Fault>> {
        match &mut self.inflater {
            None => down.poll_data(cx),
            Some(inflater) => inflater.poll_data(cx, down),
        }
    }

    /// The bytes that are there.
    #[inline]
    pub(crate) fn data<'a, D: BodySource>(&'a self, down: &'a D) -> &'a [u8] {
        match &self.inflater {
            None => down.data(),
            Some(inflater) => inflater.data(),
        }
    }

    /// Passes over what was taken of them.
    #[inline]
    pub(crate) fn consume<D: BodySource>(&mut self, down: &mut D, count: usize) {
        match &mut self.inflater {
            None => down.consume(count),
            Some(inflater) => inflater.consume(count),
        }
    }

    /// What follows the body.
    pub(crate) fn trailers<'a, D: BodySource>(&self, down: &'a mut D) -> Option<&'a mut Fields> {
        let mut trailers = down.trailers();
        if let (Some(trailers), true) = (&mut trailers, self.inflater.is_some()) {
            remove_digests(trailers);
        }
        trailers
    }
}

/// How a request's body is compressed; none where it is not, or there is none.
fn coding_of(
    settings: &DecompressSettings,
    request: &RequestHead,
) -> Result<Option<RequestCoding>, Refused> {
    if request.length.is_empty() || !request.fields.may_have(Known::ContentEncoding) {
        return Ok(None);
    }
    // Nobody should say `identity` here, and it means nothing (RFC 9110 section 8.4).
    let mut said = list_members(request.fields.values(Known::ContentEncoding))
        .filter(|coding| !coding.eq_ignore_ascii_case(b"identity"));
    let Some(name) = said.next() else {
        return Ok(None);
    };
    if said.next().is_some() {
        return Err(unsupported("it has more than one"));
    }
    let coding = settings.codings.iter().copied().find(|coding| {
        let is_old = *coding == RequestCoding::Gzip && name.eq_ignore_ascii_case(b"x-gzip");
        is_old || name.eq_ignore_ascii_case(coding.as_str().as_bytes())
    });
    let coding = coding.ok_or_else(|| unsupported("it is not among those that are taken"))?;
    if request.fields.get_named(b"Content-Range").is_some() {
        // Of what is compressed (RFC 9110 section 14.5).
        return Err(unsupported("a part cannot be decompressed"));
    }
    Ok(Some(coding))
}

fn unsupported(detail: &'static str) -> Refused {
    Refused {
        fault: Fault::client(Phase::RequestBody, Cause::UnsupportedCoding),
        detail,
    }
}

/// Makes the head that of the plain body.
fn rewrite(request: &mut RequestHead) {
    let fields = &mut request.fields;
    fields.remove(Known::ContentEncoding);
    // What it is becomes known as it comes.
    fields.remove(Known::ContentLength);
    remove_digests(fields);
    request.length = BodyLength::Unknown;
}

/// The codings that are taken, as `Accept-Encoding` of an answer tells them (RFC 9110 section 12.5.3).
pub(crate) fn accepted(settings: &DecompressSettings) -> String {
    let names: Vec<&str> = settings
        .codings
        .iter()
        .map(|coding| coding.as_str())
        .collect();
    names.join(", ")
}
