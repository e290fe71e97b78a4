//! Finds the file that a request means, and reads it if it is small. Blocks: for the pool's threads.

use std::fs::{File, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use outgrow_message::Ledger;
use outgrow_message::ledger::Charge;

use super::conditions::Validators;
use super::open::{Missing, Root};
use super::open_files::OpenFile;
use super::place::Place;
use crate::settings::{ContentCoding, Symlinks};

/// Files up to this size are read at once and may be kept.
pub(super) const SMALL_BYTES: u64 = 64 * 1_024;

/// What is looked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Wanted {
    pub(super) place: Place,
    /// The codings that the client takes, the best one first.
    pub(super) codings: Vec<ContentCoding>,
    /// Whether the fallback is an answer.
    pub(super) or_fallback: bool,
}

/// Where it is looked for.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) path: PathBuf,
    pub(super) symlinks: Symlinks,
    pub(super) index: Vec<Vec<u8>>,
    pub(super) fallback: Option<Vec<u8>>,
}

/// What there is.
#[derive(Clone, Debug)]
pub(super) enum Found {
    File(Arc<Content>),
    /// A directory with an index, asked for without a slash.
    LacksSlash,
    Missing(Missing),
}

/// A file that can be sent.
#[derive(Debug)]
pub(crate) struct Content {
    /// The path by which its type is known.
    pub(super) path: Vec<u8>,
    pub(super) coding: Option<ContentCoding>,
    pub(super) is_fallback: bool,
    pub(super) length: u64,
    pub(super) validators: Validators,
    pub(super) data: Data,
}

impl Content {
    /// How the file is compressed.
    pub(crate) fn coding(&self) -> Option<&'static str> {
        self.coding.map(ContentCoding::as_str)
    }
}

/// The bytes of a file.
#[derive(Debug)]
pub(super) enum Data {
    /// All of them, for as long as somebody keeps or sends them, which the ledger counts.
    Here { bytes: Vec<u8>, _charge: Charge },
    /// To be read, as long as its mark is the same; when it is, as one of those that may be open.
    There {
        file: File,
        mark: Mark,
        open: OnceLock<OpenFile>,
    },
}

/// What changes when a file is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    length: u64,
    modified: (i64, i64),
}

impl Mark {
    fn of(metadata: &Metadata) -> Self {
        Self {
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

impl Folder {
    /// Finds what is wanted.
    pub(super) fn find(&self, wanted: &Wanted, ledger: &Arc<Ledger>) -> Found {
        let root = match Root::open(&self.path, self.symlinks) {
            Ok(root) => root,
            // The directory itself is not there, or no directory.
            Err(Missing::Absent | Missing::Directory) => return Found::Missing(Missing::Absent),
            Err(missing) => return Found::Missing(missing),
        };
        let place = &wanted.place;
        let found = match place.is_directory {
            true => self.index_of(&root, &place.path),
            false => root
                .file(&place.path)
                .map(|file| (place.path.clone(), file)),
        };
        let missing = match found {
            Ok((path, file)) => return content(&root, (path, file), wanted, false, ledger),
            Err(Missing::Directory) if self.index_of(&root, &place.path).is_ok() => {
                return Found::LacksSlash;
            }
            Err(Missing::Directory) => Missing::Absent,
            Err(missing) => missing,
        };
        if missing == Missing::Absent
            && wanted.or_fallback
            && let Some(path) = &self.fallback
            && let Ok(file) = root.file(path)
        {
            return content(&root, (path.clone(), file), wanted, true, ledger);
        }
        Found::Missing(missing)
    }

    fn index_of(&self, root: &Root, directory: &[u8]) -> Result<(Vec<u8>, File), Missing> {
        for name in &self.index {
            let path = match directory.is_empty() {
                true => name.clone(),
                false => [directory, b"/", name].concat(),
            };
            match root.file(&path) {
                Ok(file) => return Ok((path, file)),
                Err(Missing::Absent | Missing::Directory) => {}
                Err(missing) => return Err(missing),
            }
        }
        Err(Missing::Absent)
    }
}

/// The file, or one beside it that the client takes.
fn content(
    root: &Root,
    (path, file): (Vec<u8>, File),
    wanted: &Wanted,
    is_fallback: bool,
    ledger: &Arc<Ledger>,
) -> Found {
    let beside = wanted.codings.iter().find_map(|&coding| {
        let name = [&path[..], b".", suffix(coding).as_bytes()].concat();
        Some((root.file(&name).ok()?, Some(coding)))
    });
    let (file, coding) = beside.unwrap_or((file, None));
    match read(file, coding, ledger) {
        Ok((data, length, validators)) => Found::File(Arc::new(Content {
            path,
            coding,
            is_fallback,
            length,
            validators,
            data,
        })),
        Err(missing) => Found::Missing(missing),
    }
}

/// How such a file is called.
fn suffix(coding: ContentCoding) -> &'static str {
    match coding {
        ContentCoding::Zstd => "zst",
        ContentCoding::Br => "br",
        ContentCoding::Gzip => "gz",
    }
}

/// Reads a small file whole, again when it was written to in between.
fn read(
    file: File,
    coding: Option<ContentCoding>,
    ledger: &Arc<Ledger>,
) -> Result<(Data, u64, Validators), Missing> {
    let metadata_of = |file: &File| file.metadata().map_err(|_| Missing::Failed);
    for _ in 0..4 {
        let metadata = metadata_of(&file)?;
        let mark = Mark::of(&metadata);
        let validators = validators(&metadata, coding);
        if mark.length > SMALL_BYTES {
            let open = OnceLock::new();
            let data = Data::There { file, mark, open };
            return Ok((data, mark.length, validators));
        }
        let charge = ledger.charge(mark.length).ok_or(Missing::Overload)?;
        let mut bytes = vec![0; mark.length as usize];
        match file.read_exact_at(&mut bytes, 0) {
            Ok(()) if Mark::of(&metadata_of(&file)?) == mark => {
                let data = Data::Here {
                    bytes,
                    _charge: charge,
                };
                return Ok((data, mark.length, validators));
            }
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {}
            Err(_) => return Err(Missing::Failed),
        }
    }
    Err(Missing::Failed)
}

/// Tag and date of a file. Its time of change and its length make the tag, as with nginx: the same on
/// every machine to which the file was copied with its time. Images and archives that are made
/// reproducible give all files the time 0 or 1: that says nothing, so there is neither.
fn validators(metadata: &Metadata, coding: Option<ContentCoding>) -> Validators {
    let (seconds, nanos) = (metadata.mtime(), metadata.mtime_nsec());
    let Some(seconds) = u64::try_from(seconds).ok().filter(|seconds| *seconds > 1) else {
        return Validators::default();
    };
    let length = metadata.len();
    let coding = coding.map_or(String::new(), |coding| format!("-{coding}"));
    Validators {
        tag: Some(format!("\"{seconds:x}.{nanos:x}-{length:x}{coding}\"")),
        modified: Some(seconds),
    }
}

/// Why a part of a file is not there any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gone {
    /// It was written to, or cut.
    Changed,
    /// The file system failed.
    Failed,
}

/// Reads a part of a file that is still as its mark says; how much.
pub(super) fn read_part(file: &File, mark: Mark, at: u64, into: &mut [u8]) -> Result<usize, Gone> {
    let count = loop {
        match file.read_at(into, at) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Err(Gone::Failed),
            Ok(count) => break count,
        }
    };
    let metadata = file.metadata().map_err(|_| Gone::Failed)?;
    if count == 0 || Mark::of(&metadata) != mark {
        return Err(Gone::Changed);
    }
    Ok(count)
}
