//! Waiting for something outside this process to become true: it is looked at
//! again and again, since there is no event to wait for, and there is an end.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// The time was over before it was true.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("waited {waited:?} in vain for: {what}")]
pub struct WaitedInVain {
    /// What was waited for.
    pub what: String,
    /// How long.
    pub waited: Duration,
}

/// Looks until `look` gives something, at most `limit`.
///
/// # Errors
/// [`WaitedInVain`] when the time is over.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Option<T>,
) -> Result<T, WaitedInVain> {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if begin.elapsed() >= limit {
            return Err(WaitedInVain {
                what: what.to_owned(),
                waited: limit,
            });
        }
        thread::sleep(PAUSE);
    }
}
