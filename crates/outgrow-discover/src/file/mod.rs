//! A file with a list of endpoints, looked at again and again: no watch can be lost, and it works
//! on every file system. The list itself is in `list`.

pub(crate) mod list;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::discovery::{Reporter, Surroundings};

use self::list::Format;

/// From one look at the file to the next.
const LOOK: Duration = Duration::from_millis(500);

/// Looks at the file until it is dropped.
pub(crate) async fn run(path: PathBuf, surroundings: Surroundings, reporter: Reporter) {
    let format = format_of(&path);
    let mut looks = Looks::default();
    loop {
        // One byte more than may be, so that it is seen when there are more.
        match surroundings.read(path.clone(), list::BYTES + 1).await {
            Ok(bytes) => {
                let is_good = looks.is_good;
                let is_good = match looks.look(bytes) {
                    Look::New(bytes) => read(bytes, format, &reporter),
                    Look::Same if is_good => {
                        reporter.confirmed();
                        true
                    }
                    Look::Same | Look::Unsure => is_good,
                };
                looks.is_good = is_good;
            }
            Err(error) => {
                // It may be being replaced: told once, not twice a second.
                if looks.miss() {
                    reporter.failed(&error.to_string());
                }
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Whether the bytes are a list.
fn read(bytes: &[u8], format: Format, reporter: &Reporter) -> bool {
    match list::parse(bytes, format) {
        Ok(discovered) => reporter.answered(discovered),
        Err(problem) => {
            reporter.failed(&problem);
            false
        }
    }
}

fn format_of(path: &Path) -> Format {
    let is_toml = path
        .extension()
        .is_some_and(|ending| ending.eq_ignore_ascii_case("toml"));
    if is_toml { Format::Toml } else { Format::Json }
}

/// What the last looks saw. The first is believed at once, later ones when two agree: a file may be
/// half written, and the beginning of a list may well be valid.
#[derive(Debug, Default)]
struct Looks {
    seen: Option<Vec<u8>>,
    new: Option<Vec<u8>>,
    /// Whether what was seen is a list.
    is_good: bool,
    missed: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum Look<'l> {
    /// Something else than before.
    New(&'l [u8]),
    /// The same as before.
    Same,
    /// Something else, for the first time.
    Unsure,
}

impl Looks {
    fn look(&mut self, bytes: Vec<u8>) -> Look<'_> {
        let came_back = std::mem::take(&mut self.missed) > 1;
        if self.seen.as_ref() == Some(&bytes) {
            self.new = None;
            return match &self.seen {
                // So that what was told of it meanwhile is taken back.
                Some(seen) if came_back => Look::New(seen),
                _ => Look::Same,
            };
        }
        if self.seen.is_some() && self.new.as_ref() != Some(&bytes) {
            self.new = Some(bytes);
            return Look::Unsure;
        }
        self.new = None;
        Look::New(self.seen.insert(bytes))
    }

    /// It could not be read; whether that is to be told: at the first look, and later when it was
    /// not just being replaced.
    fn miss(&mut self) -> bool {
        self.missed = self.missed.saturating_add(1);
        let told_at = if self.seen.is_some() { 2 } else { 1 };
        self.missed == told_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_looks_must_agree_but_for_the_first() {
        let mut looks = Looks::default();
        assert!(looks.miss());
        assert!(!looks.miss(), "told once");
        assert_eq!(looks.look(b"a".to_vec()), Look::New(b"a"));
        assert_eq!(looks.look(b"a".to_vec()), Look::Same);
        assert_eq!(looks.look(b"ab".to_vec()), Look::Unsure);
        assert_eq!(looks.look(b"abc".to_vec()), Look::Unsure);
        assert_eq!(looks.look(b"abc".to_vec()), Look::New(b"abc"));
        assert!(!looks.miss(), "it may be being replaced");
        assert_eq!(looks.look(b"abc".to_vec()), Look::Same);
        assert!(!looks.miss());
        assert!(looks.miss());
        // Back again: told that all is well.
        assert_eq!(looks.look(b"abc".to_vec()), Look::New(b"abc"));
        assert_eq!(looks.look(b"abc".to_vec()), Look::Same);
    }
}
