//! The files of pages for errors and of fixed answers: read when the configuration is.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use outgrow_edge::Action;
use outgrow_edge::pages::{PAGE_BYTES, Pages, type_of_file};
use outgrow_edge::settings::{ErrorPageSettings, ErrorStatus, RespondSettings};
use rustix::fs::OFlags;

use super::log;
use crate::config::Config;

/// The texts of pages, by path.
#[derive(Debug, Default)]
pub(super) struct PageTexts {
    texts: BTreeMap<PathBuf, String>,
}

impl PageTexts {
    /// Reads all of them.
    pub(super) fn read(config: &Config) -> Result<Self, String> {
        let mut pages = Self::default();
        for (keys, path) in config.page_files() {
            let text = read(path).map_err(|problem| told(&keys, path, &problem))?;
            pages.texts.insert(path.to_path_buf(), text);
        }
        Ok(pages)
    }

    /// Reads those that can be read: for the others there are our own short texts.
    pub(super) fn read_what_there_is(config: &Config) -> Self {
        let mut pages = Self::default();
        for (keys, path) in config.page_files() {
            match read(path) {
                Ok(text) => {
                    pages.texts.insert(path.to_path_buf(), text);
                }
                Err(problem) => log::warn(&told(&keys, path, &problem)),
            }
        }
        pages
    }

    fn text(&self, path: &Path) -> Option<&str> {
        self.texts.get(path).map(String::as_str)
    }

    /// The pages of a table.
    pub(super) fn compile(&self, settings: &BTreeMap<ErrorStatus, ErrorPageSettings>) -> Pages {
        Pages::new(settings, |path| self.text(path))
    }

    /// A fixed answer. Where its file is gone it is not an empty page that says that all is well.
    pub(super) fn answer(&self, respond: &RespondSettings) -> Action {
        let text = match &respond.file {
            Some(file) => self.text(file),
            None => Some(respond.body.as_str()),
        };
        match text {
            Some(text) => Action::Respond {
                status: respond.status,
                body: text.as_bytes().to_vec(),
                fields: fields_of(respond),
            },
            None => Action::Respond {
                status: 503,
                body: b"The page that belongs here cannot be read.\n".to_vec(),
                fields: Vec::new(),
            },
        }
    }
}

/// The fields of a fixed answer.
fn fields_of(respond: &RespondSettings) -> Vec<(String, String)> {
    let own = respond.headers.iter();
    let mut fields: Vec<(String, String)> = own
        .map(|(name, value)| (name.as_str().to_owned(), value.as_str().to_owned()))
        .collect();
    let has_type = respond.headers.keys().any(|name| name.is("content-type"));
    if let (Some(file), false) = (&respond.file, has_type) {
        fields.push(("Content-Type".to_owned(), type_of_file(file).to_owned()));
    }
    fields
}

fn read(path: &Path) -> Result<String, String> {
    // A pipe that nobody writes to is not waited for.
    let file = std::fs::File::options()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits() as i32)
        .open(path)
        .map_err(|error| error.to_string())?;
    let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
    if !is_file {
        return Err("it is no regular file".to_owned());
    }
    let mut text = String::new();
    let limit = PAGE_BYTES as u64;
    let read = file.take(limit + 1).read_to_string(&mut text);
    read.map_err(|error| error.to_string())?;
    if text.len() > PAGE_BYTES {
        return Err(format!("it has more than {} KiB", PAGE_BYTES / 1024));
    }
    Ok(text)
}

fn told(keys: &[&str], path: &Path, problem: &str) -> String {
    let (path, keys) = (path.display(), keys.join("."));
    format!("{keys}: {path} cannot be used: {problem}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_answer_whose_file_is_gone_says_so() {
        let respond = RespondSettings {
            file: Some(PathBuf::from("/gone.html")),
            ..RespondSettings::default()
        };
        let status = |pages: &PageTexts| match pages.answer(&respond) {
            Action::Respond { status, .. } => status,
            _ => 0,
        };
        assert_eq!(status(&PageTexts::default()), 503);
        let mut pages = PageTexts::default();
        let text = String::from("here");
        pages.texts.insert(PathBuf::from("/gone.html"), text);
        assert_eq!(status(&pages), 200);
    }
}
