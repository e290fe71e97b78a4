//! `[route.NAME.files]`: a directory whose files are sent.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use outgrow_core::settings::{MapKey, TableReader};

use super::codings::check_codings;
use super::{ContentCoding, HeaderText};

outgrow_core::settings! {
    /// Sends files. Which one is the request's path, or what `strip_prefix` or `rewrite.path` make of
    /// it; a path that ends in `/` stands for an `index`, and one that lacks that slash is sent there
    /// (308). Directories are never listed. GET and HEAD; other methods get 405. `ETag`,
    /// `Last-Modified`, conditional requests and one range of bytes at a time are understood; who asks
    /// for several gets the whole file, unless they are one behind the other. What is no regular file
    /// is not there.
    ///
    /// Files are to be replaced by renaming a new one over them, as most tools do: one that is written
    /// into while it is sent is cut off. What is small is kept in memory for a second; of larger ones
    /// `process.max_open_files` are sent at a time, and one more gets 503 (`file_limit`).
    #[check = check_files]
    pub struct FilesSettings {
        /// The directory. It may be a link that is changed later, for releases side by side.
        pub dir: PathBuf = PathBuf::from("public"), required = true;
        /// The files that a path which ends in `/` stands for: the first one that there is.
        pub index: Vec<FilePath> = "index.html".parse().into_iter().collect();
        /// The file that is sent with status 200 where there is none, for single-page applications:
        /// `"index.html"`. Not for a path whose last segment has a dot, unless the client asks for
        /// `text/html`: a script that is gone is a 404 and no page. It says `Cache-Control: no-cache`.
        pub fallback: Option<FilePath> = None;
        /// Codings in which files may lie beside themselves: with `["br"]` a client that takes Brotli
        /// gets `app.js.br` for `app.js`, if it is there. They are made of the same file by whoever
        /// puts them there.
        pub precompressed: Vec<ContentCoding> = Vec::new();
        /// The `Cache-Control` of files that are found. Left out: none.
        pub cache_control: Option<HeaderText> = None;
        /// Types by what follows the last dot of a name, beside those that are known.
        pub types: BTreeMap<Extension, HeaderText> = BTreeMap::new();
        /// Whether names that begin with a dot are sent. `.well-known` always is.
        pub hidden: bool = false;
        /// What symbolic links below the directory lead to.
        pub symlinks: Symlinks = Symlinks::Within;
    }
}

outgrow_core::choice! {
    /// What symbolic links lead to.
    pub enum Symlinks {
        /// To what lies in the directory, if they are relative. Kernels before Linux 5.6 cannot tell:
        /// there it is as `"refuse"`.
        Within = "within",
        /// To nothing.
        Refuse = "refuse",
        /// To wherever they point: whoever may write into the directory may show any file that
        /// outgrow can read.
        Follow = "follow",
    }
}

/// The path of a file below a directory: `index.html`, `errors/404.html`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePath(String);

/// A text that is no path below a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it has names with slashes between them, none of them empty or made of dots only")]
pub struct FilePathError;

impl FilePath {
    /// The path, without a slash before it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for FilePath {
    type Err = FilePathError;

    fn from_str(text: &str) -> Result<Self, FilePathError> {
        let path = text.strip_prefix('/').unwrap_or(text);
        let is_name =
            |name: &str| !name.is_empty() && name.len() <= 255 && name != "." && name != "..";
        if path.len() > 4_000 || path.contains('\0') || !path.split('/').all(is_name) {
            return Err(FilePathError);
        }
        Ok(Self(path.to_owned()))
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

outgrow_core::text_setting!(FilePath, "the path of a file", ["index.html"]);

/// What follows the last dot of a file's name, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Extension(String);

impl MapKey for Extension {
    fn from_key(text: &str) -> Result<Self, String> {
        let is_right = |byte: u8| byte.is_ascii_alphanumeric() || b"-_+".contains(&byte);
        let text = text.strip_prefix('.').unwrap_or(text);
        if (1..=32).contains(&text.len()) && text.bytes().all(is_right) {
            return Ok(Self(text.to_ascii_lowercase()));
        }
        Err("is not what follows the dot of a name: 1 to 32 letters, digits, - _ +".to_owned())
    }

    fn as_key(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Extension {
    fn borrow(&self) -> &str {
        &self.0
    }
}

fn check_files(files: &FilesSettings, table: &mut TableReader<'_, '_>) {
    if files.index.len() > 8 {
        let message = format!(
            "{} names are looked for at each directory",
            files.index.len()
        );
        table.problem("index", message, "8 are the most");
    }
    check_codings(&files.precompressed, ("precompressed", None), table);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_their_directory() {
        for (text, expected) in [
            ("a.html", "a.html"),
            ("/a/b", "a/b"),
            ("...", "..."),
            ("a b", "a b"),
        ] {
            assert_eq!(text.parse::<FilePath>().expect(text).as_str(), expected);
        }
        for text in ["", "/", "a/", "//a", "../a", "a/../b", "./a", "a\0"] {
            assert!(text.parse::<FilePath>().is_err(), "{text:?}");
        }
    }
}
