//! What Outgrow's own access record says: the second witness beside the counting client.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::Deserialize;

/// What is counted in the record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Recorded {
    /// Records.
    pub(super) requests: u64,
    /// Requests that were sent again, to another instance.
    pub(super) retried: u64,
}

#[derive(Deserialize)]
struct Record {
    retries: u64,
}

/// Reads the record; what is no record is passed over, and nothing is counted when there is none.
pub(super) fn read(path: &Path) -> Recorded {
    match File::open(path) {
        Ok(file) => count(BufReader::new(file)),
        Err(_) => Recorded::default(),
    }
}

fn count(mut lines: impl BufRead) -> Recorded {
    let mut recorded = Recorded::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        match lines.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return recorded,
            Ok(_) => {}
        }
        if let Ok(record) = serde_json::from_slice::<Record>(&line) {
            recorded.requests += 1;
            recorded.retried += u64::from(record.retries > 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retried_requests_are_counted_once() {
        let lines = b"{\"status\":200,\"retries\":0}\n{\"retries\":2}\nnonsense\n{\"retries\":1}";
        assert_eq!(
            count(&lines[..]),
            Recorded {
                requests: 3,
                retried: 2
            }
        );
    }
}
