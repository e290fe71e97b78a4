//! A folder for one test, removed on drop.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

/// Makes two folders of one process differ.
static COUNT: AtomicU64 = AtomicU64::new(0);

/// A new empty folder under the system's temporary one.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes it. `name` is a part of its name, for people who look.
    ///
    /// # Errors
    /// When the system does not allow it.
    pub fn new(name: &str) -> io::Result<Self> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let time = since.map_or(0, |since| since.subsec_nanos());
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let unique = format!("outgrow-{name}-{}-{count}-{time:08x}", process::id());
        let path = env::temp_dir().join(unique);
        fs::create_dir(&path)?;
        Ok(Self { path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file in it and gives its path.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        fs::write(&path, content)?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Left behind in the temporary folder at worst.
        let _left = fs::remove_dir_all(&self.path);
    }
}
