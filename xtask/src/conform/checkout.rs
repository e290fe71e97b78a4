//! A suite's files: a checkout of the user's, or one cloned into the target folder.
//!
//! Deliberately not here: what is in it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::command;

/// Where a suite's files come from.
pub(super) struct Source {
    /// The public repository.
    pub(super) repository: &'static str,
    /// The commit that our scores are for.
    pub(super) revision: &'static str,
    /// A path that shows that a folder is a checkout of it.
    pub(super) has: &'static str,
}

impl Source {
    /// The checkout: `given`, else `folder`, which is cloned when it is not there yet.
    pub(super) fn bring(&self, folder: &Path, given: Option<PathBuf>) -> anyhow::Result<PathBuf> {
        let checkout = match given {
            Some(path) => path
                .canonicalize()
                .with_context(|| format!("--suite: there is no {}", path.display()))?,
            None => {
                if !folder.exists() {
                    self.clone_into(folder)?;
                }
                folder.to_owned()
            }
        };
        anyhow::ensure!(
            checkout.join(self.has).exists(),
            "{} has no {}: it is no checkout of {}",
            checkout.display(),
            self.has,
            self.repository
        );
        self.report(&checkout);
        Ok(checkout)
    }

    fn clone_into(&self, folder: &Path) -> anyhow::Result<()> {
        let mut clone = Command::new("git");
        clone
            .args(["clone", "--quiet", self.repository])
            .arg(folder);
        let mut choose = Command::new("git");
        choose
            .arg("-C")
            .arg(folder)
            .args(["checkout", "--quiet", self.revision]);
        command::must(&mut clone)
            .and_then(|()| command::must(&mut choose))
            .with_context(|| {
                let Self {
                    repository,
                    revision,
                    ..
                } = self;
                format!(
                    "cannot get the suite; where this machine does not reach it, bring a checkout \
                     of {repository} ({revision}) and pass --suite PATH"
                )
            })
    }

    /// Says which revision runs, when it is another than ours.
    fn report(&self, checkout: &Path) {
        let mut ask = Command::new("git");
        ask.arg("-C").arg(checkout).args(["rev-parse", "HEAD"]);
        match command::output(&mut ask) {
            Ok(revision) if revision.trim() == self.revision => {}
            Ok(revision) => eprintln!("revision {}, not {}", revision.trim(), self.revision),
            Err(_) => eprintln!("{} is of no known revision", checkout.display()),
        }
    }
}
