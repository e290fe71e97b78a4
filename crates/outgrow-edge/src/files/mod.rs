//! Static files: which file a request means, whether the client has it already, and sending it.
//!
//! Everything that touches a file system is done by threads of a pool: a disk or a network file
//! system that hangs holds a request, and no worker. Deliberately not here: lists of directories,
//! `multipart/byteranges`, uploads, and `sendfile`, which TLS, HTTP/2 and compression have no use for.

mod body;
mod cache;
mod conditions;
mod head;
mod lookup;
mod media;
mod open;
mod open_files;
mod place;
mod range;

use std::future::poll_fn;
use std::ops::Range;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use outgrow_core::{Cause, Fault, Phase};
use outgrow_message::{Known, RequestHead, ResponseHead};
use outgrow_net::Timer;

use self::cache::Cache;
use self::lookup::{Content, Folder, Found, Wanted};
use self::open::Missing;
use self::place::Place;
use crate::compress::negotiate;
use crate::pool::Owner;
use crate::settings::{ContentCoding, FilesSettings};
use crate::worker::{Shared, Worker};

pub(crate) use self::body::FileBody;
pub(crate) use self::conditions::is_conditional;
pub(crate) use self::head::{Answer, canonical, with_slash};
pub use self::open_files::OpenFiles;
pub(crate) use self::open_files::Owners;

/// The type of a file with this name.
pub(crate) fn type_of_name(name: &[u8]) -> &'static str {
    let extension = media::extension(name);
    let known = extension.and_then(|extension| media::type_of(&extension));
    known.unwrap_or(media::UNKNOWN)
}

/// Threads that read files. They mostly wait.
pub(crate) const THREADS: usize = 8;
/// Those that one directory has at a time: where its file system hangs the others have theirs.
pub(crate) const SHARE: usize = THREADS / 2;
/// Requests that wait for one of them; above it they get 503.
pub(crate) const WAITING: usize = 1_024;
/// How long a file system may take to say whether there is a file.
const PATIENCE: Duration = Duration::from_secs(10);

/// The methods that files know.
pub(crate) const METHODS: &[u8] = b"GET, HEAD";

/// A directory whose files are sent, compiled.
#[derive(Debug)]
pub struct FilePlan {
    settings: FilesSettings,
    folder: Arc<Folder>,
    cache: Cache,
    owner: Owner,
}

impl FilePlan {
    /// Compiles what a route says. Its directory is read by the share of threads that it had before.
    pub fn new(settings: &FilesSettings, shared: &Shared) -> Self {
        let bytes = |path: &crate::settings::FilePath| path.as_str().as_bytes().to_vec();
        Self {
            folder: Arc::new(Folder {
                path: settings.dir.clone(),
                symlinks: settings.symlinks,
                index: settings.index.iter().map(bytes).collect(),
                fallback: settings.fallback.as_ref().map(bytes),
            }),
            settings: settings.clone(),
            cache: Cache::default(),
            owner: shared.directories.of(&settings.dir),
        }
    }

    /// What a request wants, whose path may have been rewritten; none when it can be no file.
    fn wanted(&self, request: &RequestHead) -> Option<Wanted> {
        let path = match request.rewritten_path {
            Some(path) => request.text(path),
            None => request.path(),
        };
        let place = Place::of(path, self.settings.hidden)?;
        let or_fallback =
            self.folder.fallback.is_some() && (!place.has_extension() || accepts_html(request));
        Some(Wanted {
            codings: self.codings(request),
            or_fallback,
            place,
        })
    }

    /// The codings that may lie beside a file, the one first that the client likes best.
    fn codings(&self, request: &RequestHead) -> Vec<ContentCoding> {
        let mut offered = self.settings.precompressed.clone();
        let mut wanted = Vec::new();
        while !offered.is_empty() {
            let values = request.fields.values(Known::AcceptEncoding);
            let Some(coding) = negotiate(values, &offered) else {
                break;
            };
            offered.retain(|other| *other != coding);
            wanted.push(coding);
        }
        wanted
    }

    /// Finds what a request asks for.
    ///
    /// # Errors
    /// What there is no file for, with its reason.
    pub(crate) async fn find(
        &self,
        request: &RequestHead,
        worker: &Worker,
        timer: &mut Timer,
    ) -> Result<Answer, Fault> {
        let fault = |cause| Fault::outgrow(Phase::Route, cause);
        if place::is_overescaped(request.path()) {
            return Ok(Answer::Overescaped);
        }
        let Some(wanted) = self.wanted(request) else {
            return Err(fault(Cause::NoFile));
        };
        let now = worker.now();
        if let Some(content) = self.cache.get(&wanted, now) {
            return Ok(Answer::File(content));
        }
        let folder = Arc::clone(&self.folder);
        let ledger = Arc::clone(&worker.shared.ledger);
        let job = wanted.clone();
        let files = &worker.shared.files;
        let submitted = files.submit(&self.owner, move || folder.find(&job, &ledger));
        let Ok(ticket) = submitted else {
            return Err(fault(Cause::Overload));
        };
        timer.set(now + PATIENCE);
        let found = poll_fn(|cx| match ticket.poll(cx) {
            Poll::Ready(found) => Poll::Ready(found),
            Poll::Pending => timer.poll(cx, worker.now()).map(|()| None),
        });
        let found = found.await.ok_or(fault(Cause::FileFailed))?;
        self.cache.put(&wanted, &found, now, &worker.shared.ledger);
        match found {
            Found::File(content) => Ok(Answer::File(content)),
            Found::LacksSlash => Ok(Answer::LacksSlash),
            Found::Missing(missing) => Err(fault(match missing {
                Missing::Absent | Missing::Directory => Cause::NoFile,
                Missing::Forbidden => Cause::FileForbidden,
                Missing::Overload => Cause::Overload,
                Missing::Failed => Cause::FileFailed,
            })),
        }
    }

    /// Whose work it is to read its files.
    pub(crate) fn owner(&self) -> &Owner {
        &self.owner
    }

    /// Writes the head of an answer with a file at a moment, in seconds since 1970; which bytes follow.
    /// `is_coded` says of the head of the whole file whether that would be compressed on its way.
    pub(crate) fn write_head(
        &self,
        content: &Content,
        request: &RequestHead,
        head: &mut ResponseHead,
        (moment, is_coded): (u64, impl FnOnce(&ResponseHead) -> bool),
    ) -> Range<u64> {
        let validators = content.validators.at(moment);
        head::write(
            &self.settings,
            content,
            &validators,
            (request, is_coded),
            head,
        )
    }
}

/// Whether a browser asks for a page: not just for anything.
fn accepts_html(request: &RequestHead) -> bool {
    let mut values = request.fields.values(Known::Accept);
    values.any(|value| {
        value
            .windows(9)
            .any(|part| part.eq_ignore_ascii_case(b"text/html"))
    })
}
