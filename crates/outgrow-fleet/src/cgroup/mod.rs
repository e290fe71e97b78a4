//! Control groups: what the kernel offers to hold the use of an instance within limits.
//!
//! Where what is:
//! - `parse`, `layout`: what `/proc` says about them, v1, v2 and both at once: pure.
//! - `house`: the keeper's own group with those of the instances in it.
//! - `leftovers`: what killed ones have left.
//! - `group`: the groups of one instance.
//! - `around`: what the groups around outgrow allow it.
//!
//! Deliberately not here: which limits are wanted (`settings`), and what is told of them (`protocol`).

mod around;
pub(crate) mod group;
pub(crate) mod house;
mod layout;
pub(crate) mod leftovers;
mod parse;
#[cfg(test)]
mod tests;

use std::fs;

pub use around::{Allowance, allowance};
pub use group::{Usage, people_bytes, usage};
pub(crate) use house::House;
use layout::Layout;

/// What there is for this process.
fn layout() -> Result<Layout, String> {
    let read = |path: &str| {
        fs::read_to_string(path).map_err(|error| format!("{path} cannot be read: {error}"))
    };
    let (cgroup, mountinfo) = (read("/proc/self/cgroup")?, read("/proc/self/mountinfo")?);
    Ok(Layout::find(&cgroup, &mountinfo, &|directory| {
        fs::read_to_string(directory.join("cgroup.controllers")).ok()
    }))
}
