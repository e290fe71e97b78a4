//! The directory of `[acme]`: the account's key, certificates with their keys, what is known of each,
//! the challenges that are under way, and the lock of the one that orders.
//!
//! ```text
//! lock                          held (flock) by the one process that orders
//! account-HASH.json             the account at an authority, with its key; HASH is of its URL
//! certificates/ID.pem           the private key, the certificate, its intermediate ones
//! certificates/ID.json          what is known of it: failures, when it is tried next, the order
//! certificates/ID.key           the key of an order that is under way
//! challenges/TOKEN.json         what is answered to an authority, by every process that serves
//! ```
//!
//! Directories have the mode 0700 and files 0600; what others may read or write is refused. Every
//! file is written beside its place and renamed, so there is never half a file. Everything blocks.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use outgrow_acme::{Answer, Record};

/// Longest file that is read: a chain of certificates has a few KiB.
const LENGTH: u64 = 256 * 1024;
/// Most files that are looked at in a directory.
const FILES: usize = 10_000;
/// A challenge that is older was left by somebody who died.
const STALE: Duration = Duration::from_secs(24 * 3_600);
/// A directory that changed so recently may have changed since without another time.
const FRESH: Duration = Duration::from_secs(2);

/// The directory.
#[derive(Clone, Debug)]
pub(super) struct Storage {
    root: PathBuf,
}

/// The lock; given back when it is dropped, or the process dies.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

/// What tells one state of a directory from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    inode: u64,
    changed: (i64, i64),
}

impl Storage {
    /// The directory, made where it is missing, and refused when others may get at it.
    pub(super) fn open(root: &Path) -> Result<Self, String> {
        let storage = Self {
            root: root.to_owned(),
        };
        for directory in [
            storage.root.clone(),
            storage.root.join("certificates"),
            storage.root.join("challenges"),
        ] {
            make(&directory)?;
        }
        Ok(storage)
    }

    /// The directory as it is, without a look at it.
    pub(super) fn unopened(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// Where a certificate is.
    pub(super) fn certificate_path(&self, id: &str) -> PathBuf {
        self.root.join("certificates").join(format!("{id}.pem"))
    }

    fn record_path(&self, id: &str) -> PathBuf {
        self.root.join("certificates").join(format!("{id}.json"))
    }

    fn key_path(&self, id: &str) -> PathBuf {
        self.root.join("certificates").join(format!("{id}.key"))
    }

    fn account_path(&self, hash: &str) -> PathBuf {
        self.root.join(format!("account-{hash}.json"))
    }

    /// A certificate with its key.
    pub(super) fn certificate(&self, id: &str) -> Result<Option<Vec<u8>>, String> {
        read(&self.certificate_path(id))
    }

    /// Puts a certificate with its key in the place of the one before.
    pub(super) fn put_certificate(&self, id: &str, pem: &str) -> Result<(), String> {
        write(&self.certificate_path(id), pem.as_bytes())
    }

    /// The certificates that are there.
    pub(super) fn certificates(&self) -> Vec<String> {
        let names = list(&self.root.join("certificates"));
        let ids = names.into_iter();
        ids.filter_map(|name| Some(name.strip_suffix(".pem")?.to_owned()))
            .collect()
    }

    /// What is known of a certificate. What cannot be read is nothing: it is only about when.
    pub(super) fn record(&self, id: &str) -> Result<Record, String> {
        let text = read(&self.record_path(id))?;
        Ok(text
            .and_then(|text| Record::read(&text))
            .unwrap_or_default())
    }

    /// Keeps what is known.
    pub(super) fn put_record(&self, id: &str, record: &Record) -> Result<(), String> {
        write(&self.record_path(id), &record.write())
    }

    /// The key of an order that is under way.
    pub(super) fn key(&self, id: &str) -> Result<Option<String>, String> {
        let text = read(&self.key_path(id))?;
        Ok(text.and_then(|text| String::from_utf8(text).ok()))
    }

    /// Keeps it, or removes it.
    pub(super) fn put_key(&self, id: &str, pem: Option<&str>) -> Result<(), String> {
        match pem {
            Some(pem) => write(&self.key_path(id), pem.as_bytes()),
            None => remove(&self.key_path(id)),
        }
    }

    /// The account at an authority.
    pub(super) fn account(&self, hash: &str) -> Result<Option<String>, String> {
        let text = read(&self.account_path(hash))?;
        Ok(text.map(|text| String::from_utf8_lossy(&text).into_owned()))
    }

    /// Keeps the account.
    pub(super) fn put_account(&self, hash: &str, text: &str) -> Result<(), String> {
        write(&self.account_path(hash), text.as_bytes())
    }

    /// Makes an answer known to every process that serves.
    pub(super) fn put_answer(&self, answer: &Answer) -> Result<(), String> {
        let text = serde_json::to_vec(answer).map_err(|error| error.to_string())?;
        write(&self.answer_path(answer), &text)
    }

    /// Takes it back.
    pub(super) fn remove_answer(&self, answer: &Answer) -> Result<(), String> {
        remove(&self.answer_path(answer))
    }

    fn answer_path(&self, answer: &Answer) -> PathBuf {
        let name = format!("{}.json", answer.token);
        self.root.join("challenges").join(name)
    }

    /// The answers that are known.
    pub(super) fn answers(&self) -> Vec<Answer> {
        let directory = self.root.join("challenges");
        let names = list(&directory).into_iter();
        let names = names.filter(|name| name.strip_suffix(".json").is_some());
        let texts = names.filter_map(|name| read(&directory.join(name)).ok().flatten());
        let answers = texts.filter_map(|text| serde_json::from_slice(&text).ok());
        answers.filter(Answer::is_sound).collect()
    }

    /// Removes challenges that somebody left.
    pub(super) fn sweep(&self) {
        let directory = self.root.join("challenges");
        for name in list(&directory) {
            let path = directory.join(name);
            let changed = fs::metadata(&path).and_then(|metadata| metadata.modified());
            let age = changed.ok().and_then(|changed| changed.elapsed().ok());
            if age.is_some_and(|age| age > STALE) {
                // The next sweep sees it again.
                let _ = fs::remove_file(path);
            }
        }
    }

    /// The states of the directories of certificates and challenges; none while they may have changed
    /// unseen, or cannot be seen.
    pub(super) fn marks(&self) -> [Option<Mark>; 2] {
        ["certificates", "challenges"].map(|name| mark(&self.root.join(name)))
    }

    /// Takes the lock, unless somebody else has it.
    pub(super) fn lock(&self) -> Result<Option<Lock>, String> {
        let path = self.root.join("lock");
        let told = |error: io::Error| format!("{}: {error}", path.display());
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(told)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock { file })),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(told(error)),
        }
    }

    /// Whether the lock is still that of the directory: somebody may have made a new one.
    pub(super) fn is_locked_by(&self, lock: &Lock) -> bool {
        let inode = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let own = lock.file.metadata().map(inode).ok();
        own.is_some() && own == fs::metadata(self.root.join("lock")).map(inode).ok()
    }
}

fn mark(directory: &Path) -> Option<Mark> {
    let metadata = fs::metadata(directory).ok()?;
    let age = SystemTime::now().duration_since(metadata.modified().ok()?);
    if age.unwrap_or_default() < FRESH {
        return None;
    }
    Some(Mark {
        inode: metadata.ino(),
        changed: (metadata.mtime(), metadata.mtime_nsec()),
    })
}

fn make(directory: &Path) -> Result<(), String> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let metadata = fs::metadata(directory);
            let metadata = metadata.map_err(|error| format!("{}: {error}", directory.display()))?;
            if !metadata.is_dir() {
                return Err(format!("{} is no directory", directory.display()));
            }
            private(directory, &metadata)
        }
        Err(error) => Err(format!(
            "{} cannot be made: {error}\nhint: make it for outgrow's user: install -d -m 0700 -o USER \
             {0}; or set [acme] storage",
            directory.display()
        )),
    }
}

/// Whether nobody else may get at it.
fn private(path: &Path, metadata: &fs::Metadata) -> Result<(), String> {
    let user = rustix::process::geteuid().as_raw();
    let mode = metadata.mode() & 0o7777;
    let wanted = if metadata.is_dir() { "0700" } else { "0600" };
    let path = path.display();
    if metadata.uid() != user && user != 0 {
        return Err(format!(
            "{path} belongs to another user ({}): private keys are kept here\nhint: chown it to the \
             user that outgrow runs as",
            metadata.uid()
        ));
    }
    if mode & 0o077 != 0 {
        return Err(format!(
            "{path} has the mode {mode:04o}: others may get at private keys\nhint: chmod {wanted} {path}"
        ));
    }
    Ok(())
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, String> {
    let told = |error: io::Error| format!("{}: {error}", path.display());
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(told(error)),
    };
    let metadata = file.metadata().map_err(told)?;
    private(path, &metadata)?;
    if !metadata.is_file() || metadata.len() > LENGTH {
        return Err(format!(
            "{} is nothing that was written here",
            path.display()
        ));
    }
    let mut bytes = Vec::new();
    file.take(LENGTH).read_to_end(&mut bytes).map_err(told)?;
    Ok(Some(bytes))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let put = || -> io::Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let directory = path.parent().unwrap_or(Path::new("."));
        let next = directory.join(format!(".{name}.{}", std::process::id()));
        let written = (|| {
            let mut file = OpenOptions::new()
                .create(true)
                .truncate(true)
                .write(true)
                .mode(0o600)
                .open(&next)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&next, path)
        })();
        if written.is_err() {
            let _ = fs::remove_file(&next);
        }
        written?;
        File::open(directory)?.sync_all()
    };
    put().map_err(|error| format!("{} cannot be written: {error}", path.display()))
}

fn remove(path: &Path) -> Result<(), String> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(format!("{} cannot be removed: {error}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The names of a directory's files, without those that are being written.
fn list(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names
        .filter(|name| !name.starts_with('.'))
        .take(FILES)
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests;
