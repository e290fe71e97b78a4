//! The product's binary as the end-to-end tests, `conform` and `soak` start it.
//!
//! Deliberately not here: the binary that the bench measures; it is built for speed (`bench/edge.rs`).

use std::path::PathBuf;

use anyhow::Context;

use crate::command;
use crate::workspace::Workspace;

/// Where the end-to-end tests find the binary.
pub(crate) const VARIABLE: &str = "OUTGROW_BIN";
/// Optimised, and quick to build.
const PROFILE: &str = "e2e";
const PACKAGE: &str = "outgrow";

/// Builds it; false when that failed.
pub(crate) fn build(workspace: &Workspace) -> anyhow::Result<bool> {
    let mut cargo = command::cargo();
    cargo.current_dir(&workspace.root);
    command::succeeds(cargo.args(["build", "--profile", PROFILE, "-p", PACKAGE]))
}

/// Where [`build`] leaves it.
pub(crate) fn path(workspace: &Workspace) -> PathBuf {
    workspace.target.join(PROFILE).join(PACKAGE)
}

/// The one that `--binary` names, else ours, built now.
pub(crate) fn given_or_built(
    workspace: &Workspace,
    given: Option<PathBuf>,
) -> anyhow::Result<PathBuf> {
    if let Some(path) = given {
        return path
            .canonicalize()
            .with_context(|| format!("--binary: there is no {}", path.display()));
    }
    anyhow::ensure!(build(workspace)?, "outgrow cannot be built");
    Ok(path(workspace))
}
