//! Notices that files changed, by looking at them: no watch can be lost, and it works the same on
//! every file system, bind mounts and symbolic links of secrets included.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::Config;

/// What tells one state of a file from another.
type Mark = Option<(u64, u64, i64, i64)>;

/// The files that the configuration consists of.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch {
    files: Vec<File>,
}

#[derive(Clone, Debug)]
struct File {
    path: PathBuf,
    /// As it was before it was read.
    seen: Mark,
    /// As it was at the last look, when that was something new.
    new: Mark,
}

impl Watch {
    /// Watches the configuration's file from its present state on. To be called before it is read:
    /// what is saved in between is then a change.
    pub(super) fn before_reading(file: Option<&Path>) -> Self {
        Self {
            files: file.map(File::new).into_iter().collect(),
        }
    }

    /// Watches the certificates and pages of a configuration as well. To be called before they are read.
    pub(super) fn with_certificates(mut self, config: &Config) -> Self {
        let pages = config.page_files().into_iter();
        self.files.extend(pages.map(|(_, path)| File::new(path)));
        let files = config.certificate_files();
        let files = files.into_iter().map(|(_, path)| File::new(path));
        self.files.extend(files);
        let tls = config.listener.values().filter_map(|one| one.tls.as_ref());
        let responses = tls.flat_map(|tls| tls.response_files());
        self.files.extend(responses.map(File::new));
        self
    }

    /// The first file that changed. One is taken for changed when two looks agree: at the first
    /// it may be half written, and the beginning of a file may well be valid.
    pub(super) fn changed(&mut self) -> Option<PathBuf> {
        let changed = self.files.iter_mut().filter_map(File::changed);
        // All are looked at, so that a change of two files is one reload.
        changed.fold(None, |first, path| first.or(Some(path)))
    }
}

impl File {
    fn new(path: &Path) -> Self {
        Self {
            path: path.to_path_buf(),
            seen: mark(path),
            new: None,
        }
    }

    fn changed(&mut self) -> Option<PathBuf> {
        let now = mark(&self.path);
        // A file that is not there is being replaced: wait for the new one.
        if now == self.seen || now.is_none() {
            self.new = None;
            return None;
        }
        if now != self.new {
            self.new = now;
            return None;
        }
        self.seen = now;
        Some(self.path.clone())
    }
}

fn mark(path: &Path) -> Mark {
    let metadata = std::fs::metadata(path).ok()?;
    Some((
        metadata.ino(),
        metadata.len(),
        metadata.mtime(),
        metadata.mtime_nsec(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with a file in it.
    fn file(name: &str) -> (PathBuf, PathBuf) {
        let name = format!("outgrow-watch-{name}-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).expect("a directory");
        let file = directory.join("outgrow.toml");
        std::fs::write(&file, "a").expect("a file");
        (directory, file)
    }

    #[test]
    fn a_replaced_file_is_noticed_once() {
        let (directory, file) = file("replaced");
        let mut watch = Watch::before_reading(Some(&file)).with_certificates(&Config::default());
        assert_eq!(watch.changed(), None);
        std::fs::remove_file(&file).expect("removed");
        assert_eq!(watch.changed(), None);
        std::fs::write(&file, "bc").expect("a file");
        assert_eq!(watch.changed(), None, "it may be half written");
        assert_eq!(watch.changed().as_ref(), Some(&file));
        assert_eq!(watch.changed(), None);
        std::fs::remove_dir_all(&directory).expect("cleaned");
    }

    #[test]
    fn a_file_that_is_being_written_is_left_alone() {
        let (directory, file) = file("written");
        let mut watch = Watch::before_reading(Some(&file));
        for length in 2..10 {
            std::fs::write(&file, "a".repeat(length)).expect("a file");
            assert_eq!(watch.changed(), None, "{length}");
        }
        assert_eq!(watch.changed().as_ref(), Some(&file));
        // Back to what is in force: nothing to do.
        std::fs::write(&file, "b").expect("a file");
        assert_eq!(watch.changed(), None);
        std::fs::remove_dir_all(&directory).expect("cleaned");
    }
}
