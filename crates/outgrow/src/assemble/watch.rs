//! Notices that files changed, by looking at them: no watch can be lost, and it works the same on
//! every file system, bind mounts and symbolic links of secrets included.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::Config;

/// What tells one state of a file from another.
type Mark = Option<(u64, u64, i64, i64)>;

/// The files that the configuration consists of.
#[derive(Debug, Default)]
pub(super) struct Watch {
    files: Vec<(PathBuf, Mark)>,
}

impl Watch {
    /// Watches the configuration's file and the certificates in it, from their present state on.
    pub(super) fn new(file: Option<&Path>, config: &Config) -> Self {
        let tables = config
            .listener
            .values()
            .filter_map(|listener| listener.tls.as_ref());
        let pairs = tables.flat_map(|tls| &tls.certificates);
        let certificates = pairs.flat_map(|pair| [&pair.certificate, &pair.key]);
        let paths = file
            .map(Path::to_path_buf)
            .into_iter()
            .chain(certificates.cloned());
        Self {
            files: paths.map(|path| (path.clone(), mark(&path))).collect(),
        }
    }

    /// The first file that changed since the last look.
    pub(super) fn changed(&mut self) -> Option<PathBuf> {
        let mut changed = None;
        for (path, seen) in &mut self.files {
            let now = mark(path);
            // A file that is not there is being replaced: wait for the new one.
            if now != *seen && now.is_some() {
                *seen = now;
                changed.get_or_insert_with(|| path.clone());
            }
        }
        changed
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

    #[test]
    fn a_replaced_file_is_noticed_once() {
        let directory = std::env::temp_dir().join(format!("outgrow-watch-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        let file = directory.join("outgrow.toml");
        std::fs::write(&file, "a").expect("a file");
        let mut watch = Watch::new(Some(&file), &Config::default());
        assert_eq!(watch.changed(), None);
        std::fs::remove_file(&file).expect("removed");
        assert_eq!(watch.changed(), None);
        std::fs::write(&file, "bc").expect("a file");
        assert_eq!(watch.changed().as_ref(), Some(&file));
        assert_eq!(watch.changed(), None);
        std::fs::remove_dir_all(&directory).expect("cleaned");
    }
}
