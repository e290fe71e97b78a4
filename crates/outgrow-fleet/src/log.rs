//! Log lines of keeper and shim to standard error. They are written only while
//! the other end has room: a terminal that was stopped with Ctrl-S must not
//! stop the keeper. What could not be written is counted and told later.

use std::cell::Cell;

use outgrow_core::WallTime;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::standard::Standard;

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// `web.1 | line`
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Writes one process's own log lines.
#[derive(Debug)]
pub(crate) struct Log {
    format: LogFormat,
    name: String,
    standard: Standard,
    lost: Cell<u64>,
    /// The line before was written in part.
    torn: Cell<bool>,
}

#[derive(Serialize)]
struct Line<'a> {
    ts: String,
    level: &'a str,
    process: &'a str,
    message: &'a str,
}

impl Log {
    pub(crate) fn new(format: LogFormat, name: &str) -> Self {
        Self {
            format,
            name: name.to_owned(),
            standard: Standard::error(),
            lost: Cell::new(0),
            torn: Cell::new(false),
        }
    }

    pub(crate) fn info(&self, message: &str) {
        self.write("info", message);
    }

    pub(crate) fn warn(&self, message: &str) {
        self.write("warn", message);
    }

    pub(crate) fn error(&self, message: &str) {
        self.write("error", message);
    }

    fn write(&self, level: &str, message: &str) {
        let lost = self.lost.take();
        let note = if lost > 0 {
            format!(" ({lost} lines before were lost)")
        } else {
            String::new()
        };
        let message = format!("{message}{note}");
        let line = match self.format {
            LogFormat::Text => {
                let mark = if level == "info" { "" } else { level };
                let gap = if mark.is_empty() { "" } else { ": " };
                format!("{} | {mark}{gap}{message}\n", self.name)
            }
            LogFormat::Json => {
                let line = Line {
                    ts: timestamp(),
                    level,
                    process: &self.name,
                    message: &message,
                };
                serde_json::to_string(&line).unwrap_or_default() + "\n"
            }
        };
        // One that was torn ends here at last.
        let line = if self.torn.get() {
            format!("\n{line}")
        } else {
            line
        };
        let mut rest = line.as_bytes();
        while !rest.is_empty() {
            match self.standard.write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        if rest.len() < line.len() {
            self.torn.set(!rest.is_empty());
        }
        if !rest.is_empty() {
            self.lost.set(lost + 1);
        }
    }
}

/// The time of day as RFC 3339 in UTC with milliseconds.
pub(crate) fn timestamp() -> String {
    format_timestamp(WallTime::now())
}

fn format_timestamp(time: WallTime) -> String {
    let mut text = Vec::with_capacity(24);
    time.write_rfc3339(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{WallTime, format_timestamp};

    #[test]
    fn timestamps_are_rfc_3339() {
        let check = |unix_ms: u64, expected: &str| {
            assert_eq!(format_timestamp(WallTime(unix_ms * 1_000_000)), expected);
        };
        check(0, "1970-01-01T00:00:00.000Z");
        check(951_782_400_000, "2000-02-29T00:00:00.000Z");
        check(1_700_000_000_123, "2023-11-14T22:13:20.123Z");
        check(4_102_444_799_999, "2099-12-31T23:59:59.999Z");
    }
}
