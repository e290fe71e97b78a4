//! Which endpoint gets the next request, and which gets none for a while: pure rules.
//!
//! Everything here works on indices and numbers: the time and the random source are arguments, no
//! clock is read and no socket known. Whose endpoints these are is the upstream room's business.
//!
//! - [`algorithm`]: one file per algorithm, all of the same shape: a table that is compiled when
//!   the set of endpoints changes, and a pick that allocates nothing.
//! - [`hash`]: the hash of addresses and keys.
//! - [`levels`]: priorities, zones and backups, and how load spills from one to the next.
//! - [`peak_ewma`]: the average of an endpoint's response times.
//! - [`slow_start`]: the share of its weight that an endpoint gets after it came up.
//! - [`outlier`]: when an endpoint that fails or is slow is ejected, and for how long.
//! - [`sticky`]: how users who are kept on an endpoint leave it, and how uneven they make the load.
//! - [`reported_load`]: weights from the load that backends report.
//! - [`panic_threshold`]: when too few endpoints are healthy to go on with these only.

pub mod algorithm;
pub mod hash;
pub mod levels;
pub mod outlier;
pub mod panic_threshold;
pub mod peak_ewma;
pub mod reported_load;
pub mod slow_start;
pub mod sticky;

pub use algorithm::{Algorithm, Candidates, Cursor, Member, Table};
