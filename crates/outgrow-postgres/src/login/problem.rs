//! What is wrong with a file: of rules, of maps, of users.

/// Most problems of one file that are told.
const MOST: usize = 100;

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file} line {line}: {text}")]
pub struct Problem {
    /// The file's name.
    pub file: String,
    /// The line, from 1; of a continued line the first one.
    pub line: u32,
    /// What is wrong, and what to write instead.
    pub text: String,
}

/// Those of one file.
pub(super) struct Problems {
    file: String,
    all: Vec<Problem>,
}

impl Problems {
    pub(super) fn new(file: &str) -> Self {
        Self {
            file: file.to_owned(),
            all: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, line: u32, text: String) {
        if self.all.len() < MOST {
            self.all.push(Problem {
                file: self.file.clone(),
                line,
                text,
            });
        }
    }

    pub(super) fn into_all(self) -> Vec<Problem> {
        self.all
    }

    /// The value, if nothing is wrong.
    pub(super) fn or<T>(self, value: T) -> Result<T, Vec<Problem>> {
        if self.all.is_empty() {
            Ok(value)
        } else {
            Err(self.all)
        }
    }
}
