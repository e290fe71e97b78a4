//! The folder in which everything of one demo lies, and which goes with it.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Names that are tried before giving up.
const TRIES: u32 = 100;

/// Removed when dropped, unless it is kept.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    kept: bool,
}

impl Folder {
    /// A new folder that only this user can look into.
    pub(super) fn create() -> Result<Self> {
        let parent = std::env::temp_dir();
        let mut problem = io::Error::from(io::ErrorKind::AlreadyExists);
        for attempt in 0..TRIES {
            let path = parent.join(format!("outgrow-demo-{}-{attempt}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self { path, kept: false }),
                Err(error) => problem = error,
            }
            if problem.kind() != io::ErrorKind::AlreadyExists {
                break;
            }
        }
        Err(problem).with_context(|| {
            format!(
                "no folder can be made in {}: set TMPDIR to one that can be written to",
                parent.display()
            )
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves it there: somebody will want to look into it.
    pub(super) fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.kept {
            // What cannot be removed now is the system's to remove: it is a temporary folder.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_differ_and_go() {
        let one = Folder::create().unwrap();
        let mut other = Folder::create().unwrap();
        assert_ne!(one.path(), other.path());
        other.keep();
        let paths = [one.path().to_owned(), other.path().to_owned()];
        drop((one, other));
        assert!(!paths[0].exists() && paths[1].exists());
        std::fs::remove_dir(&paths[1]).unwrap();
    }
}
